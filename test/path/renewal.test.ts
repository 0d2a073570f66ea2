/** The renewal path: clock → plan → renewer → issuer → solver → records → inventory, and no handshake notices. */
import { readFile, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import t from 'tap'
import type { ClockView, HostView } from '../../src/admin/views.ts'
import { IMPORTED } from '../../src/cert/certificate.ts'
import { loadConfig } from '../../src/config/load.ts'
import { silentLog } from '../../src/log.ts'
import { openFileStore } from '../../src/store/fs.ts'
import { Records } from '../../src/store/records.ts'
import { DAY, HOUR, SECOND, SystemClock } from '../../src/time.ts'
import { until } from '../commands/program.ts'
import type { FaultKind } from '../peers/fault-proxy.ts'
import { makeCertificate } from '../support/certificates.ts'
import { type Rig, startRig } from './rig.ts'

const HOSTS = ['alpn.example.com', 'http.example.com']

t.test('a CA stops; the renewals come from the other, and no handshake fails meanwhile', async (t) => {
  const rig = await startRig(t, {
    // Due at half of their life: in twenty seconds.
    lifetimeSeconds: 40,
    sites: (upstream) => [
      { hosts: ['alpn.example.com'], upstreams: [upstream], tls: { challenges: ['tls-alpn-01'] } },
      { hosts: ['http.example.com'], upstreams: [upstream], tls: { challenges: ['http-01'] } },
    ],
  })
  await rig.server.start()
  for (const host of HOSTS) await rig.log.logged(({ msg }) => msg === `${host}: certificate issued by a`)
  const roots = (await rig.a.root()) + (await rig.b.root())
  const before = await Promise.all(HOSTS.map((host) => rig.handshake(host, roots)))

  const client = connectAllTheTime(rig, roots)
  await rig.a.stop()
  for (const host of HOSTS)
    await rig.log.logged(({ msg }) => msg.startsWith(`${host}: certificate issued by b`))
  const rootOfB = await rig.b.root()
  const after = await Promise.all(HOSTS.map((host) => rig.handshake(host, rootOfB)))
  const { handshakes, failures } = await client.stop()

  t.same(failures, [])
  t.ok(handshakes > 20, `${handshakes} handshakes`)
  for (const [index, host] of HOSTS.entries()) {
    t.not(after[index]?.fingerprint, before[index]?.fingerprint, `${host} has another certificate`)
  }
})

for (const aheadMs of [-30 * DAY, 30 * DAY]) {
  t.test(
    `the clock of the machine is ${aheadMs / DAY} days ahead: certificates of 160 hours are had`,
    async (t) => {
      const clock = Object.assign(new SystemClock(), { now: () => Date.now() + aheadMs })
      const rig = await startRig(t, {
        clock,
        lifetimeSeconds: (160 * HOUR) / SECOND,
        tls: { standby: 'always' },
        sites: (upstream) => [{ hosts: ['app.example.com'], upstreams: [upstream] }],
      })
      await rig.server.start()
      for (const ca of ['a', 'b'])
        await rig.log.logged(({ msg }) => msg === `app.example.com: certificate issued by ${ca}`)
      await rig.handshake('app.example.com', await rig.a.root())
      const answer = await rig.admin('/api/certificates')
      const [host] = (await answer.json()) as { live?: { notAfter: string }; nextAt?: string }[]
      t.ok(Date.parse(host?.live?.notAfter ?? '') > Date.now() + 159 * HOUR)
      t.ok(Date.parse(host?.nextAt ?? '') > Date.now() + HOUR, 'and no other is due')
      const told = (await (await rig.admin('/api/clock')).json()) as { now: string; errorSeconds: number }
      t.ok(Math.abs(Date.parse(told.now) - Date.now()) < HOUR)
      t.equal(Math.round((told.errorSeconds * SECOND) / DAY), aheadMs / DAY)
      const warned = rig.log.warnings().filter(({ msg }) => msg.startsWith('the clock of this machine is'))
      // A CA tells the time without the fraction of its second.
      t.match(
        warned.map(({ msg }) => msg),
        [new RegExp(`is (30d|29d23h) ${aheadMs > 0 ? 'ahead' : 'behind'}, by what the CAs say`)],
      )
      t.same(
        rig.log.lines.filter(({ msg }) => msg.startsWith('no certificate')),
        [],
      )
    },
  )
}

for (const aheadMs of [-30 * DAY, 30 * DAY]) {
  const clock = Object.assign(new SystemClock(), { now: () => Date.now() + aheadMs })
  t.test(`the clock of the machine is ${aheadMs / DAY} days ahead, and one of two CAs is out`, async (t) => {
    const rig = await startRig(t, {
      clock,
      lifetimeSeconds: (160 * HOUR) / SECOND,
      sites: (upstream) => [{ hosts: HOSTS, upstreams: [upstream] }],
      tls: { interim: true },
    })
    const issued = () => rig.log.lines.filter(({ msg }) => /: certificate issued by b/.test(msg)).length
    const views = async () => (await (await rig.admin('/api/certificates')).json()) as HostView[]
    await rig.faults.a.setFault('refuse')
    await rig.server.start()
    await rig.log.logged(() => issued() === HOSTS.length)
    const root = await rig.b.root()
    const before = await Promise.all(HOSTS.map((host) => rig.handshake(host, root)))
    const isRested = ({ nextAt = '' }: HostView): boolean => Date.parse(nextAt) > Date.now() + HOUR
    await until(async () => (await views()).every(isRested))
    for (const { live } of await views()) t.match(live, { source: 'b', fault: undefined })
    t.match(await (await rig.admin('/api/cas')).json(), [{ state: 'down' }, { id: 'b', state: 'up' }])
    const { errorSeconds } = (await (await rig.admin('/api/clock')).json()) as { errorSeconds: number }
    t.equal(Math.round((errorSeconds * SECOND) / DAY), aheadMs / DAY)

    // The next begins with the machine's clock, by which all that is held is bad.
    await rig.server.stop()
    const again = await rig.restart()
    const known = rig.log.lines.length
    await again.start()
    await until(async () => (await views()).every(({ state }) => state === 'valid'))
    t.ok(rig.log.lines.slice(known).some(({ msg }) => msg.startsWith('the clock of this machine is')))
    // What has expired, by the machine's clock, is ordered anew once, which puts the clock right.
    if (aheadMs > 0) await rig.log.logged(() => issued() > HOSTS.length)
    const after = await Promise.all(HOSTS.map((host) => rig.handshake(host, root)))
    const kept = after.filter(({ fingerprint }) => before.some((each) => each.fingerprint === fingerprint))
    t.equal(kept.length, aheadMs > 0 ? 1 : 2)
  })

  t.test(
    `nothing good is lost where the only CA that is heard is ${-aheadMs / DAY} days ahead`,
    async (t) => {
      const [kept = '', wanting = ''] = HOSTS
      const rig = await startRig(t, {
        clock,
        lifetimeSeconds: (160 * HOUR) / SECOND,
        sites: (upstream) => [{ hosts: HOSTS, upstreams: [upstream], tls: { cas: ['a', 'b'] } }],
      })
      // By the clock of `b` it is not valid yet, or no more.
      const held = await makeCertificate({
        names: [kept],
        notBefore: clock.now() - 5 * DAY,
        days: 25,
        source: IMPORTED,
      })
      const store = await openFileStore(join(rig.directory, 'data'), silentLog())
      await new Records(store, silentLog()).saveCertificate(kept, 'live', held)
      await store.close()
      await rig.faults.a.setFault('refuse')
      await rig.server.start()
      await rig.log.logged(({ msg }) => msg.startsWith(`no certificate for ${wanting}`))
      await rig.log.logged(({ msg }) => msg.startsWith('b dates what it issues by another time'))
      t.match(await (await rig.admin('/api/clock')).json(), { errorSeconds: 0 })
      const views = (await (await rig.admin('/api/certificates')).json()) as HostView[]
      t.match(
        views.find(({ host }) => host === kept),
        { state: 'valid', live: { fingerprint: held.fingerprint } },
      )
    },
  )
}

t.test(
  'the clock of the machine is 30 days ahead, and one CA is heard: what is good by it too is not ordered again',
  async (t) => {
    const rig = await startRig(t, {
      clock: Object.assign(new SystemClock(), { now: () => Date.now() + 30 * DAY }),
      // By the machine's clock it is good for 10 days, and due.
      lifetimeSeconds: (40 * DAY) / SECOND,
      sites: (upstream) => [{ hosts: ['app.example.com'], upstreams: [upstream], tls: { cas: ['b'] } }],
    })
    await rig.faults.a.setFault('refuse')
    await rig.server.start()
    await rig.log.logged(({ msg }) => msg === 'app.example.com: certificate issued by b')
    const { now } = (await (await rig.admin('/api/clock')).json()) as ClockView
    await until(async () => {
      const [host] = (await (await rig.admin('/api/certificates')).json()) as HostView[]
      return Date.parse(host?.nextAt ?? '') > Date.parse(now) + 6 * DAY
    })
    t.notOk(rig.log.warnings().some(({ msg }) => /is due for renewal already/.test(msg)))
  },
)

t.test('a CA that is distrusted has no say in what time it is', async (t) => {
  const rig = await startRig(t, {
    // `a` alone proves nothing: what it has issued may have been dated back by as much.
    clock: Object.assign(new SystemClock(), { now: () => Date.now() + 12 * HOUR }),
    caB: { distrusted: true },
    sites: (upstream) => [{ hosts: ['app.example.com'], upstreams: [upstream], tls: { cas: ['a', 'b'] } }],
  })
  await rig.server.start()
  await rig.log.logged(({ msg }) => msg === 'app.example.com: certificate issued by a')
  const cas = async () => (await (await rig.admin('/api/cas')).json()) as { lastAnswerAt?: string }[]
  await until(async () => (await cas()).every(({ lastAnswerAt }) => lastAnswerAt !== undefined))
  t.match(await (await rig.admin('/api/clock')).json(), { errorSeconds: 0 })
})

t.test('each of two CAs fails in turn: the other supplies all, and no handshake fails', async (t) => {
  const [first = '', second = ''] = HOSTS
  const rig = await startRig(t, {
    // None lasts over both turns. A CA that hung would cost eight of these seconds.
    lifetimeSeconds: 40,
    probeInterval: '5s',
    sites: (upstream) => [
      { hosts: [first], upstreams: [upstream], tls: { cas: ['a', 'b'] } },
      { hosts: [second], upstreams: [upstream], tls: { cas: ['b', 'a'] } },
    ],
  })
  let since = 0
  /** Resolves once each of these hosts has a certificate from this CA that was not there before `since`. */
  const supplied = async (ca: string, hosts: readonly string[]): Promise<void> => {
    for (const host of hosts) {
      const issued = `${host}: certificate issued by ${ca}`
      await rig.log.logged((line) => line.msg.startsWith(issued) && rig.log.lines.indexOf(line) >= since)
    }
  }
  const outage = async (failing: 'a' | 'b', kind: FaultKind, well: 'a' | 'b'): Promise<void> => {
    since = rig.log.lines.length
    await rig.faults[failing].setFault(kind)
    await supplied(well, HOSTS)
    const root = await rig[well].root()
    for (const host of HOSTS) await t.resolves(rig.handshake(host, root), `${host} has it from ${well}`)
    since = rig.log.lines.length
    await rig.faults[failing].setFault(undefined)
  }
  await rig.server.start()
  await supplied('a', [first])
  await supplied('b', [second])
  const client = connectAllTheTime(rig, (await rig.a.root()) + (await rig.b.root()))
  await outage('a', '503', 'b')
  await supplied('a', [first])
  await outage('b', 'refuse', 'a')
  const { handshakes, failures } = await client.stop()
  t.same(failures, [])
  t.ok(handshakes > 20, `${handshakes} handshakes`)
})

t.test('a CA demands a certificate back (ARI): the standby takes over, then a new one', async (t) => {
  const rig = await startRig(t, {
    sites: (upstream) => [{ hosts: ['app.example.com'], upstreams: [upstream] }],
    tls: { standby: 'always' },
  })
  await rig.server.start()
  for (const ca of ['a', 'b'])
    await rig.log.logged(({ msg }) => msg === `app.example.com: certificate issued by ${ca}`)
  const live = await readFile(join(rig.directory, 'data/certificates/app.example.com/live.pem'), 'utf8')
  const over = Date.now() - DAY
  await rig.a.setRenewalInfo(live, { start: new Date(over - DAY), end: new Date(over) })
  await rig.server.stop()
  const again = await rig.restart()
  t.teardown(() => again.stop())
  await again.start()
  await rig.log.logged(({ msg }) => /^the certificate for app.example.com from a is recalled/.test(msg))
  const issuedByA = () =>
    rig.log.lines.filter(({ msg }) => msg === 'app.example.com: certificate issued by a')
  await rig.log.logged(() => issuedByA().length === 2)
  const events = (await (await rig.admin('/api/events')).json()) as { type: string; to?: object }[]
  const switches = events.filter(({ type }) => type === 'certificate.switched').map(({ to }) => to)
  t.match(switches, [
    { role: 'standby', source: 'b' },
    { role: 'live', source: 'a' },
  ])
})

t.test('a CA that the config comes to distrust gives way at the next handshake', async (t) => {
  const rig = await startRig(t, {
    sites: (upstream) => [{ hosts: ['app.example.com'], upstreams: [upstream] }],
    tls: { standby: 'always' },
  })
  await rig.server.start()
  for (const ca of ['a', 'b'])
    await rig.log.logged(({ msg }) => msg === `app.example.com: certificate issued by ${ca}`)
  await rig.handshake('app.example.com', await rig.a.root())
  const file = join(rig.directory, 'proxy.config.json')
  const config = JSON.parse(await readFile(file, 'utf8')) as { cas: { a: object } }
  const distrusting = { ...config, cas: { ...config.cas, a: { ...config.cas.a, distrusted: true } } }
  await writeFile(file, JSON.stringify(distrusting))
  await rig.server.reload(await loadConfig(file, {}))
  await rig.handshake('app.example.com', await rig.b.root())
  await writeFile(file, JSON.stringify(config))
  await rig.server.reload(await loadConfig(file, {}))
  t.match(await (await rig.admin('/api/cas')).json(), [{ id: 'a', distrusted: false }])
})

/** One handshake after the other, over both hosts, each verified. */
function connectAllTheTime(
  rig: Rig,
  roots: string,
): { stop(): Promise<{ handshakes: number; failures: unknown[] }> } {
  let stopped = false
  let handshakes = 0
  const failures: unknown[] = []
  const running = (async () => {
    while (!stopped) {
      for (const host of HOSTS) {
        handshakes++
        await rig.handshake(host, roots).catch((error: unknown) => failures.push(error))
      }
    }
  })()
  return {
    stop: async () => {
      stopped = true
      await running
      return { handshakes, failures }
    },
  }
}
