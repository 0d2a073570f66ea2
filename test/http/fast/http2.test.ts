/** Hostile and odd HTTP/2 clients, frame by frame. What every wire does is in `../contract/http2.ts`. */
import { once } from 'node:events'
import { createServer } from 'node:http'
import { connect as connectTls } from 'node:tls'
import t, { type Test } from 'tap'
import { WebSocketServer } from 'ws'
import { VirtualClock } from '../../../src/commands/simulate/virtual-clock.ts'
import {
  DEFAULT_WINDOW,
  ERROR,
  FLAG,
  FRAME,
  PREFACE,
  SETTING,
  settingsFrame,
} from '../../../src/http/fast/frames.ts'
import { createStaticTable, HpackDecoder } from '../../../src/http/fast/hpack.ts'
import { FastWire } from '../../../src/http/fast/wire.ts'
import { blockOf, FramePeer, frame, uint32 } from '../frame-peer.ts'
import { Front, type FrontOptions, HOST, portOf, ROOT_PEM, until } from '../front.ts'
import { ok, RawUpstream, type Respond } from '../raw-upstream.ts'

/** A client that sends the frames it is told to. */
class FrameClient extends FramePeer {
  static async connect(t: Test, front: Front): Promise<FrameClient> {
    const socket = connectTls({
      host: '127.0.0.1',
      port: front.tlsPort,
      servername: HOST,
      ca: ROOT_PEM,
      ALPNProtocols: ['h2'],
    })
    t.teardown(() => socket.destroy())
    await once(socket, 'secureConnect')
    return new FrameClient(socket)
  }

  /** With the preface and empty SETTINGS. */
  static async greet(t: Test, front: Front, settings: [number, number][] = []): Promise<FrameClient> {
    const client = await FrameClient.connect(t, front)
    client.send(PREFACE, settingsFrame(settings))
    return client
  }

  request(streamId: number, flags: number = FLAG.END_STREAM, more: [string, string][] = []): void {
    this.send(frame(FRAME.HEADERS, flags | FLAG.END_HEADERS, streamId, blockOf([...GET, ...more])))
  }
}

const GET: [string, string][] = [
  [':method', 'GET'],
  [':scheme', 'https'],
  [':path', '/'],
  [':authority', HOST],
]

async function start(
  t: Test,
  respond: Respond = (socket) => socket.write(ok()),
  options: FrontOptions = {},
): Promise<{ front: Front; up: RawUpstream }> {
  const up = await RawUpstream.start(t, respond)
  const front = await Front.start(t, (wire) => new FastWire(wire), { upstreams: [up.url], ...options })
  return { front, up }
}

t.test('settings are sent first, and the client’s are acknowledged', async (t) => {
  const { front } = await start(t)
  const client = await FrameClient.greet(t, front)
  await client.frame((f) => f.type === FRAME.SETTINGS && f.flags === FLAG.ACK)
  t.match(client.frames[0], { type: FRAME.SETTINGS, flags: 0, streamId: 0 })
})

t.test('frames split at every octet are read', async (t) => {
  const { front } = await start(t)
  const client = await FrameClient.connect(t, front)
  const bytes = Buffer.concat([
    PREFACE,
    settingsFrame([]),
    frame(FRAME.HEADERS, FLAG.END_STREAM | FLAG.END_HEADERS, 1, blockOf(GET)),
  ])
  for (const octet of bytes) client.socket.write(Buffer.of(octet))
  await client.frame((f) => f.type === FRAME.DATA && f.flags === FLAG.END_STREAM)
  t.equal(client.dataOf(1).toString(), 'ok')
})

t.test('a header block may come in pieces, with padding and a priority', async (t) => {
  const { front } = await start(t)
  const client = await FrameClient.greet(t, front)
  const block = blockOf(GET)
  const first = Buffer.concat([Buffer.of(3), Buffer.alloc(5), block.subarray(0, 2), Buffer.alloc(3)])
  client.send(
    frame(FRAME.HEADERS, FLAG.END_STREAM | FLAG.PADDED | FLAG.PRIORITY, 1, first),
    frame(FRAME.CONTINUATION, 0, 1, block.subarray(2, 5)),
    frame(FRAME.CONTINUATION, FLAG.END_HEADERS, 1, block.subarray(5)),
  )
  await client.frame((f) => f.type === FRAME.DATA && f.flags === FLAG.END_STREAM)
  t.equal(client.dataOf(1).toString(), 'ok')
})

