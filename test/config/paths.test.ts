import fc from 'fast-check'
import t from 'tap'
import { isPlain, plainPath, readPath, writePath } from '../../src/config/paths.ts'

t.test('a path is read as the most lenient program would read it', async (t) => {
  for (const [path, reading] of [
    ['/', '/'],
    ['/a/b', '/a/b'],
    ['/%61/%42', '/a/B'],
    ['//a///b//', '/a/b/'],
    ['/a%2fb%5Cc\\d', '/a/b/c/d'],
    ['/a;x=1/b;y', '/a/b'],
    ['/a%3Bx/b', '/a/b'],
    ['/a;x%2Fy/b', '/a/b'],
    ['/a/./b/../c', '/a/c'],
    ['/a/%2E%2e/c', '/c'],
    ['/a/..;x/c', '/c'],
    ['/a%2F..%2Fc', '/c'],
    ['/a/b/..', '/a/'],
    ['/a/.', '/a/'],
    ['/a/..', '/'],
    ['/%252e', '/%2e'],
    ['/%zz%4', '/%zz%4'],
    ['/%C3%A9', '/\xc3\xa9'],
    ['/...', '/...'],
  ] as const)
    t.equal(readPath(path)?.path, reading, path)
})

t.test('one that climbs above the root has no reading', async (t) => {
  for (const path of ['/..', '/a/../../b', '/%2e%2e/', '/a/..;/..', '/\\..'])
    t.equal(readPath(path), undefined, path)
})

t.test('a plain path is read as it stands', async (t) => {
  const plain = fc
    .array(fc.constantFrom('a', '.a', 'b.', '...', '~', ':@', '*'), { minLength: 1 })
    .map((segments) => `/${segments.join('/')}`)
  fc.assert(
    fc.property(plain, (path) => {
      t.ok(isPlain(path), path)
      t.strictSame(readPath(path), { path, isTreacherous: false })
    }),
  )
  for (const path of ['/a;b', '/a|b', '/a b', '/\xe9', '/%61', '//', '/a//b', '/.', '/a/..', '/./b', '/a\\b'])
    t.notOk(isPlain(path), path)
})

t.test('the plain spelling of a reading is read as that again', async (t) => {
  const octets = fc.array(fc.integer({ min: 0, max: 255 })).map((codes) => String.fromCharCode(...codes))
  fc.assert(
    fc.property(octets, (text) => {
      const reading = readPath(`/${text}`)?.path
      if (reading === undefined || /[;%]/.test(reading)) return
      const written = writePath(reading)
      t.match(written, /^[\x21-\x7e]+$/)
      t.strictSame(readPath(written), { path: reading, isTreacherous: false })
    }),
  )
})

t.test('whoever undoes but some of it takes the route of the path as it is, or of its reading', async (t) => {
  const routes = ['/a/', '/a/b/', '/b/', '/b/a/', '/a.b/']
  const routeOf = (path: string): string =>
    routes
      .filter((route) => path.startsWith(route) || path === route.slice(0, -1))
      .sort()
      .at(-1) ?? '/'
  const token = fc.constantFrom(
    'a',
    'b',
    '/',
    '//',
    '%61',
    '%62',
    '%2F',
    '%5C',
    '\\',
    ';a',
    ';b/',
    '%3B',
    '.',
    '%2e',
  )
  const undo: readonly ((path: string, chosen: (index: number) => boolean) => string)[] = [
    (path, chosen) => path.replace(/;[^/\\]*/g, (found, at: number) => (chosen(at) ? '' : found)),
    (path, chosen) =>
      path.replace(/%(..)/g, (found, digits, at: number) =>
        chosen(at) ? String.fromCharCode(Number.parseInt(digits, 16)) : found,
      ),
    (path, chosen) => path.replace(/\\/g, (found, at: number) => (chosen(at) ? '/' : found)),
    (path, chosen) => path.replace(/\/\/+/g, (found, at: number) => (chosen(at) ? '/' : found)),
  ]
  const program = fc.array(
    fc.tuple(fc.nat(undo.length - 1), fc.array(fc.boolean(), { minLength: 20, maxLength: 20 })),
  )
  fc.assert(
    fc.property(fc.array(token, { maxLength: 12 }), program, (tokens, steps) => {
      const path = `/${tokens.join('')}`
      const reading = readPath(path)
      if (reading === undefined || reading.isTreacherous) return
      const read = steps.reduce(
        (text, [which, chosen]) => undo[which]?.(text, (at) => chosen[at % 20] === true) ?? text,
        path,
      )
      if (routeOf(path) !== routeOf(reading.path)) return
      t.equal(routeOf(read), routeOf(path), `${path} as ${read}`)
      const { pathname } = new URL(path, 'http://app')
      t.equal(routeOf(pathname), routeOf(path), `${path} as the reference to ${pathname}`)
    }),
    { numRuns: 5000 },
  )
})

t.test('a path that a person writes is brought to its plain spelling', async (t) => {
  for (const [text, path] of [
    ['/', '/'],
    ['/api/v1/', '/api/v1/'],
    ['/caf\u00e9', '/caf%C3%A9'],
    ['/%61%20b', '/a%20b'],
    ['/.well-known/x', '/.well-known/x'],
  ] as const)
    t.equal(plainPath(text), path, text)
})

t.test('and refused where no request can have it', async (t) => {
  for (const text of [
    '',
    'a',
    '/a b',
    '/a?b',
    '/a#b',
    '//a',
    '/a//b',
    '/a/../b',
    '/a/.',
    '/a;b',
    '/a\\b',
    '/a%2Fb',
    '/%2e%2e/a',
    '/a/*',
  ])
    t.equal(plainPath(text), undefined, text)
})
