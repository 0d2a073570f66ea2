/** When CAs are asked for their wishes (RFC 9773 section 4), and what becomes of the answers. */
import t from 'tap'
import type { Issuer, RenewalInfo } from '../../src/ca/issuer.ts'
import { Ledger } from '../../src/ca/ledger.ts'
import { VirtualClock } from '../../src/commands/simulate/virtual-clock.ts'
import { datesOnly } from '../../src/commands/simulate/world.ts'
import { IssueError } from '../../src/errors.ts'
import { silentLog } from '../../src/log.ts'
import { RenewalWindows } from '../../src/renew/renewal-windows.ts'
import { DAY, HOUR, MINUTE, SECOND } from '../../src/time.ts'
import { makeFleet, seeded } from '../support/fleet.ts'

const never = new AbortController().signal

function setUp(renewalInfo?: Issuer['renewalInfo']) {
  const clock = new VirtualClock()
  const issuer: Issuer = {
    id: 'a',
    issue: () => Promise.reject(new Error('not asked in these tests')),
    probe: () => Promise.resolve(),
    ...(renewalInfo === undefined ? {} : { renewalInfo }),
  }
  const access = (ca: string) =>
    ca === 'a' ? { issuer, ledger: new Ledger([], clock), exemptsRenewals: false } : undefined
  let silentForMs = 0
  const health = { silentForMs: () => silentForMs }
  const windows = new RenewalWindows({ clock, random: () => 0.5, log: silentLog(), access, health })
  const silence = (forMs: number): void => {
    silentForMs = forMs
  }
  const certificate = datesOnly('a', ['app.example.com'], clock.now(), 90 * DAY, seeded())
  return { clock, windows, certificate, silence }
}

function windowFrom(clock: VirtualClock, pollAgainMs: number): RenewalInfo {
  const windowStart = clock.now() + DAY
  return { windowStart, windowEnd: windowStart + DAY, pollAgainMs }
}

t.test('the first questions of a fleet are spread', async (t) => {
  const { windows, certificate } = setUp(async () => undefined)
  t.equal(windows.askInMs(certificate, 1000), 100_000)
})

t.test('a CA is asked again when its Retry-After says so', async (t) => {
  const { clock, windows, certificate } = setUp(async () => windowFrom(clock, HOUR))
  await windows.ask(certificate, never)
  t.equal(windows.askInMs(certificate, 1), HOUR)
})

for (const jumpMs of [30 * DAY, -30 * DAY]) {
  t.test(
    `a clock that jumps by ${jumpMs / DAY} days neither puts a question off nor brings it forward`,
    async (t) => {
      const { clock, windows, certificate } = setUp(async () => windowFrom(clock, HOUR))
      await windows.ask(certificate, never)
      clock.jump(jumpMs)
      await clock.advance(HOUR / 2)
      t.equal(windows.askInMs(certificate, 1), HOUR / 2)
    },
  )
}

t.test('a CA that does not answer is asked once it does, and not by the whole fleet at once', async (t) => {
  const { clock, windows, certificate, silence } = setUp(async () => windowFrom(clock, HOUR))
  silence(MINUTE)
  t.equal(windows.askInMs(certificate, 1000), MINUTE + 100_000, 'at a start')
  await windows.ask(certificate, never)
  const said = windows.find(certificate)
  await clock.advance(HOUR)
  t.equal(windows.askInMs(certificate, 1000), MINUTE + 100_000)
  t.equal(windows.find(certificate), said, 'what it said last holds')
  await clock.advance(MINUTE + 100_000)
  t.equal(windows.askInMs(certificate, 1000), MINUTE + 100_000, 'it does not answer still')
  await clock.advance(MINUTE + 100_000)
  silence(0)
  t.equal(windows.askInMs(certificate, 1000), 0)
})

t.test('a fleet asks nothing of a CA that does not answer, and goes on when it is back', async (t) => {
  const hosts = Array.from({ length: 20 }, (_, index) => `site${index}.example${index}.com`)
  const { clock, renewer, targets, ca, health } = makeFleet({ hosts })
  let polls = 0
  const issuer: Issuer = ca('a')
  issuer.renewalInfo = async ({ notBefore }) => {
    polls++
    return { windowStart: notBefore + 50 * DAY, windowEnd: notBefore + 51 * DAY, pollAgainMs: HOUR }
  }
  await renewer.load(targets)
  renewer.start()
  await clock.advance(HOUR / 2)
  t.equal(polls, hosts.length)
  ca('a').outages = [{ start: clock.now(), end: clock.now() + DAY, kind: '503' }]
  health.start()
  await clock.advance(DAY - SECOND)
  t.equal(polls, hosts.length)
  await clock.advance(10 * MINUTE)
  t.equal(polls, 2 * hosts.length)
  const refused = new IssueError('CA_UNAVAILABLE', 'answered 503 to an order', { blame: 'ca', retry: 'now' })
  const admission = await health.admit('a', never)
  admission?.failed(refused)
  await clock.advance(HOUR)
  t.equal(polls, 3 * hosts.length, 'also while only its orders fail')
  health.stop()
  await renewer.stop()
})

