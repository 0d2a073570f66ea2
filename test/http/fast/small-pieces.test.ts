/** Content that comes octet by octet while nobody can take it is not held octet by octet: it goes on in few pieces. */
import diagnostics from 'node:diagnostics_channel'
import { once } from 'node:events'
import type { Socket } from 'node:net'
import { connect as connectTls } from 'node:tls'
import t, { type Test } from 'tap'
import { VirtualClock } from '../../../src/commands/simulate/virtual-clock.ts'
import { FLAG, FRAME, PREFACE, SETTING, settingsFrame } from '../../../src/http/fast/frames.ts'
import { SECOND } from '../../../src/time.ts'
import { blockOf, type Fields, FramePeer, FrameUpstream, frame, uint32 } from '../frame-peer.ts'
import { Front, type FrontOptions, HOST, TIMEOUTS, until } from '../front.ts'
import { RawClient } from '../raw-client.ts'
import { bodyOf, ok, RawUpstream } from '../raw-upstream.ts'
import { GET, makeWire, OK } from './before-http2.ts'

const COUNT = 5000

/** An HTTP/2 client that gives so much leave to send on a stream, and asks with `method`. */
async function ask(t: Test, front: Front, method: string, window = 65_535) {
  const socket = connectTls({
    host: '127.0.0.1',
    port: front.tlsPort,
    rejectUnauthorized: false,
    ALPNProtocols: ['h2'],
  })
  await once(socket, 'secureConnect')
  t.teardown(() => socket.destroy())
  const client = new FramePeer(socket)
  const fields: Fields = [
    [':method', method],
    [':scheme', 'https'],
    [':path', '/'],
    [':authority', HOST],
  ]
  const flags = FLAG.END_HEADERS | (method === 'GET' ? FLAG.END_STREAM : 0)
  client.send(
    PREFACE,
    settingsFrame([[SETTING.INITIAL_WINDOW_SIZE, window]]),
    frame(FRAME.HEADERS, flags, 1, blockOf(fields)),
  )
  return client
}

function octetByOctet(client: FramePeer, count = COUNT): void {
  client.send(...Array.from({ length: count }, () => frame(FRAME.DATA, 0, 1, 'x')))
}

/** Resolves once the proxy has read all that the client has sent. */
async function readByProxy(client: FramePeer): Promise<void> {
  const seen = client.frames.length
  client.send(frame(FRAME.PING, 0, 0, 'is it so'))
  await until(() => client.frames.slice(seen).some(({ type }) => type === FRAME.PING))
}

const dataFrames = ({ frames }: FramePeer): number =>
  frames.filter(({ type, payload }) => type === FRAME.DATA && payload.length > 0).length

t.test('a body whose upstream has not said its settings', async (t) => {
  const up = await FrameUpstream.start(t, Buffer.alloc(0))
  const front = await Front.start(t, makeWire, { upstreams: [up.url] })
  const client = await ask(t, front, 'POST')
  octetByOctet(client)
  await readByProxy(client)
  const peer = await up.peer()
  peer.send(settingsFrame([]))
  await until(() => peer.dataOf(1).length === COUNT)
  t.ok(dataFrames(peer) < 5, `${dataFrames(peer)} frames`)
})

t.test('a body that its upstream’s window has no room for', async (t) => {
  const up = await FrameUpstream.start(t, settingsFrame([[SETTING.INITIAL_WINDOW_SIZE, 0]]))
  const front = await Front.start(t, makeWire, { upstreams: [up.url] })
  const client = await ask(t, front, 'POST')
  const peer = await up.peer()
  await peer.fieldsOf(1)
  octetByOctet(client)
  await readByProxy(client)
  peer.send(frame(FRAME.WINDOW_UPDATE, 0, 1, uint32(COUNT)))
  await until(() => peer.dataOf(1).length === COUNT)
  t.ok(dataFrames(peer) < 5, `${dataFrames(peer)} frames`)
})