t.test('PING is answered with its octets', async (t) => {
  const { front } = await start(t)
  const client = await FrameClient.greet(t, front)
  client.send(frame(FRAME.PING, 0, 0, Buffer.from('12345678')))
  const { payload } = await client.frame((f) => f.type === FRAME.PING && f.flags === FLAG.ACK)
  t.equal(payload.toString(), '12345678')
})

t.test('a PING for each piece of a response is no flood; several are', async (t) => {
  const clock = new VirtualClock()
  let upstream: Parameters<Respond>[0] | undefined
  const respond: Respond = (socket) => {
    upstream = socket
    socket.write('HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n')
  }
  const { front } = await start(t, respond, { clock })
  const client = await FrameClient.greet(t, front)
  client.request(1)
  await client.fieldsOf(1)
  const ping = frame(FRAME.PING, 0, 0, '12345678')
  const pings = (count: number) => Array.from({ length: count }, () => ping)
  const answers = () => client.frames.filter((f) => f.type === FRAME.PING).length
  // Nearly all of the allowance.
  client.send(...pings(390))
  await until(() => answers() === 390)
  for (let count = 1; count <= 20; count++) {
    upstream?.write('1\r\nx\r\n')
    await until(() => client.dataOf(1).length === count || client.closed)
    client.send(ping)
    await until(() => answers() === 390 + count || client.closed)
  }
  t.equal(answers(), 410)
  client.send(...pings(20))
  t.equal(await client.goAway(), ERROR.ENHANCE_YOUR_CALM)
})

t.test('the response waits for the client’s windows', async (t) => {
  const content = 'x'.repeat(100)
  const { front } = await start(t, (socket) => socket.write(ok(content)))
  const client = await FrameClient.greet(t, front, [[SETTING.INITIAL_WINDOW_SIZE, 10]])
  client.request(1)
  await until(() => client.dataOf(1).length === 10)
  client.send(frame(FRAME.WINDOW_UPDATE, 0, 1, uint32(30)))
  await until(() => client.dataOf(1).length === 40)
  client.send(settingsFrame([[SETTING.INITIAL_WINDOW_SIZE, 1000]]))
  await client.frame((f) => f.type === FRAME.DATA && f.flags === FLAG.END_STREAM)
  t.equal(client.dataOf(1).toString(), content)
})

t.test('a client that gives no window is given up in time', async (t) => {
  const { front } = await start(t, (socket) => socket.write(ok()), { timeouts: { response: 80 } })
  const client = await FrameClient.greet(t, front, [[SETTING.INITIAL_WINDOW_SIZE, 0]])
  client.request(1)
  t.equal(await client.reset(1), ERROR.CANCEL)
  await until(() => front.requests.length === 1)
  t.match(front.requests[0], { err: { code: 'CLIENT_GONE' } })
})

t.test('a client that starts and goes silent is given up in time', async (t) => {
  const { front } = await start(t, undefined, { timeouts: { head: 60 } })
  const silent = await FrameClient.connect(t, front)
  await until(() => silent.closed)
  const client = await FrameClient.greet(t, front)
  client.send(frame(FRAME.HEADERS, 0, 1, blockOf(GET)))
  t.equal(await client.goAway(), ERROR.CANCEL)
})

t.test('an upload slower than the upstream takes it is held back by its window', async (t) => {
  const stuck = createServer(() => {})
  stuck.on('connection', (socket) => socket.pause())
  await once(stuck.listen(0, '127.0.0.1'), 'listening')
  t.teardown(() => stuck.close())
  const front = await Front.start(t, (wire) => new FastWire(wire), {
    upstreams: [`http://127.0.0.1:${portOf(stuck)}`],
  })
  const client = await FrameClient.greet(t, front)
  client.request(1, 0)
  const piece = frame(FRAME.DATA, 0, 1, Buffer.alloc(16_384))
  for (let i = 0; i < 20; i++) client.send(piece)
  // 320 KiB on a stream whose window is 128 KiB: what the kernels take in between gives some of it back at most.
  const gaveUp = client.reset(1)
  for (let i = 0; i < 2000 && !client.frames.some((f) => f.type === FRAME.RST_STREAM); i++) {
    client.send(piece)
    await new Promise((resolve) => setImmediate(resolve))
  }
  t.equal(await gaveUp, ERROR.FLOW_CONTROL_ERROR)
})

