/** What an upstream sees of a request. */
import type { Test } from 'tap'
import { Front, HOST, type MakeWire, until } from '../front.ts'
import { RawClient, statusOf } from '../raw-client.ts'
import { bodyOf, fieldOf, fieldsOf, ok, RawUpstream } from '../raw-upstream.ts'

export function requests(t: Test, makeWire: MakeWire): void {
  /** What the upstream got of a request sent to the TLS port, and the client's response. */
  const seen = async (t: Test, lines: string[], trustedProxies: string[] = []): Promise<string> => {
    const upstream = await RawUpstream.start(t, (socket) => socket.write(ok()))
    const front = await Front.start(t, makeWire, { upstreams: [upstream.url], trustedProxies })
    const client = await RawClient.connect(t, front)
    client.write(...lines)
    t.equal(statusOf(await client.response()), 200, 'answered')
    return upstream.requests[0]!
  }

  t.test('the upstream sees the request as sent, and who asked', async (t) => {
    const request = await seen(t, [
      'GET /a//b/../c?x=//y&z=%2F HTTP/1.1',
      `Host: ${HOST}`,
      'User-Agent: test/1.0',
      'X-Twice: one',
      'x-twice: two',
      'Cookie: a=1; b=2',
      'X-Bytes: \xe9\x80',
      '',
      '',
    ])
    t.equal(request.split('\r\n')[0], 'GET /a//b/../c?x=//y&z=%2F HTTP/1.1')
    t.strictSame(
      fieldsOf(request).filter((line) => !/^(connection|x-request-id):/.test(line)),
      [
        'cookie: a=1; b=2',
        `forwarded: for=127.0.0.1;host=${HOST};proto=https`,
        `host: ${HOST}`,
        'user-agent: test/1.0',
        'via: 1.1 holdfast',
        'x-bytes: \xe9\x80',
        'x-forwarded-for: 127.0.0.1',
        `x-forwarded-host: ${HOST}`,
        'x-forwarded-proto: https',
        'x-twice: one',
        'x-twice: two',
      ],
    )
    t.match(fieldOf(request, 'x-request-id'), /^[\w-]{10,}$/)
    t.match(fieldOf(request, 'connection') ?? 'keep-alive', /^keep-alive$/i)
    t.equal(bodyOf(request), '', 'no content was made up')
  })

  t.test('hop-by-hop fields, and those that Connection names, are not forwarded', async (t) => {
    const request = await seen(t, [
      'GET / HTTP/1.1',
      `Host: ${HOST}`,
      'Connection: keep-alive, X-Secret , x-other',
      'Keep-Alive: timeout=5',
      'Proxy-Connection: keep-alive',
      'Proxy-Authorization: Basic eDp5',
      'TE: trailers',
      'Upgrade: h2c',
      'HTTP2-Settings: AAMAAABkAARAAAAAAAIAAAAA',
      'Proxy: http://evil.example',
      'X-Secret: 1',
      'X-Other: 2',
      'X-Kept: 3',
      '',
      '',
    ])
    const names = fieldsOf(request).map((line) => line.slice(0, line.indexOf(':')))
    t.strictSame(
      names.filter((name) => name !== 'connection' && !/forwarded|via|x-request-id/.test(name)),
      ['host', 'x-kept'],
    )
  })

  t.test('Connection cannot take away what the proxy says', async (t) => {
    const request = await seen(t, [
      'POST / HTTP/1.1',
      `Host: ${HOST}`,
      'Connection: Host, Content-Length, X-Forwarded-For, Via',
      'Content-Length: 2',
      '',
      'hi',
    ])
    t.equal(fieldOf(request, 'host'), HOST)
    t.equal(fieldOf(request, 'x-forwarded-for'), '127.0.0.1')
    t.equal(fieldOf(request, 'via'), '1.1 holdfast')
    t.equal(bodyOf(request), 'hi')
  })

  const said = [
    'GET / HTTP/1.1',
    `Host: ${HOST}`,
    'X-Forwarded-For: 203.0.113.7',
    'X-Forwarded-Proto: http',
    'X-Forwarded-Host: evil.example',
    'X-Forwarded-Port: 81',
    'X_Forwarded_For: 203.0.113.8',
    'X-Real-IP: 203.0.113.9',
    'Forwarded: for=203.0.113.7',
    'X-Request-Id: chosen',
    'Via: 1.1 first',
    '',
    '',
  ]

  t.test('what a client says of its own origin is replaced', async (t) => {
    const request = await seen(t, said)
    t.strictSame(
      fieldsOf(request).filter((line) => /^(x.forwarded|x-real-ip|forwarded|via)/.test(line)),
      [
        `forwarded: for=127.0.0.1;host=${HOST};proto=https`,
        'via: 1.1 first, 1.1 holdfast',
        'x-forwarded-for: 127.0.0.1',
        `x-forwarded-host: ${HOST}`,
        'x-forwarded-proto: https',
      ],
    )
    t.not(fieldOf(request, 'x-request-id'), 'chosen')
  })

  t.test('what a trusted proxy says is continued', async (t) => {
    const request = await seen(t, said, ['127.0.0.0/8'])
    t.equal(fieldOf(request, 'x-forwarded-for'), '203.0.113.7, 127.0.0.1')
    t.equal(fieldOf(request, 'x-forwarded-proto'), 'http')
    t.equal(fieldOf(request, 'x-forwarded-host'), 'evil.example')
    t.equal(fieldOf(request, 'x-forwarded-port'), '81')
    t.equal(fieldOf(request, 'x-real-ip'), '203.0.113.9')
    t.equal(fieldOf(request, 'forwarded'), `for=203.0.113.7, for=127.0.0.1;host=${HOST};proto=https`)
    t.equal(fieldOf(request, 'x-request-id'), 'chosen')
  })

  for (const method of ['POST', 'DELETE', 'OPTIONS', 'GET', 'PATCH']) {
    t.test(`content of a ${method} with Content-Length arrives`, async (t) => {
      const request = await seen(t, [
        `${method} / HTTP/1.1`,
        `Host: ${HOST}`,
        'Content-Length: 5',
        '',
        'hello',
      ])
      t.equal(fieldOf(request, 'content-length'), '5')
      t.equal(fieldOf(request, 'transfer-encoding'), undefined)
      t.equal(bodyOf(request), 'hello')
    })

    t.test(`chunked content of a ${method} arrives chunked, with its trailers`, async (t) => {
      const request = await seen(t, [
        `${method} / HTTP/1.1`,
        `Host: ${HOST}`,
        'Transfer-Encoding: chunked',
        'Trailer: X-Sum',
        '',
        '5;ext=1',
        'hello',
        '0',
        'X-Sum: 7',
        'X-Forwarded-For: 203.0.113.7',
        '',
        '',
      ])
      t.equal(fieldOf(request, 'transfer-encoding'), 'chunked')
      t.equal(fieldOf(request, 'content-length'), undefined)
      t.equal(bodyOf(request).toLowerCase(), '5\r\nhello\r\n0\r\nx-sum: 7\r\n\r\n')
    })
  }

  t.test('an empty POST has a length, an empty GET needs none', async (t) => {
    const upstream = await RawUpstream.start(t, (socket) => socket.write(ok()))
    const front = await Front.start(t, makeWire, { upstreams: [upstream.url] })
    const client = await RawClient.connect(t, front)
    client.send('POST /1 HTTP/1.1', `Host: ${HOST}`)
    await client.response()
    client.send('GET /2 HTTP/1.1', `Host: ${HOST}`)
    await client.response()
    t.equal(fieldOf(upstream.requests[0]!, 'content-length'), '0')
    t.equal(fieldOf(upstream.requests[1]!, 'content-length'), undefined)
    t.equal(fieldOf(upstream.requests[1]!, 'transfer-encoding'), undefined)
  })

  t.test('a target in absolute form reaches the upstream in origin form', async (t) => {
    const request = await seen(t, [`GET https://${HOST}?q=1 HTTP/1.1`, `Host: ${HOST}`, '', ''])
    t.equal(request.split('\r\n')[0], 'GET /?q=1 HTTP/1.1')
    t.equal(fieldOf(request, 'host'), HOST)
  })

  t.test('the port that the client used stays in Host', async (t) => {
    const request = await seen(t, ['GET / HTTP/1.1', `Host: ${HOST}:8443`, '', ''])
    t.equal(fieldOf(request, 'host'), `${HOST}:8443`)
    t.equal(fieldOf(request, 'forwarded'), `for=127.0.0.1;host="${HOST}:8443";proto=https`)
  })

  t.test('a connection to the upstream serves one request after the other', async (t) => {
    const upstream = await RawUpstream.start(t, (socket) => socket.write(ok()))
    const front = await Front.start(t, makeWire, { upstreams: [upstream.url] })
    for (let i = 0; i < 3; i++) {
      const client = await RawClient.connect(t, front)
      client.send('GET / HTTP/1.1', `Host: ${HOST}`)
      await client.response()
    }
    t.equal(upstream.requests.length, 3)
    t.equal(upstream.sockets.length, 1)
  })

  t.test('a pipelined request whose rest comes after the response before it is answered', async (t) => {
    const upstream = await RawUpstream.start(t, (socket) => socket.write(ok()))
    const front = await Front.start(t, makeWire, { upstreams: [upstream.url] })
    const client = await RawClient.connect(t, front)
    const [first, second] = ['/1', '/2'].map((path) => `GET ${path} HTTP/1.1\r\nHost: ${HOST}\r\n\r\n`)
    client.write(first + second!.slice(0, 10))
    t.equal(statusOf(await client.response()), 200)
    client.write(second!.slice(10))
    t.equal(statusOf(await client.response()), 200)
  })

  t.test('pipelined requests are answered in their order', async (t) => {
    const upstream = await RawUpstream.start(t, (socket, request) => {
      const [, path = ''] = request.split(' ')
      // The first one is the slowest.
      setImmediate(() => socket.write(ok(path)))
    })
    const front = await Front.start(t, makeWire, { upstreams: [upstream.url] })
    const client = await RawClient.connect(t, front)
    const paths = Array.from({ length: 20 }, (_, i) => `/${i}`)
    client.write(paths.map((path) => `GET ${path} HTTP/1.1\r\nHost: ${HOST}\r\n\r\n`).join(''))
    const answered: string[] = []
    for (const _ of paths) answered.push(bodyOf(await client.response()))
    t.strictSame(answered, paths)
    t.strictSame(
      upstream.requests.map((request) => request.split(' ')[1]),
      paths,
      'and asked in it',
    )
  })

  t.test('Expect: 100-continue is answered here, and the upstream sees only the content', async (t) => {
    const upstream = await RawUpstream.start(t, (socket) => socket.write(ok()))
    const front = await Front.start(t, makeWire, { upstreams: [upstream.url] })
    const client = await RawClient.connect(t, front)
    client.send('POST / HTTP/1.1', `Host: ${HOST}`, 'Expect: 100-continue', 'Content-Length: 4')
    await client.receive(/^HTTP\/1\.1 100 Continue\r\n\r\n$/)
    client.received = ''
    client.write('data')
    t.equal(statusOf(await client.response()), 200)
    t.equal(fieldOf(upstream.requests[0]!, 'expect'), undefined)
    t.equal(bodyOf(upstream.requests[0]!), 'data')
  })

  t.test('a refused request is not told to continue, and its connection ends', async (t) => {
    const front = await Front.start(t, makeWire, { sites: [{ routes: [{ path: '/api', upstreams: [] }] }] })
    const client = await RawClient.connect(t, front)
    client.send('POST /nothing HTTP/1.1', `Host: ${HOST}`, 'Expect: 100-continue', 'Content-Length: 4')
    const response = await client.rest()
    t.equal(statusOf(response), 404)
    t.match(response, /^connection: close\r$/im)
  })

  t.test('an expectation that nobody knows is refused', async (t) => {
    const front = await Front.start(t, makeWire, { upstreams: ['http://127.0.0.1:9'] })
    const client = await RawClient.connect(t, front)
    client.send('POST / HTTP/1.1', `Host: ${HOST}`, 'Expect: miracles', 'Content-Length: 0')
    t.equal(statusOf(await client.response()), 417)
  })

  t.test('content is passed on while it is sent', async (t) => {
    const upstream = await RawUpstream.start(t, () => {})
    const front = await Front.start(t, makeWire, { upstreams: [upstream.url] })
    const client = await RawClient.connect(t, front)
    client.send('POST / HTTP/1.1', `Host: ${HOST}`, 'Content-Length: 10')
    client.write('first')
    await until(() => upstream.sockets[0] !== undefined && upstream.sockets[0].bytesRead > 0)
    let got = ''
    upstream.sockets[0]!.on('data', (chunk) => {
      got += chunk.toString('latin1')
    })
    client.write('after')
    await until(() => got.endsWith('after'))
    t.pass('the second half came by itself')
  })

  t.test('a request from an HTTP/1.0 client is answered and its connection ends', async (t) => {
    const upstream = await RawUpstream.start(t, (socket) =>
      socket.write('HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n'),
    )
    const front = await Front.start(t, makeWire, { upstreams: [upstream.url] })
    const client = await RawClient.connect(t, front)
    client.send('GET / HTTP/1.0', `Host: ${HOST}`)
    const response = await client.rest()
    t.equal(statusOf(response), 200)
    t.equal(bodyOf(response), 'hello', 'without chunks')
    t.notMatch(response, /^transfer-encoding/im)
    t.match(upstream.requests[0], / HTTP\/1\.1\r\n/)
    t.equal(fieldOf(upstream.requests[0]!, 'via'), '1.0 holdfast')
  })
}
