/** `serve` as a service: signals, reloads under traffic, and a crash. */
import { once } from 'node:events'
import { writeFile } from 'node:fs/promises'
import { createServer, type IncomingMessage, request, type ServerResponse } from 'node:http'
import type { AddressInfo } from 'node:net'
import { join } from 'node:path'
import t, { type Test } from 'tap'
import { WebSocket, WebSocketServer } from 'ws'
import type { HostView } from '../../src/admin/views.ts'
import { freePort } from '../peers/process.ts'
import { makeCertificate } from '../support/certificates.ts'
import {
  accepts,
  admin,
  get,
  keepAliveAgent,
  type Program,
  prepare,
  rootOf,
  type Setup,
  serve,
  startApp,
  until,
  writeConfig,
} from './program.ts'

/** An app that answers `/slow` only when it is told to. */
async function startSlowApp(t: Test) {
  const { promise: asked, resolve: onAsked } = Promise.withResolvers<ServerResponse>()
  const url = await startApp(t, (request, response) => {
    if (request.url === '/slow') onAsked(response)
    else response.end(request.url)
  })
  return { url, asked }
}

async function start(t: Test, upstream: string, change: object = {}) {
  const setup = await prepare(t, upstream)
  await writeConfig(setup, { ...setup.config, ...change })
  return { setup, program: await serve(t, setup) }
}

/** Writes another config and waits until it is in use. */
async function reload(setup: Setup, program: Program, config: object, says = 'config reloaded') {
  const from = program.out.length
  await writeConfig(setup, config)
  program.signal('SIGHUP')
  await program.said(says, from)
}

t.test('a request right after the banner is served', async (t) => {
  const { setup } = await start(t, await startApp(t))
  t.match(await get(setup, '/first'), { status: 200, body: '/first' })
})

t.test('SIGTERM lets a request in flight finish, takes no more, and exits with 0', async (t) => {
  const app = await startSlowApp(t)
  const { setup, program } = await start(t, app.url)
  const idle = keepAliveAgent(t)
  await get(setup, '/', { agent: idle })
  const slow = get(setup, '/slow')
  const response = await app.asked
  program.signal('SIGTERM')
  await until(async () => !(await accepts(setup.ports.https)))
  t.equal((await admin(setup, '/readyz')).status, 503, 'not ready while draining')
  t.equal((await admin(setup, '/healthz')).status, 200, 'but healthy')
  response.end('done')
  t.match(await slow, { status: 200, body: 'done' })
  t.match(await program.finished, { code: 0, err: '' })
})

for (const workers of [1, 2])
  t.test(`each request is a line of the log, with ${workers} of them, the last before the end`, async (t) => {
    const { setup, program } = await start(t, await startApp(t), { workers })
    for (const path of ['/a', '/b?secret=1', '/c']) await get(setup, path)
    program.signal('SIGTERM')
    const { out } = await program.finished
    t.match(
      program.lines.filter(({ msg }) => msg === 'request'),
      ['/a', '/b', '/c'].map((path) => ({
        level: 'info',
        method: 'GET',
        host: /localhost/,
        path,
        status: 200,
      })),
    )
    t.match(program.lines.at(-1), { msg: 'stopped' })
    t.notMatch(out, 'secret=1')
  })

t.test('a WebSocket is closed at the drain limit', async (t) => {
  const app = createServer()
  const sockets = new WebSocketServer({ server: app })
  sockets.on('connection', (socket) => socket.on('message', (data) => socket.send(data)))
  app.listen(0, '127.0.0.1')
  await once(app, 'listening')
  t.teardown(() => {
    app.close()
    app.closeAllConnections()
  })
  const { setup, program } = await start(t, `http://127.0.0.1:${(app.address() as AddressInfo).port}`, {
    timeouts: { drain: '1s' },
  })
  const client = new WebSocket(`wss://127.0.0.1:${setup.ports.https}/`, {
    ...{ servername: 'localhost' },
    headers: { host: 'localhost' },
    ca: await rootOf(setup),
  })
  client.on('error', () => {})
  await once(client, 'open')
  program.signal('SIGTERM')
  await program.said('draining')
  client.send('still here')
  const [data] = await once(client, 'message')
  t.equal(String(data), 'still here', 'served while draining')
  await Promise.all([once(client, 'close'), program.finished])
  const { code, out } = await program.finished
  t.equal(code, 0)
  t.match(out, /the drain limit is over/)
})

t.test('a second SIGTERM does not wait', async (t) => {
  const app = await startSlowApp(t)
  const { setup, program } = await start(t, app.url)
  const slow = get(setup, '/slow').catch(() => 'cut off')
  await app.asked
  program.signal('SIGTERM')
  await program.said('draining')
  program.signal('SIGTERM')
  t.equal((await program.finished).code, 1)
  t.equal(await slow, 'cut off')
})

t.test('SIGHUP: a site comes, another goes, an open connection stays', async (t) => {
  const { setup, program } = await start(t, await startApp(t))
  const agent = keepAliveAgent(t)
  await get(setup, '/', { agent })
  const site = setup.config.sites[0]
  await reload(setup, program, { ...setup.config, sites: [site, { ...site, hosts: ['new.internal'] }] })
  await until(() =>
    get(setup, '/', { host: 'new.internal' }).then(
      ({ status }) => status === 200,
      () => false,
    ),
  )
  t.match(
    await get(setup, '/kept', { agent }),
    { body: '/kept', fingerprint: '' },
    'on the connection of before',
  )
  await reload(setup, program, setup.config)
  await t.rejects(get(setup, '/', { host: 'new.internal' }), /unrecognized name/)
})

