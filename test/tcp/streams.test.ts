import { once } from 'node:events'
import { type AddressInfo, createServer as createPlainServer, type Socket } from 'node:net'
import { createServer } from 'node:tls'
import t from 'tap'
import { parseUpstream } from '../../src/config/schema.ts'
import { readProxyHeader } from '../../src/proxy-protocol.ts'
import { makeCertificate } from '../support/certificates.ts'
import { socketPath } from '../support/sockets.ts'
import { dial, refusal, textOf, until } from '../tls/rig.ts'
import { deadUpstream, echo, plain, startStreams, startUpstream, streamTo, upstreamAt } from './rig.ts'

const DB = { servername: 'db.example.com' }

for (const maxVersion of ['TLSv1.2', 'TLSv1.3'] as const) {
  t.test(
    `octets pass both ways over ${maxVersion}, and the end of the client before the answer`,
    async (t) => {
      const upstream = await startUpstream(t, async (socket) => socket.end(`got ${await textOf(socket)}`))
      const rig = await startStreams(t, { 'db.example.com': streamTo([upstream]) })
      const options = { ...DB, maxVersion, allowHalfOpen: true }
      const client = await dial(rig, options)
      client.end('hello')
      t.equal(await textOf(client), 'got hello')
      await until(() => rig.streamLog.lines.some(({ msg }) => msg === 'stream'))
      t.match(
        rig.streamLog.lines.find(({ msg }) => msg === 'stream'),
        { host: 'db.example.com', upstream: upstream.url, client: '127.0.0.1', received: 5, sent: 9 },
      )
    },
  )
}

t.test('the end of the upstream is passed on, and the client may still send', async (t) => {
  let got = ''
  const upstream = await startUpstream(t, async (socket) => {
    socket.end('bye')
    got = await textOf(socket)
  })
  const rig = await startStreams(t, { 'db.example.com': streamTo([upstream]) })
  const options = { ...DB, allowHalfOpen: true }
  const client = await dial(rig, options)
  t.equal(await textOf(client), 'bye')
  client.end('late')
  await until(() => got === 'late')
})

t.test('a resumed TLS 1.2 session reaches its site too, though Node does not tell its name', async (t) => {
  const upstream = await startUpstream(t, echo)
  const rig = await startStreams(t, { 'db.example.com': streamTo([upstream]), 'app.example.com': undefined })
  const first = await dial(rig, { ...DB, maxVersion: 'TLSv1.2' })
  const session = first.getSession()
  const again = await dial(rig, {
    ...DB,
    maxVersion: 'TLSv1.2',
    ...(session === undefined ? {} : { session }),
  })
  t.ok(again.isSessionReused())
  again.end('x')
  t.equal(await textOf(again), 'x')
})

t.test('sites that speak HTTP are served beside, also where a wildcard of streams covers them', async (t) => {
  const upstream = await startUpstream(t, echo)
  const rig = await startStreams(t, {
    '*.example.com': streamTo([upstream]),
    'app.example.com': undefined,
  })
  t.equal(await textOf(await dial(rig, { servername: 'app.example.com' })), 'HTTP')
  const client = await dial(rig, { servername: 'DB.example.com' })
  client.end('x')
  t.equal(await textOf(client), 'x')
})

t.test(
  'ALPN gives what the site lists and refuses others; a site that lists nothing leaves it aside',
  async (t) => {
    const upstream = await startUpstream(t, echo)
    const rig = await startStreams(t, {
      'db.example.com': streamTo([upstream], { alpn: ['postgresql'] }),
      'mqtt.example.com': streamTo([upstream]),
    })
    const client = await dial(rig, { ...DB, ALPNProtocols: ['h2', 'postgresql'] })
    t.equal(client.alpnProtocol, 'postgresql')
    t.equal(
      await refusal(rig, { ...DB, ALPNProtocols: ['h2'] }),
      'ERR_SSL_TLSV1_ALERT_NO_APPLICATION_PROTOCOL',
    )
    for (const maxVersion of ['TLSv1.2', 'TLSv1.3'] as const) {
      const offer = { servername: 'mqtt.example.com', ALPNProtocols: ['h2', 'http/1.1'], maxVersion }
      t.equal((await dial(rig, offer)).alpnProtocol, false)
    }
    t.equal((await dial(rig, { servername: 'mqtt.example.com' })).alpnProtocol, false)
  },
)

