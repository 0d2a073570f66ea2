/**
 * What a peer that does not read costs, of one that would send 1 GiB: less than 2 MiB, over every pair of protocols and in both
 * directions. The program runs as a child, so that what it holds is seen from within, without the kernel's buffers.
 */
import { once } from 'node:events'
import { connect as connectHttp2, createServer as createHttp2Server } from 'node:http2'
import { createServer, type Server, type Socket } from 'node:net'
import { connect as connectTls } from 'node:tls'
import t, { type Test } from 'tap'
import { FLAG, FRAME, MAX_WINDOW, PREFACE, SETTING, settingsFrame } from '../../../src/http/fast/frames.ts'
import { Instance } from '../../soak/instance.ts'
import { blockOf, FramePeer, frame, uint32 } from '../frame-peer.ts'
import { HOST, portOf, pour, ROOT_PEM, stalled, until } from '../front.ts'

const GIB = 2 ** 30
const TOTAL_MIB = 1024
/** Several at once, so that what comes and goes by chance weighs little. */
const PEERS = 4
const ALLOWED_BYTES = PEERS * 2 * 2 ** 20

interface Upstream {
  readonly url: string
  /** MiB of responses that it has got rid of, of all its requests. */
  poured(): number
  /** Requests that have come. */
  asked(): number
  close(): void
}

/** To a GET it offers all it has; of anything else it reads no content. */
async function startUpstream(protocol: 'http' | 'h2c'): Promise<Upstream> {
  const taken: (() => number)[] = []
  const sockets: Socket[] = []
  let asked = 0
  let server: Server
  if (protocol === 'http') {
    server = createServer((socket) => {
      socket.once('data', (head) => {
        asked++
        socket.pause()
        if (!head.toString('latin1').startsWith('GET ')) return
        socket.write(`HTTP/1.1 200 OK\r\nContent-Length: ${GIB}\r\n\r\n`)
        taken.push(pour(socket, TOTAL_MIB))
      })
    })
  } else {
    // By default it refuses streams while much waits to be sent.
    const http2 = createHttp2Server({ maxSessionMemory: 1000 })
    http2.on('sessionError', () => {})
    http2.on('stream', (stream, headers) => {
      asked++
      stream.on('error', () => {})
      if (headers[':method'] !== 'GET') return
      stream.respond({ ':status': 200 })
      taken.push(pour(stream, TOTAL_MIB))
    })
    server = http2 as unknown as Server
  }
  server.on('connection', (socket: Socket) => {
    sockets.push(socket)
    socket.on('error', () => {})
  })
  await once(server.listen(0, '127.0.0.1'), 'listening')
  return {
    url: `${protocol}://127.0.0.1:${portOf(server)}`,
    poured: () => taken.reduce((sum, count) => sum + count(), 0),
    asked: () => asked,
    close: () => {
      server.close()
      for (const socket of sockets) socket.destroy()
    },
  }
}

interface Peer {
  /** MiB of its request that are on their way. */
  sent(): number
  destroy(): void
}

type Connect = (port: number, path: string) => Promise<Peer>

const NONE = (): number => 0

async function connectSocket(port: number, protocol: 'h2' | 'http/1.1') {
  const socket = connectTls({
    host: '127.0.0.1',
    port,
    servername: HOST,
    ca: ROOT_PEM,
    ALPNProtocols: [protocol],
  })
  socket.on('error', () => {})
  await once(socket, 'secureConnect')
  return socket
}

const http1Reader: Connect = async (port, path) => {
  const socket = await connectSocket(port, 'http/1.1')
  socket.pause()
  socket.write(`GET ${path} HTTP/1.1\r\nHost: ${HOST}\r\n\r\n`)
  return { sent: NONE, destroy: () => socket.destroy() }
}

