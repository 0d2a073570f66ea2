/** Upstreams that are down, slow or lying, and clients that leave or dawdle. */

import { once } from 'node:events'
import { writeFileSync } from 'node:fs'
import { createServer } from 'node:net'
import { join } from 'node:path'
import type { Test } from 'tap'
import { VirtualClock } from '../../../src/commands/simulate/virtual-clock.ts'
import { Front, type FrontOptions, HOST, type MakeWire, portOf, ROOT_PEM, until } from '../front.ts'
import { RawClient, statusOf } from '../raw-client.ts'
import { bodyOf, fieldOf, ok, RawUpstream, type Respond } from '../raw-upstream.ts'
import { connectHttp2 } from './http2.ts'

/** What a client has received whose body has begun, and goes on no more. */
interface Listener {
  readonly received: string
  readonly closed: boolean
}

async function listenHttp1(t: Test, front: Front): Promise<Listener> {
  const client = await RawClient.connect(t, front)
  client.send('POST / HTTP/1.1', `Host: ${HOST}`, 'Content-Length: 100')
  client.write('part')
  return client
}

async function listenHttp2(t: Test, front: Front): Promise<Listener> {
  const listener = { received: '', closed: false }
  const stream = connectHttp2(t, front).request({ ':method': 'POST', ':authority': HOST })
  stream.write('part')
  stream.on('error', () => {})
  stream.on('data', (piece) => {
    listener.received += piece
  })
  stream.on('close', () => {
    listener.closed = true
  })
  return listener
}

