/**
 * Holdfast beside nginx, HAProxy, Caddy and hitch, before the same upstream, in one interleaved run:
 *
 *     bash bench/setup.sh && node bench/compare.ts [--quick] [--rows http1,http2] [--proxies nginx,Holdfast]
 *
 * Holdfast runs as npm installs it, compiled, on a Node that no other process shares pages with.
 * One core for the proxy, the other for the load and the upstream; every proxy is warmed up; rounds in which other work
 * took the proxy's core are repeated; medians. The table says how each stands to nginx: its cost divided by the
 * proxy's own, so that more is better and 1.0 is level. Writes bench/results/compare.json and compare.svg when all is run.
 *
 * A program of your own takes part with `--candidate 'name=command'`: it finds PORT, UPSTREAM_PORT and FOLDER
 * (chain.pem, key.pem) in its environment and joins every row that `--rows` names.
 */
import { execFileSync } from 'node:child_process'
import { randomBytes } from 'node:crypto'
import { copyFileSync, cpSync, mkdirSync, mkdtempSync, rmSync, symlinkSync, writeFileSync } from 'node:fs'
import { cpus, tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { parseArgs } from 'node:util'
import { freePort } from '../test/peers/process.ts'
import { makeAuthority, makeCertificate } from '../test/support/certificates.ts'
import { drawChart } from './compare/chart.ts'
import { type Scene, type Server, startProxy, startUpstream } from './compare/proxies.ts'
import { createRows, type Row, type Sample } from './compare/rows.ts'

export interface Result {
  readonly proxy: string
  readonly cost: number
  /** The reference's cost divided by this one. */
  readonly ratio: number
  readonly perSecond: number | undefined
  /** Rounds that stayed disturbed after every repetition. */
  readonly disturbed: number
}

/** More than this share of the proxy's core for other work, and the round is repeated. */
const MAX_DISTURBANCE = 0.05
const MAX_REPETITIONS = 5
const WARM_UP_SECONDS = 3
const SOURCE = fileURLToPath(new URL('compare/handshakes.c', import.meta.url))
const ROOT = fileURLToPath(new URL('..', import.meta.url))
const RESULTS = fileURLToPath(new URL('results/', import.meta.url))

const { values: options } = parseArgs({
  options: {
    quick: { type: 'boolean', default: false },
    rows: { type: 'string' },
    proxies: { type: 'string' },
    candidate: { type: 'string', multiple: true, default: [] },
    'upstream-port': { type: 'string' },
  },
})
const rounds = options.quick ? 2 : 21
const seconds = 1

const folder = mkdtempSync(join(tmpdir(), 'holdfast-bench-'))
process.on('exit', () => rmSync(folder, { recursive: true, force: true }))
const scene: Scene = {
  folder,
  upstreamPort: Number(options['upstream-port'] ?? (await freePort())),
  commands: new Map(options.candidate.map((each) => splitOnce(each, '='))),
}
await prepare()
await startUpstream(scene)

const machine = {
  cpu: cpus()[0]?.model.trim(),
  kernel: execFileSync('uname', ['-sr'], { encoding: 'utf8' }).trim(),
  node: process.versions.node,
  date: new Date().toISOString().slice(0, 10),
  rounds,
  seconds,
}
console.log(Object.values(machine).slice(0, 4).join(', '), `– ${rounds} rounds of ${seconds} s\n`)

const running = new Map<string, Server>()
const table: { id: string; title: string; unit: string; results: Result[] }[] = []
for (const row of createRows(folder).filter(isWanted)) {
  const results = await compare(row)
  table.push({ id: row.id, title: row.title, unit: row.unit, results })
  report(row, results)
}
if (!options.quick && options.rows === undefined && options.proxies === undefined) {
  mkdirSync(RESULTS, { recursive: true })
  writeFileSync(join(RESULTS, 'compare.json'), `${JSON.stringify({ machine, rows: table }, null, 2)}\n`)
  writeFileSync(join(RESULTS, 'compare.svg'), drawChart(table))
}
process.exit()

async function prepare(): Promise<void> {
  const authority = await makeAuthority()
  const { chainPem, keyPem } = await makeCertificate({ names: ['localhost', '127.0.0.1'], authority })
  writeFileSync(join(folder, 'root.pem'), authority.rootPem)
  writeFileSync(join(folder, 'chain.pem'), chainPem)
  writeFileSync(join(folder, 'key.pem'), keyPem)
  writeFileSync(join(folder, 'both.pem'), chainPem + keyPem)
  writeFileSync(join(folder, '10m'), randomBytes(10 * 1024 * 1024))
  install(join(folder, 'holdfast'))
  execFileSync('gcc', ['-O2', '-o', join(folder, 'handshakes'), SOURCE, '-lssl', '-lcrypto'], {
    stdio: 'inherit',
  })
}

/** As npm does from the package, and with a Node of its own. */
function install(target: string): void {
  cpSync(join(ROOT, 'bin'), join(target, 'bin'), { recursive: true })
  copyFileSync(join(ROOT, 'package.json'), join(target, 'package.json'))
  copyFileSync(process.execPath, join(target, 'node'))
  symlinkSync(join(ROOT, 'node_modules'), join(target, 'node_modules'))
  const options = ['-p', join(ROOT, 'tsconfig.build.json'), '--outDir', join(target, 'dist')]
  execFileSync(join(ROOT, 'node_modules/.bin/tsc'), options, { stdio: 'inherit' })
}

function isWanted({ id }: Row): boolean {
  return options.rows === undefined || options.rows.split(',').includes(id)
}

function proxiesOf(row: Row): string[] {
  // The names of some have a comma.
  const wanted = options.proxies?.split(/,(?! )/)
  const known = row.proxies.filter(
    (name, index) => index === 0 || wanted === undefined || wanted.includes(name),
  )
  return [...known, ...scene.commands.keys()]
}

/** Rounds go through all proxies before the next begins, so that what changes meanwhile changes for all. */
async function compare(row: Row): Promise<Result[]> {
  const samples = new Map(proxiesOf(row).map((name) => [name, [] as Sample[]]))
  if (!row.fresh) {
    for (const name of samples.keys()) await row.measure(await runningProxy(name), WARM_UP_SECONDS)
  }
  for (let round = 0; round < (row.fresh ? Math.min(rounds, 3) : rounds); round++) {
    for (const [name, all] of samples) all.push(await measure(row, name))
  }
  const reference = [...samples.values()][0] ?? []
  return [...samples].map(([proxy, all]) => ({
    proxy,
    cost: median(all.map(({ cost }) => cost)),
    ratio: median(reference.map(({ cost }) => cost)) / median(all.map(({ cost }) => cost)),
    perSecond:
      all[0]?.perSecond === undefined ? undefined : median(all.map((sample) => sample.perSecond ?? 0)),
    disturbed: all.filter(({ disturbance }) => disturbance > MAX_DISTURBANCE).length,
  }))
}

/** The least disturbed of as many tries as it takes. */
async function measure(row: Row, name: string): Promise<Sample> {
  let best: Sample | undefined
  for (let attempt = 0; attempt < MAX_REPETITIONS; attempt++) {
    const proxy = row.fresh ? await startProxy(scene, name) : await runningProxy(name)
    const sample = await row.measure(proxy, seconds)
    if (row.fresh) proxy.stop()
    if (best === undefined || sample.disturbance < best.disturbance) best = sample
    if (best.disturbance <= MAX_DISTURBANCE) break
  }
  return best!
}

async function runningProxy(name: string): Promise<Server> {
  const proxy = running.get(name) ?? (await startProxy(scene, name))
  running.set(name, proxy)
  return proxy
}

function report({ title, unit }: Row, results: readonly Result[]): void {
  console.log(title)
  for (const { proxy, cost, ratio, perSecond, disturbed } of results) {
    const rate = perSecond === undefined ? '' : `${perSecond.toFixed(0)}/s`
    const note = disturbed === 0 ? '' : `  ${disturbed} of ${rounds} rounds disturbed`
    console.log(
      `  ${proxy.padEnd(22)}${cost.toFixed(1).padStart(10)} ${unit.padEnd(8)}${rate.padStart(10)}${ratio.toFixed(2).padStart(8)}${note}`,
    )
  }
  console.log()
}

function median(values: readonly number[]): number {
  return [...values].sort((a, b) => a - b)[Math.floor(values.length / 2)] ?? 0
}

function splitOnce(text: string, separator: string): [string, string] {
  const index = text.indexOf(separator)
  return [text.slice(0, index), text.slice(index + 1)]
}
