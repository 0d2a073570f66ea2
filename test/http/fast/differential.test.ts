/**
 * Our lexer beside Node's parser (llhttp) on the same generated requests, valid and hostile: what ours takes, Node takes,
 * and reads alike. The other way about does not hold: ours is stricter, as `lexer.test.ts` lists.
 */
import { once } from 'node:events'
import { createServer, type IncomingMessage } from 'node:http'
import { connect, type Socket } from 'node:net'
import fc from 'fast-check'
import t, { type Test } from 'tap'
import { BodyReader } from '../../../src/http/fast/body.ts'
import { Head } from '../../../src/http/fast/head.ts'
import { lexRequestHead, MAX_HEAD_BYTES } from '../../../src/http/fast/lexer.ts'
import { portOf } from '../front.ts'

interface Reading {
  readonly method: string
  readonly target: string
  readonly host: string
  readonly body: string
}

/** Ours, and how long the request is; undefined when it is refused or not whole. */
function lexed(bytes: Buffer): { reading: Reading; length: number } | undefined {
  const head = new Head()
  const out = Buffer.alloc(2 * MAX_HEAD_BYTES)
  if (lexRequestHead(head, bytes, 0, bytes.length, out) !== 'complete') return undefined
  const reader = new BodyReader()
  reader.start(head.chunked ? 'chunked' : head.contentLength > 0 ? 'length' : 'none', head.contentLength)
  let body = ''
  const length = reader.read(bytes, head.end, bytes.length, {
    onContent: (piece, start, end) => {
      body += piece.toString('latin1', start, end)
    },
  })
  if (!reader.done) return undefined
  const { method, target, host } = head
  return { reading: { method, target, host, body }, length }
}

type Settle = (reading: Reading | undefined) => void
type Parse = (bytes: Buffer) => Promise<Reading | undefined>

/** Node's, by a real server on a real socket. */
async function startNode(t: Test): Promise<Parse> {
  let next: Settle = () => {}
  const settles = new WeakMap<Socket, Settle>()
  const take = (request: IncomingMessage): void => {
    let body = ''
    request.on('data', (piece: Buffer) => {
      body += piece.toString('latin1')
    })
    const settle = settles.get(request.socket)
    request.on('end', () =>
      settle?.({
        method: request.method ?? '',
        target: request.url ?? '',
        host: request.headers.host ?? '',
        body,
      }),
    )
  }
  const server = createServer()
  for (const event of ['request', 'checkContinue', 'checkExpectation']) server.on(event, take)
  server.on('connection', (socket) => settles.set(socket, next))
  server.on('clientError', (_, socket) => socket.destroy())
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  t.teardown(() => {
    server.close()
    server.closeAllConnections()
  })
  return async (bytes) => {
    const socket = connect(portOf(server), '127.0.0.1')
    socket.on('error', () => {})
    const reading = await new Promise<Reading | undefined>((resolve) => {
      next = resolve
      // An answer without a request is Node's own 400; the end without either, a request that is not whole.
      socket.on('data', () => resolve(undefined))
      socket.on('close', () => resolve(undefined))
      socket.write(bytes)
    })
    socket.destroy()
    return reading
  }
}

/** Mostly what is right, sometimes what is not. */
const mostly = (right: string, ...wrong: string[]): fc.Arbitrary<string> =>
  fc.oneof({ weight: 12, arbitrary: fc.constant(right) }, { weight: 1, arbitrary: fc.constantFrom(...wrong) })

const eol = mostly('\r\n', '\n', '\r', '\r\n ', '\r\r\n')
const colon = mostly(': ', ':', ' :', '\t: ', ':\t', ': \x0b')
const line = (name: fc.Arbitrary<string>, value: fc.Arbitrary<string>): fc.Arbitrary<string> =>
  fc.tuple(name, colon, value, mostly('', ' ', '\t'), eol).map((parts) => parts.join(''))

