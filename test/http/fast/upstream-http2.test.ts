/** Odd and hostile HTTP/2 upstreams, frame by frame. gRPC is in `../grpc.test.ts`. */
import { once } from 'node:events'
import { type ClientHttp2Stream, createServer } from 'node:http2'
import t from 'tap'
import { VirtualClock } from '../../../src/commands/simulate/virtual-clock.ts'
import { ERROR, FLAG, FRAME, SETTING, settingsFrame } from '../../../src/http/fast/frames.ts'
import { Names } from '../../../src/upstreams/names.ts'
import { socketPath } from '../../support/sockets.ts'
import { shownToUpstream } from '../contract/client-certificates.ts'
import { answerOf, connectHttp2 } from '../contract/http2.ts'
import { blockOf, type Fields, type FramePeer, FrameUpstream, frame, uint32 } from '../frame-peer.ts'
import { Front, HOST, portOf, pour, stalled, until } from '../front.ts'
import { RawClient, statusOf } from '../raw-client.ts'
import { bodyOf, fieldOf, fieldsOf } from '../raw-upstream.ts'
import { GET, makeWire, OK, start } from './before-http2.ts'

/** RFC 6455 section 1.3. */
const WEBSOCKET = [
  'GET /chat HTTP/1.1',
  `Host: ${HOST}`,
  'Connection: Upgrade',
  'Upgrade: websocket',
  'Sec-WebSocket-Version: 13',
  'Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==',
]
const TUNNELS = settingsFrame([[SETTING.ENABLE_CONNECT_PROTOCOL, 1]])

t.test('where it is', async (t) => {
  t.test('a unix socket', async (t) => {
    const path = socketPath(t)
    const server = createServer((_, response) => response.end('ok')).listen(path)
    await once(server, 'listening')
    t.teardown(() => server.close())
    const front = await Front.start(t, makeWire, { upstreams: [`unix+h2c:${path}`] })
    const client = await RawClient.connect(t, front)
    client.send(...GET)
    t.equal(statusOf(await client.response()), 200)
  })

  t.test(
    'a connection to a name takes no new requests after a minute, and ends what it carries',
    async (t) => {
      const clock = new VirtualClock()
      const asked: string[] = []
      const names = new Names(async (name) => {
        asked.push(name)
        return [{ address: '127.0.0.1', family: 4 }]
      })
      const up = await FrameUpstream.start(t)
      const upstreams = [up.url.replace('127.0.0.1', 'app.internal')]
      const timeouts = { response: 600_000, keepAlive: 600_000 }
      const front = await Front.start(t, makeWire, { upstreams, clock, names, timeouts })
      const session = connectHttp2(t, front)
      const open = () => answerOf(session.request({ ':path': '/', ':authority': HOST }))
      const long = open()
      const old = await up.peer()
      await old.fieldsOf(1)
      await clock.advance(61_000)
      const next = open()
      const young = await up.peer(1)
      await young.fieldsOf(1)
      for (const peer of [old, young]) {
        peer.headers(1, OK)
        peer.data(1, 'ok', true)
      }
      t.match(await Promise.all([long, next]), [{ status: 200 }, { status: 200 }])
      await until(() => old.closed)
      t.notOk(young.closed)
      t.strictSame(asked, ['app.internal', 'app.internal'])
    },
  )
})

