/** HTTP/1.1 messages: what is read does not depend on how it comes in, and what is sent on can be read in one way only. */
import assert from 'node:assert/strict'
import fc from 'fast-check'
import { exchanges } from '../http/differential/exchanges.ts'
import { type MessageKind, MessageReader, type MessageReading } from '../http/fast/reading.ts'
import type { Target } from './fuzzer.ts'
import { Random } from './random.ts'

const WORDS = [
  '\r\n',
  '\r\n\r\n',
  '\n',
  '\r',
  ' ',
  '\t',
  ':',
  ': ',
  ',',
  ';',
  '\0',
  '\x0b',
  '\x7f',
  '\xff',
  '0\r\n\r\n',
  '4\r\nbody\r\n',
  'Host: app.example.com\r\n',
  'Content-Length: 4\r\n',
  'Transfer-Encoding: chunked\r\n',
  'Connection: close, x-a\r\n',
  'Connection: upgrade\r\nUpgrade: websocket\r\n',
  'Expect: 100-continue\r\n',
  'TE: trailers\r\n',
  'Trailer: x\r\n',
  'X-Forwarded-For: a\r\n',
  'Forwarded: for=a\r\n',
  'X-Request-Id: a\r\n',
  'Via: 1.0 a\r\n',
  'HTTP/1.1',
  'HTTP/1.0',
  'HTTP/1.1 100 Continue\r\n\r\n',
  'GET',
  'HEAD',
  'CONNECT',
  'http://app.example.com',
  'ffffffffffffffff',
  '9007199254740993',
  '204',
  '304',
  '101',
]

/** Names that frame the message or belong to one hop: none is sent on as the sender had it. */
const NOT_SENT_ON = {
  request:
    /^(?:connection|keep-alive|proxy-connection|transfer-encoding|upgrade|te|expect|proxy|proxy-authorization|proxy-authenticate|http2-settings|via|forwarded|x-forwarded-for|x-request-id)$/i,
  response:
    /^(?:connection|keep-alive|proxy-connection|transfer-encoding|upgrade|te|proxy-authorization|proxy-authenticate|http2-settings|via)$/i,
}

export function messageTarget(kind: MessageKind): Target {
  const reader = new MessageReader(kind)
  return {
    name: `${kind}s`,
    seeds: fc
      .sample(exchanges, { numRuns: 300, seed: 1 })
      .map((exchange) => Buffer.from(exchange[kind], 'latin1')),
    words: WORDS.map((word) => Buffer.from(word, 'latin1')),
    run: (input) => {
      const whole = reader.read([input])
      const random = Random.of(input)
      assert.deepEqual(reader.read(random.cut(input)), whole, 'cut')
      // Costs as much as dozens of others.
      if (input.length < 400 && random.below(16) === 0) {
        assert.deepEqual(reader.read(Array.from(input, (octet) => Buffer.of(octet))), whole, 'octet by octet')
      }
      assert.ok(whole.length <= input.length, 'read past the end')
      if (whole.head !== '') checkLines(kind, whole)
    },
    stop: () => {},
  }
}

/** What a reader that forgives nothing asks of the lines, and that we would read them as before. */
function checkLines(kind: MessageKind, { lines, head }: MessageReading): void {
  const [start = '', ...fields] = lines.split('\r\n')
  assert.equal(fields.pop(), '', 'the lines end in CRLF')
  assert.match(
    start,
    kind === 'request' ? /^[A-Z\d_-]+ \/[!-~]* HTTP\/1\.1$/ : /^HTTP\/1\.1 [1-5]\d\d [\t -~\x80-\xff]*$/,
  )
  let lengths = 0
  for (const field of fields) {
    const name = /^([!#$%&'*+.^`|~\w-]+): (?:[!-~\x80-\xff](?:[\t -~\x80-\xff]*[!-~\x80-\xff])?)?$/.exec(
      field,
    )?.[1]
    assert.ok(name, `no field line: ${JSON.stringify(field)}`)
    assert.ok(!NOT_SENT_ON[kind].test(name), `sent on: ${field}`)
    if (name.toLowerCase() === 'content-length') lengths++
  }
  assert.ok(lengths <= 1, 'one length')
  const { chunked, contentLength, nominated } = JSON.parse(head)
  assert.ok(!chunked || lengths === 0, 'one framing')
  assert.equal(lengths === 1, contentLength !== -1, 'the length that was read is sent on')
  for (const name of nominated ?? []) {
    assert.ok(!fields.some((field) => field.toLowerCase().startsWith(`${name}:`)), `${name} is of one hop`)
  }
  const coding = chunked ? 'Transfer-Encoding: chunked\r\n' : ''
  const again = new MessageReader(kind).read([Buffer.from(`${lines}${coding}\r\n`, 'latin1')])
  assert.equal(again.lines, lines, 'read again')
}