t.test('a response that its client’s window has no room for', async (t) => {
  const up = await FrameUpstream.start(t)
  const front = await Front.start(t, makeWire, { upstreams: [up.url] })
  const client = await ask(t, front, 'GET', 0)
  const peer = await up.peer()
  await peer.fieldsOf(1)
  peer.headers(1, OK)
  octetByOctet(peer)
  await readByProxy(peer)
  client.send(frame(FRAME.WINDOW_UPDATE, 0, 1, uint32(COUNT)))
  await until(() => client.dataOf(1).length === COUNT)
  t.ok(dataFrames(client) < 5, `${dataFrames(client)} frames`)
})

/** The sockets by which the proxy has connected to this port since. */
function socketsTo(t: Test, url: string): Socket[] {
  const sockets: Socket[] = []
  const onSocket = (message: unknown): void => {
    const { socket } = message as { socket: Socket }
    socket.once('connect', () => {
      if (url.endsWith(`:${socket.remotePort}`)) sockets.push(socket)
    })
  }
  diagnostics.subscribe('net.client.socket', onSocket)
  t.teardown(() => diagnostics.unsubscribe('net.client.socket', onSocket))
  return sockets
}

t.test('a body whose upstream of HTTP/1.1 does not read', async (t) => {
  const up = await RawUpstream.start(t, (socket) => socket.write(ok()))
  const sockets = socketsTo(t, up.url)
  const front = await Front.start(t, makeWire, { upstreams: [up.url] })
  const client = await ask(t, front, 'POST')
  await until(() => sockets.length === 1)
  const socket = sockets[0]!
  // As when the kernel takes no more.
  socket.cork()
  const write = t.capture(socket, 'write', socket.write)
  octetByOctet(client)
  await readByProxy(client)
  client.send(frame(FRAME.DATA, FLAG.END_STREAM, 1, 'end'))
  await readByProxy(client)
  socket.uncork()
  await until(() => up.requests.length === 1)
  t.equal(bodyOf(up.requests[0] ?? ''), `${'1\r\nx\r\n'.repeat(COUNT)}3\r\nend\r\n0\r\n\r\n`)
  t.ok(write().length < 10)
  await client.ended(1)
})

/** An upstream whose response the test writes, to a client that reads nothing of it. */
async function startUnread(t: Test, options: FrontOptions = {}) {
  const up = await RawUpstream.start(t, () => {})
  const toUpstream = socketsTo(t, up.url)
  const accepted: Socket[] = []
  const onSocket = (message: unknown): void => {
    accepted.push((message as { socket: Socket }).socket)
  }
  diagnostics.subscribe('net.server.socket', onSocket)
  t.teardown(() => diagnostics.unsubscribe('net.server.socket', onSocket))
  const front = await Front.start(t, makeWire, { upstreams: [up.url], ...options })
  const client = await RawClient.connect(t, front, { plain: true })
  client.send(...GET)
  await until(() => up.requests.length === 1)
  const { localPort } = client.socket
  // As when the kernel takes no more.
  accepted.find(({ remotePort }) => remotePort === localPort)?.cork()
  const proxy = toUpstream[0]!
  /** Resolves once the proxy has read it. */
  const say = async (text: string): Promise<void> => {
    const before = proxy.bytesRead
    up.sockets[0]?.write(text)
    await until(() => proxy.bytesRead > before)
  }
  await say('HTTP/1.1 200 OK\r\n\r\n')
  return { client, proxy, say }
}

t.test('a response in small pieces whose client does not read holds up its upstream', async (t) => {
  const { proxy, say } = await startUnread(t)
  let pieces = 0
  for (; pieces < 100 && !proxy.isPaused(); pieces++) await say('x'.repeat(1000))
  t.ok(pieces < 25, `${pieces} pieces`)
})

t.test('who takes nothing of a response is given up, however often more of it comes', async (t) => {
  const clock = new VirtualClock()
  const { client, say } = await startUnread(t, { clock })
  for (let ms = 0; ms <= TIMEOUTS.response; ms += 3 * SECOND) {
    t.notOk(client.closed)
    await say('x')
    await clock.advance(3 * SECOND)
  }
  await until(() => client.closed)
})
