/** How the slow world is joined: what one part finds out is what another one acts upon. */
import { once } from 'node:events'
import { readFile, writeFile } from 'node:fs/promises'
import { createServer as createHttpServer } from 'node:http'
import { createServer as createHttpsServer } from 'node:https'
import type { AddressInfo, Server } from 'node:net'
import { join } from 'node:path'
import { getCACertificates, setDefaultCACertificates } from 'node:tls'
import t, { type Test } from 'tap'
import { AttestedClock } from '../src/attested-clock.ts'
import type { Certificate } from '../src/cert/certificate.ts'
import { Inventory } from '../src/cert/inventory.ts'
import { Verdicts } from '../src/cert/verdicts.ts'
import type { Solver } from '../src/challenge/solver.ts'
import { VirtualClock } from '../src/commands/simulate/virtual-clock.ts'
import { loadConfig } from '../src/config/load.ts'
import type { Config } from '../src/config/schema.ts'
import type { DatedEvent } from '../src/events.ts'
import { Metrics } from '../src/metrics.ts'
import { openStore } from '../src/store/open.ts'
import { Records } from '../src/store/records.ts'
import { Supply } from '../src/supply.ts'
import { type Clock, DAY, SECOND, SystemClock } from '../src/time.ts'
import { startWorld } from './ca/acme-world.ts'
import { makeFolder, until } from './commands/program.ts'
import { Authority } from './peers/authority.ts'
import { makeCertificate } from './support/certificates.ts'
import { memoryLog } from './support/log.ts'
import { Revoker } from './support/revoker.ts'
import { startReceiver } from './support/webhook-receiver.ts'

const HOST = 'app.example.com'
/** Nobody is there. */
const DEAD = { directory: 'https://127.0.0.1:1/dir', trust: 'any' }

interface SupplyCase {
  /** One when absent. */
  readonly hosts?: readonly string[]
  readonly cas: Readonly<Record<string, object>>
  readonly solvers?: readonly Solver[]
  /** What the config names, by name. */
  readonly files?: Record<string, string>
  /** Merged into the site's config. */
  readonly site?: object
  readonly machine?: Clock
}

/** Not started yet; the hosts may be supplied by all of the CAs, in this order. */
async function makeSupply(t: Test, { hosts = [HOST], cas, solvers = [], files = {}, ...more }: SupplyCase) {
  const { machine = new SystemClock(), site } = more
  const sites = [{ hosts, upstreams: ['http://127.0.0.1:9'], ...site }]
  const folder = await makeFolder(t)
  for (const [name, content] of Object.entries(files)) await writeFile(join(folder, name), content)
  const file = join(folder, 'proxy.config.json')
  const configOf = async (written: object): Promise<Config> => {
    await writeFile(file, JSON.stringify({ cas, sites, ...written }))
    return (await loadConfig(file, {})).config
  }
  const config = await configOf({})
  const { log } = memoryLog()
  const store = await openStore('file:data', folder, log)
  const records = new Records(store, log)
  const clock = new AttestedClock(machine)
  const verdicts = new Verdicts()
  const inventory = new Inventory(clock, verdicts)
  const metrics = new Metrics()
  const events: DatedEvent[] = []
  const supply = new Supply({
    config,
    clock,
    log,
    metrics,
    records,
    inventory,
    verdicts,
    solvers,
    warm: () => {},
    keep: (event) => events.push(event),
  })
  t.teardown(async () => {
    await supply.stop()
    await store.close()
  })
  const reload = async (changes: object): Promise<void> => {
    const commit = await supply.prepare(await configOf(changes))
    await commit()
  }
  return { events, inventory, metrics, records, reload, supply }
}

async function listen(t: Test, server: Server): Promise<number> {
  await once(server.listen(0, '127.0.0.1'), 'listening')
  t.teardown(() => server.close())
  return (server.address() as AddressInfo).port
}

/** It reports trouble, for as long as `t` lasts. @returns its URL, which the process trusts meanwhile */
async function startStatusPage(t: Test): Promise<string> {
  const root = await Authority.create('Root of a test status page')
  const { certificatePem: cert, keyPem: key } = await root.issue(['127.0.0.1'])
  const page = createHttpsServer({ cert, key }, (_, response) =>
    response.end(JSON.stringify({ status: { indicator: 'major', description: 'Issuance is failing' } })),
  )
  const usual = getCACertificates()
  setDefaultCACertificates([...usual, root.certificatePem])
  t.teardown(() => setDefaultCACertificates(usual))
  return `https://127.0.0.1:${await listen(t, page)}/api/v2/summary.json`
}

t.test('a CA whose status page reports trouble is asked after the others', async (t) => {
  const statusFeed = await startStatusPage(t)
  const { supply } = await makeSupply(t, { cas: { a: { ...DEAD, statusFeed }, b: DEAD } })
  const { health } = supply
  await supply.load()
  t.same(health.order(['a', 'b']), ['a', 'b'])
  await supply.start()
  await until(async () => health.snapshot('a')?.troubled === true)
  t.same(health.order(['a', 'b']), ['b', 'a'])
})

t.test('a reload follows the status pages that it names, and tells whom it names', async (t) => {
  const statusFeed = await startStatusPage(t)
  const receiver = await startReceiver(t)
  const { inventory, records, reload, supply } = await makeSupply(t, { cas: { a: DEAD, b: DEAD } })
  const certificate = await makeCertificate({ names: [HOST], source: 'a' })
  await records.saveCertificate(HOST, 'live', certificate)
  await supply.load()
  await supply.start()
  await reload({ cas: { a: { ...DEAD, statusFeed }, b: DEAD }, notify: [{ url: receiver.url }] })
  await until(async () => supply.health.snapshot('a')?.troubled === true)
  t.equal(inventory.find(HOST)?.fingerprint, certificate.fingerprint)
  await supply.judge.condemn(certificate, 'compromised')
  t.match(await receiver.received('certificate.revoked'), { hosts: [HOST], event: { fault: 'compromised' } })
})

