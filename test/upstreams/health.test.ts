import { once } from 'node:events'
import { createServer, type RequestListener, type Server } from 'node:http'
import { createServer as createHttp2Server, createSecureServer } from 'node:http2'
import { createServer as createHttpsServer } from 'node:https'
import { createServer as createTcpServer, type Server as TcpServer } from 'node:net'
import t, { type Test } from 'tap'
import { VirtualClock } from '../../src/commands/simulate/virtual-clock.ts'
import type { HealthCheckPolicy } from '../../src/config/balancing.ts'
import { parseUpstream } from '../../src/config/schema.ts'
import { type Backend, Backends } from '../../src/upstreams/backend.ts'
import { HealthChecks } from '../../src/upstreams/health.ts'
import { Names } from '../../src/upstreams/names.ts'
import { CREDENTIALS, portOf, until } from '../http/front.ts'
import { memoryLog } from '../support/log.ts'
import { socketPath } from '../support/sockets.ts'

const INTERVAL = 5000
const TIMEOUT = 2000
const TIMES = { interval: INTERVAL, timeout: TIMEOUT, fall: 3, rise: 2 }

type HttpCheck = Extract<HealthCheckPolicy, { type: 'http' }>

function http(part: Partial<HttpCheck> = {}): HttpCheck {
  return { type: 'http', path: '/', host: undefined, status: undefined, ...TIMES, ...part }
}

/** Counts the looks that are over: each sets the timer for the next. */
class LookClock extends VirtualClock {
  looks = 0

  override after(delayMs: number, task: () => void): () => void {
    if (delayMs === INTERVAL) this.looks++
    return super.after(delayMs, task)
  }
}

function backendOf(url: string, verify = false): Backend {
  let found: Backend | undefined
  new Backends(new Names()).renew((find) => {
    found = find(parseUpstream(url)!, { verify })
  })
  return found!
}

/** The check of one upstream, which has looked once. `look` lets it look again. */
async function startCheck(t: Test, backend: Backend, policy: HealthCheckPolicy = http()) {
  const clock = new LookClock()
  const { lines, log } = memoryLog()
  const checks = new HealthChecks({ clock, log, random: () => 0 })
  t.teardown(() => checks.stop())
  const find = () => {
    const found: ReturnType<Parameters<Parameters<HealthChecks['renew']>[0]>[0]>[] = []
    checks.renew((get) => found.push(get(backend, policy)))
    return found[0]!
  }
  const check = find()
  const look = async (times = 1): Promise<void> => {
    for (let i = 0; i < times; i++) {
      const before = clock.looks
      await clock.advance(before === 0 ? 0 : INTERVAL)
      await until(() => clock.looks > before)
    }
  }
  return { backend, check, checks, clock, find, lines, look }
}

async function listen(t: Test, server: Server | TcpServer): Promise<number> {
  await once(server.listen(0, '127.0.0.1'), 'listening')
  t.teardown(() => {
    server.close()
    if ('closeAllConnections' in server) server.closeAllConnections()
  })
  return portOf(server)
}

async function startApp(t: Test, onRequest: RequestListener): Promise<Backend> {
  return backendOf(`http://127.0.0.1:${await listen(t, createServer(onRequest))}`)
}

t.test('those who wait for room are told when one is back, and not before', async (t) => {
  let status = 500
  const backend = await startApp(t, (_, response) => response.writeHead(status).end())
  const { check, look } = await startCheck(t, backend)
  let told = 0
  backend.onRoom.add(() => told++)
  await look()
  t.equal(check.failing, true)
  status = 200
  await look()
  t.equal(told, 0)
  await look()
  t.equal(check.failing, false)
  t.equal(told, 1)
})

t.test('three bad looks in a row take an upstream down, two good ones bring it back', async (t) => {
  let status = 200
  const backend = await startApp(t, (_, response) => response.writeHead(status).end())
  const { check, clock, lines, look } = await startCheck(t, backend)
  await look()
  status = 500
  await look(2)
  status = 200
  await look()
  status = 500
  await look(2)
  t.notOk(check.failing, 'never three in a row')
  await look()
  t.ok(check.failing)
  t.equal(check.problem, 'it answered 500')
  status = 200
  await look()
  t.ok(check.failing)
  await look()
  t.notOk(check.failing)
  t.equal(check.problem, undefined)
  t.equal(backend.upSince, clock.monotonic(), 'a slow start begins')
  t.strictSame(
    lines.map(({ level, msg }) => [level, msg]),
    [
      [
        40,
        `${backend.url} fails its health check: it answered 500. It is asked only where no other upstream can be`,
      ],
      [30, `${backend.url} passes its health check again`],
    ],
  )
})

t.test('one bad look is enough where none has passed before', async (t) => {
  const { check, look } = await startCheck(
    t,
    await startApp(t, (_, response) => response.writeHead(503).end()),
  )
  t.notOk(check.failing, 'before the first look it is taken to be up')
  await look()
  t.ok(check.failing)
})

