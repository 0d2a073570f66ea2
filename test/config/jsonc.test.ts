import { isDeepStrictEqual } from 'node:util'
import fc from 'fast-check'
import t from 'tap'
import { readJsonc } from '../../src/config/jsonc.ts'
import { describeProblem } from '../../src/errors.ts'

function problemsIn(text: string): string[] {
  return readJsonc(text).problems.map(describeProblem)
}

function parseStrictly(text: string): { value: unknown } | undefined {
  try {
    return { value: JSON.parse(text) }
  } catch {
    return undefined
  }
}

t.test('JSON reads as JSON.parse reads it', async () => {
  fc.assert(
    fc.property(fc.json(), (text) => {
      return isDeepStrictEqual(readJsonc(text), { value: JSON.parse(text), problems: [] })
    }),
  )
})

t.test('what JSON.parse refuses is refused, comments, trailing commas and doubled keys apart', async () => {
  const broken = fc
    .tuple(fc.json(), fc.nat(), fc.constantFrom('', '"', '{', ']', ':', '\\', '.', '-', '0', 'e', '\n', "'"))
    .map(([text, at, piece]) => {
      const offset = at % (text.length + 1)
      return text.slice(0, offset) + piece + text.slice(offset + 1)
    })
  fc.assert(
    fc.property(broken, (text) => {
      const { value, problems } = readJsonc(text)
      const strict = parseStrictly(text)
      if (strict === undefined) return problems.length === 1 || /,\s*[\]}]/.test(text)
      return isDeepStrictEqual(value, strict.value)
    }),
    { numRuns: 2000 },
  )
})

t.test('comments and trailing commas are skipped', async (t) => {
  const text = `// the first line
    { /* a */ "a": [1, 2, /* three */], // to the end
      "b": { "url": "http://x//y /* no comment */", }, }
    // last`
  t.strictSame(readJsonc(text), {
    value: { a: [1, 2], b: { url: 'http://x//y /* no comment */' } },
    problems: [],
  })
})

t.test('a byte order mark and CRLF are fine', async (t) => {
  t.strictSame(readJsonc('\uFEFF{\r\n"a": 1 // x\r\n}\r\n').value, { a: 1 })
})

t.test('a key that is there twice is named with its path, and the rest is read', async (t) => {
  const { value, problems } = readJsonc(
    '{"sites": [{"hosts": [], "my key": 1, "hosts": ["a"], "my key": 2}]}',
  )
  t.strictSame(value, { sites: [{ hosts: ['a'], 'my key': 2 }] })
  t.strictSame(problems.map(describeProblem), [
    'sites[0].hosts: is there twice (remove one of the two)',
    'sites[0]["my key"]: is there twice (remove one of the two)',
  ])
})

t.test('"__proto__" is a key like any other', async (t) => {
  const { value } = readJsonc('{"__proto__": {"polluted": true}}')
  t.ok(Object.hasOwn(value as object, '__proto__'))
  t.notOk('polluted' in (value as object))
})

t.test('a syntax error says where it is and what to do', async (t) => {
  const cases: [text: string, problem: string][] = [
    ['', 'line 1, column 1: the file is empty (write a configuration in { })'],
    ['  // nothing\n', 'line 2, column 1: the file is empty (write a configuration in { })'],
    [
      '{\n  "a": 1\n  "b": 2\n}',
      'line 3, column 3: expected "," or "}" but found a string (is a comma missing before it?)',
    ],
    [
      '[1 2]',
      'line 1, column 4: expected "," or "]" but found something like a number (is a comma missing before it?)',
    ],
    [
      '{ a: 1 }',
      'line 1, column 3: expected a key or "}" but found a word without quotes (keys need double quotes)',
    ],
    [
      "{ 'a': 1 }",
      'line 1, column 3: expected a key or "}" but found a single quote (keys need double quotes)',
    ],
    ['{ "a" 1 }', 'line 1, column 7: expected ":" after the key but found something like a number'],
    [
      '{ "a": yes }',
      'line 1, column 8: expected a value but found a word without quotes (text needs double quotes)',
    ],
    ['{ "a": , }', 'line 1, column 8: expected a value but found ","'],
    ['{ "a": 012 }', 'line 1, column 8: expected a value but found something like a number'],
    [
      '{ "a": "C:\\dir" }',
      'line 1, column 8: the string holds a bad escape or a control character (write \\\\ for a backslash, \\t for a tab)',
    ],
    [
      '{ "a": "x\ty" }',
      'line 1, column 8: the string holds a bad escape or a control character (write \\\\ for a backslash, \\t for a tab)',
    ],
    ['{ "a": "x\n" }', 'line 1, column 8: the string is not closed on its line (end it with a double quote)'],
    ['{\n "a": [1,\n', 'line 3, column 1: the file ends, but "[" of line 2, column 7 is not closed'],
    [
      '{ "a": 1 } }',
      'line 1, column 12: the configuration ends before this, but "}" follows (remove the rest)',
    ],
    ['{ /* "a": 1 }', 'line 1, column 3: the comment is not closed (end it with */)'],
    ['{,}', 'line 1, column 2: expected a key or "}" but found ","'],
    ['{ "a": 1,, }', 'line 1, column 10: expected a key or "}" but found ","'],
    ['['.repeat(100), 'line 1, column 66: nested too deep'],
  ]
  for (const [text, problem] of cases)
    t.strictSame(problemsIn(text), [problem], JSON.stringify(text).slice(0, 60))
})

t.test('no error quotes what may be a secret', async (t) => {
  for (const text of [
    '{"k": s3cret}',
    '{"k": "a" "s3cret"}',
    '{"k": "s3cret\n"}',
    '{"k": "s3cret\\q"}',
    '{s3cret: 1}',
  ]) {
    const problems = problemsIn(text)
    t.equal(problems.length, 1)
    t.notMatch(problems[0], /s3cret/)
  }
})