t.test(
  'a request whose content is not as long as it says is reset, and nothing more reaches the upstream',
  async (t) => {
    const { front, up } = await start(t)
    const client = await FrameClient.greet(t, front)
    const post: [string, string][] = [[':method', 'POST'], ...GET.slice(1), ['content-length', '5']]
    client.send(
      frame(FRAME.HEADERS, FLAG.END_HEADERS, 1, blockOf(post)),
      frame(FRAME.DATA, 0, 1, Buffer.from('hello')),
      frame(FRAME.DATA, FLAG.END_STREAM, 1, Buffer.from('GET /smuggled HTTP/1.1\r\n\r\n')),
      frame(FRAME.HEADERS, FLAG.END_HEADERS, 3, blockOf(post)),
      frame(FRAME.DATA, FLAG.END_STREAM, 3, Buffer.from('hi')),
      frame(FRAME.HEADERS, FLAG.END_HEADERS | FLAG.END_STREAM, 5, blockOf(post)),
    )
    for (const streamId of [1, 3, 5]) t.equal(await client.reset(streamId), ERROR.PROTOCOL_ERROR)
    t.notOk(up.requests.some((request) => request.includes('smuggled')))
  },
)

const MALFORMED: [name: string, fields: [string, string][]][] = [
  ['no method', GET.slice(1)],
  ['no path', [GET[0]!, GET[1]!, GET[3]!]],
  ['two paths', [...GET, [':path', '/']]],
  ['an unknown pseudo-header', [...GET, [':status', '200']]],
  ['a pseudo-header after a field', [GET[0]!, ['x', 'y'], ...GET.slice(1)]],
  ['a path with a space', [GET[0]!, GET[1]!, [':path', '/ HTTP/1.1'], GET[3]!]],
  ['a path without a slash', [GET[0]!, GET[1]!, [':path', 'x'], GET[3]!]],
  ['a method with a CR', [[':method', 'GET /x HTTP/1.1\r\nX: y'], ...GET.slice(1)]],
  ['an authority with a CR', [...GET.slice(0, 3), [':authority', `${HOST}\r\nX: y`]]],
  ['a value with CR LF', [...GET, ['x', 'a\r\nTransfer-Encoding: chunked']]],
  ['a value with NUL', [...GET, ['x', 'a\0b']]],
  ['a value with a space at its end', [...GET, ['x', 'a ']]],
  ['a name with a colon', [...GET, ['x:y', 'a']]],
  ['an empty name', [...GET, ['', 'a']]],
  ['connection', [...GET, ['connection', 'close']]],
  ['transfer-encoding', [...GET, ['transfer-encoding', 'chunked']]],
  ['te: gzip', [...GET, ['te', 'gzip']]],
  ['two content-lengths', [...GET, ['content-length', '0'], ['content-length', '0']]],
  ['a signed content-length', [...GET, ['content-length', '+0']]],
]

for (const [name, fields] of MALFORMED) {
  t.test(`a malformed request is reset: ${name}`, async (t) => {
    const { front, up } = await start(t)
    const client = await FrameClient.greet(t, front)
    client.send(frame(FRAME.HEADERS, FLAG.END_HEADERS | FLAG.END_STREAM, 1, blockOf(fields)))
    t.equal(await client.reset(1), ERROR.PROTOCOL_ERROR)
    client.request(3)
    await client.frame((f) => f.streamId === 3 && f.flags === FLAG.END_STREAM)
    t.equal(up.requests.length, 1, 'the connection goes on, and only with the other request')
  })
}

t.test('a name in upper case is malformed', async (t) => {
  const { front } = await start(t)
  const client = await FrameClient.greet(t, front)
  client.send(frame(FRAME.HEADERS, FLAG.END_HEADERS | FLAG.END_STREAM, 1, blockOf([...GET, ['X-A', 'b']])))
  t.equal(await client.reset(1), ERROR.PROTOCOL_ERROR)
})

