/**
 * The rows of the comparison: what is asked of a proxy, and what one round of it cost.
 *
 * A cost is CPU time a unit of work where load is put on: the load generator saturates before a fast proxy does, so that
 * rates say little. Receives proxies from `compare.ts`; runs wrk, h2load and `handshakes.c` on the other core.
 */
import { execFile, spawn } from 'node:child_process'
import { once } from 'node:events'
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'
import { promisify } from 'node:util'
import { coreSeconds, cpuSeconds, memoryKilobytes } from './machine.ts'
import { CREDENTIALS, LOAD_CORE, PROXY_CORE, type Server } from './proxies.ts'

const run = promisify(execFile)

const IDLE_CONNECTIONS = 2000
/** Of the highest rate. */
const STEADY_SHARE = 0.7
const STEADY_CLIENTS = 32
/** For memory to settle after a start. */
const SETTLE_MS = 2000

export interface Sample {
  /** In the row's unit; less is better. */
  readonly cost: number
  /** Units of work; absent where no load is put on. */
  readonly perSecond?: number
  /** Share of the proxy's core that others took meanwhile. */
  readonly disturbance: number
}

export interface Row {
  readonly id: string
  readonly title: string
  readonly unit: string
  /** The first is the reference. */
  readonly proxies: readonly string[]
  /** Of one round. */
  measure(proxy: Server, seconds: number): Promise<Sample>
  /** Does it need a process that has done nothing yet? Then there is no warm-up, and each round starts a new one. */
  readonly fresh: boolean
}

const ALL = ['nginx', 'Holdfast', 'Holdfast, compat', 'HAProxy', 'Caddy']
const SECURE_TRANSPORTS = ['nginx', 'Holdfast', 'HAProxy', 'Caddy', 'hitch']

/** `folder` holds the compiled `handshakes`. */
export function createRows(folder: string): Row[] {
  const handshakes = join(folder, 'handshakes')
  return [
    {
      id: 'memory',
      title: 'Memory at rest',
      unit: 'MB',
      proxies: [...ALL, 'hitch'],
      fresh: true,
      measure: async (proxy) => {
        await delay(SETTLE_MS)
        return { cost: memoryKilobytes(proxy.pid) / 1024, disturbance: 0 }
      },
    },
    {
      id: 'idle',
      title: 'An idle TLS connection',
      unit: 'KB',
      proxies: ALL,
      fresh: true,
      measure: (proxy) => measureIdle(proxy, handshakes),
    },
    load('http1', 'HTTP/1.1, 1 KB, 64 connections', 'µs', [...ALL, 'hitch'], (proxy, seconds) =>
      wrk(proxy, seconds, 64, '/'),
    ),
    load(
      'http1-log',
      'HTTP/1.1, 1 KB, access log to a file',
      'µs',
      ['nginx, access log', 'Holdfast, access log'],
      (proxy, seconds) => wrk(proxy, seconds, 64, '/'),
    ),
    load(
      'http1-features',
      'HTTP/1.1, 1 KB, every feature of a route in use',
      'µs',
      ['nginx', 'nginx, every feature', 'Holdfast, every feature'],
      async (proxy, seconds) => wrk(proxy, seconds, 64, '/', await welcomeFields(proxy)),
    ),
    load('http2', 'HTTP/2, 1 KB, 16 connections of 16 streams', 'µs', ALL, (proxy, seconds) =>
      h2load(proxy, ['-c16', '-m16', '-D', String(seconds)], '/'),
    ),
    load('bodies', '10 MB bodies, HTTP/1.1, 8 connections', 'µs', [...ALL, 'hitch'], (proxy, seconds) =>
      wrk(proxy, seconds, 8, '/10m'),
    ),
    load('full', 'Full TLS 1.3 handshake', 'µs', SECURE_TRANSPORTS, (proxy, seconds) =>
      count(handshakes, 'full', String(proxy.port), '8', String(seconds)),
    ),
    load('resumed', 'Resumed TLS 1.3 handshake', 'µs', SECURE_TRANSPORTS, (proxy, seconds) =>
      count(handshakes, 'resumed', String(proxy.port), '8', String(seconds)),
    ),
    createSteadyRow(folder),
  ]
}