t.test('upstreams take turns, and the next one takes over for one that cannot be connected to', async (t) => {
  const [a, b] = [
    await startUpstream(t, (socket) => socket.end('a')),
    await startUpstream(t, (socket) => socket.end('b')),
  ]
  const rig = await startStreams(t, {
    'db.example.com': streamTo([a, b]),
    'ha.example.com': streamTo([await deadUpstream(), b]),
  })
  const answers: string[] = []
  for (let i = 0; i < 4; i++) answers.push(await textOf(await dial(rig, DB)))
  t.strictSame(answers, ['a', 'b', 'a', 'b'])
  t.equal(await textOf(await dial(rig, { servername: 'ha.example.com' })), 'b')
  const skipped = rig.streamLog.lines.find(({ msg }) => msg === 'an upstream could not be connected to')
  t.match(skipped, { host: 'ha.example.com' })
})

t.test('connections follow weights, backups and limits, and wait in the queue', async (t) => {
  const open: Socket[] = []
  const [a, b] = [
    await startUpstream(t, (socket) => socket.end('a')),
    await startUpstream(t, (socket) => socket.end('b')),
  ]
  const one = await startUpstream(t, (socket) => {
    open.push(socket)
    socket.write('!')
  })
  const rig = await startStreams(t, {
    'weight.example.com': streamTo([{ ...a, weight: 2 }, b]),
    'backup.example.com': streamTo([{ ...a, backup: true }, b]),
    'dead.example.com': streamTo([{ ...a, backup: true }, await deadUpstream()]),
    'full.example.com': streamTo([{ ...one, maxConnections: 1 }], {
      balancing: { queue: { size: 1, timeout: 60_000 } },
    }),
  })
  const ask = async (servername: string) => textOf(await dial(rig, { servername }))
  const turns = []
  for (let i = 0; i < 6; i++) turns.push(await ask('weight.example.com'))
  t.strictSame(turns.sort(), ['a', 'a', 'a', 'a', 'b', 'b'])
  for (let i = 0; i < 3; i++) t.equal(await ask('backup.example.com'), 'b')
  t.equal(await ask('dead.example.com'), 'a')

  const full = { servername: 'full.example.com' }
  const first = await dial(rig, full)
  await once(first, 'data')
  const second = await dial(rig, full)
  const third = await dial(rig, full)
  third.on('error', () => {}).resume()
  await once(third, 'close')
  t.equal(open.length, 1, 'the second waits, and the third finds the queue full')
  first.end()
  open[0]?.end()
  await once(second, 'data')
  t.equal(open.length, 2)
  const status = rig.streams.upstreams().filter(({ host }) => host === full.servername)
  t.match(status, [{ url: one.url, active: 1, requests: 2 }])
})

t.test(
  'a connection waits for the upstream that is up after another could not be connected to',
  async (t) => {
    const open: Socket[] = []
    const one = await startUpstream(t, (socket) => {
      open.push(socket)
      socket.write('!')
    })
    const rig = await startStreams(t, {
      'db.example.com': streamTo([{ ...one, maxConnections: 1 }, await deadUpstream()], {
        balancing: { queue: { size: 1, timeout: 60_000 } },
      }),
    })
    const first = await dial(rig, DB)
    await once(first, 'data')
    const second = await dial(rig, DB)
    await until(() => rig.streamLog.lines.some(({ msg }) => msg === 'an upstream could not be connected to'))
    first.end()
    open[0]?.end()
    await once(second, 'data')
    t.equal(open.length, 2)
  },
)