t.test('what is asked for', async (t) => {
  t.test('a request of HTTP/1.1 arrives as HTTP/2 asks', async (t) => {
    const { up, front } = await start(t)
    const client = await RawClient.connect(t, front)
    client.send(...GET, 'Connection: x-hop, keep-alive', 'X-Hop: 1', 'X-Kept: 2', 'TE: gzip')
    const peer = await up.peer()
    const fields = await peer.fieldsOf(1)
    t.strictSame(fields.slice(0, 4), [
      [':method', 'GET'],
      [':scheme', 'http'],
      [':authority', HOST],
      [':path', '/'],
    ])
    const rest = new Map(fields.slice(4))
    t.match([...rest], [['x-kept', '2']])
    t.equal(rest.get('te'), 'trailers')
    t.equal(rest.get('via'), '1.1 holdfast')
    for (const name of ['connection', 'x-hop', 'host', 'transfer-encoding']) t.notOk(rest.has(name), name)
  })

  t.test('a chunked body and its trailers arrive as DATA and HEADERS', async (t) => {
    const { up, front } = await start(t)
    const client = await RawClient.connect(t, front)
    const post = ['POST / HTTP/1.1', `Host: ${HOST}`, 'Transfer-Encoding: chunked']
    client.send(...post, '', '5', 'hello', '0', 'x-sum: 1')
    const peer = await up.peer()
    t.equal(await peer.ended(1), 'hello')
    t.strictSame(await peer.fieldsOf(1, 1), [['x-sum', '1']])
  })

  t.test('a body that was there whole before its upstream was found arrives whole', async (t) => {
    const up = await FrameUpstream.start(t)
    const front = await Front.start(t, makeWire, { upstreams: ['h2c://127.0.0.1:1', up.url] })
    const client = await RawClient.connect(t, front)
    client.write('POST / HTTP/1.1', `Host: ${HOST}`, 'Content-Length: 5', '', 'hello')
    const peer = await up.peer()
    t.equal(await peer.ended(1), 'hello')
    peer.headers(1, OK, true)
    t.equal(statusOf(await client.response()), 200)
  })

  t.test(
    'a request whose client is gone is cancelled, and what still comes of it is overlooked',
    async (t) => {
      const { up, open, ask } = await start(t)
      const gone = open()
      gone.on('error', () => {})
      const peer = await up.peer()
      await peer.fieldsOf(1)
      gone.close(ERROR.CANCEL)
      t.equal(await peer.reset(1), ERROR.CANCEL)
      peer.headers(1, OK)
      peer.data(1, 'late', true)
      const answer = ask()
      await peer.fieldsOf(3)
      peer.headers(3, OK, true)
      t.equal((await answer).status, 200)
    },
  )
})

t.test('responses', async (t) => {
  t.test('to an HTTP/1.1 client, one without a length is sent in chunks, with Via of HTTP/2', async (t) => {
    const { up, front } = await start(t)
    const client = await RawClient.connect(t, front)
    client.send(...GET, 'TE: trailers', 'Connection: TE')
    const peer = await up.peer()
    await peer.fieldsOf(1)
    peer.headers(1, [...OK, ['x-seen', 'yes']])
    peer.data(1, 'hello')
    peer.headers(1, [['x-sum', '1']], true)
    await client.receive(/\r\n0\r\n(x-sum: 1\r\n)?\r\n$/)
    t.equal(statusOf(client.received), 200)
    t.equal(fieldOf(client.received, 'via'), '2.0 holdfast')
    t.equal(fieldOf(client.received, 'x-seen'), 'yes')
    t.match(bodyOf(client.received), /^5\r\nhello\r\n0\r\n/)
  })

  t.test('one that ends with its head has no content', async (t) => {
    const { up, front } = await start(t)
    const client = await RawClient.connect(t, front)
    client.send(...GET)
    const peer = await up.peer()
    await peer.fieldsOf(1)
    peer.headers(1, OK, true)
    t.equal(fieldOf(await client.response(), 'content-length'), '0')
  })

  for (const [method, status] of [
    ['HEAD', '200'],
    ['GET', '204'],
    ['GET', '304'],
  ] as const) {
    t.test(`${method} ${status} keeps the client’s connection in step`, async (t) => {
      const { up, front } = await start(t)
      const client = await RawClient.connect(t, front)
      client.send(`${method} / HTTP/1.1`, GET[1]!)
      const peer = await up.peer()
      await peer.fieldsOf(1)
      const length: Fields = status === '204' ? [] : [['content-length', '5']]
      peer.headers(1, [[':status', status], ...length], true)
      t.equal(statusOf(await client.receive(/\r\n\r\n$/)), Number(status))
      t.equal(fieldOf(client.received, 'content-length'), length[0]?.[1])
      client.received = ''
      client.send(...GET)
      await peer.fieldsOf(3)
      peer.headers(3, OK, true)
      t.equal(statusOf(await client.response()), 200)
    })
  }

  t.test('a head may come in pieces, with padding', async (t) => {
    const { up, ask } = await start(t)
    const answer = ask()
    const peer = await up.peer()
    await peer.fieldsOf(1)
    const block = blockOf([...OK, ['x-seen', 'yes']])
    peer.send(
      frame(
        FRAME.HEADERS,
        FLAG.PADDED,
        1,
        Buffer.concat([Buffer.of(2), block.subarray(0, 3), Buffer.alloc(2)]),
      ),
      frame(FRAME.CONTINUATION, FLAG.END_HEADERS, 1, block.subarray(3)),
      frame(FRAME.DATA, FLAG.END_STREAM | FLAG.PADDED, 1, Buffer.from('\x02ok\0\0')),
    )
    t.match(await answer, { status: 200, headers: { 'x-seen': 'yes' } })
    t.equal(String((await answer).body), 'ok')
  })

  t.test('interim responses are passed on before the final one', async (t) => {
    const { up, front } = await start(t)
    const client = await RawClient.connect(t, front)
    client.send(...GET)
    const peer = await up.peer()
    await peer.fieldsOf(1)
    peer.headers(1, [
      [':status', '103'],
      ['link', '</a>'],
    ])
    peer.headers(1, OK, true)
    await client.receive(/HTTP\/1\.1 103 .*\r\nlink: <\/a>\r\n[\s\S]*HTTP\/1\.1 200 /)
  })
})