t.test('every host of a fleet whose orders met is asked about again and again', async (t) => {
  const hosts = Array.from({ length: 100 }, (_, index) => `site${index}.example${index}.com`)
  const { clock, renewer, targets, ca } = makeFleet({ hosts })
  const polls = new Map(hosts.map((host) => [host, 0]))
  const issuer: Issuer = ca('a')
  issuer.renewalInfo = async ({ names: [host = ''], notBefore }) => {
    polls.set(host, (polls.get(host) ?? 0) + 1)
    return { windowStart: notBefore + 50 * DAY, windowEnd: notBefore + 51 * DAY, pollAgainMs: 6 * HOUR }
  }
  await renewer.load(targets)
  renewer.start()
  await clock.advance(2 * DAY)
  await renewer.stop()
  t.same(
    [...polls].filter(([, count]) => count < 7),
    [],
  )
})

t.test('a CA that knows nothing of it is asked again after six hours', async (t) => {
  const { windows, certificate } = setUp(async () => undefined)
  await windows.ask(certificate, never)
  t.equal(windows.askInMs(certificate, 1), 6 * HOUR)
})

t.test('while a CA does not answer, what it said last holds', async (t) => {
  let down = false
  const { clock, windows, certificate } = setUp(async () => {
    if (down) throw new Error('a: answered 503')
    return windowFrom(clock, HOUR)
  })
  await windows.ask(certificate, never)
  const said = windows.find(certificate)
  t.ok(said)
  down = true
  await windows.ask(certificate, never)
  t.equal(windows.find(certificate), said)
})

t.test('a CA without renewal information is never asked', async (t) => {
  const { windows, certificate } = setUp()
  t.equal(windows.askInMs(certificate, 1), Number.POSITIVE_INFINITY)
})

t.test('a host is renewed when its CA comes to wish it, long before its time', async (t) => {
  const { clock, inventory, renewer, targets, ca } = makeFleet()
  let wished = false
  const issuer: Issuer = ca('a')
  issuer.renewalInfo = async () => ({
    windowStart: clock.now() + (wished ? -HOUR : 50 * DAY),
    windowEnd: clock.now() + (wished ? 0 : 51 * DAY),
    pollAgainMs: 6 * HOUR,
  })
  await renewer.load(targets)
  renewer.start()
  await clock.advance(DAY)
  const first = inventory.find('app.example.com')
  t.equal(ca('a').orderedAt.length, 1)
  wished = true
  await clock.advance(7 * HOUR)
  t.not(inventory.find('app.example.com')?.fingerprint, first?.fingerprint)
  await renewer.stop()
})

t.test(
  'a CA that demands a certificate back is heard, and so is one that takes the demand back',
  async (t) => {
    const heard: boolean[] = []
    const { clock, renewer, targets, ca } = makeFleet({
      more: { onWish: (_, recalled) => void heard.push(recalled) },
    })
    let demanded = false
    const issuer: Issuer = ca('a')
    issuer.renewalInfo = async ({ notBefore }) => ({
      windowStart: notBefore + (demanded ? 0 : 50 * DAY),
      windowEnd: notBefore + (demanded ? MINUTE : 51 * DAY),
      pollAgainMs: 6 * HOUR,
    })
    await renewer.load(targets)
    renewer.start()
    await clock.advance(HOUR)
    demanded = true
    // No order, so that the same certificate is asked about again.
    ca('a').outages = ca('b').outages = [{ start: clock.now(), end: clock.now() + DAY, kind: '503' }]
    await clock.advance(6 * HOUR)
    demanded = false
    await clock.advance(6 * HOUR)
    t.same(heard, [false, true, false])
    await renewer.stop()
  },
)

t.test('the certificate that is replaced is named to the CA that issued it, and to no other', async (t) => {
  const { clock, renewer, targets, ca } = makeFleet()
  const replaced: [asked: string, replaces: string | undefined][] = []
  for (const id of ['a', 'b']) {
    const simulated = ca(id)
    const issue = simulated.issue.bind(simulated)
    simulated.issue = async (request, signal) => {
      replaced.push([id, request.replaces?.ariId])
      return Object.assign(await issue(request, signal), { ariId: id })
    }
  }
  await renewer.load(targets)
  renewer.start()
  await clock.advance(MINUTE)
  renewer.renewNow('app.example.com', 'live')
  await clock.advance(MINUTE)
  ca('a').outages = [{ start: clock.now(), end: clock.now() + DAY, kind: '503' }]
  renewer.renewNow('app.example.com', 'live')
  await clock.advance(MINUTE)
  t.same(replaced, [
    ['a', undefined],
    ['a', 'a'],
    ['a', 'a'],
    ['b', undefined],
  ])
  await renewer.stop()
})
