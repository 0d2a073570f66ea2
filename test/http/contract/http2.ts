/** HTTP/2 clients before HTTP/1.1 upstreams. */
import { createHash, randomBytes } from 'node:crypto'
import { once } from 'node:events'
import { createServer } from 'node:http'
import {
  type ClientHttp2Session,
  type ClientHttp2Stream,
  connect,
  constants,
  type IncomingHttpHeaders,
  type IncomingHttpStatusHeader,
  type OutgoingHttpHeaders,
} from 'node:http2'
import { Readable } from 'node:stream'
import { pipeline } from 'node:stream/promises'
import type { Test } from 'tap'
import {
  Front,
  type FrontOptions,
  HOST,
  type MakeWire,
  portOf,
  pour,
  ROOT_PEM,
  stalled,
  until,
} from '../front.ts'
import { bodyOf, fieldOf, fieldsOf, ok, RawUpstream, type Respond } from '../raw-upstream.ts'

interface Answer {
  readonly status: number
  readonly headers: IncomingHttpHeaders & IncomingHttpStatusHeader
  readonly trailers: IncomingHttpHeaders
  readonly body: Buffer
}

export function connectHttp2(t: Test, front: Front, serverName = HOST): ClientHttp2Session {
  const session = connect(`https://127.0.0.1:${front.tlsPort}`, { ca: ROOT_PEM, servername: serverName })
  session.on('error', () => {})
  t.teardown(() => session.destroy())
  return session
}

/** The whole response; rejects when the stream is reset with an error. */
export async function answerOf(stream: ClientHttp2Stream): Promise<Answer> {
  const pieces: Buffer[] = []
  let headers: Answer['headers'] = {}
  let trailers: IncomingHttpHeaders = {}
  stream.on('response', (received) => {
    headers = received
  })
  stream.on('trailers', (received) => {
    trailers = received
  })
  stream.on('data', (piece: Buffer) => pieces.push(piece))
  await once(stream, 'close')
  return { status: Number(headers[':status']), headers, trailers, body: Buffer.concat(pieces) }
}