const CONNECTION_ERRORS: [name: string, error: number, frames: () => Buffer[]][] = [
  ['DATA on stream 0', ERROR.PROTOCOL_ERROR, () => [frame(FRAME.DATA, 0, 0)]],
  ['DATA on an idle stream', ERROR.PROTOCOL_ERROR, () => [frame(FRAME.DATA, 0, 1)]],
  ['HEADERS on an even stream', ERROR.PROTOCOL_ERROR, () => [frame(FRAME.HEADERS, 5, 2, blockOf(GET))]],
  ['a block that is no HPACK', ERROR.COMPRESSION_ERROR, () => [frame(FRAME.HEADERS, 5, 1, Buffer.of(0x80))]],
  [
    'padding longer than its frame',
    ERROR.PROTOCOL_ERROR,
    () => [frame(FRAME.HEADERS, 0xd, 1, Buffer.of(9, 0x82))],
  ],
  ['CONTINUATION without HEADERS', ERROR.PROTOCOL_ERROR, () => [frame(FRAME.CONTINUATION, 4, 1)]],
  [
    'another frame within a block',
    ERROR.PROTOCOL_ERROR,
    () => [frame(FRAME.HEADERS, 1, 1, blockOf(GET)), frame(FRAME.PING, 0, 0, Buffer.alloc(8))],
  ],
  ['RST_STREAM on an idle stream', ERROR.PROTOCOL_ERROR, () => [frame(FRAME.RST_STREAM, 0, 1, uint32(8))]],
  ['PUSH_PROMISE', ERROR.PROTOCOL_ERROR, () => [frame(FRAME.PUSH_PROMISE, 4, 1, Buffer.alloc(4))]],
  ['SETTINGS on a stream', ERROR.PROTOCOL_ERROR, () => [frame(FRAME.SETTINGS, 0, 1)]],
  [
    'SETTINGS of a broken length',
    ERROR.FRAME_SIZE_ERROR,
    () => [frame(FRAME.SETTINGS, 0, 0, Buffer.alloc(5))],
  ],
  [
    'a window past 2^31',
    ERROR.FLOW_CONTROL_ERROR,
    () => [settingsFrame([[SETTING.INITIAL_WINDOW_SIZE, 2 ** 31]])],
  ],
  ['ENABLE_PUSH of 2', ERROR.PROTOCOL_ERROR, () => [settingsFrame([[SETTING.ENABLE_PUSH, 2]])]],
  [
    'a frame size below the least',
    ERROR.PROTOCOL_ERROR,
    () => [settingsFrame([[SETTING.MAX_FRAME_SIZE, 1000]])],
  ],
  [
    'PRIORITY_UPDATE on a stream',
    ERROR.PROTOCOL_ERROR,
    () => [frame(FRAME.PRIORITY_UPDATE, 0, 1, uint32(1))],
  ],
  [
    'PRIORITY_UPDATE of no stream',
    ERROR.PROTOCOL_ERROR,
    () => [frame(FRAME.PRIORITY_UPDATE, 0, 0, uint32(0))],
  ],
  [
    'PRIORITY_UPDATE of 3 octets',
    ERROR.FRAME_SIZE_ERROR,
    () => [frame(FRAME.PRIORITY_UPDATE, 0, 0, Buffer.alloc(3))],
  ],
  [
    'a PRIORITY_UPDATE flood',
    ERROR.ENHANCE_YOUR_CALM,
    () => Array.from({ length: 600 }, (_, i) => frame(FRAME.PRIORITY_UPDATE, 0, 0, uint32(2 * i + 1))),
  ],
  ['PING of 7 octets', ERROR.FRAME_SIZE_ERROR, () => [frame(FRAME.PING, 0, 0, Buffer.alloc(7))]],
  ['WINDOW_UPDATE of 0', ERROR.PROTOCOL_ERROR, () => [frame(FRAME.WINDOW_UPDATE, 0, 0, uint32(0))]],
  [
    'a window that overflows',
    ERROR.FLOW_CONTROL_ERROR,
    () => [frame(FRAME.WINDOW_UPDATE, 0, 0, uint32(2 ** 31 - 1))],
  ],
  [
    'a frame larger than we take',
    ERROR.FRAME_SIZE_ERROR,
    () => [frame(FRAME.DATA, 0, 1, Buffer.alloc(16_385))],
  ],
  [
    'endless CONTINUATION',
    ERROR.ENHANCE_YOUR_CALM,
    () => [
      frame(FRAME.HEADERS, 1, 1, blockOf(GET)),
      ...Array.from({ length: 20 }, () => frame(FRAME.CONTINUATION, 0, 1)),
    ],
  ],
  [
    'a PING flood',
    ERROR.ENHANCE_YOUR_CALM,
    () => Array.from({ length: 600 }, () => frame(FRAME.PING, 0, 0, Buffer.alloc(8))),
  ],
  ['a SETTINGS flood', ERROR.ENHANCE_YOUR_CALM, () => Array.from({ length: 600 }, () => settingsFrame([]))],
  [
    'a PRIORITY flood',
    ERROR.ENHANCE_YOUR_CALM,
    () => Array.from({ length: 600 }, () => frame(FRAME.PRIORITY, 0, 1, Buffer.alloc(5))),
  ],
  [
    'a flood of unknown frames',
    ERROR.ENHANCE_YOUR_CALM,
    () => Array.from({ length: 600 }, () => frame(0xbb, 0, 0)),
  ],
  [
    'a flood of empty DATA',
    ERROR.ENHANCE_YOUR_CALM,
    () => [
      frame(FRAME.HEADERS, 4, 1, blockOf([[':method', 'POST'], ...GET.slice(1)])),
      ...Array.from({ length: 600 }, () => frame(FRAME.DATA, 0, 1)),
    ],
  ],
  [
    'rapid reset',
    ERROR.ENHANCE_YOUR_CALM,
    () =>
      Array.from({ length: 600 }, (_, i) => [
        frame(FRAME.HEADERS, 5, 2 * i + 1, blockOf(GET)),
        frame(FRAME.RST_STREAM, 0, 2 * i + 1, uint32(8)),
      ]).flat(),
  ],
  [
    'a flood of malformed requests',
    ERROR.ENHANCE_YOUR_CALM,
    () => Array.from({ length: 600 }, (_, i) => frame(FRAME.HEADERS, 5, 2 * i + 1, blockOf([['x', 'y']]))),
  ],
]