t.test('a probe that fails is counted, though nothing was ordered', async (t) => {
  const { metrics, records, supply } = await makeSupply(t, { cas: { a: DEAD, b: DEAD } })
  await records.saveCertificate(HOST, 'live', await makeCertificate({ names: [HOST], source: 'a' }))
  await records.saveCertificate(HOST, 'standby', await makeCertificate({ names: [HOST], source: 'b' }))
  await supply.load()
  await supply.start()
  await until(async () => supply.health.snapshot('a')?.state === 'down')
  t.match((await metrics.expose()).text, 'holdfast_ca_failures_total{ca="a",reason="CA_UNREACHABLE"} 1\n')
})

t.test('a certificate on the CRL of its CA gives way to the standby', async (t) => {
  const revoker = await Revoker.create()
  let crl: Buffer = Buffer.alloc(0)
  const web = createHttpServer((_, response) => response.end(crl))
  const url = `http://127.0.0.1:${await listen(t, web)}/ca.crl`
  const live = await revoker.issue(`extendedKeyUsage=serverAuth\ncrlDistributionPoints=URI:${url}`)
  const standby = await makeCertificate({ names: [HOST], source: 'another-ca' })
  revoker.record(live.serial)
  crl = revoker.crl()

  const cas = { [live.source]: DEAD, [standby.source]: DEAD }
  const { events, inventory, records, supply } = await makeSupply(t, { cas })
  await records.saveCertificate(HOST, 'live', live)
  await records.saveCertificate(HOST, 'standby', standby)
  await supply.load()
  await supply.start()
  t.equal(inventory.find(HOST)?.fingerprint, live.fingerprint)
  await until(async () => inventory.find(HOST)?.fingerprint === standby.fingerprint)
  const { serial, source } = live
  t.match(
    events.filter(({ type }) => type === 'certificate.revoked'),
    [{ host: HOST, source, serial, fault: 'revoked' }],
  )
})

t.test('what must go is replaced at once, not when it would have been due', async (t) => {
  const { inventory, supply } = await makeSupply(t, { cas: {}, site: { tls: { cas: ['internal'] } } })
  await supply.load()
  await supply.start()
  await until(async () => (supply.renewer.statuses()[0]?.nextAt ?? 0) > Date.now() + DAY)
  const { live } = inventory.holding(HOST)
  if (live === undefined) throw new Error('there is none')
  await supply.judge.condemn(live, 'compromised')
  await until(async () => inventory.holding(HOST).live?.fingerprint !== live.fingerprint)
  t.equal(inventory.find(HOST), inventory.holding(HOST).live)
})

t.test('files are delivered as soon as something else is served: a renewal, or a standby', async (t) => {
  const machine = new VirtualClock(Date.now())
  const folder = await makeFolder(t)
  const { inventory, records, supply } = await makeSupply(t, {
    cas: { a: DEAD, b: DEAD },
    site: { deliver: [{ combined: `${folder}/{host}.pem` }] },
    machine,
  })
  const [live, renewed, standby] = await Promise.all([
    makeCertificate({ names: [HOST], source: 'a' }),
    makeCertificate({ names: [HOST], source: 'a' }),
    makeCertificate({ names: [HOST], source: 'b' }),
  ])
  const isDelivered = async (certificate: Certificate): Promise<void> => {
    await machine.advance(10 * SECOND)
    await until(async () =>
      (await readFile(join(folder, `${HOST}.pem`), 'utf8').catch(() => '')).includes(certificate.keyPem),
    )
  }
  await records.saveCertificate(HOST, 'live', live)
  await records.saveCertificate(HOST, 'standby', standby)
  await supply.load()
  await supply.start()
  await isDelivered(live)
  inventory.publish(HOST, 'live', renewed)
  await isDelivered(renewed)
  await supply.judge.condemn(renewed, 'compromised')
  await isDelivered(standby)
})

t.test('the rate-limit ledger of a CA knows which account orders there', async (t) => {
  const world = await startWorld(t)
  const pebble = await world.startPebble()
  const files = { 'endpoint.pem': pebble.minicaPem, 'root.pem': await pebble.root() }
  const { inventory, supply } = await makeSupply(t, {
    cas: { a: { directory: pebble.directory, roots: 'endpoint.pem', trust: 'root.pem' } },
    solvers: [world.http01, world.tlsAlpn01],
    files,
  })
  await supply.load()
  await supply.start()
  await until(async () => inventory.find(HOST)?.source === 'a')
  const account = inventory.find(HOST)?.account
  t.match(account, /^https:.*\/my-account\//)
  const ledger = supply.authorities.access('a')?.ledger
  t.equal(ledger?.renewsFor(account), true)
  t.equal(ledger?.renewsFor(`${account}0`), false, 'a renewal for another one is an order like others')
})

t.test('the forecast knows what the rate limits of the other CA leave', async (t) => {
  const rateLimits = { account: { limit: 2, per: '1d' } }
  const hosts = ['one.example.com', 'two.example.com', 'three.example.com']
  const { supply } = await makeSupply(t, { hosts, cas: { a: DEAD, b: { ...DEAD, rateLimits } } })
  await supply.load()
  t.match(supply.outlook.exposures('a'), [{ host: 'two.example.com' }])
})