t.test('nothing is asked before the upstream has said its settings', async (t) => {
  const { up, ask } = await start(t, Buffer.alloc(0))
  const answer = ask()
  const peer = await up.peer()
  await peer.frame(({ type }) => type === FRAME.WINDOW_UPDATE)
  t.notOk(peer.frames.some(({ type }) => type === FRAME.HEADERS))
  peer.send(settingsFrame([]))
  await peer.fieldsOf(1)
  peer.headers(1, OK, true)
  t.equal((await answer).status, 200)
})

t.test('a reset', async (t) => {
  t.test('before the response gives 502, and the request is not sent again', async (t) => {
    const { up, ask } = await start(t)
    const warm = ask()
    const peer = await up.peer()
    await peer.fieldsOf(1)
    peer.headers(1, OK, true)
    await warm
    const answer = ask()
    await peer.fieldsOf(3)
    peer.send(frame(FRAME.RST_STREAM, 0, 3, uint32(ERROR.INTERNAL_ERROR)))
    t.equal((await answer).status, 502)
    t.equal(peer.frames.filter(({ type }) => type === FRAME.HEADERS).length, 2)
  })

  t.test('after its last octet leaves a client of HTTP/1.1 its connection', async (t) => {
    const { up, front } = await start(t)
    const client = await RawClient.connect(t, front)
    client.send(...GET)
    const peer = await up.peer()
    await peer.fieldsOf(1)
    peer.headers(1, [...OK, ['content-length', '5']])
    peer.data(1, 'whole')
    peer.send(frame(FRAME.RST_STREAM, 0, 1, uint32(ERROR.INTERNAL_ERROR)))
    t.equal(bodyOf(await client.response()), 'whole')
    client.send(...GET)
    await peer.fieldsOf(3)
    peer.headers(3, OK, true)
    t.equal(statusOf(await client.response()), 200)
  })

  t.test(
    'without an error, instead of END_STREAM after all of Content-Length, ends the response',
    async (t) => {
      const { up, open } = await start(t)
      const stream = open({ ':method': 'POST' })
      stream.write('unread')
      const peer = await up.peer()
      await peer.fieldsOf(1)
      peer.headers(1, [...OK, ['content-length', '5']])
      peer.data(1, 'whole')
      peer.send(frame(FRAME.RST_STREAM, 0, 1, uint32(ERROR.NO_ERROR)))
      t.equal((await answerOf(stream)).body.toString(), 'whole')
      t.notOk(peer.frames.some(({ type }) => type === FRAME.RST_STREAM))
    },
  )

  for (const [what, fields] of [
    ['before that', [...OK, ['content-length', '5']]],
    ['of a response without one', OK],
  ] as const)
    t.test(`without an error, ${what}, resets the client’s stream`, async (t) => {
      const { up, open } = await start(t)
      const stream = open()
      const peer = await up.peer()
      await peer.fieldsOf(1)
      peer.headers(1, fields)
      peer.data(1, 'part')
      await once(stream, 'response')
      peer.send(frame(FRAME.RST_STREAM, 0, 1, uint32(ERROR.NO_ERROR)))
      await t.rejects(answerOf(stream), { code: 'ERR_HTTP2_STREAM_ERROR' })
    })

  t.test('in the middle of it resets the client’s stream', async (t) => {
    const { up, open } = await start(t)
    const stream = open()
    const peer = await up.peer()
    await peer.fieldsOf(1)
    peer.headers(1, OK)
    peer.data(1, 'part')
    await once(stream, 'response')
    peer.send(frame(FRAME.RST_STREAM, 0, 1, uint32(ERROR.CANCEL)))
    await t.rejects(answerOf(stream), { code: 'ERR_HTTP2_STREAM_ERROR' })
    t.equal(stream.rstCode, ERROR.INTERNAL_ERROR)
  })
})