for (const [name, error, frames] of CONNECTION_ERRORS) {
  t.test(`the connection ends: ${name}`, async (t) => {
    const { front } = await start(t)
    const client = await FrameClient.greet(t, front)
    client.send(...frames())
    t.equal(await client.goAway(), error)
  })
}

t.test('hundreds of calls may be cancelled a second, however long it goes on, and not more', async (t) => {
  const clock = new VirtualClock()
  const { front } = await start(t, () => {}, { clock })
  const client = await FrameClient.greet(t, front)
  let streamId = 1
  const cancelled = (count: number) =>
    Array.from({ length: count }, () => {
      const id = streamId
      streamId += 2
      return [
        frame(FRAME.HEADERS, FLAG.END_STREAM | FLAG.END_HEADERS, id, blockOf(GET)),
        frame(FRAME.RST_STREAM, 0, id, uint32(ERROR.CANCEL)),
      ]
    }).flat()
  const answers = () => client.frames.filter(({ type }) => type === FRAME.PING).length
  for (let second = 1; second <= 4; second++) {
    client.send(...cancelled(300), frame(FRAME.PING, 0, 0, '12345678'))
    await until(() => answers() === second || client.closed)
    await clock.advance(1000)
  }
  t.equal(answers(), 4)
  client.send(...cancelled(401))
  t.equal(await client.goAway(), ERROR.ENHANCE_YOUR_CALM)
})

t.test('a client that speaks HTTP/1.1 after choosing h2 is refused', async (t) => {
  const { front } = await start(t)
  const client = await FrameClient.connect(t, front)
  client.socket.write('GET / HTTP/1.1\r\nHost: a\r\n\r\n')
  t.equal(await client.goAway(), ERROR.PROTOCOL_ERROR)
})

t.test('a list of fields that unpacks to much more than it is gets 431', async (t) => {
  const { front, up } = await start(t)
  const client = await FrameClient.greet(t, front)
  const entry = blockOf([['x-bomb', 'x'.repeat(1900)]])
  // A literal that enters the table, and then its index there (RFC 7541 sections 6.2.1 and 6.1).
  entry[0] = 0x40
  const block = Buffer.concat([blockOf(GET), entry, Buffer.alloc(198, 0x80 | 62)])
  client.send(frame(FRAME.HEADERS, FLAG.END_HEADERS | FLAG.END_STREAM, 1, block))
  const { payload } = await client.frame((f) => f.type === FRAME.HEADERS && f.streamId === 1)
  const fields: string[] = []
  new HpackDecoder(Buffer.alloc(1000), createStaticTable()).decode(payload, 0, payload.length, {
    onField: ({ name, value }) => fields.push(`${name}: ${value}`),
  })
  t.ok(fields.includes(':status: 431'), fields.join())
  t.equal(up.requests.length, 0)
})

