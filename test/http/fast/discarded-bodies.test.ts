/** What is still to come of a request's body once its response is complete: read and thrown away, within limits. */
import diagnostics from 'node:diagnostics_channel'
import type { Socket } from 'node:net'
import t, { type Test } from 'tap'
import { VirtualClock } from '../../../src/commands/simulate/virtual-clock.ts'
import { SECOND } from '../../../src/time.ts'
import { Front, HOST, TIMEOUTS, until } from '../front.ts'
import { RawClient, statusOf } from '../raw-client.ts'
import { ok, RawUpstream } from '../raw-upstream.ts'
import { makeWire } from './before-http2.ts'

/** A client whose POST, of which only the head has come, is answered by 403, and how many octets of it are read. */
async function denied(t: Test, framing: string) {
  const accepted: Socket[] = []
  const onSocket = (message: unknown): void => {
    accepted.push((message as { socket: Socket }).socket)
  }
  diagnostics.subscribe('net.server.socket', onSocket)
  t.teardown(() => diagnostics.unsubscribe('net.server.socket', onSocket))
  const clock = new VirtualClock()
  const up = await RawUpstream.start(t, (socket) => socket.write(ok()))
  const routes = [{ path: '/inner', upstreams: [up.url], shaping: { deny: ['127.0.0.0/8'] } }]
  const front = await Front.start(t, makeWire, { sites: [{ upstreams: [up.url], routes }], clock })
  const client = await RawClient.connect(t, front, { plain: true })
  client.send('POST /inner HTTP/1.1', `Host: ${HOST}`, framing)
  t.equal(statusOf(await client.response()), 403)
  const { localPort } = client.socket
  const read = (): number => accepted.find(({ remotePort }) => remotePort === localPort)?.bytesRead ?? 0
  return { client, clock, read }
}

const STEP = 3 * SECOND

t.test('a rest that comes octet by octet has the time of a body, and no more', async (t) => {
  const { client, clock, read } = await denied(t, 'Content-Length: 1000')
  for (let ms = 0; ms + STEP < TIMEOUTS.body; ms += STEP) {
    const before = read()
    client.write('x')
    await until(() => read() > before)
    t.notOk(client.closed)
    await clock.advance(STEP)
  }
  await clock.advance(STEP)
  await until(() => client.closed)
})

t.test('a rest that does not come has no more', async (t) => {
  const { client, clock } = await denied(t, 'Content-Length: 1000')
  await clock.advance(TIMEOUTS.body + 2 * SECOND)
  await until(() => client.closed)
})

t.test('a rest that is no chunk ends the connection', async (t) => {
  const { client } = await denied(t, 'Transfer-Encoding: chunked')
  client.write('no chunk\r\n')
  await until(() => client.closed)
  t.equal(client.received, '')
})

t.test('a rest that comes in time leaves the connection to the next request', async (t) => {
  const { client, clock } = await denied(t, 'Content-Length: 4')
  await clock.advance(STEP)
  client.write('body')
  client.send('GET / HTTP/1.1', `Host: ${HOST}`)
  t.equal(statusOf(await client.response()), 200)
  await clock.advance(TIMEOUTS.body + STEP)
  t.notOk(client.closed)
})