function load(
  id: string,
  title: string,
  unit: string,
  proxies: readonly string[],
  work: (proxy: Server, seconds: number) => Promise<number>,
): Row {
  return {
    id,
    title,
    unit: `CPU ${unit}`,
    proxies,
    fresh: false,
    measure: async (proxy, seconds) => {
      const before = { own: cpuSeconds(proxy.pid), core: coreSeconds(PROXY_CORE), at: performance.now() }
      const units = await work(proxy, seconds)
      const elapsed = (performance.now() - before.at) / 1000
      const own = cpuSeconds(proxy.pid) - before.own
      const others = coreSeconds(PROXY_CORE) - before.core - own
      return { cost: (own / units) * 1e6, perSecond: units / elapsed, disturbance: others / elapsed }
    },
  }
}

/** The same rate for all: a share of what the first one reaches. */
function createSteadyRow(folder: string): Row {
  let rate: number | undefined
  return {
    id: 'p99',
    title: 'p99 at 70 % of the highest rate, HTTP/1.1, 1 KB',
    unit: 'ms',
    proxies: ['nginx', 'Holdfast', 'HAProxy'],
    fresh: false,
    measure: async (proxy, seconds) => {
      rate ??= ((await wrk(proxy, 2, 64, '/')) / 2) * STEADY_SHARE
      const log = join(folder, `${proxy.port}.log`)
      const perClient = String(Math.floor(rate / STEADY_CLIENTS))
      const before = { own: cpuSeconds(proxy.pid), core: coreSeconds(PROXY_CORE) }
      const args = [`-c${STEADY_CLIENTS}`, `--rps=${perClient}`, '-D', String(seconds), '--log-file', log]
      const requests = await h2load(proxy, ['--h1', ...args], '/')
      const others = coreSeconds(PROXY_CORE) - before.core - (cpuSeconds(proxy.pid) - before.own)
      return { cost: p99Of(log), perSecond: requests / seconds, disturbance: others / seconds }
    },
  }
}

/** A line for each request: when it began, its status, and how long it took, in microseconds. In milliseconds. */
function p99Of(log: string): number {
  const lines = readFileSync(log, 'utf8').trimEnd().split('\n')
  const durations = lines.map((line) => Number(line.split('\t')[2])).sort((a, b) => a - b)
  return (durations[Math.floor(durations.length * 0.99)] ?? 0) / 1000
}

async function measureIdle(proxy: Server, handshakes: string): Promise<Sample> {
  await delay(SETTLE_MS)
  const before = memoryKilobytes(proxy.pid)
  const child = spawn(handshakes, ['idle', String(proxy.port), String(IDLE_CONNECTIONS)], {
    stdio: ['ignore', 'pipe', 'inherit'],
  })
  try {
    await once(child.stdout, 'data')
    await delay(SETTLE_MS)
    return { cost: (memoryKilobytes(proxy.pid) - before) / IDLE_CONNECTIONS, disturbance: 0 }
  } finally {
    child.kill('SIGKILL')
  }
}

async function wrk(
  proxy: Server,
  seconds: number,
  connections: number,
  path: string,
  fields: readonly string[] = [],
): Promise<number> {
  const options = ['-t1', `-c${connections}`, `-d${seconds}s`, ...fields.flatMap((field) => ['-H', field])]
  return countIn(await onLoadCore('wrk', ...options, url(proxy, path)), /(\d+) requests in/)
}

/** What a client says that has been there before: who it is, and the cookie that it got. */
async function welcomeFields(proxy: Server): Promise<string[]> {
  const authorization = `Authorization: Basic ${Buffer.from(CREDENTIALS).toString('base64')}`
  const { stdout: head } = await run('curl', ['-ksSI', '-H', authorization, url(proxy, '/')])
  const [, cookie] = /^set-cookie: ([^;\r]*)/im.exec(head) ?? []
  return cookie === undefined ? [authorization] : [authorization, `Cookie: ${cookie}`]
}

async function h2load(proxy: Server, options: readonly string[], path: string): Promise<number> {
  const output = await onLoadCore('h2load', '-t1', ...options, url(proxy, path))
  return countIn(output, /(\d+) succeeded/)
}

async function count(...command: string[]): Promise<number> {
  return countIn(await onLoadCore(...command), /^(\d+)/)
}

async function onLoadCore(...command: string[]): Promise<string> {
  const { stdout } = await run('taskset', ['-c', String(LOAD_CORE), ...command], { maxBuffer: 2 ** 24 })
  return stdout
}

/** What the load generator counted; throws where requests failed. */
function countIn(output: string, pattern: RegExp): number {
  const counted = Number(pattern.exec(output)?.[1] ?? 0)
  if (counted === 0 || /Non-2xx|Socket errors|[1-9]\d* failed|[1-9]\d* errored/.test(output))
    throw new Error(output)
  return counted
}

function url(proxy: Server, path: string): string {
  return `https://localhost:${proxy.port}${path}`
}