/** `window`: leave to send, on the stream and on the connection. */
function http2Reader(window: number): Connect {
  return async (port, path) => {
    const socket = await connectSocket(port, 'h2')
    const peer = new FramePeer(socket)
    const fields: [string, string][] = [
      [':method', 'GET'],
      [':scheme', 'https'],
      [':path', path],
      [':authority', HOST],
    ]
    peer.send(
      PREFACE,
      settingsFrame([[SETTING.INITIAL_WINDOW_SIZE, window]]),
      frame(FRAME.WINDOW_UPDATE, 0, 0, uint32(MAX_WINDOW - 65_535)),
      frame(FRAME.HEADERS, FLAG.END_STREAM | FLAG.END_HEADERS, 1, blockOf(fields)),
    )
    socket.pause()
    return { sent: NONE, destroy: () => socket.destroy() }
  }
}

const http1Writer: Connect = async (port, path) => {
  const socket = await connectSocket(port, 'http/1.1')
  socket.write(`POST ${path} HTTP/1.1\r\nHost: ${HOST}\r\nContent-Length: ${GIB}\r\n\r\n`)
  return { sent: pour(socket, TOTAL_MIB), destroy: () => socket.destroy() }
}

const http2Writer: Connect = async (port, path) => {
  const session = connectHttp2(`https://127.0.0.1:${port}`, { ca: ROOT_PEM, servername: HOST })
  session.on('error', () => {})
  const stream = session.request({ ':method': 'POST', ':path': path, ':authority': HOST })
  stream.on('error', () => {})
  return { sent: pour(stream, TOTAL_MIB), destroy: () => session.destroy() }
}

const CLIENTS: Readonly<Record<string, Connect>> = {
  'an HTTP/1.1 client that does not read': http1Reader,
  'an HTTP/2 client that gives little leave to send': http2Reader(65_535),
  'an HTTP/2 client that gives every leave and does not read': http2Reader(MAX_WINDOW),
  'an HTTP/1.1 client that sends to who does not read': http1Writer,
  'an HTTP/2 client that sends to who does not read': http2Writer,
}

/** What `PEERS` peers make the instance hold more, once nothing moves any more, and how much has moved. */
async function measure(instance: Instance, upstream: Upstream, connect: Connect, path: string) {
  const before = await instance.held()
  const [askedBefore, pouredBefore] = [upstream.asked(), upstream.poured()]
  const peers = await Promise.all(Array.from({ length: PEERS }, () => connect(instance.port, path)))
  await until(() => upstream.asked() >= askedBefore + PEERS)
  const moved = (): number =>
    upstream.poured() - pouredBefore + peers.reduce((sum, peer) => sum + peer.sent(), 0)
  const movedMib = await stalled(moved)
  const after = await instance.held()
  for (const peer of peers) peer.destroy()
  return {
    movedMib,
    heapBytes: after.heapBytes - before.heapBytes,
    rssBytes: after.rssBytes - before.rssBytes,
  }
}

async function check(t: Test, ...at: Parameters<typeof measure>) {
  const { movedMib, heapBytes, rssBytes } = await measure(...at)
  t.ok(movedMib < (PEERS * TOTAL_MIB) / 4, `${movedMib} MiB were taken of ${PEERS * TOTAL_MIB}`)
  t.ok(heapBytes < ALLOWED_BYTES, `${heapBytes} octets of heap for ${PEERS}`)
  // Resident memory knows what OpenSSL holds too.
  t.ok(rssBytes < ALLOWED_BYTES, `${rssBytes} octets resident for ${PEERS}`)
}

t.test('a peer that does not read costs less than 2 MiB', { timeout: 110_000 }, async (t) => {
  const upstreams = { '/http': await startUpstream('http'), '/h2c': await startUpstream('h2c') }
  const routes = Object.entries(upstreams).map(([path, { url }]) => [path, [url]] as const)
  const instance = await Instance.start(Object.fromEntries(routes))
  t.teardown(async () => {
    await instance.stop()
    for (const upstream of Object.values(upstreams)) upstream.close()
  })
  // What is compiled and allocated once is not what a peer costs.
  for (const [path, upstream] of Object.entries(upstreams)) {
    for (const connect of [http1Reader, http2Reader(MAX_WINDOW)])
      await measure(instance, upstream, connect, path)
  }
  for (const [path, upstream] of Object.entries(upstreams)) {
    for (const [what, connect] of Object.entries(CLIENTS)) {
      t.test(`${what}, ${path}`, async (t) => check(t, instance, upstream, connect, path))
    }
  }
})
