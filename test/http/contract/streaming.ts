/** Large content in both directions, and peers that do not read. */
import { createHash, randomBytes } from 'node:crypto'
import { once } from 'node:events'
import { createServer, request } from 'node:http'
import { Agent, request as secureRequest } from 'node:https'
import { Readable } from 'node:stream'
import { pipeline } from 'node:stream/promises'
import type { Test } from 'tap'
import { Front, HOST, type MakeWire, portOf, pour, ROOT_PEM, stalled, until } from '../front.ts'
import { RawClient } from '../raw-client.ts'
import { RawUpstream } from '../raw-upstream.ts'

const MIB = 2 ** 20
const TOTAL_MIB = 64

export function streaming(t: Test, makeWire: MakeWire): void {
  for (const secure of [true, false]) {
    t.test(`64 MiB there and back over ${secure ? 'TLS' : 'plain TCP'} arrive unchanged`, async (t) => {
      const echo = createServer((req, res) => req.pipe(res))
      await once(echo.listen(0, '127.0.0.1'), 'listening')
      t.teardown(() => echo.close())
      const front = await Front.start(t, makeWire, { upstreams: [`http://127.0.0.1:${portOf(echo)}`] })
      const agent = secure ? new Agent({ ca: ROOT_PEM, servername: HOST }) : undefined
      const options = { host: '127.0.0.1', method: 'POST', headers: { host: HOST }, agent }
      const upload = secure
        ? secureRequest({ ...options, port: front.tlsPort })
        : request({ ...options, port: front.plainPort })
      const sent = createHash('sha256')
      const pieces = Readable.from(
        (function* () {
          for (let i = 0; i < TOTAL_MIB; i++) {
            const piece = randomBytes(MIB)
            sent.update(piece)
            yield piece
          }
        })(),
      )
      const received = createHash('sha256')
      const download = once(upload, 'response').then(([response]) => pipeline(response, received))
      await Promise.all([download, pipeline(pieces, upload)])
      t.equal(received.digest('hex'), sent.digest('hex'))
    })
  }

  t.test('an upstream is not read faster than the client reads', async (t) => {
    const up = await RawUpstream.start(t, (socket) => {
      socket.write(`HTTP/1.1 200 OK\r\nContent-Length: ${TOTAL_MIB * MIB}\r\n\r\n`)
    })
    const front = await Front.start(t, makeWire, { upstreams: [up.url] })
    const client = await RawClient.connect(t, front)
    client.send('GET / HTTP/1.1', `Host: ${HOST}`)
    client.socket.pause()
    await until(() => up.requests.length > 0)
    const taken = await stalled(pour(up.sockets[0]!, TOTAL_MIB))
    t.ok(taken < TOTAL_MIB, `${taken} MiB are in sockets and buffers`)
  })

  t.test('a client is not read faster than the upstream reads', async (t) => {
    const up = await RawUpstream.start(t, () => {})
    const front = await Front.start(t, makeWire, { upstreams: [up.url] })
    const client = await RawClient.connect(t, front)
    client.send('POST / HTTP/1.1', `Host: ${HOST}`, `Content-Length: ${TOTAL_MIB * MIB}`)
    await until(() => up.sockets.length > 0)
    up.sockets[0]!.pause()
    const taken = await stalled(pour(client.socket, TOTAL_MIB))
    t.ok(taken < TOTAL_MIB, `${taken} MiB are in sockets and buffers`)
  })

  t.test('a client that stops reading is given up in time', async (t) => {
    const up = await RawUpstream.start(t, (socket) => {
      socket.write(`HTTP/1.1 200 OK\r\nContent-Length: ${TOTAL_MIB * MIB}\r\n\r\n`)
      pour(socket, TOTAL_MIB)
    })
    const front = await Front.start(t, makeWire, { upstreams: [up.url], timeouts: { response: 100 } })
    const client = await RawClient.connect(t, front)
    client.send('GET / HTTP/1.1', `Host: ${HOST}`)
    client.socket.pause()
    await until(() => up.sockets[0]?.destroyed === true)
    await until(() => front.requests.length > 0)
    t.match(front.requests[0], { status: 200, err: { code: 'CLIENT_GONE' } })
  })
}
