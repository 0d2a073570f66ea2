import fc from 'fast-check'
import t from 'tap'
import { decodeSegment, encodeSegment, isKey } from '../../src/store/key.ts'

t.test('hosts stay readable as segments', async (t) => {
  const examples: [string, string][] = [
    ['app.example.com', 'app.example.com'],
    ['*.example.com', '+.example.com'],
    ['192.0.2.1', '192.0.2.1'],
    ['2001:db8::1', '2001~db8~~1'],
    ['xn--bcher-kva.example', 'xn--bcher-kva.example'],
    ['_acme.example.com', '_acme.example.com'],
  ]
  for (const [host, segment] of examples) {
    t.equal(encodeSegment(host), segment)
    t.equal(segment.length, host.length, 'and as long')
  }
})

t.test('any text becomes a segment that is a key, and comes back from it', async () => {
  fc.assert(
    fc.property(fc.string({ unit: 'binary', minLength: 1 }), (text) => {
      fc.pre(text.isWellFormed())
      return isKey(encodeSegment(text)) && decodeSegment(encodeSegment(text)) === text
    }),
  )
})

t.test('dots alone, slashes, and the signs that stand for others are encoded', async (t) => {
  for (const text of ['.', '..', 'a/b', '+.example.com', '2001~db8', '%2E', '%']) {
    t.ok(isKey(encodeSegment(text)), text)
    t.equal(decodeSegment(encodeSegment(text)), text)
  }
})

t.test('a segment that was never made from a text is told', async (t) => {
  for (const segment of ['', '%', '%2', '%41', '%ff', 'a b', '..']) {
    t.equal(decodeSegment(segment), undefined, JSON.stringify(segment))
  }
})