t.test(
  'it asks for the path and host that are configured, and takes the statuses that are listed',
  async (t) => {
    const asked: unknown[] = []
    const backend = await startApp(t, ({ method, url, headers }, response) => {
      asked.push([method, url, headers.host, headers['user-agent']])
      response.writeHead(401).end()
    })
    const policy = http({ path: '/up?deep', host: 'app.example.com', status: [200, 401] })
    const { check, look } = await startCheck(t, backend, policy)
    await look()
    t.notOk(check.failing)
    t.strictSame(asked, [['GET', '/up?deep', 'app.example.com', 'holdfast-health-check']])
  },
)

t.test('a redirect is good by default, and not followed', async (t) => {
  const asked: unknown[] = []
  const backend = await startApp(t, ({ url, headers }, response) => {
    asked.push([url, headers.host])
    response.writeHead(302, { location: '/login' }).end()
  })
  const { check, look } = await startCheck(t, backend)
  await look()
  t.notOk(check.failing)
  t.strictSame(asked, [['/', backend.url.slice('http://'.length)]])
})

t.test('one that does not answer in time fails', async (t) => {
  let asked = 0
  const backend = await startApp(t, () => {
    asked++
  })
  const { check, clock } = await startCheck(t, backend)
  await clock.advance(0)
  await until(() => asked === 1)
  await clock.advance(TIMEOUT)
  t.ok(check.failing)
  t.equal(check.problem, 'the health check took longer than 2s')
})

t.test('tcp: it is enough that it can be connected to', async (t) => {
  const server = createTcpServer((socket) => socket.on('error', () => {}))
  const backend = backendOf(`http://127.0.0.1:${await listen(t, server)}`)
  const { check, look } = await startCheck(t, backend, { type: 'tcp', ...TIMES })
  await look()
  t.notOk(check.failing)
  server.close()
  await once(server, 'close')
  await look(3)
  t.ok(check.failing)
  t.match(check.problem, 'ECONNREFUSED')
})

t.test('a unix socket is asked as others are', async (t) => {
  const path = socketPath(t)
  const hosts: unknown[] = []
  const server = createServer(({ headers }, response) => {
    hosts.push(headers.host)
    response.end()
  })
  await once(server.listen(path), 'listening')
  t.teardown(() => server.close())
  const { check, look } = await startCheck(t, backendOf(`unix:${path}`))
  await look()
  t.notOk(check.failing)
  t.strictSame(hosts, ['localhost'])
})

t.test('https: the certificate is verified as for requests', async (t) => {
  const { chainPem: cert, keyPem: key } = CREDENTIALS
  const server = createHttpsServer({ cert, key }, (_, response) => response.end())
  const port = await listen(t, server)
  const strict = await startCheck(t, backendOf(`https://127.0.0.1:${port}`, true))
  await strict.look()
  t.ok(strict.check.failing)
  t.match(strict.check.problem, /certificate.*: set `upstreamTls.roots`/)
  const lax = await startCheck(t, backendOf(`https://127.0.0.1:${port}`))
  await lax.look()
  t.notOk(lax.check.failing)
})

for (const scheme of ['h2c', 'h2'] as const)
  t.test(`${scheme}: asked over HTTP/2`, async (t) => {
    const asked: unknown[] = []
    const { chainPem: cert, keyPem: key } = CREDENTIALS
    const server = scheme === 'h2' ? createSecureServer({ cert, key }) : createHttp2Server()
    server.on('stream', (stream, head) => {
      asked.push([head[':method'], head[':path'], head[':authority']])
      stream.on('error', () => {})
      stream.respond({ ':status': asked.length === 1 ? 204 : 500 })
      stream.end('x')
    })
    server.on('sessionError', () => {})
    const port = await listen(t, server)
    const { check, look } = await startCheck(t, backendOf(`${scheme}://127.0.0.1:${port}`))
    await look()
    t.notOk(check.failing)
    t.strictSame(asked, [['GET', '/', `127.0.0.1:${port}`]])
    await look(3)
    t.equal(check.problem, 'it answered 500')
    t.ok(check.failing)
  })

t.test('a reload keeps a check that has not changed, and ends one that is gone', async (t) => {
  let asked = 0
  const backend = await startApp(t, (_, response) => {
    asked++
    response.writeHead(500).end()
  })
  const { check, checks, clock, find, look } = await startCheck(t, backend)
  await look()
  t.equal(find(), check)
  t.throws(() =>
    checks.renew(() => {
      throw new Error('a reload that fails')
    }),
  )
  await look()
  t.equal(asked, 2, 'it goes on after a reload that failed')
  checks.renew(() => {})
  await clock.advance(10 * INTERVAL)
  t.equal(asked, 2)
})
