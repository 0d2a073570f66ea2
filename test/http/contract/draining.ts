/** Going away without losing a request. */
import { once } from 'node:events'
import type { Test } from 'tap'
import { Front, HOST, type MakeWire, until } from '../front.ts'
import { RawClient, statusOf } from '../raw-client.ts'
import { bodyOf, ok, RawUpstream, type Respond } from '../raw-upstream.ts'
import { answerOf, connectHttp2 } from './http2.ts'

export function draining(t: Test, makeWire: MakeWire): void {
  /** A proxy whose upstream answers when it is told to. */
  const start = async (
    t: Test,
  ): Promise<{ front: Front; up: RawUpstream; answer: (text?: string) => void }> => {
    let waiting: Parameters<Respond>[0] | undefined
    const up = await RawUpstream.start(t, (socket) => {
      waiting = socket
    })
    const front = await Front.start(t, makeWire, { upstreams: [up.url] })
    return { front, up, answer: (text = ok()) => waiting?.write(text) }
  }
  const never = new AbortController().signal

  t.test('an idle connection is closed, with or without a request before', async (t) => {
    const { front, up, answer } = await start(t)
    const fresh = await RawClient.connect(t, front)
    const used = await RawClient.connect(t, front)
    used.send('GET / HTTP/1.1', `Host: ${HOST}`)
    await until(() => up.requests.length === 1)
    answer()
    await used.response()
    await until(() => front.requests.length === 1)
    await front.wire.drain(never)
    t.equal(await fresh.rest(), '')
    t.equal(await used.rest(), '')
  })

  t.test('a request in flight is answered, with Connection: close', async (t) => {
    const { front, up, answer } = await start(t)
    const client = await RawClient.connect(t, front)
    client.send('GET / HTTP/1.1', `Host: ${HOST}`)
    await until(() => up.requests.length === 1)
    const drained = front.wire.drain(never)
    answer()
    const response = await client.rest()
    t.equal(bodyOf(response), 'ok')
    t.match(response, /^connection: close\r$/im)
    await drained
  })

  t.test('a response that has begun is finished', async (t) => {
    const { front, up, answer } = await start(t)
    const client = await RawClient.connect(t, front)
    client.send('GET / HTTP/1.1', `Host: ${HOST}`)
    await until(() => up.requests.length === 1)
    answer('HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nfirst')
    await client.receive(/first/)
    const drained = front.wire.drain(never)
    answer('last')
    t.match(await client.rest(), /firstlast$/)
    await drained
  })

  t.test('HTTP/2: GOAWAY, and the open streams are finished', async (t) => {
    const { front, up, answer } = await start(t)
    const session = connectHttp2(t, front)
    const stream = session.request({ ':path': '/', ':authority': HOST })
    await until(() => up.requests.length === 1)
    const goaway = once(session, 'goaway')
    const drained = front.wire.drain(never)
    const [code] = await goaway
    t.equal(code, 0)
    answer()
    t.equal((await answerOf(stream)).body.toString(), 'ok')
    await drained
  })

  t.test('HTTP/2: an idle connection is closed', async (t) => {
    const { front } = await start(t)
    const session = connectHttp2(t, front)
    await once(session, 'remoteSettings')
    const closed = once(session, 'close')
    await front.wire.drain(never)
    await closed
    t.pass()
  })

  t.test('a tunnel lives until the deadline', async (t) => {
    const { front, up, answer } = await start(t)
    const client = await RawClient.connect(t, front)
    client.send('GET / HTTP/1.1', `Host: ${HOST}`, 'Connection: Upgrade', 'Upgrade: echo')
    await until(() => up.requests.length === 1)
    answer('HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: echo\r\n\r\n')
    await client.receive(/\r\n\r\n$/)
    const deadline = new AbortController()
    const drained = front.wire.drain(deadline.signal)
    answer('still here')
    await client.receive(/still here$/)
    deadline.abort()
    await drained
    await client.rest()
    await until(() => up.sockets[0]?.destroyed === true)
  })

  t.test('what is open at the deadline is cut off', async (t) => {
    const { front, up } = await start(t)
    const client = await RawClient.connect(t, front)
    client.send('GET / HTTP/1.1', `Host: ${HOST}`)
    await until(() => up.requests.length === 1)
    const deadline = new AbortController()
    const drained = front.wire.drain(deadline.signal)
    deadline.abort()
    await drained
    t.equal(await client.rest(), '')
    await until(() => up.sockets[0]?.destroyed === true)
  })

  t.test('a connection that comes late is served once', async (t) => {
    const { front, up, answer } = await start(t)
    const early = await RawClient.connect(t, front)
    early.send('GET / HTTP/1.1', `Host: ${HOST}`)
    await until(() => up.requests.length === 1)
    const drained = front.wire.drain(never)
    const late = await RawClient.connect(t, front)
    answer()
    late.send('GET /late HTTP/1.1', `Host: ${HOST}`)
    await until(() => up.requests.length === 2)
    answer()
    t.equal(statusOf(await late.rest()), 200)
    await drained
  })
}
