/**
 * The first comparison: Holdfast's conservative forwarder (`forwarder: "compat"`) with nginx, before the same upstream.
 *
 *     node bench/first.ts
 *
 * One core for the proxy, the other for the load and the upstream; interleaved rounds, medians; less than a minute.
 * The figure to look at is the proxy's own CPU time per request: the load generator may be the slower one.
 * Needs Linux, two cores, and Debian's nginx, wrk and nghttp2-client (`bash test/setup.sh` installs them).
 */
import { type ChildProcess, execFileSync, spawn } from 'node:child_process'
import { mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { connect } from 'node:net'
import { cpus, tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'
import { fileURLToPath } from 'node:url'
import { freePort } from '../test/peers/process.ts'
import { makeCertificate } from '../test/support/certificates.ts'

const ROUNDS = 3
const SECONDS = 3
const PROXY_CPU = '1'
const LOAD_CPU = '0'
const HOLDFAST = fileURLToPath(new URL('../bin/holdfast.js', import.meta.url))

interface Candidate {
  readonly name: string
  readonly port: number
  readonly process: ChildProcess
}

interface Sample {
  readonly perSecond: number
  readonly cpuMicroseconds: number
}

const folder = mkdtempSync(join(tmpdir(), 'holdfast-bench-'))
const children: ChildProcess[] = []
process.on('exit', () => {
  for (const child of children) child.kill('SIGKILL')
  rmSync(folder, { recursive: true, force: true })
})

const certificate = await makeCertificate({ names: ['localhost', '127.0.0.1'] })
write('chain.pem', certificate.chainPem)
write('key.pem', certificate.keyPem)

const upstreamPort = await freePort()
await start(
  LOAD_CPU,
  upstreamPort,
  'nginx',
  nginxArguments('upstream', [
    `server { listen 127.0.0.1:${upstreamPort}; location / { return 200 '${'x'.repeat(1024)}'; } }`,
  ]),
)
const candidates = [await startNginx(), await startHoldfast()]

const workloads: readonly [string, (port: number) => number][] = [
  [
    'HTTP/1.1, 1 KB, 64 connections',
    (port) => requestsOf(/(\d+) requests in/, 'wrk', '-t1', '-c64', `-d${SECONDS}s`, url(port)),
  ],
  [
    'HTTP/2, 1 KB, 16 × 16 streams',
    (port) =>
      requestsOf(/(\d+) succeeded/, 'h2load', '-t1', '-c16', '-m16', '-D', String(SECONDS), url(port)),
  ],
]

console.log(
  `${cpus()[0]?.model.trim()}, Node ${process.versions.node}; ${ROUNDS} rounds of ${SECONDS} s, medians\n`,
)
for (const [title, run] of workloads) {
  const samples = new Map(candidates.map((candidate) => [candidate, [] as Sample[]]))
  for (let round = 0; round < ROUNDS; round++) {
    for (const candidate of candidates) samples.get(candidate)?.push(measure(candidate, run))
  }
  report(title, samples)
}
process.exit()

function measure(candidate: Candidate, run: (port: number) => number): Sample {
  const before = cpuSeconds(candidate.process)
  const startedAt = performance.now()
  const requests = run(candidate.port)
  const seconds = (performance.now() - startedAt) / 1000
  const cpu = cpuSeconds(candidate.process) - before
  return { perSecond: requests / seconds, cpuMicroseconds: (cpu / requests) * 1e6 }
}

function report(title: string, samples: ReadonlyMap<Candidate, readonly Sample[]>): void {
  const rows = [...samples].map(([{ name }, all]) => ({
    name,
    perSecond: median(all.map((sample) => sample.perSecond)),
    cpuMicroseconds: median(all.map((sample) => sample.cpuMicroseconds)),
  }))
  console.log(title)
  console.log(
    `  ${'proxy'.padEnd(20)}${'requests/s'.padStart(12)}${'CPU µs/request'.padStart(16)}${'nginx’s CPU / its own'.padStart(24)}`,
  )
  for (const row of rows) {
    const ratio = (rows[0]?.cpuMicroseconds ?? 0) / row.cpuMicroseconds
    console.log(
      `  ${row.name.padEnd(20)}${row.perSecond.toFixed(0).padStart(12)}${row.cpuMicroseconds.toFixed(1).padStart(16)}${ratio.toFixed(2).padStart(24)}`,
    )
  }
  console.log()
}

async function startNginx(): Promise<Candidate> {
  const port = await freePort()
  const server = `server {
    listen 127.0.0.1:${port} ssl http2;
    ssl_certificate chain.pem;
    ssl_certificate_key key.pem;
    location / {
      proxy_pass http://app;
      proxy_http_version 1.1;
      proxy_set_header Connection "";
      proxy_set_header Host $host;
      proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for;
      proxy_set_header X-Forwarded-Proto $scheme;
    }
  }`
  const app = `upstream app { server 127.0.0.1:${upstreamPort}; keepalive 512; keepalive_requests 1000000000; }`
  return {
    name: 'nginx',
    port,
    process: await start(PROXY_CPU, port, 'nginx', nginxArguments('proxy', [app, server])),
  }
}

async function startHoldfast(): Promise<Candidate> {
  const port = await freePort()
  write(
    'proxy.config.json',
    JSON.stringify({
      listen: { https: [`127.0.0.1:${port}`], http: [], admin: false },
      store: 'file:./store',
      workers: 1,
      forwarder: 'compat',
      log: { level: 'error', access: false },
      sites: [
        {
          hosts: ['localhost', '127.0.0.1'],
          upstreams: [`http://127.0.0.1:${upstreamPort}`],
          tls: { certificate: 'chain.pem', key: 'key.pem' },
        },
      ],
      tls: { defaultHost: 'localhost' },
    }),
  )
  const args = [HOLDFAST, 'serve', '--config', join(folder, 'proxy.config.json')]
  return { name: 'Holdfast, compat', port, process: await start(PROXY_CPU, port, process.execPath, args) }
}

function nginxArguments(name: string, http: readonly string[]): string[] {
  const paths = ['client_body', 'proxy', 'fastcgi', 'uwsgi', 'scgi'].map(
    (kind) => `${kind}_temp_path ${name}-${kind};`,
  )
  write(
    `${name}.conf`,
    `daemon off; master_process off; pid ${name}.pid; error_log stderr; events { worker_connections 4096; }
    http { access_log off; keepalive_requests 1000000000; ${paths.join(' ')} ${http.join(' ')} }`,
  )
  return ['-p', folder, '-c', `${name}.conf`, '-e', 'stderr']
}

/** Pinned to a core; ready when its port accepts. */
async function start(
  cpu: string,
  port: number,
  command: string,
  args: readonly string[],
): Promise<ChildProcess> {
  const child = spawn('taskset', ['-c', cpu, command, ...args], {
    cwd: folder,
    env: { ...process.env, PATH: `${process.env.PATH}:/usr/sbin` },
    stdio: ['ignore', 'ignore', 'inherit'],
  })
  children.push(child)
  for (let attempt = 0; child.exitCode === null && attempt < 200; attempt++) {
    if (await answers(port)) return child
    await delay(50)
  }
  throw new Error(`${command} did not start on port ${port}`)
}

function answers(port: number): Promise<boolean> {
  return new Promise((resolve) => {
    const socket = connect(port, '127.0.0.1', () => {
      socket.destroy()
      resolve(true)
    })
    socket.on('error', () => resolve(false))
  })
}

/** What the load generator counted. */
function requestsOf(pattern: RegExp, ...command: string[]): number {
  const output = execFileSync('taskset', ['-c', LOAD_CPU, ...command], { encoding: 'utf8' })
  const count = Number(pattern.exec(output)?.[1] ?? 0)
  if (count === 0 || /Non-2xx|[1-9]\d* failed|[1-9]\d* errored/.test(output)) throw new Error(output)
  return count
}

/** User and system time of a process and its children (proc(5)), in seconds. */
function cpuSeconds(child: ChildProcess): number {
  const TICKS_PER_SECOND = 100
  const ticksOf = (pid: string): number => {
    const stat = readFileSync(`/proc/${pid}/stat`, 'utf8')
    const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ')
    const own = Number(fields[11]) + Number(fields[12])
    const offspring = readdirSync(`/proc/${pid}/task`).flatMap((task) =>
      readFileSync(`/proc/${pid}/task/${task}/children`, 'utf8').split(' ').filter(Boolean),
    )
    return offspring.reduce((sum, descendant) => sum + ticksOf(descendant), own)
  }
  return ticksOf(String(child.pid)) / TICKS_PER_SECOND
}

function median(values: readonly number[]): number {
  return [...values].sort((a, b) => a - b)[Math.floor(values.length / 2)] ?? 0
}

function url(port: number): string {
  return `https://127.0.0.1:${port}/`
}

function write(name: string, content: string): void {
  writeFileSync(join(folder, name), content)
}
