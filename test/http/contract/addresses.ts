/** Where upstreams are: unix sockets, and names whose addresses are many, change, or are none. */
import type { LookupAddress } from 'node:dns'
import type { Test } from 'tap'
import { VirtualClock } from '../../../src/commands/simulate/virtual-clock.ts'
import { Names } from '../../../src/upstreams/names.ts'
import { socketPath } from '../../support/sockets.ts'
import { Front, HOST, type MakeWire, until } from '../front.ts'
import { RawClient, statusOf } from '../raw-client.ts'
import { bodyOf, ok, RawUpstream } from '../raw-upstream.ts'

/** Two upstreams on one port of two addresses of this machine: they say which one they are. */
async function startPair(t: Test): Promise<{ port: string; pair: [RawUpstream, RawUpstream] }> {
  const first = await RawUpstream.start(t, (socket) => socket.write(ok('one')))
  const port = first.url.slice(first.url.lastIndexOf(':') + 1)
  const second = await RawUpstream.start(t, (socket) => socket.write(ok('two')), false, {
    host: '127.0.0.2',
    port: Number(port),
  })
  return { port, pair: [first, second] }
}

function addresses(...list: string[]): LookupAddress[] {
  return list.map((address) => ({ address, family: 4 }))
}

export function addressing(t: Test, makeWire: MakeWire): void {
  async function ask(t: Test, front: Front): Promise<string> {
    const client = await RawClient.connect(t, front)
    client.send('GET / HTTP/1.1', `Host: ${HOST}`)
    const response = await client.response()
    t.equal(statusOf(response), 200)
    return bodyOf(response)
  }

  t.test('a unix socket', async (t) => {
    const path = socketPath(t)
    const up = await RawUpstream.start(t, (socket) => socket.write(ok()), false, { path })
    const front = await Front.start(t, makeWire, { upstreams: [`unix:${path}`] })
    t.equal(await ask(t, front), 'ok')
    t.equal(await ask(t, front), 'ok')
    t.equal(up.sockets.length, 1, 'the connection is kept')
    await until(() => front.requests.length === 2)
    t.match(front.requests[0], { upstream: `unix:${path}` })
  })

  t.test('a unix socket that is not there: 502 that names it', async (t) => {
    const path = socketPath(t)
    const front = await Front.start(t, makeWire, { upstreams: [`unix:${path}`] })
    const client = await RawClient.connect(t, front)
    client.send('GET / HTTP/1.1', `Host: ${HOST}`)
    t.equal(statusOf(await client.response()), 502)
    await until(() => front.requests.length === 1)
    t.match(front.requests[0], { err: { code: 'UPSTREAM_UNREACHABLE', message: /unix:.*ENOENT/ } })
  })

  t.test('the addresses of a name take turns', async (t) => {
    const { port } = await startPair(t)
    const names = new Names(async () => addresses('127.0.0.1', '127.0.0.2'))
    // Without keeping connections, each request opens one.
    const sites = [{ upstreams: [`http://app.internal:${port}`] }]
    const front = await Front.start(t, makeWire, { sites, names })
    const clients = await Promise.all([0, 1].map(() => RawClient.connect(t, front)))
    for (const client of clients) client.send('GET / HTTP/1.1', `Host: ${HOST}`)
    const bodies = await Promise.all(clients.map(async (client) => bodyOf(await client.response())))
    t.strictSame(bodies.sort(), ['one', 'two'])
  })

  t.test('where one address of a name does not answer, the next one is tried', async (t) => {
    const { port, pair } = await startPair(t)
    const names = new Names(async () => addresses('127.0.0.1', '127.0.0.2'))
    const front = await Front.start(t, makeWire, { upstreams: [`http://app.internal:${port}`], names })
    pair[0].stop()
    for (let i = 0; i < 2; i++) t.equal(await ask(t, front), 'two')
  })

  t.test('a name that moves is followed within a minute, though its connections are kept busy', async (t) => {
    const { port, pair } = await startPair(t)
    let now = addresses('127.0.0.1')
    const asked: string[] = []
    const names = new Names(async (name) => {
      asked.push(name)
      return now
    })
    const clock = new VirtualClock()
    const upstreams = [`http://app.internal:${port}`]
    const front = await Front.start(t, makeWire, { upstreams, names, clock })
    t.equal(await ask(t, front), 'one')
    now = addresses('127.0.0.2')
    const bodies: string[] = []
    for (let i = 0; i < 4; i++) {
      await clock.advance(19_000)
      bodies.push(await ask(t, front))
    }
    t.strictSame(bodies.slice(0, 3), ['one', 'one', 'one'])
    t.equal(await ask(t, front), 'two')
    t.equal(pair[0].sockets.length, 1)
    t.strictSame(asked, ['app.internal', 'app.internal'])
  })

  t.test('a name that cannot be resolved: 502, and the log says which', async (t) => {
    const names = new Names(async () => {
      throw Object.assign(new Error('getaddrinfo ENOTFOUND app.internal'), { code: 'ENOTFOUND' })
    })
    const front = await Front.start(t, makeWire, { upstreams: ['http://app.internal:3000'], names })
    const client = await RawClient.connect(t, front)
    client.send('GET / HTTP/1.1', `Host: ${HOST}`)
    t.equal(statusOf(await client.response()), 502)
    await until(() => front.requests.length === 1)
    const message = /http:\/\/app\.internal:3000: the name app\.internal cannot be resolved \(ENOTFOUND\)/
    t.match(front.requests[0], { err: { code: 'UPSTREAM_UNREACHABLE', message } })
  })
}
