/**
 * `kill -9` at random points of what the program does: of issuances from a real CA, and of switches to the standby. The
 * points are spread by what has happened (requests at the CA, writes to the store) and some milliseconds, by a seed.
 * Some of them here; `npm run soak:kill` has fifty of each. Orders are counted over all lives of the program.
 */
import { watch } from 'node:fs'
import { readdir, readFile, rm, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'
import t, { type Test } from 'tap'
import type { HostView } from '../../src/admin/views.ts'
import type { Certificate } from '../../src/cert/certificate.ts'
import { seededRandom } from '../../src/commands/simulate/fleet.ts'
import { silentLog } from '../../src/log.ts'
import { openFileStore } from '../../src/store/fs.ts'
import { Records } from '../../src/store/records.ts'
import { MINUTE } from '../../src/time.ts'
import { admin, get, prepare, type Setup, serve, startApp, until, writeConfig } from '../commands/program.ts'
import { startDns } from '../peers/dns.ts'
import { type FaultProxy, type SeenRequest, startFaultProxy } from '../peers/fault-proxy.ts'
import { startPebble } from '../peers/pebble.ts'
import { memoryLog } from '../support/log.ts'
import { Demand } from './demand.ts'

const POINTS = Number(process.env.KILL_POINTS ?? 12)
const SEED = Number(process.env.KILL_SEED ?? 20_261_124)
/** Has a certificate, which is being renewed when some of the processes die. */
const KEPT = 'kept.example.com'
/** Has none at some of the starts, so that an order is placed by plan. */
const LACKING = 'lacking.example.com'
const HOSTS = [KEPT, LACKING]

t.setTimeout(Math.max(4, POINTS / 2) * MINUTE)

t.test(`at ${POINTS} points of issuances: nothing is lost, and nothing is ordered twice`, async (t) => {
  const random = seededRandom(SEED)
  const { setup, fault, root } = await prepareCa(t)
  const demands = HOSTS.map((host) => ({ host, demand: new Demand() }))
  let stored: ReadonlyMap<string, Certificate> = new Map()
  const expect = (hosts: readonly string[]): void => {
    for (const { host, demand } of demands) if (hosts.includes(host)) demand.want()
  }
  /** @param isSaid by the program: does it hold that this host has got a certificate? */
  const account = async (when: string, isSaid: (host: string) => boolean): Promise<void> => {
    await fault.deserted()
    const before = stored
    stored = await examine(t, setup, when)
    const ordered = ordersIn(fault.requests)
    for (const { host, demand } of demands) {
      const isNew = stored.has(host) && stored.get(host)?.fingerprint !== before.get(host)?.fingerprint
      if (isSaid(host)) t.ok(isNew, `${when}: what was issued for ${host} is kept`)
      else t.ok(stored.has(host) || !before.has(host), `${when}: what was there of ${host} is kept`)
      const orders = ordered.filter((each) => each === host).length
      demand.ended(orders, isNew)
      t.ok(
        orders <= demand.mostOrders,
        `${when}: ${orders} orders for ${host}, the most is ${demand.mostOrders}`,
      )
    }
  }

  for (let point = 0; point < POINTS; point++) {
    // Seldom both, for a host that wants nothing shows that what a life before has stored is not ordered again.
    const renews = stored.has(KEPT) && random() < 0.5
    if (!renews || random() < 0.5) stored = await forget(setup, LACKING, stored)
    const wanting = HOSTS.filter((host) => !stored.has(host) || (renews && host === KEPT))
    const from = fault.requests.length
    const program = await serve(t, setup)
    for (const [host, { leaf }] of stored) {
      const { fingerprint } = await get(setup, '/', { host, ca: root })
      t.equal(fingerprint, leaf.fingerprint256, `point ${point}: what was there of ${host} is served`)
    }
    if (renews) await admin(setup, `/api/certificates/${KEPT}/renew`, { method: 'POST' })
    expect(wanting)
    const issued = async (): Promise<void> => {
      for (const host of wanting) await program.said(wordsOnIssuing(host))
    }
    // Killed before, it never says so.
    const allDone = issued().catch(() => {})
    await Promise.race([fault.requested(from + Math.ceil(random() * 15 * wanting.length)), allDone])
    await delay(random() * 30)
    const { out } = await program.end('SIGKILL')
    await account(`point ${point}`, (host) => out.includes(wordsOnIssuing(host)))
  }

  const from = fault.requests.length
  stored = await forget(setup, LACKING, stored)
  const lacking = HOSTS.filter((host) => !stored.has(host))
  const last = await serve(t, setup)
  expect(lacking)
  await until(async () => (await hostsOf(setup)).every(({ live }) => live !== undefined))
  await last.end('SIGTERM')
  await account('in the end', (host) => lacking.includes(host))
  const asked = fault.requests.slice(from)
  t.same(ordersIn(asked).toSorted(), lacking.toSorted())
  t.equal(asked.filter(({ path }) => path === NEW_ACCOUNT).length, 0, 'by the account of before')
  for (const { host, demand } of demands)
    t.comment(`${host}: ${demand.met} certificates that were wanted, ${demand.lost} orders lost by kills`)
})

t.test(
  `at ${POINTS} points of switches: the standby is served, and nothing else that is not valid`,
  async (t) => {
    const random = seededRandom(SEED)
    const setup = await prepare(t, await startApp(t))
    const cas = ['first', 'second']
    await writeConfig(setup, {
      ...setup.config,
      cas: Object.fromEntries(cas.map((ca) => [ca, { type: 'internal' }])),
      tls: { cas, standby: 'always' },
      sites: [{ hosts: [KEPT], upstreams: [await startApp(t)] }],
    })
    let isCondemned = false
    let condemned: string | undefined
    for (let point = 0; point < POINTS; point++) {
      const program = await serve(t, setup)
      const roots = await Promise.all(
        cas.map((ca) => readFile(join(setup.folder, `data/authorities/${ca}/root.pem`), 'utf8')),
      )
      // Verified: a client would refuse what is not valid.
      const { fingerprint } = await get(setup, '/', { host: KEPT, ca: roots.join('\n') })
      const served = fingerprint.replaceAll(':', '').toLowerCase()
      if (isCondemned) t.not(served, condemned, `point ${point}: what was condemned is not served`)
      await until(async () => (await hostsOf(setup)).every(isSupplied))
      condemned = (await hostsOf(setup))[0]?.live?.fingerprint
      isCondemned = false
      const written = changesIn(t, join(setup.folder, 'data'))
      const answered = admin(setup, `/api/certificates/${KEPT}/condemn`, { method: 'POST' }).then(
        ({ ok }) => {
          isCondemned = ok
        },
        () => {},
      )
      const replaced = program.said(`"msg":"${KEPT}: certificate issued`, program.out.length).catch(() => {})
      // Most within the first writes: before the verdict is kept, and before its consequence is.
      await Promise.race([written(Math.ceil(25 * random() ** 2)), replaced])
      await delay(random() * 10)
      await program.end('SIGKILL')
      await answered
      const stored = await examine(t, setup, `point ${point}`)
      t.ok(stored.has(KEPT), `point ${point}: a certificate is kept`)
    }
  },
)

const NEW_ACCOUNT = '/sign-me-up'
const NEW_ORDER = '/order-plz'

/** The program's config for a Pebble behind a proxy that sees all that is asked. */
async function prepareCa(t: Test): Promise<{ setup: Setup; fault: FaultProxy; root: string }> {
  const upstream = await startApp(t)
  const setup = await prepare(t, upstream)
  const dns = await startDns()
  t.teardown(() => dns.stop())
  const { http: httpPort, https: tlsPort } = setup.ports
  const pebble = await startPebble({ dnsServer: dns.address, httpPort, tlsPort })
  t.teardown(() => pebble.stop())
  const fault = await startFaultProxy({ upstream: pebble.directory, upstreamRoot: pebble.minicaPem })
  t.teardown(() => fault.stop())
  const root = await pebble.root()
  await writeFile(join(setup.folder, 'endpoint.pem'), fault.rootPem)
  await writeFile(join(setup.folder, 'root.pem'), root)
  await writeConfig(setup, {
    ...setup.config,
    cas: { a: { directory: fault.directory, roots: 'endpoint.pem', trust: 'root.pem' } },
    tls: { cas: ['a'], standby: 'off' },
    sites: [{ hosts: HOSTS, upstreams: [upstream] }],
  })
  return { setup, fault, root }
}

/** In its log, once the certificate is in the store. */
function wordsOnIssuing(host: string): string {
  return `"msg":"${host}: certificate issued`
}

/** Takes the host's certificate out of the store. @returns what is left there */
async function forget(
  { folder }: Setup,
  host: string,
  stored: ReadonlyMap<string, Certificate>,
): Promise<ReadonlyMap<string, Certificate>> {
  await rm(join(folder, 'data/certificates', host), { recursive: true, force: true })
  return new Map([...stored].filter(([each]) => each !== host))
}

/**
 * The host of each order that was placed (RFC 8555 section 7.4), or may have been: not where the CA said no, as it does
 * to a second one in place of the same certificate (RFC 9773 section 5).
 */
function ordersIn(requests: readonly SeenRequest[]): string[] {
  return requests
    .filter(({ body, path, status = 201 }) => path === NEW_ORDER && body !== '' && status === 201)
    .map(({ body }) => {
      const { payload } = JSON.parse(body) as { payload: string }
      return JSON.parse(Buffer.from(payload, 'base64url').toString()).identifiers[0].value
    })
}

/** While nothing runs: no record is damaged, and no half of a write is left. @returns live certificates by host */
async function examine(t: Test, { folder }: Setup, when: string): Promise<Map<string, Certificate>> {
  const { log, lines } = memoryLog()
  const store = await openFileStore(join(folder, 'data'), silentLog())
  const stored = await new Records(store, log).loadCertificates()
  await store.close()
  t.same(lines, [], `${when}: no record is damaged`)
  const left = (await readdir(join(folder, 'data'), { recursive: true })).filter((name) =>
    /tmp|damaged/.test(name),
  )
  t.same(left, [], `${when}: nothing is left behind`)
  return new Map(
    stored.filter(({ role }) => role === 'live').map(({ host, certificate }) => [host, certificate]),
  )
}

async function hostsOf(setup: Setup): Promise<HostView[]> {
  return (await admin(setup, '/api/certificates')).json() as Promise<HostView[]>
}

/** Has a host both certificates, and nothing due that it would do before long? */
function isSupplied({ live, nextAt, standby }: HostView): boolean {
  return live !== undefined && standby !== undefined && Date.parse(nextAt ?? '') > Date.now() + MINUTE
}

/** @returns resolves once so many changes were seen in the folder since now */
function changesIn(t: Test, folder: string): (count: number) => Promise<void> {
  let seen = 0
  let look = (): void => {}
  const watcher = watch(folder, { recursive: true }, () => {
    seen++
    look()
  })
  t.teardown(() => watcher.close())
  return (count) =>
    new Promise((resolve) => {
      look = () => {
        if (seen >= count) resolve()
      }
      look()
    })
}
