import t from 'tap'
import { BodyReader } from '../../../src/http/fast/body.ts'

interface Result {
  content: string
  reader: BodyReader
  /** What was left unread. */
  rest: string
}

/** Reads `text` in pieces of `step` octets. */
function chunked(text: string, step = text.length): Result {
  const reader = new BodyReader()
  reader.start('chunked', 0)
  const bytes = Buffer.from(text, 'latin1')
  let content = ''
  const sink = {
    onContent: (piece: Buffer, start: number, end: number) => {
      content += piece.toString('latin1', start, end)
    },
  }
  let p = 0
  while (p < bytes.length && !reader.done && reader.fault === '') {
    p = reader.read(bytes, p, Math.min(bytes.length, p + step), sink)
  }
  return { content, reader, rest: text.slice(p) }
}

t.test('content-length counts to the octet', async (t) => {
  const reader = new BodyReader()
  reader.start('length', 5)
  const pieces: string[] = []
  const sink = {
    onContent: (b: Buffer, s: number, e: number) => void pieces.push(b.toString('latin1', s, e)),
  }
  t.equal(reader.read(Buffer.from('ab'), 0, 2, sink), 2)
  t.equal(reader.done, false)
  t.equal(reader.read(Buffer.from('cdefg'), 0, 5, sink), 3)
  t.equal(reader.done, true)
  t.same(pieces, ['ab', 'cde'])
})

t.test('a body of length 0 is done at once', async (t) => {
  const reader = new BodyReader()
  reader.start('length', 0)
  t.equal(reader.done, true)
})

t.test('until-close takes everything and never ends', async (t) => {
  const reader = new BodyReader()
  reader.start('until-close', 0)
  t.equal(reader.read(Buffer.from('abc'), 0, 3, { onContent() {} }), 3)
  t.equal(reader.done, false)
})

t.test('chunks are decoded, split at every octet', async (t) => {
  const text =
    '5\r\nhello\r\n1;ext="v";y\r\n \r\n00A\r\n0123456789\r\n0\r\nX-Sum: abc \r\nContent-Type: a/b\r\n\r\nNEXT'
  for (let step = 1; step <= text.length; step++) {
    const { content, reader, rest } = chunked(text, step)
    t.equal(content, 'hello 0123456789', `in steps of ${step}`)
    t.equal(reader.done, true)
    t.equal(reader.trailers?.toString(), 'X-Sum: abc\r\n')
    t.equal(reader.contentBytes, 16)
    t.equal(rest, 'NEXT')
  }
})

const REFUSED: [name: string, text: string, fault: string][] = [
  ['no size', '\r\nhello\r\n', 'chunk-size-invalid'],
  ['a size with 0x', '0x5\r\nhello\r\n', 'chunk-size-invalid'],
  ['a trailer that frames', '0\r\nTransfer-Encoding: chunked\r\n\r\n', 'trailer-frames-message'],
  ['a trailer with a length', '0\r\nContent-Length: 3\r\n\r\n', 'trailer-frames-message'],
  ['a signed size', '-5\r\nhello\r\n', 'chunk-size-invalid'],
  ['a size with an underscore', '5_0\r\nhello\r\n', 'chunk-size-invalid'],
  ['a space after the size', '5 \r\nhello\r\n', 'chunk-size-invalid'],
  ['a size past 2^53', '20000000000001\r\n', 'chunk-size-invalid'],
  ['an endless size', `${'0'.repeat(17)}5\r\nhello\r\n`, 'chunk-size-invalid'],
  ['LF after the size', '5\nhello\r\n', 'chunk-size-invalid'],
  ['CR alone after the size', '5\rhello\r\n', 'chunk-ending-invalid'],
  ['LF in an extension', '5;a\nb\r\nhello\r\n', 'chunk-ending-invalid'],
  ['NUL in an extension', '5;\0\r\nhello\r\n', 'chunk-ending-invalid'],
  ['an endless extension', `5;${'a'.repeat(300)}\r\nhello\r\n`, 'chunk-line-too-long'],
  [
    'extensions without end',
    `${`1;${'a'.repeat(200)}\r\nx\r\n`.repeat(100)}0\r\n\r\n`,
    'chunk-line-too-long',
  ],
  ['data longer than its size', '5\r\nhello!\r\n', 'chunk-ending-invalid'],
  ['LF after the data', '5\r\nhello\n0\r\n\r\n', 'chunk-ending-invalid'],
  ['CR alone after the data', '5\r\nhello\r0\r\n\r\n', 'chunk-ending-invalid'],
  ['LF after the last chunk', '0\r\n\n', 'line-ending-invalid'],
  ['CR alone after the last chunk', '0\r\n\rX', 'chunk-ending-invalid'],
  ['a bare LF in a trailer', '0\r\nX: y\n\r\n', 'line-ending-invalid'],
  ['a space before a trailer’s colon', '0\r\nX : y\r\n\r\n', 'space-before-colon'],
  ['a folded trailer', '0\r\nX: y\r\n z\r\n\r\n', 'line-folded'],
  ['trailers without end', `0\r\nX: ${'y'.repeat(9000)}\r\n\r\n`, 'trailer-too-large'],
]

for (const [name, text, fault] of REFUSED) {
  t.test(`refuses ${name}`, async (t) => {
    for (const step of [text.length, 1]) {
      const { reader } = chunked(text, step)
      const refused = reader.fault === fault || (name === 'LF after the last chunk' && !reader.done)
      t.ok(refused, `${reader.fault} in steps of ${step}`)
    }
  })
}

t.test('trailers that frame or route a message are dropped', async (t) => {
  const { reader } = chunked('0\r\nTE: trailers\r\nHost: x\r\nX-Forwarded-For: y\r\nGrpc-Status: 0\r\n\r\n')
  t.equal(reader.trailers?.toString(), 'Grpc-Status: 0\r\n')
})

t.test('a reader is new after start', async (t) => {
  const reader = new BodyReader()
  const sink = { onContent() {} }
  for (let i = 0; i < 3; i++) {
    reader.start('chunked', 0)
    const bytes = Buffer.from('1\r\na\r\n0\r\nX: y\r\n\r\n')
    t.equal(reader.read(bytes, 0, bytes.length, sink), bytes.length)
    t.equal(reader.done, true)
    t.equal(reader.trailers?.toString(), 'X: y\r\n')
  }
})
