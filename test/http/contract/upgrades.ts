/** WebSocket and other protocols after a 101. */
import { randomBytes } from 'node:crypto'
import { once } from 'node:events'
import { createServer } from 'node:http'
import { Agent, createServer as createTlsServer } from 'node:https'
import type { Test } from 'tap'
import { WebSocket, WebSocketServer } from 'ws'
import { CREDENTIALS, Front, HOST, type MakeWire, portOf, ROOT_PEM, until } from '../front.ts'
import { RawClient, statusOf } from '../raw-client.ts'
import { bodyOf, fieldOf, fieldsOf, ok, RawUpstream } from '../raw-upstream.ts'

const SWITCHING = 'HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: echo\r\n\r\n'

export function upgrades(t: Test, makeWire: MakeWire): void {
  for (const secure of [false, true]) {
    t.test(
      `a WebSocket to ${secure ? 'an https' : 'an http'} upstream carries messages of 1 MiB`,
      async (t) => {
        const server = secure
          ? createTlsServer({ cert: CREDENTIALS.chainPem, key: CREDENTIALS.keyPem })
          : createServer()
        const sockets = new WebSocketServer({ server, maxPayload: 2 ** 21 })
        sockets.on('connection', (socket) => socket.on('message', (data) => socket.send(data)))
        await once(server.listen(0, '127.0.0.1'), 'listening')
        t.teardown(() => {
          for (const socket of sockets.clients) socket.terminate()
          server.close()
        })
        const front = await Front.start(t, makeWire, {
          sites: [
            {
              upstreams: [`${secure ? 'https' : 'http'}://127.0.0.1:${portOf(server)}`],
              upstreamTls: { verify: false },
            },
          ],
        })
        const client = new WebSocket(`wss://127.0.0.1:${front.tlsPort}/chat`, ['v2.chat'], {
          agent: new Agent({ ca: ROOT_PEM, servername: HOST }),
          headers: { host: HOST },
        })
        t.teardown(() => client.terminate())
        await once(client, 'open')
        for (let i = 0; i < 3; i++) {
          const message = randomBytes(2 ** 20)
          client.send(message)
          const [echo] = await once(client, 'message')
          t.ok(message.equals(echo), 'the echo is the message')
        }
        client.close(1000, 'done')
        const [code] = await once(client, 'close')
        t.equal(code, 1000)
        await until(() => front.requests.length > 0)
        t.match(front.requests[0], { status: 101, path: '/chat', method: 'GET' })
      },
    )
  }

  /** A client on a proxy before an upstream that agrees to `echo` and echoes. */
  const echoed = async (
    t: Test,
    timeouts: { upgrade?: number } = {},
  ): Promise<{ front: Front; client: RawClient; up: RawUpstream }> => {
    const up = await RawUpstream.start(t, (socket) => {
      socket.write(`${SWITCHING}hello`)
      socket.removeAllListeners('data')
      socket.pipe(socket)
    })
    const front = await Front.start(t, makeWire, { upstreams: [up.url], timeouts })
    return { front, client: await RawClient.connect(t, front), up }
  }
  const ask = ['GET /x HTTP/1.1', `Host: ${HOST}`, 'Connection: Upgrade', 'Upgrade: echo']

  t.test('any protocol that the upstream agrees to is carried, from the first byte on', async (t) => {
    const { client, up } = await echoed(t)
    client.send(...ask)
    await client.receive(/\r\n\r\nhello$/)
    t.strictSame(fieldsOf(client.received), ['connection: Upgrade', 'upgrade: echo', 'via: 1.1 holdfast'])
    t.equal(fieldOf(up.requests[0]!, 'upgrade'), 'echo')
    t.match(fieldOf(up.requests[0]!, 'connection'), /^upgrade$/i)
    client.write('GET / HTTP/1.1\r\n\r\n')
    await client.receive(/helloGET \/ HTTP\/1\.1\r\n\r\n$/)
  })

  t.test('when one side of a tunnel ends, so does the other', async (t) => {
    const first = await echoed(t)
    first.client.send(...ask)
    await first.client.receive(/hello/)
    first.client.socket.end()
    await until(() => first.up.sockets[0]?.destroyed === true)
    const second = await echoed(t)
    second.client.send(...ask)
    await second.client.receive(/hello/)
    second.up.sockets[0]?.end('bye')
    t.match(await second.client.rest(), /bye$/)
  })

  t.test('a silent tunnel is closed in time', async (t) => {
    const { client, up } = await echoed(t, { upgrade: 50 })
    client.send(...ask)
    await client.rest()
    await until(() => up.sockets[0]?.destroyed === true)
    t.match(client.received, /hello$/)
  })

  t.test('a refused upgrade is an ordinary response, and the connection ends with it', async (t) => {
    const up = await RawUpstream.start(t, (socket) =>
      socket.write('HTTP/1.1 403 Forbidden\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nno\r\n0\r\n\r\n'),
    )
    const front = await Front.start(t, makeWire, { upstreams: [up.url] })
    const client = await RawClient.connect(t, front)
    client.write(...ask, '', 'GET /smuggled HTTP/1.1', `Host: ${HOST}`, '', '')
    const response = await client.rest()
    t.equal(statusOf(response), 403)
    t.match(response, /^connection: close\r$/im)
    t.equal(bodyOf(response), 'no')
    t.equal(up.requests.length, 1, 'what followed the upgrade was not taken for a request')
  })

  t.test('an upgrade that no upstream answers gets an error page', async (t) => {
    const front = await Front.start(t, makeWire, { upstreams: ['http://127.0.0.1:9'] })
    const client = await RawClient.connect(t, front)
    client.send(...ask)
    const page = await client.rest()
    t.equal(statusOf(page), 502)
    t.ok(fieldOf(page, 'date'))
  })

  for (const [what, lines] of [
    [
      'h2c',
      [
        'GET / HTTP/1.1',
        `Host: ${HOST}`,
        'Connection: Upgrade, HTTP2-Settings',
        'Upgrade: h2c',
        'HTTP2-Settings: AAMAAABkAAQ',
      ],
    ],
    ['HTTP/2.0', ['GET / HTTP/1.1', `Host: ${HOST}`, 'Connection: Upgrade', 'Upgrade: HTTP/2.0']],
    ['TLS/1.0', ['OPTIONS / HTTP/1.1', `Host: ${HOST}`, 'Connection: Upgrade', 'Upgrade: TLS/1.0']],
    [
      'h2c among others',
      ['GET / HTTP/1.1', `Host: ${HOST}`, 'Connection: Upgrade', 'Upgrade: websocket, h2c'],
    ],
    ['a protocol that Connection does not name', ['GET / HTTP/1.1', `Host: ${HOST}`, 'Upgrade: websocket']],
    [
      'a protocol with content',
      [
        'POST / HTTP/1.1',
        `Host: ${HOST}`,
        'Connection: Upgrade',
        'Upgrade: websocket',
        'Content-Length: 2',
        '',
        'hi',
      ],
    ],
    ['HTTP/1.0', ['GET / HTTP/1.0', `Host: ${HOST}`, 'Connection: Upgrade', 'Upgrade: websocket']],
  ] as const) {
    t.test(`an offer to upgrade is ignored: ${what}`, async (t) => {
      const up = await RawUpstream.start(t, (socket) => socket.write(ok()))
      const front = await Front.start(t, makeWire, { upstreams: [up.url] })
      const client = await RawClient.connect(t, front)
      client.write(...lines, ...(lines.at(-1) === 'hi' ? [] : ['', '']))
      t.equal(bodyOf(await client.response()), 'ok')
      t.equal(fieldOf(up.requests[0]!, 'upgrade'), undefined)
      t.notMatch(fieldOf(up.requests[0]!, 'connection') ?? '', /upgrade/i)
    })
  }
}
