/**
 * How long a host waits for its certificate while the first of its two CAs is broken: Holdfast beside Caddy and Apache's
 * mod_md, on the same two Pebbles and with the same faults:
 *
 *     bash bench/setup.sh && node bench/failover.ts [--servers Holdfast,Caddy] [--faults 503,hang] [--limit 120] [--write]
 *
 * Each server runs, and holds a certificate from the first CA. Then that CA breaks, and a host without a certificate is
 * added to the server's config: the time from there until a client's handshake verifies against the second CA's root,
 * so the reload and the order at the second CA are in it. Then two further hosts, one after the other; and, in a run of
 * its own, many hosts at once (`--hosts`), where one alone was served. `--limit` (seconds) bounds every wait. `--write`
 * keeps the figures in bench/results/failover.json. It ends with exit code 1 where Holdfast misses one of its bars.
 */
import { execFileSync } from 'node:child_process'
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs'
import { cpus, loadavg } from 'node:os'
import { join } from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'
import { fileURLToPath } from 'node:url'
import { parseArgs } from 'node:util'
import { gunzipSync } from 'node:zlib'
import type { FaultKind } from '../test/peers/fault-proxy.ts'
import { isServedFrom, openScene, type Scene, type SceneCa } from './failover/scene.ts'
import { CONTENDERS, type Contender, type Running } from './failover/servers.ts'

/** What came of one wait; undefined times: not within the limit. */
interface Waited {
  readonly ms: number | undefined
  /** Hosts that were served in the end. */
  readonly served: number
}

interface Result {
  readonly fault: FaultKind
  readonly server: string
  readonly one: Waited
  /** The slower of them; undefined where the first host was not served. */
  readonly further: Waited | undefined
  /** Undefined where the first host was not served. */
  readonly many: Waited | undefined
  /** Requests to the broken CA, for the first host and for the many; undefined where none could arrive. */
  readonly asked: { readonly one: number | undefined; readonly many: number | undefined }
}

/** Less than this, in milliseconds, Holdfast must take for each, the reload included. */
interface Bar {
  readonly one: number
  readonly further: number
}

const BARS: Readonly<Partial<Record<FaultKind, Bar>>> = {
  '503': { one: 1000, further: 1000 },
  refuse: { one: 1000, further: 1000 },
  hang: { one: 10_000, further: 1000 },
  '429': { one: 1000, further: 1000 },
}

const FURTHER_HOSTS = 2
const POLL_MS = 20
/** Between the certificate of the first CA and the fault, so that what follows an issuance is over. */
const SETTLE_MS = 1000
const START_LIMIT_MS = 60_000
const HELD = 'held.failover.example'
const RESULTS = fileURLToPath(new URL('results/', import.meta.url))
const PEBBLE_CHANGELOG = new URL(
  '../test/.peers/pebble/usr/share/doc/pebble/changelog.Debian.gz',
  import.meta.url,
)

const { values: options } = parseArgs({
  options: {
    servers: { type: 'string', default: Object.keys(CONTENDERS).join() },
    faults: { type: 'string', default: '503,refuse,hang,429' },
    hosts: { type: 'string', default: '20' },
    limit: { type: 'string', default: '120' },
    write: { type: 'boolean', default: false },
  },
})
const limitMs = Number(options.limit) * 1000
const manyHosts = Number(options.hosts)
const names = Object.keys(CONTENDERS).filter((name) => options.servers.split(',').includes(name))
const faults = options.faults.split(',') as FaultKind[]

const machine = {
  servers: names.map((name) => CONTENDERS[name]!.describe()),
  cpu: `${cpus().length} × ${cpus()[0]?.model.trim()}`,
  kernel: execFileSync('uname', ['-sr'], { encoding: 'utf8' }).trim(),
  node: process.versions.node,
  pebble: pebbleVersion(),
  date: new Date().toISOString().slice(0, 10),
  /** Of other work, over the minute before. */
  load: loadavg()[0]?.toFixed(1),
}
console.log(`${machine.servers.join('\n')}
Pebble ${machine.pebble}, Node ${machine.node}, ${machine.kernel}, ${machine.cpu}, load ${machine.load}, ${machine.date}

Time until a host is served with a certificate from the second CA, and requests to the first:
`)
const heads = [
  'first CA',
  'server',
  'one host',
  'each further',
  `${manyHosts} at once`,
  'asked for 1',
  `for ${manyHosts}`,
]
console.log(line(heads))
console.log(line(heads.map(() => '---')))
const results: Result[] = []
for (const fault of faults) {
  for (const server of names) {
    const result = await measure(server, fault)
    results.push(result)
    report(result)
  }
}
if (options.write) {
  mkdirSync(RESULTS, { recursive: true })
  writeFileSync(
    join(RESULTS, 'failover.json'),
    `${JSON.stringify({ machine, limitMs, manyHosts, results }, null, 2)}\n`,
  )
}
const misses = results.filter(({ server }) => server === 'Holdfast').flatMap(missesOf)
for (const miss of misses) console.error(`Holdfast misses a bar: ${miss}`)
process.exit(misses.length === 0 ? 0 : 1)

