import { readdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import t from 'tap'
import { findBreaches } from './layers.ts'
import { scan } from './source-text.ts'

const SRC = join(import.meta.dirname, '../src')

t.test('the sources keep the rules', async (t) => {
  const paths = readdirSync(SRC, { recursive: true, encoding: 'utf8' }).filter((path) => path.endsWith('.ts'))
  t.ok(paths.length > 10)
  const sources = new Map(paths.sort().map((path) => [path, readFileSync(join(SRC, path), 'utf8')]))
  t.same(findBreaches(sources), [])
})

t.test('a breach of each rule is found', async (t) => {
  const breaches = (files: Record<string, string>) => findBreaches(new Map(Object.entries(files)))

  t.test('an upward import', (t) => {
    t.same(breaches({ 'store/fs.ts': "\nimport { plan } from '../renew/plan.ts'" }), [
      'store/fs.ts:2: imports upward, renew/plan.ts',
    ])
    t.match(breaches({ 'admin/api.ts': "import { Server } from '../server.ts'" }), [/imports upward/])
    t.match(breaches({ 'errors.ts': "import { Renewer } from './renew/renewer.ts'" }), [/imports upward/])
    t.end()
  })

  t.test('an import between engines, or from a seam to another', (t) => {
    t.same(breaches({ 'tls/listener.ts': "import type { Wire } from '../http/wire.ts'" }), [
      'tls/listener.ts:1: imports sideways, http/wire.ts',
    ])
    t.match(breaches({ 'challenge/http-01.ts': "import type { Store } from '../store/store.ts'" }), [
      /sideways/,
    ])
    t.same(breaches({ 'ca/acme.ts': "import type { Solver } from '../challenge/solver.ts'" }), [])
    t.end()
  })

  t.test('a cycle, told once', (t) => {
    const files = {
      'cert/a.ts': "import { b } from './b.ts'",
      'cert/b.ts': "import type { C } from './c.ts'",
      'cert/c.ts': "export { a } from './a.ts'",
      'cert/d.ts': "import { a } from './a.ts'",
    }
    t.same(breaches(files), ['cert/a.ts: imports itself: cert/a.ts → cert/b.ts → cert/c.ts → cert/a.ts'])
    t.end()
  })

  t.test('a second importer of a package, also of its types or of a file in it', (t) => {
    const files = {
      'log.ts': "import pino from 'pino'\nimport { readFile } from 'node:fs'",
      'metrics.ts': "import type { Logger } from 'pino/types'\nimport { stat } from 'node:fs'",
    }
    t.same(breaches(files), ['metrics.ts:1: imports pino, which log.ts wraps'])
    t.match(breaches({ 'a.ts': "import '@a/b'", 'b.ts': "import('@a/b')", 'c.ts': "import '@a/c'" }), [
      'b.ts:1: imports @a/b, which a.ts wraps',
    ])
    t.end()
  })

  for (const code of [
    'Date.now()',
    'new Date()',
    'performance.now()',
    'process.hrtime.bigint()',
    'setTimeout(f, 1)',
    'setInterval(f, 1)',
    'AbortSignal.timeout(1)',
    // biome-ignore lint/suspicious/noTemplateCurlyInString: it is source text
    '`at ${Date.now()}`',
  ]) {
    t.test(`the real time: ${code}`, (t) => {
      t.match(breaches({ 'cert/a.ts': `f(${code})` }), [/^cert\/a\.ts:1: .* asks the real time/])
      t.same(breaches({ 'time.ts': `f(${code})` }), [])
      t.end()
    })
  }

  t.test('state at module level', (t) => {
    const files = {
      'cert/a.ts': 'let count = 0',
      'cert/b.ts': 'export let count = 0',
      'cert/c.ts': 'const seen = new Map<string, number>()',
      'cert/d.ts': 'const LIMITS = new Map([[1, 2]])\nfunction f() {\n  let x\n}',
    }
    t.match(breaches(files), [
      /^cert\/a\.ts:1: .*state/,
      /^cert\/b\.ts:1: .*state/,
      /^cert\/c\.ts:1: .*state/,
    ])
    t.equal(breaches(files).length, 3)
    t.end()
  })

  t.test('a folder without a layer', (t) => {
    t.throws(() => breaches({ 'utils/a.ts': "import '../errors.ts'" }), /src\/utils\/ has no layer/)
    t.end()
  })
})

t.test('text that is no code is not taken for it', async (t) => {
  const code = (source: string) => scan(source).code.replace(/ +/g, ' ')
  t.equal(code("a /* Date.now() */ b // 'x\nc"), 'a b \nc')
  t.equal(code("a('it\\'s', \"b\") c"), 'a(\' \', " ") c')
  // biome-ignore-start lint/suspicious/noTemplateCurlyInString: it is source text
  t.equal(code('a`b ${c + `d ${{ e: 1 }} f`} g` h'), 'a` {c + ` {{ e: 1 }} `} ` h')
  t.equal(code('`$ ${a} $` b'), '` {a} ` b')
  // biome-ignore-end lint/suspicious/noTemplateCurlyInString: it is source text
  t.equal(code("x.match(/['\"/]/g); y / 2 / z; 'q'"), "x.match(/ g); y / 2 / z; ' '")
  t.equal(code("return /[/]'/\nlet"), 'return / /\nlet')
})

t.test('every form of import is read', async (t) => {
  const source = `import a from 'a'
import { b,
  type B } from 'b'
import type { C } from 'c'
import 'd'
export { e } from 'e'
export * from 'f'
const g = await import('g')
type H = import('h').H
// import i from 'i'
const text = "import j from 'j'"
export const from = 'k'`
  const found = scan(source).imports.map(({ specifier, line }) => `${specifier} ${line}`)
  t.same(found.sort(), ['a 1', 'b 3', 'c 4', 'd 5', 'e 6', 'f 7', 'g 8', 'h 9'])
})
