/** What an HTTP/2 upstream did not process, as it says, is asked again: of it, or of another. */
import t from 'tap'
import { ERROR, FRAME, SETTING, settingsFrame } from '../../../src/http/fast/frames.ts'
import { answerOf, connectHttp2 } from '../contract/http2.ts'
import { FrameUpstream, frame, uint32 } from '../frame-peer.ts'
import { Front, HOST, until } from '../front.ts'
import { RawClient } from '../raw-client.ts'
import { GET, makeWire, OK, start } from './before-http2.ts'

t.test('asked again after a GOAWAY, on a new connection, while what was processed goes on', async (t) => {
  const { up, ask } = await start(t)
  const first = ask()
  const old = await up.peer()
  await old.fieldsOf(1)
  const second = ask()
  await old.fieldsOf(3)
  old.send(frame(FRAME.GOAWAY, 0, 0, uint32(1, ERROR.NO_ERROR)))
  const fresh = await up.peer(1)
  await fresh.fieldsOf(1)
  fresh.headers(1, OK, true)
  t.equal((await second).status, 200)
  old.headers(1, OK)
  old.data(1, 'old', true)
  t.equal((await first).body.toString(), 'old')
  await until(() => old.closed)
})

t.test('asked again once when the stream is refused', async (t) => {
  const { up, ask } = await start(t)
  const answer = ask({ ':method': 'DELETE' })
  const peer = await up.peer()
  for (const id of [1, 3]) {
    await peer.fieldsOf(id)
    peer.send(frame(FRAME.RST_STREAM, 0, id, uint32(ERROR.REFUSED_STREAM)))
  }
  t.equal((await answer).status, 502)
})

for (const [what, refusal] of [
  ['a GOAWAY', frame(FRAME.GOAWAY, 0, 0, uint32(0, ERROR.NO_ERROR))],
  ['a refused stream', frame(FRAME.RST_STREAM, 0, 1, uint32(ERROR.REFUSED_STREAM))],
] as const)
  t.test(`not asked again by ${what} after the response has begun: the client sees it cut off`, async (t) => {
    const { up, front } = await start(t)
    const client = await RawClient.connect(t, front)
    client.send(...GET)
    const peer = await up.peer()
    await peer.fieldsOf(1)
    peer.headers(1, [...OK, ['content-length', '4']])
    await client.receive(/content-length: 4\r\n/)
    peer.send(refusal)
    await until(() => client.closed)
    t.equal(client.received.match(/HTTP\/1\.1 /g)?.length, 1)
    const asked = up.peers.flatMap(({ frames }) => frames).filter(({ type }) => type === FRAME.HEADERS)
    t.equal(asked.length, 1)
  })

for (const [what, refusal, index, id] of [
  ['a GOAWAY', frame(FRAME.GOAWAY, 0, 0, uint32(0, ERROR.NO_ERROR)), 1, 1],
  ['a refused stream', frame(FRAME.RST_STREAM, 0, 1, uint32(ERROR.REFUSED_STREAM)), 0, 3],
] as const) {
  t.test(`asked again with its body, after ${what}, whole or in part`, async (t) => {
    for (const isWhole of [false, true]) {
      const { up, open } = await start(t)
      const stream = open({ ':method': 'POST' })
      for (const piece of ['one', ' two']) stream.write(piece)
      if (isWhole) stream.end(' three')
      const first = await up.peer()
      await until(() => first.dataOf(1).length === (isWhole ? 13 : 7))
      first.send(refusal)
      const peer = await up.peer(index)
      await peer.fieldsOf(id)
      if (!isWhole) stream.end(' three')
      t.equal(await peer.ended(id), 'one two three')
      peer.headers(id, OK, true)
      t.equal((await answerOf(stream)).status, 200)
    }
  })

  t.test(`not asked again after ${what} with a body too long to have been kept`, async (t) => {
    const { up, open, front } = await start(t, settingsFrame([[SETTING.INITIAL_WINDOW_SIZE, 100_000]]))
    const stream = open({ ':method': 'POST' })
    stream.write(Buffer.alloc(65_000))
    const peer = await up.peer()
    await until(() => peer.dataOf(1).length > 0)
    peer.send(frame(FRAME.WINDOW_UPDATE, 0, 0, uint32(100_000)))
    await until(() => peer.dataOf(1).length === 65_000)
    stream.write(Buffer.alloc(1000))
    await until(() => peer.dataOf(1).length === 66_000)
    peer.send(refusal)
    t.equal((await answerOf(stream)).status, 502)
    const asked = up.peers.flatMap(({ frames }) => frames).filter(({ type }) => type === FRAME.HEADERS)
    t.equal(asked.length, 1)
    t.match(front.requests[0], { err: { code: 'UPSTREAM_UNREACHABLE' } })
  })
}

t.test(
  'asked of another upstream where one refuses it again, which is not held against that one',
  async (t) => {
    const [busy, free] = [await FrameUpstream.start(t), await FrameUpstream.start(t)]
    const sites = [{ upstreams: [busy.url, free.url], balancing: { maxFails: 1, retries: 1 } }]
    const front = await Front.start(t, makeWire, { sites })
    const stream = connectHttp2(t, front).request({ ':method': 'POST', ':authority': HOST })
    stream.end('body')
    const peer = await busy.peer()
    for (const id of [1, 3]) {
      t.equal(await peer.ended(id), 'body')
      peer.send(frame(FRAME.RST_STREAM, 0, id, uint32(ERROR.REFUSED_STREAM)))
    }
    const other = await free.peer()
    t.equal(await other.ended(1), 'body')
    other.headers(1, OK, true)
    t.equal((await answerOf(stream)).status, 200)
    t.match(front.gateway.upstreams()[0], { ejected: false, failures: 0 })
  },
)

t.test('asked again when a connection in use turns out to be closed', async (t) => {
  const { up, ask } = await start(t)
  const warm = ask()
  const old = await up.peer()
  await old.fieldsOf(1)
  old.headers(1, OK, true)
  await warm
  const answer = ask()
  await old.fieldsOf(3)
  old.socket.destroy()
  const fresh = await up.peer(1)
  await fresh.fieldsOf(1)
  fresh.headers(1, OK, true)
  t.equal((await answer).status, 200)
})

t.test('more requests at once than the upstream takes are spread over connections', async (t) => {
  const { up, open } = await start(t, settingsFrame([[SETTING.MAX_CONCURRENT_STREAMS, 2]]))
  const streams = [1, 2, 3, 4, 5].map((number) => {
    const stream = open({ ':method': 'POST' })
    stream.end(`body ${number}`)
    return answerOf(stream)
  })
  await until(() => up.peers.length === 3)
  const bodies: string[] = []
  for (const [index, ids] of [[1, 3], [1, 3], [1]].entries()) {
    const peer = await up.peer(index)
    for (const id of ids) {
      bodies.push(await peer.ended(id))
      peer.headers(id, OK, true)
    }
  }
  t.strictSame(bodies.sort(), ['body 1', 'body 2', 'body 3', 'body 4', 'body 5'])
  for (const answer of streams) t.equal((await answer).status, 200)
  t.equal(up.peers.length, 3)
})