const fields = fc.array(
  fc.oneof(
    line(
      mostly('X-Freight', 'x-freight', 'X Freight', 'X\0'),
      mostly('a b', '', '\xe4', 'a\0b', 'a\x7f', '"q"'),
    ),
    line(
      fc.constant('Connection'),
      fc.constantFrom('close', 'keep-alive', 'x-other', 'close, X-Freight', 'Close'),
    ),
    line(
      mostly('Content-Length', 'content-length'),
      mostly('4', '+4', '4, 4', '04', '0x4', '', '-1', '4 4', '9e9'),
    ),
    line(
      fc.constantFrom('Transfer-Encoding', 'transfer-encoding'),
      mostly('chunked', 'Chunked', 'gzip, chunked', 'chunked, gzip', 'xchunked', 'identity', '\x0bchunked'),
    ),
    line(fc.constant('Host'), fc.constantFrom('b', 'a')),
    line(fc.constant('X-Other'), fc.string({ maxLength: 10 })),
  ),
  { maxLength: 4 },
)

const body = mostly(
  '4\r\nbody\r\n0\r\n\r\n',
  'body',
  '',
  '4;x=y\r\nbody\r\n0\r\nX: y\r\n\r\n',
  '4 \r\nbody\r\n0\r\n\r\n',
  '4\nbody\r\n0\r\n\r\n',
  '4\r\nbody0\r\n\r\n',
  '0x4\r\nbody\r\n0\r\n\r\n',
  '5\r\nbody\r\n0\r\n\r\n',
  'fffffffffffffffff\r\nbody',
  '0\r\n\r\n',
)

const message = fc
  .tuple(
    mostly('POST', 'GET', 'P OST', '', 'post', 'P\0ST'),
    mostly(' ', '  ', '\t'),
    mostly('/x?y', '/', 'http://a/z', 'http://b/z', '*', 'x', '/#f', '/\xe4', '/\0'),
    mostly(' HTTP/1.1', ' HTTP/1.0', ' HTTP/2.0', ' http/1.1', '', ' HTTP/1.1 '),
    eol,
    mostly('Host: a\r\n', '', 'Host : a\r\n', 'Host: a, b\r\n', 'Host:\r\n'),
    fields.map((lines) => lines.join('')),
    eol,
    body,
  )
  .map((parts) => Buffer.from(parts.join(''), 'latin1'))

t.test('what the lexer takes, Node takes too, and reads alike', async (t) => {
  const node = await startNode(t)
  let taken = 0
  await fc.assert(
    fc.asyncProperty(message, async (bytes) => {
      const lexing = lexed(bytes)
      if (lexing === undefined) return
      taken++
      const ours = lexing.reading
      const theirs = await node(bytes.subarray(0, lexing.length))
      const shown = JSON.stringify(bytes.toString('latin1'))
      if (theirs === undefined) throw new Error(`only the lexer takes ${shown}`)
      const { method, host, body } = ours
      const target = theirs.target.replace(/^http:\/\/[ab]/, '')
      if (
        theirs.method !== method ||
        theirs.host !== host ||
        theirs.body !== body ||
        target !== ours.target
      ) {
        throw new Error(`read differently: ${shown}: ${JSON.stringify([ours, theirs])}`)
      }
    }),
    { numRuns: 2000 },
  )
  t.ok(taken > 200, `${taken} were taken`)
})

t.test('a request means the same however it is split', async (t) => {
  let taken = 0
  const out = Buffer.alloc(2 * MAX_HEAD_BYTES)
  const head = new Head()
  fc.assert(
    fc.property(message, (bytes) => {
      const verdict = lexRequestHead(head, bytes, 0, bytes.length, out)
      const { end } = head
      for (let length = 0; length < bytes.length; length++) {
        const part = lexRequestHead(head, bytes, 0, length, out)
        // The more there is, the more is known; what was said once is not taken back.
        if (part === 'incomplete') continue
        if (part !== verdict || (part === 'complete' && (head.end !== end || length < end))) return false
      }
      if (verdict === 'complete') taken++
      return true
    }),
    { numRuns: 1000 },
  )
  t.ok(taken > 100, `${taken} were complete`)
})

t.test('random octets never make the lexer throw or read past its input', async (t) => {
  const out = Buffer.alloc(2 * MAX_HEAD_BYTES)
  const head = new Head()
  fc.assert(
    fc.property(fc.uint8Array({ maxLength: 300 }), (octets) => {
      const bytes = Buffer.concat([Buffer.from('GET / HTTP/1.1\r\n'), octets])
      return lexRequestHead(head, bytes, 0, bytes.length, out) !== 'complete' || head.end <= bytes.length
    }),
    { numRuns: 5000 },
  )
  t.pass()
})