t.test('an upstream that fails its health check gets no connections', async (t) => {
  const sick = await deadUpstream()
  const well = await startUpstream(t, (socket) => socket.end('well'))
  const healthCheck = { type: 'tcp', interval: 60_000, timeout: 5000, fall: 1, rise: 1 } as const
  const stream = streamTo([sick, well], { balancing: { healthCheck } })
  const rig = await startStreams(t, { 'db.example.com': stream })
  await until(() => rig.streams.upstreams().some(({ health }) => health === 'failing'))
  for (let i = 0; i < 3; i++) t.equal(await textOf(await dial(rig, DB)), 'well')
  t.match(rig.streams.upstreams(), [
    { host: 'db.example.com', url: sick.url, failures: 0, problem: /ECONNREFUSED/ },
    { url: well.url, health: 'passing' },
  ])
})

t.test('an upstream on a unix socket', async (t) => {
  const path = socketPath(t)
  const server = createPlainServer((socket) => socket.end('hello')).listen(path)
  await once(server, 'listening')
  t.teardown(() => server.close())
  const rig = await startStreams(t, { 'db.example.com': streamTo([parseUpstream(`unix:${path}`)!]) })
  t.equal(await textOf(await dial(rig, DB)), 'hello')
})

t.test('where no upstream answers, the client is closed and the log says so', async (t) => {
  const rig = await startStreams(t, { 'db.example.com': streamTo([await deadUpstream()]) })
  const client = await dial(rig, DB)
  client.on('error', () => {})
  client.resume()
  await once(client, 'close')
  t.match(rig.streamLog.lines.at(-1), { msg: 'no upstream took the connection: closed it' })
})

t.test('the upstream learns the client’s address from a PROXY header', async (t) => {
  for (const version of ['v1', 'v2'] as const) {
    let got = Buffer.alloc(0)
    const upstream = await startUpstream(t, (socket) => {
      socket.on('data', (chunk: Buffer) => {
        got = Buffer.concat([got, chunk])
      })
    })
    const rig = await startStreams(t, { 'db.example.com': streamTo([upstream], { proxyProtocol: version }) })
    const client = await dial(rig, DB)
    client.write('hello')
    await until(() => got.includes('hello'))
    const header = readProxyHeader(got)
    if (header === undefined || header === 'invalid') throw new Error('no header')
    t.match(header.endpoints, {
      clientAddress: '127.0.0.1',
      clientPort: client.localPort,
      localAddress: '127.0.0.1',
      localPort: rig.port,
    })
    t.equal(got.subarray(header.size).toString(), 'hello')
  }
})

t.test(
  'behind a proxy that tells where the client has connected to, the upstream is told that',
  async (t) => {
    let got = Buffer.alloc(0)
    const upstream = await startUpstream(t, (socket) => {
      socket.on('data', (chunk: Buffer) => {
        got = Buffer.concat([got, chunk])
      })
    })
    const stream = streamTo([upstream], { proxyProtocol: 'v2' })
    const rig = await startStreams(t, { 'db.example.com': stream }, {}, { proxyProtocol: ['127.0.0.1'] })
    const socket = plain(rig)
    socket.write('PROXY TCP4 192.0.2.7 192.0.2.8 1234 5432\r\n')
    const client = await dial(rig, { ...DB, socket })
    client.write('hello')
    await until(() => got.includes('hello'))
    const header = readProxyHeader(got)
    t.match(header, {
      endpoints: { clientAddress: '192.0.2.7', clientPort: 1234, localAddress: '192.0.2.8', localPort: 5432 },
    })
  },
)