t.test('a malformed response is refused, and its connection serves on', async (t) => {
  const many: Fields = Array.from({ length: 201 }, (_, i) => [`x-${i}`, ''])
  const heads: Record<string, Fields> = {
    'no status': [['x-a', '1']],
    'two statuses': [...OK, ...OK],
    'a status that is none': [[':status', '0200']],
    '101': [[':status', '101']],
    'a pseudo-header of requests': [...OK, [':path', '/']],
    'a pseudo-header after a field': [['x-a', '1'], ...OK],
    'an upper-case name': [...OK, ['XA', '1']],
    'an empty name': [...OK, ['', '1']],
    'a line break in a value': [...OK, ['x-a', '1\r\nset-cookie: a=b']],
    'a NUL in a value': [...OK, ['x-a', '1\0']],
    connection: [...OK, ['connection', 'close']],
    'transfer-encoding': [...OK, ['transfer-encoding', 'chunked']],
    upgrade: [...OK, ['upgrade', 'websocket']],
    'two lengths': [...OK, ['content-length', '1'], ['content-length', '2']],
    'a signed length': [...OK, ['content-length', '+1']],
    'more than 200 fields': [...OK, ...many],
    'more than 16 KiB of fields': [
      ...OK,
      ...many.slice(0, 150).map(([name]) => [name, 'x'.repeat(75)] as const),
    ],
  }
  const { up, ask, front } = await start(t)
  let id = 1
  for (const [what, fields] of Object.entries(heads)) {
    t.test(what, async (t) => {
      const answer = ask()
      const peer = await up.peer()
      await peer.fieldsOf(id)
      peer.send(frame(FRAME.HEADERS, FLAG.END_HEADERS, id, blockOf(fields)))
      t.equal((await answer).status, 502)
      t.equal(await peer.reset(id), ERROR.PROTOCOL_ERROR)
      t.match(front.requests.at(-1), { err: { code: 'UPSTREAM_INVALID' } })
      id += 2
    })
  }
  t.test('and content before a head', async (t) => {
    const answer = ask()
    const peer = await up.peer()
    await peer.fieldsOf(id)
    peer.data(id, 'early', true)
    t.equal((await answer).status, 502)
    id += 2
  })
  for (const [what, content] of [
    ['shorter', 'four'],
    ['longer', 'sixsix'],
  ] as const) {
    t.test(`and content that is ${what} than it says`, async (t) => {
      const answer = ask()
      const peer = await up.peer()
      await peer.fieldsOf(id)
      peer.headers(id, [...OK, ['content-length', '5']])
      peer.data(id, content, true)
      await t.rejects(answer, { code: 'ERR_HTTP2_STREAM_ERROR' })
      t.equal(await peer.reset(id), ERROR.PROTOCOL_ERROR)
      id += 2
    })
  }
  t.test('all over one connection', async (t) => {
    t.equal(up.peers.length, 1)
  })
})

