import { spawnSync } from 'node:child_process'
import { dirname, join } from 'node:path'
import { fileURLToPath } from 'node:url'
import t from 'tap'

const REPORT = fileURLToPath(new URL('report.ts', import.meta.url))
const PROGRAMS = join(dirname(dirname(REPORT)), 'node_modules/.bin')

const IMPORT = "import t from 'tap'\n"
const FILES = {
  // A project of its own, so that this run and the one within it share no state.
  'package.json': '{ "type": "module" }',
  '.taprc': 'plugin: ["!@tapjs/typescript"]\ndisable-coverage: true\n',
  'crashing.test.ts': 'throw new Error("boom")',
  'good.test.ts': `${IMPORT}t.test('adds', async (t) => { t.equal(1 + 1, 2); t.ok(true) })`,
  'late.test.ts': `${IMPORT}t.test('fine', async (t) => { t.ok(true) }); t.teardown(() => process.exit(3))`,
  'wrong.test.ts': `${IMPORT}t.test('adds', async (t) => {
      t.equal(1 + 1, 3, 'one and one')
      t.test('deep', async (t) => t.ok(false, 'deeper'))
    })
    t.test('skipped', { skip: 'not now' }, async () => {})`,
}

t.test('a run of tap with every kind of failure', (t) => {
  const { status, output, lines } = report(t.testdir(FILES), 'tap run --reporter=tap *.test.ts')
  // Files run side by side: which ends first is luck.
  const failed = lines.slice(lines.indexOf('Failed:') + 1, -1).sort()
  t.same(
    failed,
    [
      '  ✖ crashing.test.ts',
      '  ✖ late.test.ts',
      '  ✖ wrong.test.ts > adds > deep > deeper',
      '  ✖ wrong.test.ts > adds > one and one',
    ],
    'each is named once, with its path',
  )
  t.match(output, /-3\n +\+2/, 'and shown with its diagnosis')
  t.equal(lines.at(-1), '3 passed, 4 failed, 1 skipped')
  t.equal(status, 1)
  t.end()
})

t.test('a run in which all is well', (t) => {
  const { status, lines } = report(t.testdir(), 'echo "# { total: 2, pass: 2 }"')
  t.equal(lines.at(-1), '2 passed, 0 failed')
  t.equal(status, 0)
  t.end()
})

t.test('a long diagnosis is cut, and what follows it is told', (t) => {
  const tap = ['not ok 1 - a.test.ts', '  ---', ...Array(5000).fill('  x'), '  ...', 'not ok 2 - b.test.ts']
  const { lines } = report(t.testdir({ 'run.tap': tap.join('\n') }), 'cat run.tap')
  t.equal(lines.filter((line) => line === '    x').length, 100)
  t.ok(lines.includes('FAIL b.test.ts'))
  t.end()
})

t.test('a run without a test has failed', (t) => {
  const { status, lines } = report(t.testdir(), 'echo "1..0 # no tests found"')
  t.equal(lines.at(-1), '0 passed, 1 failed')
  t.equal(status, 1)
  t.end()
})

t.test('a run that breaks off has failed', (t) => {
  const { status, lines } = report(t.testdir(), 'echo "ok 1 - a.test.ts # time=3ms"')
  t.equal(lines.at(-1), '0 passed, 1 failed')
  t.equal(status, 1)
  t.end()
})

/** The report of what `command` prints, without the environment that tap gives to its tests. */
function report(folder: string, command: string) {
  const { status, stdout } = spawnSync('bash', ['-c', `${command} | node ${REPORT}`], {
    cwd: folder,
    encoding: 'utf8',
    env: { PATH: `${PROGRAMS}:${process.env.PATH}`, HOME: process.env.HOME },
  })
  return { status, output: stdout, lines: stdout.trim().split('\n') }
}
