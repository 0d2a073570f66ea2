/** Clients that prove who they are, on their way through all of Holdfast; the site's own certificate is from a real CA. */
import { once } from 'node:events'
import { readFile, writeFile } from 'node:fs/promises'
import { connect as connectHttp2 } from 'node:http2'
import { request } from 'node:https'
import { join } from 'node:path'
import { type ConnectionOptions, connect } from 'node:tls'
import t, { type Test } from 'tap'
import { loadConfig } from '../../src/config/load.ts'
import { type ClientCredentials, makeClient } from '../support/clients.ts'
import { Revoker } from '../support/revoker.ts'
import { type Rig, startRig } from './rig.ts'

const GUARDED = 'guarded.example.com'
const OPEN = 'open.example.com'

interface GuardedRig {
  readonly rig: Rig
  readonly client: ClientCredentials
  readonly roots: string
  /** The status of a request, or the code of the error that the client gets. */
  fateOf(servername: string, host: string, client?: ClientCredentials): Promise<string>
}

/** A site that asks for certificates, which it gets its own by tls-alpn-01 for; beside one that does not. */
async function startGuarded(t: Test, forwarder: string): Promise<GuardedRig> {
  const clients = await Revoker.create('Client CA')
  const client = await makeClient({ issuer: clients.authority })
  const rig = await startRig(t, {
    forwarder,
    files: { 'clients.pem': clients.authority.certificatePem },
    sites: (upstream) => [
      {
        hosts: [GUARDED],
        upstreams: [upstream],
        tls: { cas: ['a'], challenges: ['tls-alpn-01'], clientCertificates: { ca: 'clients.pem' } },
      },
      { hosts: [OPEN], upstreams: [upstream], tls: { cas: ['a'] } },
    ],
  })
  await rig.server.start()
  for (const host of [GUARDED, OPEN])
    await rig.log.logged(({ msg }) => msg === `${host}: certificate issued by a`)
  const roots = await rig.a.root()
  const fateOf = async (servername: string, host: string, given = {}) => {
    const { https: port } = rig.ports
    const options = {
      port,
      host: '127.0.0.1',
      servername,
      headers: { host },
      ca: roots,
      agent: false,
      ...given,
    }
    try {
      const sent = request(options).end()
      const [response] = await once(sent, 'response')
      response.resume()
      return String(response.statusCode)
    } catch (error) {
      return String((error as NodeJS.ErrnoException).code)
    }
  }
  return { rig, client, roots, fateOf }
}

for (const forwarder of ['fast', 'compat']) {
  t.test(`${forwarder}: a site that asks for certificates serves those who have one`, async (t) => {
    const { client, fateOf } = await startGuarded(t, forwarder)
    t.equal(await fateOf(GUARDED, GUARDED, client), '200')
    t.equal(await fateOf(GUARDED, GUARDED), 'ERR_SSL_TLSV13_ALERT_CERTIFICATE_REQUIRED')
    t.equal(await fateOf(OPEN, OPEN), '200')
  })

  t.test(`${forwarder}: nobody gets to it over a connection for another site`, async (t) => {
    const { rig, client, fateOf, roots } = await startGuarded(t, forwarder)
    t.equal(await fateOf(OPEN, GUARDED), '421')
    t.equal(await fateOf(OPEN, GUARDED, client), '421')
    t.equal(await fateOf(GUARDED, OPEN, client), '421')

    const socket = { host: '127.0.0.1', servername: OPEN, ca: roots }
    const session = connectHttp2(`https://${OPEN}:${rig.ports.https}`, socket)
    t.teardown(() => session.destroy())
    for (const [authority, status] of [
      [OPEN, 200],
      [GUARDED, 421],
      [OPEN, 200],
    ] as const) {
      const [headers] = await once(session.request({ ':authority': authority }), 'response')
      t.equal(headers[':status'], status, authority)
    }
  })
}

t.test('another CA of clients counts from the next connection on; a bad one changes nothing', async (t) => {
  const { rig, client, fateOf, roots } = await startGuarded(t, 'fast')
  const { directory, server } = rig
  const others = await Revoker.create('Other clients')
  const other = await makeClient({ issuer: others.authority })
  const [file, config] = [join(directory, 'clients.pem'), join(directory, 'proxy.config.json')]

  const before = await readFile(file)
  await writeFile(file, other.cert)
  const loaded = await loadConfig(config, {})
  await t.rejects(server.reload(loaded), { message: `${file}: holds no root, only intermediates` })
  await writeFile(file, before)
  t.equal(await fateOf(GUARDED, GUARDED, client), '200')

  const kept = await keepOpen(t, rig, GUARDED, { ca: roots, ...client })
  await writeFile(file, others.authority.certificatePem)
  await server.reload(await loadConfig(config, {}))
  await kept.ended
  t.equal(await fateOf(GUARDED, GUARDED, other), '200')
  t.not(await fateOf(GUARDED, GUARDED, client), '200')
})

t.test('a site that asks from now on ends the connections of before', async (t) => {
  const { rig, fateOf, roots } = await startGuarded(t, 'fast')
  const config = join(rig.directory, 'proxy.config.json')
  const kept = await keepOpen(t, rig, OPEN, { ca: roots })
  const written = JSON.parse(await readFile(config, 'utf8'))
  written.sites[1].tls.clientCertificates = { ca: 'clients.pem' }
  await writeFile(config, JSON.stringify(written))
  await rig.server.reload(await loadConfig(config, {}))
  await kept.ended
  t.equal(await fateOf(OPEN, OPEN), 'ERR_SSL_TLSV13_ALERT_CERTIFICATE_REQUIRED')
})

/** A connection that has carried a request, and is kept. */
async function keepOpen(
  t: Test,
  rig: Rig,
  servername: string,
  options: ConnectionOptions,
): Promise<{ ended: Promise<unknown> }> {
  const socket = connect({ ...options, port: rig.ports.https, host: '127.0.0.1', servername })
  t.teardown(() => socket.destroy())
  socket.write(`GET / HTTP/1.1\r\nHost: ${servername}\r\n\r\n`)
  const [response] = await once(socket, 'data')
  t.match(String(response), /^HTTP\/1\.1 200 /)
  return { ended: once(socket, 'end') }
}