export function http2(t: Test, makeWire: MakeWire): void {
  const start = async (
    t: Test,
    respond: Respond,
    options: FrontOptions = {},
  ): Promise<{ front: Front; up: RawUpstream; session: ClientHttp2Session }> => {
    const up = await RawUpstream.start(t, respond)
    const front = await Front.start(t, makeWire, { upstreams: [up.url], ...options })
    return { front, up, session: connectHttp2(t, front) }
  }
  const ask = (headers: OutgoingHttpHeaders = {}): OutgoingHttpHeaders => ({
    ':path': '/',
    ':authority': HOST,
    ...headers,
  })

  t.test('the upstream sees an HTTP/1.1 request', async (t) => {
    const { session, up } = await start(t, (socket) => socket.write(ok()))
    const stream = session.request(
      ask({ ':path': '/a//b?x=//y', cookie: ['a=1', 'b=2'], te: 'trailers', 'x-twice': ['one', 'two'] }),
    )
    t.equal((await answerOf(stream)).status, 200)
    const [request = ''] = up.requests
    t.equal(request.split('\r\n')[0], 'GET /a//b?x=//y HTTP/1.1')
    t.strictSame(
      fieldsOf(request).filter((line) => !/^(connection|x-request-id):/.test(line)),
      [
        'cookie: a=1; b=2',
        `forwarded: for=127.0.0.1;host=${HOST};proto=https`,
        `host: ${HOST}`,
        'via: 2.0 holdfast',
        'x-forwarded-for: 127.0.0.1',
        `x-forwarded-host: ${HOST}`,
        'x-forwarded-proto: https',
        ...fieldsOf(request).filter((line) => line.startsWith('x-twice')),
      ],
    )
    t.match(
      fieldsOf(request)
        .filter((line) => line.startsWith('x-twice'))
        .join(),
      /one.*two/,
    )
  })

  t.test('Host stands in for :authority, and must agree with it', async (t) => {
    const { session, up } = await start(t, (socket) => socket.write(ok()))
    const { ':authority': _, ...bare } = ask()
    t.equal((await answerOf(session.request({ ...bare, host: HOST }))).status, 200)
    t.equal(fieldOf(up.requests[0]!, 'host'), HOST)
    t.equal((await answerOf(session.request(ask({ host: HOST })))).status, 200)
    t.equal((await answerOf(session.request(ask({ host: 'else.example' })))).status, 400)
    t.equal(up.requests.length, 2)
  })

  t.test('fields for one hop of HTTP/1.1 do not spoil the response', async (t) => {
    const { session } = await start(t, (socket) =>
      socket.write(
        [
          'HTTP/1.1 200 Fine',
          'Connection: keep-alive, X-Hop',
          'Keep-Alive: timeout=5',
          'X-Hop: 1',
          'Upgrade: h2c',
          'Set-Cookie: a=1',
          'Set-Cookie: b=2',
          'ETag: "1"',
          'X-UPPER: Case',
          'Content-Length: 2',
          '',
          'hi',
        ].join('\r\n'),
      ),
    )
    const { headers, body } = await answerOf(session.request(ask()))
    const { date, ...rest } = headers
    t.strictSame(Object.entries(rest).sort(), [
      [':status', 200],
      ['content-length', '2'],
      ['etag', '"1"'],
      ['set-cookie', ['a=1', 'b=2']],
      ['via', '1.1 holdfast'],
      ['x-upper', 'Case'],
    ])
    t.ok(date)
    t.equal(body.toString(), 'hi')
  })

  for (const [what, method, response] of [
    ['HEAD', 'HEAD', 'HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n'],
    ['204', 'GET', 'HTTP/1.1 204 No Content\r\n\r\n'],
    ['304', 'GET', 'HTTP/1.1 304 Not Modified\r\nContent-Length: 5\r\n\r\n'],
    ['an empty 200', 'GET', 'HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n'],
    ['an empty chunked 200', 'GET', 'HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n'],
  ] as const) {
    t.test(`${what} has no content`, async (t) => {
      const { session, up } = await start(t, (socket) => socket.write(response))
      for (let i = 0; i < 2; i++) {
        const { status, body } = await answerOf(session.request(ask({ ':method': method })))
        t.equal(status, Number(response.slice(9, 12)))
        t.equal(body.length, 0)
      }
      t.equal(up.sockets.length, 1, 'the upstream connection was kept')
    })
  }

  t.test('a method that nobody knows is passed on, with and without content', async (t) => {
    const { session, up } = await start(t, (socket) => socket.write(ok()))
    const list = await answerOf(session.request(ask({ ':method': 'LIST' }), { endStream: true }))
    t.strictSame([list.status, String(list.body)], [200, 'ok'])
    const sent = session.request(ask({ ':method': 'X_2', 'content-length': '5' }))
    sent.end('hello')
    t.equal((await answerOf(sent)).status, 200)
    t.match(up.requests, [/^LIST \/ HTTP\/1\.1\r\n/, /^X_2 \/ HTTP\/1\.1\r\n/])
    t.equal(bodyOf(up.requests[1]!), 'hello')
  })

  t.test('content without a length goes chunked, with its trailers', async (t) => {
    const { session, up } = await start(t, (socket) => socket.write(ok()))
    const stream = session.request(ask({ ':method': 'POST', trailer: 'x-sum' }), { waitForTrailers: true })
    stream.on('wantTrailers', () => stream.sendTrailers({ 'x-sum': '7', 'x-forwarded-for': '203.0.113.7' }))
    stream.end('hello')
    t.equal((await answerOf(stream)).status, 200)
    t.equal(fieldOf(up.requests[0]!, 'transfer-encoding'), 'chunked')
    t.match(bodyOf(up.requests[0]!), /hello\r\n0\r\nx-sum: 7\r\n\r\n$/i)
  })

  t.test('content with a length keeps it', async (t) => {
    const { session, up } = await start(t, (socket) => socket.write(ok()))
    const stream = session.request(ask({ ':method': 'PUT', 'content-length': '5' }))
    stream.end('hello')
    t.equal((await answerOf(stream)).status, 200)
    t.equal(fieldOf(up.requests[0]!, 'content-length'), '5')
    t.equal(bodyOf(up.requests[0]!), 'hello')
  })

  t.test('an empty POST has a length', async (t) => {
    const { session, up } = await start(t, (socket) => socket.write(ok()))
    const stream = session.request(ask({ ':method': 'POST' }), { endStream: true })
    t.equal((await answerOf(stream)).status, 200)
    t.equal(fieldOf(up.requests[0]!, 'content-length'), '0')
  })

  t.test('trailers of the response arrive', async (t) => {
    const { session } = await start(t, (socket) =>
      socket.write(
        'HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTrailer: X-Sum\r\n\r\n2\r\nhi\r\n0\r\nX-Sum: 7\r\n\r\n',
      ),
    )
    const { trailers, body } = await answerOf(session.request(ask()))
    t.equal(trailers['x-sum'], '7')
    t.equal(body.toString(), 'hi')
  })

  t.test('103 Early Hints arrive before the response', async (t) => {
    const { session } = await start(t, (socket) =>
      socket.write(`HTTP/1.1 103 Early Hints\r\nLink: </a.css>; rel=preload\r\n\r\n${ok()}`),
    )
    const stream = session.request(ask())
    const hints = once(stream, 'headers')
    const answer = answerOf(stream)
    const [headers] = await hints
    t.equal(headers[':status'], 103)
    t.equal(headers.link, '</a.css>; rel=preload')
    t.equal((await answer).status, 200)
  })

  t.test('Expect: 100-continue is answered', async (t) => {
    const { session, up } = await start(t, (socket) => socket.write(ok()))
    const stream = session.request(ask({ ':method': 'POST', expect: '100-continue' }), { endStream: false })
    await once(stream, 'continue')
    stream.end('data')
    t.equal((await answerOf(stream)).status, 200)
    t.equal(fieldOf(up.requests[0]!, 'expect'), undefined)
  })

  t.test('200 streams at once each get their own response', async (t) => {
    const server = createServer((req, res) => {
      const sum = createHash('sha256')
      req.on('data', (piece) => sum.update(piece))
      req.on('end', () => res.end(`${req.url} ${sum.digest('hex')}`))
    })
    await once(server.listen(0, '127.0.0.1'), 'listening')
    t.teardown(() => server.close())
    const front = await Front.start(t, makeWire, { upstreams: [`http://127.0.0.1:${portOf(server)}`] })
    const session = connectHttp2(t, front)
    const exchanges = Array.from({ length: 200 }, async (_, i) => {
      const content = randomBytes(10_000)
      const stream = session.request(ask({ ':method': 'POST', ':path': `/${i}` }))
      stream.end(content)
      const { body } = await answerOf(stream)
      return body.toString() === `/${i} ${createHash('sha256').update(content).digest('hex')}`
    })
    t.ok((await Promise.all(exchanges)).every(Boolean))
  })

  t.test('16 MiB there and back arrive unchanged', async (t) => {
    const server = createServer((req, res) => req.pipe(res))
    await once(server.listen(0, '127.0.0.1'), 'listening')
    t.teardown(() => server.close())
    const front = await Front.start(t, makeWire, { upstreams: [`http://127.0.0.1:${portOf(server)}`] })
    const stream = connectHttp2(t, front).request(ask({ ':method': 'POST' }))
    const pieces = Array.from({ length: 16 }, () => randomBytes(2 ** 20))
    const [{ body }] = await Promise.all([answerOf(stream), pipeline(Readable.from(pieces), stream)])
    t.ok(body.equals(Buffer.concat(pieces)))
  })

  t.test('a stream that the client resets takes its upstream request along; others go on', async (t) => {
    const { session, up } = await start(t, (socket, request) => {
      if (request.startsWith('GET /fast')) socket.write(ok())
      else socket.write('HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\npart')
    })
    const slow = session.request(ask())
    await once(slow, 'data')
    slow.close(constants.NGHTTP2_CANCEL)
    await until(() => up.sockets[0]?.destroyed === true)
    t.equal((await answerOf(session.request(ask({ ':path': '/fast' })))).status, 200)
  })

  t.test('a response that is cut off resets its stream', async (t) => {
    const { session } = await start(t, (socket) =>
      socket.end('HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\npart\r\n'),
    )
    await t.rejects(answerOf(session.request(ask())))
  })

  t.test('a response before the end of the request arrives, and the rest is not wanted', async (t) => {
    const { session, up } = await start(t, () => {})
    const stream = session.request(ask({ ':method': 'POST' }))
    stream.write('first')
    await until(() => (up.sockets[0]?.bytesRead ?? 0) > 0)
    up.sockets[0]?.write('HTTP/1.1 413 Too Large\r\nContent-Length: 3\r\n\r\nbig')
    const { status, body } = await answerOf(stream)
    t.equal(status, 413)
    t.equal(body.toString(), 'big')
  })

  t.test('error pages and redirects are responses like others', async (t) => {
    const { session, front } = await start(t, () => {}, {
      sites: [{ hosts: [HOST], routes: [{ path: '/down', upstreams: ['http://127.0.0.1:9'] }] }],
    })
    t.equal((await answerOf(session.request(ask({ ':path': '/down' })))).status, 502)
    const missing = await answerOf(session.request(ask({ ':path': '/none' })))
    t.equal(missing.status, 404)
    t.match(missing.body.toString(), '404 Not Found')
    await until(() => front.requests.length === 2)
    t.match(front.requests[1], { protocol: 'HTTP/2', status: 404 })
  })

  t.test('421 for a host of another site, on a connection that goes on', async (t) => {
    const { session } = await start(t, (socket) => socket.write(ok()))
    t.equal((await answerOf(session.request(ask({ ':authority': 'other.example.com' })))).status, 421)
    t.equal((await answerOf(session.request(ask()))).status, 200)
  })

  t.test('a client that does not read does not fill the memory', async (t) => {
    let taken = (): number => 0
    const { session } = await start(t, (socket) => {
      socket.write(`HTTP/1.1 200 OK\r\nContent-Length: ${2 ** 26}\r\n\r\n`)
      taken = pour(socket, 64)
    })
    await once(session.request(ask()), 'response')
    const mib = await stalled(taken)
    t.ok(mib < 64, `${mib} MiB are in sockets and buffers`)
  })
}