t.test('more streams than allowed are refused, and may be tried again', async (t) => {
  const { front } = await start(t, () => {})
  const client = await FrameClient.greet(t, front)
  for (let i = 0; i < 129; i++) client.request(2 * i + 1)
  t.equal(await client.reset(257), ERROR.REFUSED_STREAM)
})

/** Two responses that have filled the connection's window, the first one's request first. */
async function fillWindow(t: Test, priorities: readonly [string, string]): Promise<FrameClient> {
  const { front } = await start(t, (socket) => socket.write(ok('x'.repeat(200_000))))
  const client = await FrameClient.greet(t, front, [[SETTING.INITIAL_WINDOW_SIZE, 1_000_000]])
  client.request(1, FLAG.END_STREAM, [['priority', priorities[0]]])
  client.request(3, FLAG.END_STREAM, [['priority', priorities[1]]])
  await client.frame((f) => f.type === FRAME.HEADERS && f.streamId === 1)
  await client.frame((f) => f.type === FRAME.HEADERS && f.streamId === 3)
  await until(() => client.dataOf(1).length + client.dataOf(3).length === DEFAULT_WINDOW)
  return client
}

t.test('when there is room again, the urgent response goes first', async (t) => {
  const client = await fillWindow(t, ['u=5', 'u=1'])
  const before = client.dataOf(3).length
  client.send(frame(FRAME.WINDOW_UPDATE, 0, 0, uint32(10_000)))
  await until(() => client.dataOf(3).length === before + 10_000)
})

t.test('a client may change its mind about what is urgent', async (t) => {
  const client = await fillWindow(t, ['u=5', 'u=1'])
  const before = client.dataOf(1).length
  client.send(frame(FRAME.PRIORITY_UPDATE, 0, 0, Buffer.concat([uint32(1), Buffer.from('u=0')])))
  client.send(frame(FRAME.WINDOW_UPDATE, 0, 0, uint32(10_000)))
  await until(() => client.dataOf(1).length === before + 10_000)
})

t.test('a priority may be told ahead of its request, and is worth more than the request’s own', async (t) => {
  const { front } = await start(t, (socket) => socket.write(ok('x'.repeat(200_000))))
  const client = await FrameClient.greet(t, front, [[SETTING.INITIAL_WINDOW_SIZE, 1_000_000]])
  client.send(frame(FRAME.PRIORITY_UPDATE, 0, 0, Buffer.concat([uint32(3), Buffer.from('u=0')])))
  client.request(1, FLAG.END_STREAM, [['priority', 'u=2']])
  client.request(3, FLAG.END_STREAM, [['priority', 'u=7']])
  await client.frame((f) => f.type === FRAME.HEADERS && f.streamId === 3)
  await client.frame((f) => f.type === FRAME.HEADERS && f.streamId === 1)
  await until(() => client.dataOf(1).length + client.dataOf(3).length === DEFAULT_WINDOW)
  const before = client.dataOf(3).length
  client.send(frame(FRAME.WINDOW_UPDATE, 0, 0, uint32(10_000)))
  await until(() => client.dataOf(3).length === before + 10_000)
})

t.test('a WebSocket runs over an extended CONNECT', async (t) => {
  const server = createServer()
  const sockets = new WebSocketServer({ server })
  sockets.on('connection', (socket) => socket.on('message', (data) => socket.send(data)))
  await once(server.listen(0, '127.0.0.1'), 'listening')
  t.teardown(() => {
    for (const socket of sockets.clients) socket.terminate()
    server.close()
  })
  const front = await Front.start(t, (wire) => new FastWire(wire), {
    upstreams: [`http://127.0.0.1:${portOf(server)}`],
  })
  const client = await FrameClient.greet(t, front)
  const connect: [string, string][] = [
    [':method', 'CONNECT'],
    [':protocol', 'websocket'],
    ...GET.slice(1),
    ['sec-websocket-version', '13'],
  ]
  client.send(frame(FRAME.HEADERS, FLAG.END_HEADERS, 1, blockOf(connect)))
  const { payload } = await client.frame((f) => f.type === FRAME.HEADERS && f.streamId === 1)
  t.equal(payload[0], 0x88, ':status 200')
  // A masked text message, "hi", with a mask of zeros.
  client.send(frame(FRAME.DATA, 0, 1, Buffer.from('8182000000006869', 'hex')))
  await until(() => client.dataOf(1).length > 0)
  t.equal(client.dataOf(1).toString('hex'), '82026869')
})
