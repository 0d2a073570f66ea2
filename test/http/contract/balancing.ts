/** Requests that go to another upstream, wait for one, or stay with theirs. */
import type { Test } from 'tap'
import { VirtualClock } from '../../../src/commands/simulate/virtual-clock.ts'
import { Front, HOST, type MakeWire, until } from '../front.ts'
import { RawClient, statusOf } from '../raw-client.ts'
import { bodyOf, fieldOf, ok, RawUpstream, type Respond } from '../raw-upstream.ts'
import { answerOf, connectHttp2 } from './http2.ts'

const HEALTH_CHECK = {
  type: 'http',
  path: '/up',
  host: undefined,
  status: undefined,
  interval: 1,
  timeout: 5000,
  fall: 1,
  rise: 1,
} as const

export function balancing(t: Test, makeWire: MakeWire): void {
  const unable: Respond = (socket) =>
    socket.write('HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\n\r\n')
  const get = (client: RawClient, ...fields: string[]): void =>
    client.send('GET / HTTP/1.1', `Host: ${HOST}`, ...fields)

  for (const [what, respond] of [
    ['answers 503', unable],
    ['breaks off', (socket) => socket.destroy()],
  ] as const satisfies readonly (readonly [string, Respond])[]) {
    t.test(`a GET goes to another upstream when the first ${what}, a POST does not`, async (t) => {
      const bad = await RawUpstream.start(t, respond)
      const good = await RawUpstream.start(t, (socket) => socket.write(ok()))
      const front = await Front.start(t, makeWire, {
        sites: [{ upstreams: [bad.url, good.url], balancing: { maxFails: 0 } }],
      })
      const client = await RawClient.connect(t, front)
      get(client)
      t.equal(statusOf(await client.response()), 200)
      t.equal(bad.requests.length, 1)
      await until(() => front.gateway.upstreams().every(({ active }) => active === 0))
      const posted: number[] = []
      for (let i = 0; i < 2; i++) {
        client.send('POST / HTTP/1.1', `Host: ${HOST}`, 'Content-Length: 1')
        client.write('x')
        posted.push(statusOf(await client.response()))
      }
      t.equal(posted.filter((status) => status === 200).length, 1)
    })
  }

  t.test('503 of the last upstream is passed on as it is', async (t) => {
    const bad = await RawUpstream.start(t, unable)
    const front = await Front.start(t, makeWire, { upstreams: [bad.url] })
    const client = await RawClient.connect(t, front)
    get(client)
    t.match(await client.response(), /^HTTP\/1\.1 503 Service Unavailable\r\n/)
    t.equal(bad.requests.length, 1)
  })

  t.test('upstreams that answer 503 three times in a row are left alone', async (t) => {
    const bad = await RawUpstream.start(t, unable)
    const good = await RawUpstream.start(t, (socket) => socket.write(ok()))
    const front = await Front.start(t, makeWire, { upstreams: [bad.url, good.url] })
    const client = await RawClient.connect(t, front)
    for (let i = 0; i < 12; i++) {
      get(client)
      t.equal(statusOf(await client.response()), 200)
    }
    t.equal(bad.requests.length, 3)
    t.match(front.gateway.upstreams()[0], { ejected: true, failures: 3 })
  })

  t.test('an upstream that fails its health check gets no requests', async (t) => {
    const sick = await RawUpstream.start(t, (socket) =>
      socket.end('HTTP/1.1 500 No\r\nContent-Length: 0\r\n\r\n'),
    )
    const well = await RawUpstream.start(t, (socket) => socket.write(ok()))
    const healthCheck = HEALTH_CHECK
    const front = await Front.start(t, makeWire, {
      sites: [{ upstreams: [sick.url, well.url], balancing: { healthCheck } }],
    })
    await until(() => front.gateway.upstreams().some(({ health }) => health === 'failing'))
    const client = await RawClient.connect(t, front)
    for (let i = 0; i < 6; i++) {
      get(client)
      t.equal(statusOf(await client.response()), 200)
    }
    t.match(front.gateway.upstreams(), [
      { url: sick.url, health: 'failing', problem: 'it answered 500' },
      { url: well.url, health: 'passing' },
    ])
    t.ok(sick.requests.every((request) => request.startsWith('GET /up ')))
  })

  t.test('a request past maxConnections waits for the one before; 503 without a queue', async (t) => {
    const held: (() => void)[] = []
    const up = await RawUpstream.start(t, (socket, _, index) => {
      held.push(() => socket.write(ok(String(index))))
    })
    const upstreams = [{ url: up.url, maxConnections: 1 }]
    const front = await Front.start(t, makeWire, {
      sites: [
        { upstreams, balancing: { queue: { size: 1, timeout: 10_000 } } },
        { hosts: ['other.example.com'], upstreams },
      ],
    })
    const [first, second] = [await RawClient.connect(t, front), await RawClient.connect(t, front)]
    get(first)
    await until(() => held.length === 1)
    second.write('POST / HTTP/1.1', `Host: ${HOST}`, 'Content-Length: 4', '', 'body')
    const refused = await RawClient.connect(t, front, { serverName: 'other.example.com' })
    refused.send('GET / HTTP/1.1', 'Host: other.example.com')
    t.equal(statusOf(await refused.response()), 503)
    t.equal(up.requests.length, 1)
    held[0]?.()
    t.equal(bodyOf(await first.response()), '0')
    await until(() => held.length === 2)
    held[1]?.()
    t.equal(bodyOf(await second.response()), '1')
    t.equal(bodyOf(up.requests[1] ?? ''), 'body')
  })

  for (const [how, healthCheck] of [
    ['cannot be connected to', undefined],
    ['fails its health check', { ...HEALTH_CHECK, type: 'tcp' }],
  ] as const) {
    t.test(`requests wait for the upstream that is up while the other ${how}`, async (t) => {
      const held: (() => void)[] = []
      const up = await RawUpstream.start(t, (socket) => held.push(() => socket.write(ok())))
      const down = await RawUpstream.start(t, () => {})
      down.stop()
      const upstreams = [{ url: up.url, maxConnections: 1 }, down.url]
      const balancing = { queue: { size: 2, timeout: 10_000 }, healthCheck }
      const front = await Front.start(t, makeWire, { sites: [{ upstreams, balancing }] })
      if (healthCheck !== undefined)
        await until(() => front.gateway.upstreams().some(({ health }) => health === 'failing'))
      const clients = await Promise.all([0, 1, 2].map(() => RawClient.connect(t, front)))
      for (const client of clients) get(client)
      for (let i = 0; i < 3; i++) {
        await until(() => held.length === i + 1)
        held[i]?.()
      }
      for (const client of clients) t.equal(statusOf(await client.response()), 200)
    })
  }

  t.test('a request that waits is served once an upstream that was down may be asked again', async (t) => {
    const clock = new VirtualClock()
    const up = await RawUpstream.start(t, () => {})
    const down = await RawUpstream.start(t, () => {})
    down.stop()
    const balancing = { queue: { size: 1, timeout: 15_000 }, failTimeout: 2000 }
    const sites = [{ upstreams: [{ url: up.url, maxConnections: 1 }, down.url], balancing }]
    const front = await Front.start(t, makeWire, { sites, clock })
    const [busy, waiting] = [await RawClient.connect(t, front), await RawClient.connect(t, front)]
    get(busy)
    await until(() => up.requests.length === 1)
    get(waiting)
    await until(() => front.gateway.upstreams().some(({ ejected, active }) => ejected && active === 0))
    const port = Number(new URL(down.url).port)
    await RawUpstream.start(t, (socket) => socket.write(ok()), false, { host: '127.0.0.1', port })
    await clock.advance(2000)
    t.equal(statusOf(await waiting.response()), 200)
  })

  t.test('503 where all that are up are full, and nobody may wait', async (t) => {
    const up = await RawUpstream.start(t, () => {})
    const down = await RawUpstream.start(t, () => {})
    down.stop()
    const front = await Front.start(t, makeWire, {
      sites: [
        {
          upstreams: [{ url: up.url, maxConnections: 1 }, down.url],
          balancing: { healthCheck: { ...HEALTH_CHECK, type: 'tcp' } },
        },
      ],
    })
    await until(() => front.gateway.upstreams().some(({ health }) => health === 'failing'))
    const [first, second] = [await RawClient.connect(t, front), await RawClient.connect(t, front)]
    get(first)
    await until(() => up.requests.length === 1)
    get(second)
    t.equal(statusOf(await second.response()), 503)
  })

  t.test('a sticky client stays with its upstream, and moves for good when that one is gone', async (t) => {
    const ups = await Promise.all(
      [0, 1, 2].map((i) => RawUpstream.start(t, (socket) => socket.write(ok(String(i))))),
    )
    const urls = ups.map(({ url }) => url)
    const balancing = { sticky: 'sid' }
    const front = await Front.start(t, makeWire, { sites: [{ upstreams: urls, balancing }] })
    const client = await RawClient.connect(t, front)
    const ask = async (cookie: string): Promise<{ body: string; set: string | undefined }> => {
      get(client, ...(cookie === '' ? [] : [`Cookie: a=b; ${cookie}`]))
      const response = await client.response()
      return { body: bodyOf(response), set: fieldOf(response, 'set-cookie') }
    }
    const first = await ask('sid=made-up')
    t.match(first.set, /^sid=[\w-]{22}; Path=\/; HttpOnly; Secure; SameSite=Lax$/)
    const cookie = first.set?.split(';')[0] ?? ''
    for (let i = 0; i < 4; i++) t.strictSame(await ask(cookie), { body: first.body, set: undefined })
    ups[Number(first.body)]?.stop()
    const moved = await ask(cookie)
    t.not(moved.body, first.body)
    t.match(moved.set, /^sid=/)
    const after = moved.set?.split(';')[0] ?? ''
    t.not(after, cookie)
    for (let i = 0; i < 3; i++) t.strictSame(await ask(after), { body: moved.body, set: undefined })
    const plain = await RawClient.connect(t, front, { plain: true })
    get(plain)
    t.match(fieldOf(await plain.response(), 'set-cookie'), /^sid=[\w-]{22}; Path=\/; HttpOnly; SameSite=Lax$/)
  })

  t.test('a route within another one has a cookie of its own', async (t) => {
    const [a, b, c, d] = await Promise.all(
      ['a', 'b', 'c', 'd'].map((name) => RawUpstream.start(t, (socket) => socket.write(ok(name)))),
    )
    const routes = [{ path: '/api', upstreams: [c!.url, d!.url] }]
    const front = await Front.start(t, makeWire, {
      sites: [{ upstreams: [a!.url, b!.url], routes, balancing: { sticky: 'sid' } }],
    })
    const client = await RawClient.connect(t, front)
    const ask = async (path: string, ...cookies: string[]) => {
      client.send(`GET ${path} HTTP/1.1`, `Host: ${HOST}`, ...cookies.map((each) => `Cookie: ${each}`))
      const response = await client.response()
      return { body: bodyOf(response), set: fieldOf(response, 'set-cookie') }
    }
    const [outer, inner] = [await ask('/'), await ask('/api/x')]
    t.match(inner.set, /; Path=\/api; /)
    const both = [inner, outer].map(({ set }) => set?.split(';')[0]).join('; ')
    for (let i = 0; i < 3; i++) {
      t.strictSame(await ask('/', both), { body: outer.body, set: undefined })
      t.strictSame(await ask('/api', both), { body: inner.body, set: undefined })
    }
  })

  /** Where each of 40 requests went that say of whom they are, over HTTP/1.1 and HTTP/2 in turn, and what the log says. */
  const hashedByAddress = async (t: Test, trustedProxies: string[]) => {
    const ups = await Promise.all(
      [0, 1, 2].map((i) => RawUpstream.start(t, (socket) => socket.write(ok(String(i))))),
    )
    const front = await Front.start(t, makeWire, {
      sites: [{ upstreams: ups.map(({ url }) => url), balancing: { balance: { hash: 'ip' } } }],
      trustedProxies,
    })
    const client = await RawClient.connect(t, front)
    const session = connectHttp2(t, front)
    const said: string[] = []
    const bodies: string[] = []
    for (let i = 0; i < 40; i++) {
      said.push(`192.0.2.${i >> 1}`)
      const chain = `203.0.113.5, ${said[i]}`
      if (i % 2 === 0) {
        get(client, `X-Forwarded-For: ${chain}`)
        bodies.push(bodyOf(await client.response()))
      } else {
        const headers = { ':path': '/', ':authority': HOST, 'x-forwarded-for': chain }
        bodies.push(String((await answerOf(session.request(headers))).body))
      }
    }
    await until(() => front.requests.length === 40)
    return { said, bodies, logged: front.requests.map((line) => line.client) }
  }

  t.test('a hash by address tells the clients of a trusted proxy apart, and so does the log', async (t) => {
    const { said, bodies, logged } = await hashedByAddress(t, ['127.0.0.1'])
    t.ok(new Set(bodies).size > 1)
    for (let i = 0; i < 40; i += 2) t.equal(bodies[i], bodies[i + 1], 'a client stays with its upstream')
    t.strictSame(new Set(logged), new Set(said))
  })

  t.test('what a stranger says of its address moves no request, and no log line repeats it', async (t) => {
    const { bodies, logged } = await hashedByAddress(t, ['192.0.2.0/24'])
    t.equal(new Set(bodies).size, 1)
    t.strictSame(new Set(logged), new Set(['127.0.0.1']))
  })

  t.test('a hash by a header reads what the upstream gets, not what a client says of itself', async (t) => {
    const ups = await Promise.all(
      [0, 1, 2].map((i) => RawUpstream.start(t, (socket) => socket.write(ok(String(i))))),
    )
    const balancing = { balance: { hash: 'header:X-Forwarded-For' } }
    const front = await Front.start(t, makeWire, {
      sites: [{ upstreams: ups.map(({ url }) => url), balancing }],
    })
    const client = await RawClient.connect(t, front)
    const bodies = new Set<string>()
    for (let i = 0; i < 12; i++) {
      get(client, `X-Forwarded-For: 192.0.2.${i}`)
      bodies.add(bodyOf(await client.response()))
    }
    t.equal(bodies.size, 1)
  })

  t.test('the same cookie goes to the same upstream', async (t) => {
    const ups = await Promise.all(
      [0, 1, 2].map((i) => RawUpstream.start(t, (socket) => socket.write(ok(String(i))))),
    )
    const front = await Front.start(t, makeWire, {
      sites: [{ upstreams: ups.map(({ url }) => url), balancing: { balance: { hash: 'cookie:sid' } } }],
    })
    const client = await RawClient.connect(t, front)
    const bodies = new Set<string>()
    for (let i = 0; i < 6; i++) {
      get(client, 'Cookie: a=b; sid=ann')
      bodies.add(bodyOf(await client.response()))
    }
    t.equal(bodies.size, 1)
  })
}
