import { execFileSync, spawnSync } from 'node:child_process'
import { copyFileSync, mkdirSync, writeFileSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { fileURLToPath } from 'node:url'
import t from 'tap'

const LAUNCHER = fileURLToPath(new URL('../bin/holdfast.js', import.meta.url))

/** A program that says which file it is and what it was given. */
const PROGRAM = 'export async function main(argv) { console.log(import.meta.url, argv.join("+")) }'

t.test('runs the sources in a checkout', async (t) => {
  const folder = t.testdir({ src: { 'cli.ts': PROGRAM }, dist: { 'cli.js': PROGRAM } })
  t.match(run(folder), { status: 0, stdout: /src\/cli\.ts check\+--config\+a\.json\n$/ })
})

t.test('runs what was built once installed', async (t) => {
  const folder = t.testdir({ dist: { 'cli.js': PROGRAM } })
  t.match(run(folder), { status: 0, stdout: /dist\/cli\.js check\+--config\+a\.json\n$/ })
})

t.test('on an old Node it says in one line what it needs, what it found and how to get it', async (t) => {
  const folder = t.testdir({ src: { 'cli.ts': PROGRAM } })
  const { node, flags } = oldNode(folder)
  const { status, stdout, stderr } = run(folder, node, flags)
  t.equal(status, 1)
  t.equal(stdout, '')
  t.match(
    stderr,
    /^holdfast needs Node 24\.18 or newer, and this is Node v\d+\.\d.*npm ci.*npm run holdfast --.*\n$/,
  )
})

for (const [layout, place] of [
  ['beside it', '..'],
  ['within it', 'node_modules'],
] as const) {
  t.test(`on an old Node an installed copy names the Node that came with it: ${layout}`, async (t) => {
    const folder = join(t.testdir({}), 'node_modules/holdfast')
    const newer = join(folder, place, `node-${process.platform}-${process.arch}/bin/node`)
    mkdirSync(dirname(newer), { recursive: true })
    writeFileSync(newer, '')
    mkdirSync(folder, { recursive: true })
    const { node, flags } = oldNode(folder)
    const { status, stdout, stderr } = run(folder, node, flags)
    t.strictSame([status, stdout], [1, ''])
    const command = `${newer} ${join(folder, 'bin/holdfast.js')} check --config a.json`
    t.match(stderr, `. One came with it: start with \`${command}\`.\n`)
  })
}

t.test('on an old Node an installed copy without one of its own tells how to get it', async (t) => {
  const folder = t.testdir({ dist: { 'cli.js': PROGRAM } })
  const { node, flags } = oldNode(folder)
  const { status, stderr } = run(folder, node, flags)
  t.equal(status, 1)
  t.match(stderr, /\. Install one, or install holdfast with its optional packages, which bring one\.\n$/)
})

function run(folder: string, node = process.execPath, flags: string[] = []) {
  const launcher = join(folder, 'bin/holdfast.js')
  mkdirSync(dirname(launcher), { recursive: true })
  copyFileSync(LAUNCHER, launcher)
  writeFileSync(join(folder, 'package.json'), '{ "type": "module" }')
  const argv = [...flags, launcher, 'check', '--config', 'a.json']
  return spawnSync(node, argv, { encoding: 'utf8', env: { PATH: process.env.PATH } })
}

/** The system's own, where it is old enough (Debian's is); else this one under a false name. */
function oldNode(folder: string): { node: string; flags: string[] } {
  const found = execFileSync('which', ['-a', 'node'], { encoding: 'utf8' }).trim().split('\n')
  const old = found.find((node) => majorOf(node) < 24)
  if (old !== undefined) return { node: old, flags: [] }
  const disguise = join(folder, 'disguise.cjs')
  const falsely = { version: { value: 'v20.1.0' }, versions: { value: { node: '20.1.0' } } }
  writeFileSync(disguise, `Object.defineProperties(process, ${JSON.stringify(falsely)})`)
  return { node: process.execPath, flags: ['--require', disguise] }
}

function majorOf(node: string): number {
  return Number(/\d+/.exec(execFileSync(node, ['--version'], { encoding: 'utf8' }))?.[0])
}