export function failures(t: Test, makeWire: MakeWire): void {
  const get = (client: RawClient, path = '/'): void => client.send(`GET ${path} HTTP/1.1`, `Host: ${HOST}`)

  const connect = async (t: Test, options: FrontOptions): Promise<RawClient> =>
    RawClient.connect(t, await Front.start(t, makeWire, options))

  /** An address where nothing listens. */
  const refused = async (): Promise<string> => {
    const server = createServer()
    await once(server.listen(0, '127.0.0.1'), 'listening')
    const url = `http://127.0.0.1:${portOf(server)}`
    await once(server.close(), 'close')
    return url
  }

  t.test('an upstream that refuses is passed over, and left alone for a while', async (t) => {
    const up = await RawUpstream.start(t, (socket) => socket.write(ok()))
    const client = await connect(t, { upstreams: [await refused(), up.url] })
    for (let i = 0; i < 4; i++) {
      client.send('POST / HTTP/1.1', `Host: ${HOST}`, 'Content-Length: 4')
      client.write('data')
      t.equal(statusOf(await client.response()), 200)
    }
    t.strictSame(up.requests.map(bodyOf), ['data', 'data', 'data', 'data'])
  })

  t.test('502 with the request’s id when all upstreams refuse', async (t) => {
    const front = await Front.start(t, makeWire, { upstreams: [await refused(), await refused()] })
    const client = await RawClient.connect(t, front)
    client.send('GET / HTTP/1.1', `Host: ${HOST}`, 'Accept: text/html')
    const page = await client.response()
    t.equal(statusOf(page), 502)
    t.match(fieldOf(page, 'content-type'), 'text/html')
    t.notMatch(page, '127.0.0.1', 'nothing of what is behind the proxy')
    await until(() => front.requests.length > 0)
    const [line] = front.requests
    t.match(bodyOf(page), String(line?.id))
    t.match(line, { level: 40, status: 502, err: { code: 'UPSTREAM_UNREACHABLE' } })
    get(client)
    t.equal(statusOf(await client.response()), 502, 'on the same connection, and tried again')
  })

  t.test('503 when a route has no upstream', async (t) => {
    const client = await connect(t, { sites: [{ routes: [{ path: '/', upstreams: [] }] }] })
    get(client)
    t.equal(statusOf(await client.response()), 503)
  })

  t.test('504 when an upstream cannot be connected to in time', async (t) => {
    const silent = createServer(() => {})
    await once(silent.listen(0, '127.0.0.1'), 'listening')
    t.teardown(() => silent.close())
    const sockets = new Set<{ destroy(): unknown }>()
    silent.on('connection', (socket) => sockets.add(socket))
    t.teardown(() => sockets.forEach((socket) => void socket.destroy()))
    const client = await connect(t, {
      upstreams: [`https://127.0.0.1:${portOf(silent)}`],
      timeouts: { connect: 50 },
    })
    get(client)
    t.equal(statusOf(await client.response()), 504)
  })

  t.test('504 when an upstream does not answer in time; it is not asked twice', async (t) => {
    const up = await RawUpstream.start(t, () => {})
    const client = await connect(t, { upstreams: [up.url, up.url], timeouts: { response: 50 } })
    get(client)
    t.equal(statusOf(await client.response()), 504)
    t.equal(up.requests.length, 1)
    await until(() => up.sockets[0]?.destroyed === true)
    t.pass('the connection was given up')
  })

  for (const [what, bytes] of [
    ['garbage', 'SSH-2.0-OpenSSH_9.2\r\n'],
    ['nothing at all', ''],
    ['half a head', 'HTTP/1.1 200 OK\r\nContent-'],
    ['two framings', 'HTTP/1.1 200 OK\r\nContent-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n'],
    ['two lengths', 'HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\nabc'],
    ['an unknown coding', 'HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n2\r\nhi\r\n0\r\n\r\n'],
    ['a folded field', 'HTTP/1.1 200 OK\r\nX-A: b\r\n c\r\nContent-Length: 0\r\n\r\n'],
    ['a NUL in a field', 'HTTP/1.1 200 OK\r\nX-A: b\0c\r\nContent-Length: 0\r\n\r\n'],
    ['a space before the colon', 'HTTP/1.1 200 OK\r\nContent-Length : 0\r\n\r\n'],
    ['an endless head', `HTTP/1.1 200 OK\r\n${'X-Long: '.padEnd(1000, 'x')}\r\n`.repeat(200)],
    [
      'another protocol unasked',
      'HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n',
    ],
  ] as const) {
    t.test(`502 when the upstream sends ${what}`, async (t) => {
      const up = await RawUpstream.start(t, (socket) => socket.end(bytes, 'latin1'))
      const client = await connect(t, { upstreams: [up.url] })
      get(client)
      t.equal(statusOf(await client.response()), 502)
    })
  }

  for (const [what, bytes] of [
    ['with a length', 'HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\npart'],
    ['in chunks', 'HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\npart\r\n'],
    ['with a bad chunk', 'HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\npart\r\nxyz\r\n'],
  ] as const) {
    t.test(`a response ${what} that is cut off does not look complete`, async (t) => {
      const up = await RawUpstream.start(t, (socket) => socket.end(bytes))
      const front = await Front.start(t, makeWire, { upstreams: [up.url] })
      const client = await RawClient.connect(t, front)
      get(client)
      const response = await client.rest()
      t.match(response, /^HTTP\/1\.1 200 /)
      t.notMatch(response, /\r\n0\r\n/, 'no last chunk')
      await until(() => front.requests.length > 0)
      t.match(front.requests[0], { status: 200, err: { code: 'UPSTREAM_UNREACHABLE' } })
    })
  }

  t.test(
    'a client that could take the end of the connection for the end of the response is reset',
    async (t) => {
      const up = await RawUpstream.start(t, (socket) =>
        socket.end('HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\npart\r\n'),
      )
      const front = await Front.start(t, makeWire, { upstreams: [up.url] })
      const client = await RawClient.connect(t, front, { plain: true })
      const broken = once(client.socket, 'error')
      client.send('GET / HTTP/1.0', `Host: ${HOST}`)
      const [error] = await broken
      t.equal(error.code, 'ECONNRESET')
    },
  )

  t.test('a response that stops is given up in time', async (t) => {
    const up = await RawUpstream.start(t, (socket) =>
      socket.write('HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\npart'),
    )
    const client = await connect(t, { upstreams: [up.url], timeouts: { response: 50 } })
    get(client)
    await client.rest()
    await until(() => up.sockets[0]?.destroyed === true)
    t.match(client.received, /part$/)
  })

  t.test('a kept connection that the upstream has closed costs a GET nothing', async (t) => {
    const up = await RawUpstream.start(t, (socket, request, index) => {
      if (index !== 1) return socket.write(ok(request.split(' ')[1]))
      return socket.destroy()
    })
    const client = await connect(t, { upstreams: [up.url] })
    get(client, '/1')
    await client.response()
    get(client, '/2')
    t.equal(bodyOf(await client.response()), '/2')
    t.strictSame(
      up.requests.map((request) => request.split(' ')[1]),
      ['/1', '/2', '/2'],
    )
  })

  t.test('a POST on a kept connection that broke is not sent again', async (t) => {
    const up = await RawUpstream.start(t, (socket, _, index) =>
      index === 0 ? socket.write(ok()) : socket.destroy(),
    )
    const client = await connect(t, { upstreams: [up.url] })
    get(client)
    await client.response()
    client.send('POST / HTTP/1.1', `Host: ${HOST}`, 'Content-Length: 0')
    t.equal(statusOf(await client.response()), 502)
    t.equal(up.requests.length, 2)
  })

  t.test('a client that leaves while it waits takes its upstream request along', async (t) => {
    const up = await RawUpstream.start(t, () => {})
    const front = await Front.start(t, makeWire, { upstreams: [up.url] })
    const client = await RawClient.connect(t, front)
    get(client)
    await until(() => up.requests.length > 0)
    client.socket.destroy()
    await until(() => up.sockets[0]?.destroyed === true)
    await until(() => front.requests.length > 0)
    t.match(front.requests[0], { status: 499 })
  })

  t.test('a client that leaves in the middle of its content takes its upstream request along', async (t) => {
    const up = await RawUpstream.start(t, () => {})
    const client = await connect(t, { upstreams: [up.url] })
    client.send('POST / HTTP/1.1', `Host: ${HOST}`, 'Content-Length: 100')
    client.write('part')
    await until(() => (up.sockets[0]?.bytesRead ?? 0) > 0)
    client.socket.destroy()
    await until(() => up.sockets[0]?.destroyed === true)
    t.equal(up.requests.length, 0, 'no whole request was made of it')
  })

  t.test('a client that leaves in the middle of a response takes its upstream request along', async (t) => {
    const up = await RawUpstream.start(t, (socket) =>
      socket.write('HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\npart'),
    )
    const client = await connect(t, { upstreams: [up.url] })
    get(client)
    await client.receive(/part/)
    client.socket.destroy()
    await until(() => up.sockets[0]?.destroyed === true)
    t.pass()
  })

  t.test('408 for a head that does not arrive in time', async (t) => {
    const client = await connect(t, { upstreams: ['http://127.0.0.1:9'], timeouts: { head: 100 } })
    client.write('GET / HTTP/1.1\r\nHost:')
    const page = await client.rest()
    t.equal(statusOf(page), 408)
    t.match(page, /^connection: close\r$/im)
  })

  t.test('a connection on which nothing was ever sent is closed without a word', async (t) => {
    const client = await connect(t, { upstreams: ['http://127.0.0.1:9'], timeouts: { head: 100 } })
    t.equal(await client.rest(), '')
  })

  t.test('408 for content that does not arrive in time', async (t) => {
    const up = await RawUpstream.start(t, () => {})
    const client = await connect(t, { upstreams: [up.url], timeouts: { body: 50, response: 50 } })
    client.send('POST / HTTP/1.1', `Host: ${HOST}`, 'Content-Length: 100')
    client.write('part')
    t.equal(statusOf(await client.response()), 408)
    await until(() => up.sockets[0]?.destroyed === true)
  })

  for (const protocol of ['HTTP/1.1', 'HTTP/2'] as const) {
    t.test(`a body over ${protocol} may pause while its response goes on, and no longer`, async (t) => {
      const up = await RawUpstream.start(t, () => {})
      const clock = new VirtualClock()
      const front = await Front.start(t, makeWire, {
        upstreams: [up.url],
        clock,
        timeouts: { body: 3000, response: 60_000, head: 60_000, keepAlive: 60_000 },
      })
      const client = await (protocol === 'HTTP/2' ? listenHttp2(t, front) : listenHttp1(t, front))
      await until(() => (up.sockets[0]?.bytesRead ?? 0) > 0)
      const upstream = up.sockets[0]!
      upstream.write('HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n')
      for (let count = 1; count <= 4; count++) {
        upstream.write('4\r\ntick\r\n')
        await until(() => client.received.split('tick').length > count || client.closed)
        await clock.advance(2000)
      }
      t.equal(client.received.split('tick').length, 5)
      t.notOk(client.closed)
      await clock.advance(2000)
      await until(() => client.closed)
      await until(() => front.requests.length > 0)
      t.match(front.requests[0], { status: 200, err: { code: 'REQUEST_TIMEOUT' } })
    })
  }

  t.test('an idle client connection is closed', async (t) => {
    const up = await RawUpstream.start(t, (socket) => socket.write(ok()))
    const client = await connect(t, { upstreams: [up.url], timeouts: { keepAlive: 50 } })
    get(client)
    t.equal(statusOf(await client.rest()), 200)
  })

  t.test('https upstreams: by a root of their own', async (t) => {
    const up = await RawUpstream.start(t, (socket) => socket.write(ok()), true)
    const roots = join(t.testdir({}), 'roots.pem')
    writeFileSync(roots, ROOT_PEM)
    const client = await connect(t, {
      sites: [{ upstreams: [up.url], upstreamTls: { verify: true, roots } }],
    })
    get(client)
    t.equal(statusOf(await client.response()), 200)
  })

  t.test('https upstreams: an unknown root is refused before anything is sent', async (t) => {
    const up = await RawUpstream.start(t, (socket) => socket.write(ok()), true)
    const front = await Front.start(t, makeWire, { upstreams: [up.url] })
    const client = await RawClient.connect(t, front)
    get(client)
    t.equal(statusOf(await client.response()), 502)
    t.equal(up.requests.length, 0)
    await until(() => front.requests.length > 0)
    const message = /: [^:;]*certificate[^:;]*: set `upstreamTls\.roots` to a PEM file with the root that it/
    t.match(front.requests[0], { err: { message } })
  })

  t.test('https upstreams: another name than expected is refused', async (t) => {
    const up = await RawUpstream.start(t, (socket) => socket.write(ok()), true)
    const roots = join(t.testdir({}), 'roots.pem')
    writeFileSync(roots, ROOT_PEM)
    const client = await connect(t, {
      sites: [{ upstreams: [up.url], upstreamTls: { verify: true, roots, serverName: 'else.example' } }],
    })
    get(client)
    t.equal(statusOf(await client.response()), 502)
    t.equal(up.requests.length, 0)
  })

  t.test('https upstreams: without verification when the config says so', async (t) => {
    const up = await RawUpstream.start(t, (socket) => socket.write(ok()), true)
    const client = await connect(t, { sites: [{ upstreams: [up.url], upstreamTls: { verify: false } }] })
    get(client)
    t.equal(statusOf(await client.response()), 200)
  })

  t.test('a reload serves the next request; the one in flight finishes at its upstream', async (t) => {
    let pending: Parameters<Respond>[0] | undefined
    const before = await RawUpstream.start(t, (socket) => {
      pending = socket
    })
    const after = await RawUpstream.start(t, (socket) => socket.write(ok('after')))
    const front = await Front.start(t, makeWire, { upstreams: [before.url] })
    const slow = await RawClient.connect(t, front)
    get(slow)
    await until(() => pending !== undefined)
    front.reload({ upstreams: [after.url] })
    const fresh = await RawClient.connect(t, front)
    get(fresh)
    t.equal(bodyOf(await fresh.response()), 'after')
    pending?.write(ok('before'))
    t.equal(bodyOf(await slow.response()), 'before')
  })
}