async function measure(server: string, fault: FaultKind): Promise<Result> {
  const contender = CONTENDERS[server]!
  const { one, further, asked } = await inScene(contender, fault, async (scene, running) => {
    const hosts = [HELD, 'one.failover.example']
    const one = await timeUntilServed(scene, running, hosts, 1)
    const asked = countOf(scene, fault)
    const further: Waited[] = []
    for (let last = one; last.ms !== undefined && further.length < FURTHER_HOSTS; further.push(last)) {
      hosts.push(`further-${further.length + 1}.failover.example`)
      last = await timeUntilServed(scene, running, hosts, 1)
    }
    return { one, asked, further: slowest(further) }
  })
  if (one.ms === undefined) {
    return { fault, server, one, further, many: undefined, asked: { one: asked, many: undefined } }
  }
  const together = await inScene(contender, fault, async (scene, running) => {
    const hosts = Array.from({ length: manyHosts }, (_, index) => `many-${index + 1}.failover.example`)
    const many = await timeUntilServed(scene, running, [HELD, ...hosts], manyHosts)
    return { many, asked: countOf(scene, fault) }
  })
  return { fault, server, one, further, many: together.many, asked: { one: asked, many: together.asked } }
}

/** Requests to the broken CA; connections that are refused leave no trace. */
function countOf(scene: Scene, fault: FaultKind): number | undefined {
  return fault === 'refuse' ? undefined : scene.fault.requests.length
}

/** In a scene of its own, with the server at work and the first CA broken. */
async function inScene<T>(
  contender: Contender,
  fault: FaultKind,
  work: (scene: Scene, running: Running) => Promise<T>,
): Promise<T> {
  const scene = await openScene()
  const running = contender.start(scene, [HELD])
  try {
    const start = await untilServed(scene, [HELD], scene.first, START_LIMIT_MS)
    if (start.ms === undefined) throw new Error(`it has no certificate before the fault:\n${outputOf(scene)}`)
    await delay(SETTLE_MS)
    await scene.fault.setFault(fault)
    scene.fault.requests.length = 0
    return await work(scene, running)
  } finally {
    await running.stop()
    await scene.close()
  }
}

/** Tells the server of the hosts, and waits for the last `count` of them. */
async function timeUntilServed(
  scene: Scene,
  running: Running,
  hosts: readonly string[],
  count: number,
): Promise<Waited> {
  const startedAt = performance.now()
  await running.serve(hosts)
  const toldAfterMs = performance.now() - startedAt
  const { ms, served } = await untilServed(scene, hosts.slice(-count), scene.second, limitMs - toldAfterMs)
  return { ms: ms === undefined ? undefined : ms + toldAfterMs, served }
}

async function untilServed(
  scene: Scene,
  hosts: readonly string[],
  ca: SceneCa,
  limitMs: number,
): Promise<Waited> {
  const startedAt = performance.now()
  const waiting = new Set(hosts)
  for (;;) {
    const ms = performance.now() - startedAt
    for (const host of waiting) {
      if (await isServedFrom(scene, host, ca)) waiting.delete(host)
      // One that waits is enough to ask: the others' handshakes would only take the server's time.
      else if (ms < limitMs) break
    }
    const served = hosts.length - waiting.size
    if (waiting.size === 0) return { ms: performance.now() - startedAt, served }
    if (ms >= limitMs) return { ms: undefined, served }
    await delay(POLL_MS)
  }
}

function slowest(all: readonly Waited[]): Waited | undefined {
  return all.find(({ ms }) => ms === undefined) ?? all.toSorted((a, b) => (b.ms ?? 0) - (a.ms ?? 0))[0]
}

/** It does not tell itself: what the package that `test/setup.sh` unpacks says. */
function pebbleVersion(): string {
  const changelog = gunzipSync(readFileSync(PEBBLE_CHANGELOG)).toString()
  return /\((.+?)\)/.exec(changelog)?.[1] ?? 'of an unknown version'
}

function outputOf({ folder }: Scene): string {
  return readFileSync(join(folder, 'output'), 'utf8')
}

function report({ fault, server, one, further, many, asked }: Result): void {
  const partly = many !== undefined && many.ms === undefined && many.served > 0 ? ` (${many.served})` : ''
  const counts = [asked.one, asked.many].map((count) => String(count ?? '–'))
  console.log(line([fault, server, show(one), show(further), show(many) + partly, ...counts]))
}

/** The bars that were not kept, in words. */
function missesOf({ fault, one, further }: Result): string[] {
  const bar = BARS[fault]
  if (bar === undefined) return []
  const waits: [string, Waited | undefined, number][] = [
    ['one host', one, bar.one],
    ['each further', further, bar.further],
  ]
  return waits
    .filter(([, waited, most]) => waited?.ms === undefined || waited.ms >= most)
    .map(([what, waited, most]) => `${fault}: ${what} took ${show(waited)}, not less than ${most / 1000} s`)
}

function show(waited: Waited | undefined): string {
  if (waited === undefined) return '–'
  return waited.ms === undefined ? `> ${limitMs / 1000} s` : `${(waited.ms / 1000).toFixed(2)} s`
}

function line(cells: readonly string[]): string {
  return `| ${cells.map((cell, index) => cell.padEnd(index === 1 ? 14 : 12)).join(' | ')} |`
}