t.test('a connection that breaks HTTP/2 is ended, and its request answered by 502', async (t) => {
  const continuation = frame(FRAME.CONTINUATION, 0, 1, 'x')
  const ping = frame(FRAME.PING, 0, 0, '12345678')
  const cases: Record<string, [frames: Buffer[], error: number]> = {
    'a pushed stream': [[frame(FRAME.PUSH_PROMISE, FLAG.END_HEADERS, 1, uint32(2))], ERROR.PROTOCOL_ERROR],
    'a stream that we have not opened': [[frame(FRAME.DATA, 0, 3, 'x')], ERROR.PROTOCOL_ERROR],
    'a flood of CONTINUATION': [
      [frame(FRAME.HEADERS, 0, 1), ...Array.from({ length: 20 }, () => continuation)],
      ERROR.ENHANCE_YOUR_CALM,
    ],
    'large CONTINUATION': [
      [
        frame(FRAME.HEADERS, 0, 1),
        ...Array.from({ length: 5 }, () => frame(FRAME.CONTINUATION, 0, 1, Buffer.alloc(16_384))),
      ],
      ERROR.ENHANCE_YOUR_CALM,
    ],
    'a frame within a header block': [[frame(FRAME.HEADERS, 0, 1), ping], ERROR.PROTOCOL_ERROR],
    'a flood of PING': [Array.from({ length: 1100 }, () => ping), ERROR.ENHANCE_YOUR_CALM],
    'a flood of SETTINGS': [Array.from({ length: 1100 }, () => settingsFrame([])), ERROR.ENHANCE_YOUR_CALM],
    'a flood of empty DATA': [
      Array.from({ length: 1100 }, () => frame(FRAME.DATA, 0, 1)),
      ERROR.ENHANCE_YOUR_CALM,
    ],
    'a frame that is too large': [[frame(FRAME.DATA, 0, 1, Buffer.alloc(16_385))], ERROR.FRAME_SIZE_ERROR],
    'a header block that cannot be decoded': [
      [frame(FRAME.HEADERS, FLAG.END_HEADERS, 1, Buffer.of(0xff, 0xff, 0xff, 0xff, 0xff, 0xff))],
      ERROR.COMPRESSION_ERROR,
    ],
    'a window past its limit': [
      [frame(FRAME.WINDOW_UPDATE, 0, 0, uint32(2 ** 31 - 1))],
      ERROR.FLOW_CONTROL_ERROR,
    ],
    'a stream’s window past its limit': [
      [frame(FRAME.WINDOW_UPDATE, 0, 1, uint32(2 ** 31 - 1))],
      ERROR.FLOW_CONTROL_ERROR,
    ],
    'an empty window update': [[frame(FRAME.WINDOW_UPDATE, 0, 1, uint32(0))], ERROR.PROTOCOL_ERROR],
    'padding longer than its frame': [
      [frame(FRAME.DATA, FLAG.PADDED, 1, Buffer.of(9))],
      ERROR.PROTOCOL_ERROR,
    ],
    'the wish to push': [[settingsFrame([[SETTING.ENABLE_PUSH, 1]])], ERROR.PROTOCOL_ERROR],
    'a RST_STREAM of another length': [[frame(FRAME.RST_STREAM, 0, 1, 'x')], ERROR.FRAME_SIZE_ERROR],
  }
  for (const [what, [frames, error]] of Object.entries(cases)) {
    t.test(what, async (t) => {
      const { up, ask } = await start(t)
      // A request with content is not sent again.
      const answer = ask({ ':method': 'POST', 'content-length': '0' })
      const peer = await up.peer()
      await peer.fieldsOf(1)
      peer.send(...frames)
      t.equal((await answer).status, 502)
      t.equal(await peer.goAway(), error)
    })
  }

  t.test('one that speaks no HTTP/2 at all', async (t) => {
    const { ask, front } = await start(
      t,
      Buffer.from('HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n'),
    )
    t.equal((await ask()).status, 502)
    t.match(front.requests[0], { err: { message: /no HTTP\/2/ } })
  })

  t.test('one that takes no streams is not connected to again and again', async (t) => {
    const { up, ask } = await start(t, settingsFrame([[SETTING.MAX_CONCURRENT_STREAMS, 0]]))
    t.equal((await ask()).status, 502)
    t.equal(up.peers.length, 1)
  })

  t.test('one that says nothing is given up in time', async (t) => {
    const { ask } = await start(t, Buffer.alloc(0), { timeouts: { connect: 60 } })
    t.match(String((await ask()).status), /^50[24]$/)
  })

  for (const alpn of [['http/1.1'], []]) {
    t.test(
      `one that speaks ${alpn[0] ?? 'no protocol by name'} over TLS, with a word on what to do`,
      async (t) => {
        const up = await FrameUpstream.start(t, Buffer.alloc(0), alpn)
        const sites = [{ upstreams: [up.url], upstreamTls: { verify: false } }]
        const front = await Front.start(t, makeWire, { sites })
        const client = await RawClient.connect(t, front)
        client.send(...GET)
        t.equal(statusOf(await client.response()), 502)
        await until(() => front.requests.length > 0)
        t.match(front.requests[0], { err: { message: /write https:\/\// } })
      },
    )
  }

  t.test('one whose root nobody trusts, with a word on what to do', async (t) => {
    const up = await FrameUpstream.start(t, Buffer.alloc(0), ['h2'])
    const front = await Front.start(t, makeWire, { upstreams: [up.url] })
    const client = await RawClient.connect(t, front)
    client.send(...GET)
    t.equal(statusOf(await client.response()), 502)
    await until(() => front.requests.length > 0)
    t.match(front.requests[0], {
      err: { message: /: [^:;]*certificate[^:;]*: set `upstreamTls\.roots` to / },
    })
  })
})

t.test('flow control', async (t) => {
  t.test('an upstream that sends past a stream’s window is cut off', async (t) => {
    const { up, open } = await start(t)
    const unread = open()
    unread.on('error', () => {})
    const peer = await up.peer()
    await peer.fieldsOf(1)
    peer.headers(1, OK)
    for (let i = 0; i < 20; i++) peer.data(1, Buffer.alloc(16_384))
    t.equal(await peer.goAway(), ERROR.FLOW_CONTROL_ERROR)
  })

  t.test('a client that does not read holds up its own stream only', async (t) => {
    const { up, open, ask } = await start(t)
    const unread = open()
    const peer = await up.peer()
    await peer.fieldsOf(1)
    peer.headers(1, OK)
    for (let i = 0; i < 16; i++) peer.data(1, Buffer.alloc(16_384))
    const credits = () =>
      peer.frames.filter(({ type, streamId }) => type === FRAME.WINDOW_UPDATE && streamId === 1).length
    const answer = ask()
    await peer.fieldsOf(3)
    peer.headers(3, OK, true)
    t.equal((await answer).status, 200)
    t.equal(credits(), 0)
    unread.resume()
    await until(() => credits() > 0)
    peer.data(1, '', true)
    await once(unread, 'close')
  })

  t.test('a client that does not read 100 MiB costs a window or two', async (t) => {
    let taken = () => 0
    const server = createServer()
    server.on('stream', (stream) => {
      stream.respond({ ':status': 200 })
      taken = pour(stream, 100)
      stream.on('error', () => {})
    })
    await once(server.listen(0, '127.0.0.1'), 'listening')
    t.teardown(() => server.close())
    const front = await Front.start(t, makeWire, { upstreams: [`h2c://127.0.0.1:${portOf(server)}`] })
    const client = await RawClient.connect(t, front)
    client.socket.pause()
    client.send(...GET)
    await until(() => taken() > 0)
    const mib = await stalled(() => taken())
    // Beside ours, the kernel's buffers to the client.
    t.ok(mib < 12, `${mib} MiB`)
    client.socket.destroy()
  })

  t.test('a body keeps to the upstream’s windows, also when they change on the way', async (t) => {
    const { up, open } = await start(t, settingsFrame([[SETTING.INITIAL_WINDOW_SIZE, 10]]))
    const warm = open()
    const peer = await up.peer()
    await peer.fieldsOf(1)
    peer.headers(1, OK, true)
    await answerOf(warm)
    const stream = open({ ':method': 'POST' })
    stream.end('x'.repeat(100))
    await until(() => peer.dataOf(3).length === 10)
    peer.send(settingsFrame([[SETTING.INITIAL_WINDOW_SIZE, 0]]), frame(FRAME.WINDOW_UPDATE, 0, 3, uint32(15)))
    await until(() => peer.dataOf(3).length === 15)
    peer.send(settingsFrame([[SETTING.INITIAL_WINDOW_SIZE, 1000]]))
    t.equal((await peer.ended(3)).length, 100)
    peer.headers(3, OK, true)
    t.equal((await answerOf(stream)).status, 200)
  })

  t.test('an upstream may do without a header table from one request to the next', async (t) => {
    const { up, ask } = await start(t)
    for (const id of [1, 3, 5]) {
      const answer = ask({ 'x-same': 'the same value' })
      const peer = await up.peer()
      t.ok((await peer.fieldsOf(id)).some(([name, value]) => name === 'x-same' && value === 'the same value'))
      if (id === 3) peer.send(settingsFrame([[SETTING.HEADER_TABLE_SIZE, 0]]))
      peer.headers(id, OK, true)
      t.equal((await answer).status, 200)
    }
    // RFC 7541 section 6.3: the block begins by saying that the table is empty now.
    const { payload } = await (await up.peer()).frame((f) => f.type === FRAME.HEADERS && f.streamId === 5)
    t.equal(payload[0], 0x20)
  })
})

t.test('PING is answered with its octets', async (t) => {
  const { up, ask } = await start(t)
  const answer = ask()
  const peer = await up.peer()
  await peer.fieldsOf(1)
  peer.send(frame(FRAME.PING, 0, 0, '12345678'))
  const { payload } = await peer.frame((f) => f.type === FRAME.PING && f.flags === FLAG.ACK)
  t.equal(payload.toString(), '12345678')
  peer.headers(1, OK, true)
  await answer
})

for (const [what, hasMore] of [
  ['of an upload', (_: FramePeer, stream: ClientHttp2Stream) => void stream.write('x')],
  ['of a response', (peer: FramePeer) => peer.data(1, 'x')],
] as const)
  t.test(`a PING for each piece ${what} is no flood`, async (t) => {
    const { up, open } = await start(t, undefined, { clock: new VirtualClock() })
    const stream = open({ ':method': 'POST' })
    let seen = 0
    stream.on('error', () => {})
    stream.on('data', ({ length }) => {
      seen += length
    })
    const peer = await up.peer()
    await peer.fieldsOf(1)
    peer.headers(1, OK)
    const ping = frame(FRAME.PING, 0, 0, '12345678')
    const answers = () => peer.frames.filter(({ type }) => type === FRAME.PING).length
    // Nearly all of the allowance.
    peer.send(...Array.from({ length: 990 }, () => ping))
    await until(() => answers() === 990)
    for (let count = 1; count <= 20; count++) {
      hasMore(peer, stream)
      await until(() => seen + peer.dataOf(1).length === count || peer.closed)
      peer.send(ping)
      await until(() => answers() === 990 + count || peer.closed)
    }
    t.equal(answers(), 1010)
    t.notOk(peer.closed)
  })

t.test('WebSocket', async (t) => {
  const connect: Fields = [
    [':method', 'CONNECT'],
    [':protocol', 'websocket'],
    [':scheme', 'http'],
    [':authority', HOST],
    [':path', '/chat'],
  ]

  t.test('of an HTTP/1.1 client becomes an extended CONNECT, and bytes pass both ways', async (t) => {
    const { up, front } = await start(t, TUNNELS)
    const client = await RawClient.connect(t, front)
    client.send(...WEBSOCKET)
    const peer = await up.peer()
    const fields = await peer.fieldsOf(1)
    t.strictSame(fields.slice(0, 5), connect)
    t.notOk(fields.some(([name]) => name === 'sec-websocket-key' || name === 'te' || name === 'upgrade'))
    peer.headers(1, [...OK, ['sec-websocket-protocol', 'chat']])
    peer.data(1, 'hello')
    await client.receive(/\r\n\r\nhello$/)
    t.equal(statusOf(client.received), 101)
    t.match(fieldsOf(client.received).join('\n'), /^sec-websocket-accept: s3pPLMBiTxaQ9kYGzzhZRbK\+xOo=$/m)
    t.match(fieldsOf(client.received).join('\n'), /^sec-websocket-protocol: chat$/m)
    client.write('from the client')
    await until(() => peer.dataOf(1).toString() === 'from the client')
    peer.data(1, ' bye', true)
    t.match(await client.rest(), /hello bye$/)
  })

  t.test('of an HTTP/2 client passes as one', async (t) => {
    const { up, open } = await start(t, TUNNELS)
    // Only once our own settings are there may a client ask so.
    const warm = open()
    const peer = await up.peer()
    await peer.fieldsOf(1)
    peer.headers(1, OK, true)
    await answerOf(warm)
    const stream = open({
      ':method': 'CONNECT',
      ':protocol': 'websocket',
      ':scheme': 'https',
      ':path': '/chat',
      'sec-websocket-version': '13',
    })
    t.strictSame((await peer.fieldsOf(3)).slice(0, 5), connect)
    peer.headers(3, OK)
    const [head] = await once(stream, 'response')
    t.equal(head[':status'], 200)
    stream.end('all')
    t.equal(await peer.ended(3), 'all')
    peer.data(3, '', true)
    stream.resume()
    await once(stream, 'close')
  })

  t.test('that the upstream declines is answered as it says', async (t) => {
    const { up, front } = await start(t, TUNNELS)
    const client = await RawClient.connect(t, front)
    client.send(...WEBSOCKET)
    const peer = await up.peer()
    await peer.fieldsOf(1)
    peer.headers(1, [[':status', '403']], true)
    t.equal(statusOf(await client.response()), 403)
  })

  t.test(
    'to an upstream that does not take it gives 502, which is not held against the upstream',
    async (t) => {
      const { up, front, ask } = await start(t)
      const client = await RawClient.connect(t, front)
      client.send(...WEBSOCKET)
      t.equal(statusOf(await client.response()), 502)
      await until(() => front.requests.length > 0)
      t.match(front.requests[0], {
        err: { code: 'UPSTREAM_INVALID', message: /no WebSocket over HTTP\/2 .*write http:\/\// },
      })
      const answer = ask()
      const peer = await up.peer()
      await peer.fieldsOf(1)
      peer.headers(1, OK, true)
      t.equal((await answer).status, 200)
    },
  )

  t.test('is the only upgrade there is', async (t) => {
    const { front } = await start(t, TUNNELS)
    const client = await RawClient.connect(t, front)
    client.send(...GET, 'Connection: Upgrade', 'Upgrade: echo')
    t.equal(statusOf(await client.response()), 502)
  })

  t.test('may be silent for longer than a response', async (t) => {
    const { up, front, ask } = await start(t, TUNNELS, { timeouts: { response: 60 } })
    const client = await RawClient.connect(t, front)
    client.send(...WEBSOCKET)
    const peer = await up.peer()
    await peer.fieldsOf(1)
    peer.headers(1, OK)
    await client.receive(/101/)
    t.equal((await ask()).status, 504)
    peer.data(1, 'still here')
    await client.receive(/still here$/)
  })
})

t.test('connections', async (t) => {
  t.test('one carries many requests, until its upstream leaves the configuration', async (t) => {
    const { up, front, ask } = await start(t)
    const answers = [ask(), ask(), ask()]
    const peer = await up.peer()
    for (const id of [1, 3, 5]) await peer.fieldsOf(id)
    front.reload({ upstreams: ['http://127.0.0.1:9'] })
    for (const id of [5, 3, 1]) peer.headers(id, OK, true)
    for (const answer of answers) t.equal((await answer).status, 200)
    await until(() => peer.closed)
    t.equal(up.peers.length, 1)
  })
})

t.test('an upstream that asks for a certificate is shown that of the site', async (t) =>
  shownToUpstream(t, makeWire, 'h2'),
)
