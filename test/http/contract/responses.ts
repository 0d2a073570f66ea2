/** What a client sees of an upstream's response. */
import type { Test } from 'tap'
import { Front, HOST, type MakeWire, pour, stalled, until } from '../front.ts'
import { RawClient, statusOf } from '../raw-client.ts'
import { bodyOf, fieldOf, fieldsOf, ok, RawUpstream, type Respond } from '../raw-upstream.ts'

export function responses(t: Test, makeWire: MakeWire): void {
  /** A client on the TLS port of a proxy whose upstream does this. */
  const against = async (t: Test, respond: Respond): Promise<RawClient> => {
    const upstream = await RawUpstream.start(t, respond)
    const front = await Front.start(t, makeWire, { upstreams: [upstream.url] })
    return RawClient.connect(t, front)
  }
  const get = (client: RawClient, ...fields: string[]): void =>
    client.send('GET / HTTP/1.1', `Host: ${HOST}`, ...fields)

  t.test('status, reason, fields and content pass; what is for one hop does not', async (t) => {
    const client = await against(t, (socket) =>
      socket.write(
        [
          'HTTP/1.1 418 Short and stout',
          'Server: pot',
          'Date: Tue, 01 Jul 2025 00:00:00 GMT',
          'Set-Cookie: a=1',
          'Set-Cookie: b=2',
          'Connection: X-Hop',
          'X-Hop: 1',
          'Keep-Alive: timeout=5',
          'Via: 1.1 inner',
          'X-Bytes: \xe9\x80',
          'Content-Length: 3',
          '',
          'tea',
        ].join('\r\n'),
        'latin1',
      ),
    )
    get(client)
    const response = await client.response()
    t.equal(response.split('\r\n')[0], 'HTTP/1.1 418 Short and stout')
    t.strictSame(
      fieldsOf(response).filter((line) => !/^(connection|keep-alive): (keep-alive|timeout=30)/.test(line)),
      [
        'content-length: 3',
        'date: Tue, 01 Jul 2025 00:00:00 GMT',
        'server: pot',
        'set-cookie: a=1',
        'set-cookie: b=2',
        'via: 1.1 inner, 1.1 holdfast',
        'x-bytes: \xe9\x80',
      ],
    )
    t.equal(bodyOf(response), 'tea')
  })

  t.test('a response without Date gets one', async (t) => {
    const client = await against(t, (socket) => socket.write(ok()))
    get(client)
    const date = fieldOf(await client.response(), 'date') ?? ''
    t.ok(Math.abs(Date.parse(date) - Date.now()) < 60_000, date)
  })

  t.test('the head arrives before there is content, and each piece when it is sent', async (t) => {
    let upstream: Parameters<Respond>[0] | undefined
    const client = await against(t, (socket) => {
      upstream = socket
      socket.write('HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n')
    })
    get(client)
    await client.receive(/\r\n\r\n$/)
    upstream?.write('5\r\nfirst\r\n')
    await client.receive(/first/)
    upstream?.write('6\r\nsecond\r\n0\r\n\r\n')
    await client.receive(/second\r\n0\r\n\r\n$/)
    t.match(client.received, /^transfer-encoding: chunked\r$/im)
  })

  t.test('trailers pass, except those that would change the message', async (t) => {
    const client = await against(t, (socket) =>
      socket.write(
        'HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTrailer: X-Sum\r\n\r\n2\r\nhi\r\n0\r\nX-Sum: 7\r\nSet-Cookie: evil=1\r\n\r\n',
      ),
    )
    get(client)
    const response = await client.receive(/\r\n0\r\n(.*\r\n)*\r\n$/)
    t.equal(fieldOf(response, 'trailer'), 'X-Sum')
    t.match(response, /0\r\nx-sum: 7\r\n\r\n$/i)
  })

  for (const [what, head, body] of [
    ['a response to HEAD', 'HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n', ''],
    [
      'a chunked response to HEAD',
      'HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTrailer: X-Sum\r\n\r\n',
      '',
    ],
    ['204', 'HTTP/1.1 204 No Content\r\n\r\n', ''],
    ['304 with a length', 'HTTP/1.1 304 Not Modified\r\nContent-Length: 5\r\nETag: "x"\r\n\r\n', ''],
    ['an empty 200', 'HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n', ''],
    ['205', 'HTTP/1.1 205 Reset Content\r\nContent-Length: 0\r\n\r\n', ''],
  ] as const) {
    t.test(`${what} has no content, and the connections serve the next request`, async (t) => {
      let sockets = 0
      const upstream = await RawUpstream.start(t, (socket, _, index) => {
        sockets = upstream.sockets.length
        socket.write(index === 0 ? head + body : ok('next'))
      })
      const front = await Front.start(t, makeWire, { upstreams: [upstream.url] })
      const client = await RawClient.connect(t, front)
      client.send(`${what.includes('HEAD') ? 'HEAD' : 'GET'} / HTTP/1.1`, `Host: ${HOST}`)
      const first = await client.receive(/\r\n\r\n/)
      get(client)
      await client.receive(/\r\n\r\nnext$/)
      t.equal(statusOf(first), Number(head.slice(9, 12)))
      t.equal(client.received.split('HTTP/1.1 ').length, 3, 'two responses, nothing between them')
      t.equal(fieldOf(client.received, 'content-length'), /length: (\d)/i.exec(head)?.[1])
      t.equal(sockets, 1, 'one upstream connection')
    })
  }

  t.test('103 Early Hints arrive before the response', async (t) => {
    const client = await against(t, (socket) =>
      socket.write(
        `HTTP/1.1 103 Early Hints\r\nLink: </a.css>; rel=preload; title="a b", </b.js>; rel=preload\r\nConnection: x\r\n\r\n${ok()}`,
      ),
    )
    get(client)
    const hints = await client.response()
    t.strictSame(fieldsOf(hints), ['link: </a.css>; rel=preload; title="a b", </b.js>; rel=preload'])
    t.equal(statusOf(hints), 103)
    t.equal(statusOf(await client.response()), 200)
  })

  t.test('HTTP/1.0 clients get no 1xx', async (t) => {
    const client = await against(t, (socket) => socket.write(`HTTP/1.1 103 Early Hints\r\n\r\n${ok()}`))
    client.send('GET / HTTP/1.0', `Host: ${HOST}`)
    t.equal(statusOf(await client.response()), 200)
  })

  t.test('trailers are not announced to a client that gets none', async (t) => {
    const client = await against(t, (socket) =>
      socket.write(
        'HTTP/1.1 200 OK\r\nTrailer: X-Sum\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\nX-Sum: 1\r\n\r\n',
      ),
    )
    client.send('GET / HTTP/1.0', `Host: ${HOST}`)
    const response = await client.rest()
    t.equal(bodyOf(response), 'ok')
    t.equal(fieldOf(response, 'trailer'), undefined)
  })

  t.test('protocols that an upstream advertises are not the client’s business', async (t) => {
    const client = await against(t, (socket) =>
      socket.write(
        'HTTP/1.1 200 OK\r\nUpgrade: h2c\r\nUpgrade: irc\r\nConnection: Upgrade\r\nContent-Length: 2\r\n\r\nok',
      ),
    )
    get(client)
    const response = await client.response()
    t.equal(statusOf(response), 200)
    t.equal(fieldOf(response, 'upgrade'), undefined)
  })

  t.test('a 100 that nobody waits for is dropped', async (t) => {
    const client = await against(t, (socket) => socket.write(`HTTP/1.1 100 Continue\r\n\r\n${ok()}`))
    get(client)
    t.equal(statusOf(await client.response()), 200)
  })

  t.test('content that ends with the upstream connection arrives whole', async (t) => {
    const client = await against(t, (socket) => socket.end('HTTP/1.0 200 OK\r\n\r\nuntil the end'))
    get(client)
    const response = await client.receive(/until the end\r\n0\r\n\r\n$/)
    t.equal(fieldOf(response, 'transfer-encoding'), 'chunked')
    t.equal(fieldOf(response, 'via'), '1.0 holdfast')
  })

  t.test('Connection: close from the upstream is not the client’s business', async (t) => {
    const upstream = await RawUpstream.start(t, (socket) =>
      socket.end('HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\nok'),
    )
    const front = await Front.start(t, makeWire, { upstreams: [upstream.url] })
    const client = await RawClient.connect(t, front)
    for (let i = 0; i < 2; i++) {
      get(client)
      t.equal(bodyOf(await client.response()), 'ok')
    }
    t.equal(upstream.sockets.length, 2)
  })

  t.test('Connection: close from the client ends its connection after the response', async (t) => {
    const client = await against(t, (socket) => socket.write(ok()))
    get(client, 'Connection: close')
    const response = await client.rest()
    t.equal(bodyOf(response), 'ok')
    t.match(response, /^connection: close\r$/im)
  })

  t.test('a response before the end of the request reaches the client, which may go on', async (t) => {
    const upstream = await RawUpstream.start(t, (socket, request) => {
      if (request.startsWith('GET')) socket.write(ok('next'))
    })
    const front = await Front.start(t, makeWire, { upstreams: [upstream.url] })
    const client = await RawClient.connect(t, front)
    client.send('POST / HTTP/1.1', `Host: ${HOST}`, 'Content-Length: 10')
    client.write('first')
    await until(() => (upstream.sockets[0]?.bytesRead ?? 0) > 0)
    upstream.sockets[0]?.write('HTTP/1.1 413 Too Large\r\nContent-Length: 3\r\n\r\nbig')
    const response = await client.response()
    t.equal(statusOf(response), 413)
    t.equal(bodyOf(response), 'big')
    client.write('after')
    get(client)
    t.equal(bodyOf(await client.response()), 'next')
  })

  t.test('a response while the upstream does not read reaches a client that goes on sending', async (t) => {
    const upstream = await RawUpstream.start(t, (socket, request) => {
      if (request.startsWith('GET')) socket.write(ok('next'))
    })
    const front = await Front.start(t, makeWire, { upstreams: [upstream.url] })
    const client = await RawClient.connect(t, front)
    client.send('POST / HTTP/1.1', `Host: ${HOST}`, `Content-Length: ${2 ** 25}`)
    await until(() => upstream.sockets.length > 0)
    upstream.sockets[0]?.pause()
    const sent = pour(client.socket, 32)
    await stalled(sent)
    upstream.sockets[0]?.write('HTTP/1.1 413 Too Large\r\nContent-Length: 3\r\n\r\nbig')
    t.equal(statusOf(await client.response()), 413)
    await until(() => sent() === 32)
    get(client)
    t.equal(bodyOf(await client.response()), 'next')
  })

  t.test('the content of a refused request is skipped, and the next request answered', async (t) => {
    const upstream = await RawUpstream.start(t, (socket) => socket.write(ok('next')))
    const front = await Front.start(t, makeWire, {
      sites: [{ routes: [{ path: '/known', upstreams: [upstream.url] }] }],
    })
    const client = await RawClient.connect(t, front)
    const content = Buffer.alloc(2 ** 20)
    client.send('POST /unknown HTTP/1.1', `Host: ${HOST}`, `Content-Length: ${content.length}`)
    client.socket.write(content)
    client.send('GET /known HTTP/1.1', `Host: ${HOST}`)
    t.equal(statusOf(await client.response()), 404)
    t.equal(bodyOf(await client.response()), 'next')
  })

  t.test('Strict-Transport-Security is sent over TLS only, once, and on error pages too', async (t) => {
    const upstream = await RawUpstream.start(t, (socket) =>
      socket.write('HTTP/1.1 200 OK\r\nContent-Length: 0\r\nStrict-Transport-Security: max-age=1\r\n\r\n'),
    )
    const hsts = { maxAge: 86_400_000, includeSubDomains: true, preload: false }
    const front = await Front.start(t, makeWire, {
      sites: [
        {
          hsts,
          upstreams: [upstream.url],
          routes: [
            { path: '/down', upstreams: ['http://127.0.0.1:9'] },
            { path: '/closed', upstreams: [upstream.url], shaping: { allow: [] } },
          ],
        },
      ],
    })
    const secure = await RawClient.connect(t, front)
    const stsOf = (response: string): string[] =>
      fieldsOf(response).filter((line) => line.startsWith('strict'))
    const own = ['strict-transport-security: max-age=86400; includeSubDomains']
    get(secure)
    t.strictSame(stsOf(await secure.response()), own)
    secure.send('GET /down HTTP/1.1', `Host: ${HOST}`)
    const page = await secure.response()
    t.equal(statusOf(page), 502)
    t.strictSame(stsOf(page), own)
    secure.send('GET /closed HTTP/1.1', `Host: ${HOST}`)
    const refusal = await secure.response()
    t.equal(statusOf(refusal), 403)
    t.strictSame(stsOf(refusal), own)
    const plain = await RawClient.connect(t, front, { plain: true })
    plain.send('GET /down HTTP/1.1', `Host: ${HOST}`)
    t.strictSame(stsOf(await plain.response()), [])
    plain.send('GET /closed HTTP/1.1', `Host: ${HOST}`)
    t.strictSame(stsOf(await plain.response()), [])
  })

  t.test('each request leaves one access line', async (t) => {
    const upstream = await RawUpstream.start(t, (socket) => socket.write(ok('hello')))
    const front = await Front.start(t, makeWire, { upstreams: [upstream.url] })
    const client = await RawClient.connect(t, front)
    client.send('GET /path?token=secret HTTP/1.1', `Host: ${HOST}`)
    await client.response()
    await until(() => front.requests.length > 0)
    const { time: _, ms, id, ...line } = front.requests[0]!
    t.strictSame(line, {
      level: 30,
      msg: 'request',
      method: 'GET',
      host: HOST,
      path: '/path',
      status: 200,
      bytes: 5,
      upstream: upstream.url,
      client: '127.0.0.1',
      protocol: 'HTTP/1.1',
    })
    t.type(ms, 'number')
    t.equal(id, fieldOf(upstream.requests[0]!, 'x-request-id'))
  })
}