t.test('redirects lead to where TLS is served after a reload has moved it', async (t) => {
  const { setup, program } = await start(t, await startApp(t))
  const location = async () => {
    const answer = await fetch(`http://localhost:${setup.ports.http}/x?y`, { redirect: 'manual' })
    return answer.headers.get('location')
  }
  t.equal(await location(), `https://localhost:${setup.ports.https}/x?y`)
  const moved = await freePort()
  const listen = { ...setup.config.listen, https: [`127.0.0.1:${moved}`] }
  await reload(setup, program, { ...setup.config, listen })
  t.equal(await location(), `https://localhost:${moved}/x?y`)
})

t.test('plain HTTP goes to TLS where that is passed through, and nowhere where it is a stream', async (t) => {
  const setup = await prepare(t, await startApp(t))
  const sites = [
    ...setup.config.sites,
    { hosts: ['through.localhost'], mode: 'passthrough', upstreams: ['tcp://127.0.0.1:9'] },
    { hosts: ['db.localhost'], mode: 'tcp', upstreams: ['tcp://127.0.0.1:9'], tls: { cas: ['internal'] } },
  ]
  await writeConfig(setup, { ...setup.config, sites })
  await serve(t, setup)
  const ask = async (host: string) => {
    const { http: port } = setup.ports
    const headers = { host: `${host}:${port}` }
    const sent = request({ host: '127.0.0.1', port, headers, agent: false })
    const [response] = (await once(sent.end(), 'response')) as [IncomingMessage]
    return { status: response.statusCode, location: response.headers.location }
  }
  t.strictSame(await ask('through.localhost'), {
    status: 308,
    location: `https://through.localhost:${setup.ports.https}/`,
  })
  t.match(await ask('db.localhost'), { status: 404 })
})

t.test('a changed config file is taken up by itself, and keys that need a restart are named', async (t) => {
  const { setup, program } = await start(t, await startApp(t))
  const listen = { ...setup.config.listen, admin: `127.0.0.1:${await freePort()}` }
  await writeConfig(setup, { ...setup.config, forwarder: 'compat', listen, log: { access: false } })
  await program.said('"msg":"config reloaded"')
  const warnings = program.lines.filter(({ level }) => level === 'warn')
  t.match(warnings, [
    { key: 'forwarder', msg: '`forwarder` has changed: it takes effect at the next start' },
    { key: 'listen.admin', msg: '`listen.admin` has changed: it takes effect at the next start' },
  ])
  t.equal(warnings.length, 2)
})

t.test('a bad config keeps the old one, with a line for each problem', async (t) => {
  const { setup, program } = await start(t, await startApp(t))
  await reload(setup, program, { ...setup.config, sites: [], tls: { standby: 'no' } }, 'tls.standby: ')
  t.match(
    program.lines.filter(({ level }) => level === 'error').map(({ msg }) => msg),
    [
      'the new config cannot be used, the old one stays: sites: names no site',
      /^the new config cannot be used, the old one stays: tls.standby: /,
    ],
  )
  t.equal((await get(setup, '/')).status, 200)
})

t.test('a certificate file that changes is served from the next handshake on', async (t) => {
  const [first, second] = [
    await makeCertificate({ names: ['own.test'] }),
    await makeCertificate({ names: ['own.test'] }),
  ]
  const setup = await prepare(t, await startApp(t))
  const file = join(setup.folder, 'own.pem')
  await writeFile(file, first.chainPem + first.keyPem)
  const site = { ...setup.config.sites[0], hosts: ['own.test'], tls: { certificate: 'own.pem' } }
  await writeConfig(setup, { ...setup.config, sites: [...setup.config.sites, site] })
  await serve(t, setup)
  const served = async () => {
    const hosts = (await (await admin(setup, '/api/certificates')).json()) as HostView[]
    return hosts.find(({ host }) => host === 'own.test')?.live?.fingerprint
  }
  t.equal(await served(), first.fingerprint)
  await writeFile(file, second.chainPem + second.keyPem)
  await until(async () => (await served()) === second.fingerprint)
})

t.test('reloads in a row fail no client', async (t) => {
  const { setup, program } = await start(t, await startApp(t))
  const ca = await rootOf(setup)
  const agent = keepAliveAgent(t)
  let over = false
  const statuses: number[] = []
  const client = async (): Promise<void> => {
    while (!over) {
      statuses.push((await get(setup, '/', { ca })).status)
      statuses.push((await get(setup, '/', { ca, agent })).status)
    }
  }
  const running = client()
  const site = setup.config.sites[0]
  for (let round = 0; round < 10; round++) {
    const sites = round % 2 === 0 ? [site, { ...site, hosts: ['new.internal'] }] : [site]
    await reload(setup, program, { ...setup.config, sites })
  }
  over = true
  await running
  t.ok(statuses.length > 0)
  t.strictSame([...new Set(statuses)], [200])
})

t.test('kill -9 and a restart: the same root, the same certificate', async (t) => {
  const { setup, program } = await start(t, await startApp(t))
  const [ca, before] = [await rootOf(setup), await get(setup, '/')]
  await program.end('SIGKILL')
  await serve(t, setup)
  t.equal((await get(setup, '/', { ca })).fingerprint, before.fingerprint)
  t.equal(await rootOf(setup), ca)
})