t.test('a client that reads nothing holds the upstream back', async (t) => {
  let sent = 0
  const upstream = await startUpstream(t, (socket) => {
    const chunk = Buffer.alloc(64 * 1024)
    const write = (): void => {
      do sent += chunk.length
      while (socket.write(chunk) && sent < 1e9)
    }
    socket.on('drain', write)
    write()
  })
  const rig = await startStreams(t, { 'db.example.com': streamTo([upstream]) })
  const client = await dial(rig, DB)
  let before = -1
  // Kernel buffers fill first; then nothing moves any more.
  let turns = 0
  await until(() => {
    turns = sent === before ? turns + 1 : 0
    before = sent
    return turns > 2000
  })
  t.ok(sent < 64e6, `${sent}`)
  client.destroy()
})

t.test('a broken end breaks the other', async (t) => {
  const upstream = await startUpstream(t, (socket) => socket.once('data', () => socket.resetAndDestroy()))
  const rig = await startStreams(t, { 'db.example.com': streamTo([upstream]) })
  const client = await dial(rig, DB)
  client.on('error', () => {}).resume()
  client.write('x')
  await once(client, 'close')
  await rig.streams.drain(new AbortController().signal)
})

t.test('silence ends both', async (t) => {
  const upstream = await startUpstream(t, (socket) => socket.resume())
  const timers: (() => void)[] = []
  let now = 0
  const clock = {
    now: () => now,
    monotonic: () => now,
    after: (_: number, task: () => void) => {
      timers.push(task)
      return () => {}
    },
  }
  const rig = await startStreams(t, { 'db.example.com': streamTo([upstream]) }, { clock })
  const client = await dial(rig, DB)
  client.on('error', () => {}).resume()
  // The first timer is the one for connecting.
  await until(() => timers.length === 2)
  now += 60_000
  timers[1]?.()
  await once(client, 'close')
})

t.test('a drain waits for what is open, and destroys it at its limit', async (t) => {
  const upstream = await startUpstream(t, echo)
  const rig = await startStreams(t, { 'db.example.com': streamTo([upstream]) })
  const [patient, idle] = [await dial(rig, DB), await dial(rig, DB)]
  idle.on('error', () => {})
  patient.write('x')
  idle.write('x')
  await Promise.all([once(patient, 'data'), once(idle, 'data')])
  const limit = new AbortController()
  let drained = false
  const drain = rig.streams.drain(limit.signal).then(() => {
    drained = true
  })
  patient.end()
  await once(patient, 'close')
  t.notOk(drained)
  const closed = once(idle, 'close')
  limit.abort()
  await Promise.all([drain, closed])
})

t.test('pass-through: the upstream does TLS, chosen by name, with the ClientHello whole', async (t) => {
  const own = await makeCertificate({ names: ['own.example.com'] })
  const server = createServer({ cert: own.chainPem, key: own.keyPem }, (socket) =>
    socket.end(`for ${socket.servername}`),
  )
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  t.teardown(() => server.close())
  const stream = streamTo([upstreamAt((server.address() as AddressInfo).port)], { mode: 'passthrough' })
  const rig = await startStreams(t, { 'own.example.com': stream, 'app.example.com': undefined })
  for (const maxVersion of ['TLSv1.2', 'TLSv1.3'] as const) {
    const client = await dial(rig, { servername: 'own.example.com', maxVersion, rejectUnauthorized: false })
    t.equal(client.getPeerX509Certificate()?.fingerprint256, own.leaf.fingerprint256)
    t.equal(await textOf(client), 'for own.example.com')
  }
  t.equal(await textOf(await dial(rig, { servername: 'app.example.com' })), 'HTTP')
  t.ok(await refusal(rig, { servername: 'other.example.com' }))
})

t.test('what is no ClientHello gets its alert from TLS, and reaches no upstream', async (t) => {
  let reached = 0
  const upstream = await startUpstream(t, () => {
    reached++
  })
  const rig = await startStreams(t, { 'own.example.com': streamTo([upstream], { mode: 'passthrough' }) })
  const client = plain(rig)
  client.write('GET / HTTP/1.1\r\nHost: own.example.com\r\n\r\n')
  client.resume()
  await once(client, 'close')
  t.equal(reached, 0)
})
