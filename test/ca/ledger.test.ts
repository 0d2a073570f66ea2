import t from 'tap'
import { Ledger, type RateLimit, registeredDomain } from '../../src/ca/ledger.ts'
import { VirtualClock } from '../../src/commands/simulate/virtual-clock.ts'
import { DAY, HOUR, MINUTE } from '../../src/time.ts'

const LIMITS: readonly RateLimit[] = [
  { scope: 'account', limit: 10, windowMs: 3 * HOUR },
  { scope: 'domain', limit: 3, windowMs: 7 * DAY },
  { scope: 'names', limit: 2, windowMs: 7 * DAY },
  { scope: 'failures', limit: 2, windowMs: HOUR },
]

t.test('a full window opens when its oldest event leaves it', async (t) => {
  const clock = new VirtualClock()
  const ledger = new Ledger(LIMITS, clock)
  const first = clock.now()
  ledger.ordered(['a.example.com'], false)
  await clock.advance(HOUR)
  ledger.ordered(['a.example.com'], false)
  t.equal(ledger.openAt(['a.example.com'], false), first + 7 * DAY, 'two of one set of names')
  t.equal(ledger.openAt(['b.example.com'], false), 0, 'other names are free')
  ledger.ordered(['b.example.com'], false)
  t.equal(ledger.openAt(['c.example.com'], false), first + 7 * DAY, 'three of one registered domain')
  t.equal(ledger.openAt(['c.example.org'], false), 0, 'other domains are free')
})

t.test('an order that no certificate came of counts as an order alone', async (t) => {
  const clock = new VirtualClock()
  const ledger = new Ledger(LIMITS, clock)
  for (let order = 0; order < 9; order++) ledger.ordered(['a.example.com'], false)()
  t.equal(ledger.openAt(['a.example.com'], false), 0, 'of the names and the domain')
  ledger.ordered(['a.example.com'], false)()
  t.equal(ledger.openAt(['a.example.com'], false), clock.now() + 3 * HOUR, 'of the account')
})

t.test('the account as a whole is limited', async (t) => {
  const clock = new VirtualClock()
  const ledger = new Ledger(LIMITS, clock)
  for (let index = 0; index < 10; index++) ledger.ordered([`site${index}.com`], false)
  t.equal(ledger.openAt(['other.com'], false), clock.now() + 3 * HOUR)
})

t.test('renewals that the CA exempts are neither counted nor held back', async (t) => {
  const clock = new VirtualClock()
  const ledger = new Ledger(LIMITS, clock)
  ledger.ordered(['a.example.com'], true)
  ledger.ordered(['a.example.com'], false)
  ledger.ordered(['a.example.com'], false)
  t.equal(ledger.openAt(['a.example.com'], true), 0)
  t.ok(ledger.openAt(['a.example.com'], false) > clock.now())
})

t.test('another account has placed and failed nothing, but domains have had what they had', async (t) => {
  const clock = new VirtualClock()
  const ledger = new Ledger(LIMITS, clock)
  ledger.useAccount('https://ca.test/1')
  for (let index = 0; index < 10; index++) ledger.ordered([`site${index % 4}.com`], false)
  await clock.advance(5 * MINUTE)
  ledger.unvalidated(['failing.com'])
  ledger.unvalidated(['failing.com'])
  const again = new Ledger(LIMITS, clock, ledger.snapshot())
  again.useAccount('https://ca.test/1')
  t.ok(again.openAt(['other.com'], false) > clock.now(), 'the same account after a restart')
  again.useAccount('https://ca.test/2')
  t.equal(again.openAt(['other.com'], false), 0)
  t.equal(again.openAt(['failing.com'], false), 0)
  t.equal(again.openAt(['www.site0.com'], false), clock.now() + 7 * DAY - 5 * MINUTE)
  for (let index = 0; index < 10; index++) again.ordered([`new${index}.com`], false)
  again.useAccount('https://ca.test/3')
  t.ok(again.openAt(['other.com'], false) > clock.now(), 'those under way are of the new one')
})

t.test('a renewal counts as one for the account that ordered the certificate', async (t) => {
  const ledger = new Ledger(LIMITS, new VirtualClock())
  t.ok(ledger.renewsFor('https://ca.test/1'), 'nobody knows better')
  ledger.useAccount('https://ca.test/1')
  t.ok(ledger.renewsFor('https://ca.test/1'))
  t.ok(ledger.renewsFor(undefined))
  t.notOk(ledger.renewsFor('https://ca.test/2'))
})

t.test('failed validations of a host are limited by the host', async (t) => {
  const clock = new VirtualClock()
  const ledger = new Ledger(LIMITS, clock)
  ledger.unvalidated(['a.example.com'])
  ledger.unvalidated(['a.example.com'])
  t.equal(ledger.openAt(['a.example.com'], false), clock.now() + HOUR)
  t.equal(ledger.openAt(['b.example.com'], false), 0)
})

t.test('a 429 keeps its domain away for as long as it says, days too', async (t) => {
  const clock = new VirtualClock()
  const ledger = new Ledger([], clock)
  ledger.refused(['a.example.com'], 2 * HOUR)
  t.equal(ledger.openAt(['b.example.com'], true), clock.now() + 2 * HOUR, 'also an exempt renewal')
  t.equal(ledger.openAt(['example.org'], false), 0)
  ledger.refused(['example.net'], 6 * DAY)
  t.equal(ledger.openAt(['example.net'], false), clock.now() + 6 * DAY)
})

t.test('three domains that hear 429 within an hour speak for the account', async (t) => {
  const clock = new VirtualClock()
  const ledger = new Ledger([], clock)
  for (const [name, forMs] of [
    ['one.com', 3 * HOUR],
    ['two.com', 2 * HOUR],
  ] as const)
    ledger.refused([name], forMs)
  t.equal(ledger.openAt(['four.com'], false), 0)
  ledger.refused(['three.com'], 4 * HOUR)
  t.equal(ledger.openAt(['four.com'], false), clock.now() + 2 * HOUR)
})

t.test('a restart forgets nothing', async (t) => {
  const clock = new VirtualClock()
  const before = new Ledger(LIMITS, clock)
  before.ordered(['a.example.com'], false)
  before.ordered(['a.example.com'], false)
  before.refused(['example.org'], HOUR)
  const after = new Ledger(LIMITS, clock, JSON.parse(JSON.stringify(before.snapshot())))
  for (const name of ['a.example.com', 'example.org', 'example.net']) {
    t.equal(after.openAt([name], false), before.openAt([name], false), name)
  }
})

for (const jumpMs of [-HOUR, -30 * DAY, HOUR, 30 * DAY]) {
  t.test(
    `a clock that jumps by ${jumpMs / HOUR} hours neither forgets nor adds to what has to be waited`,
    async (t) => {
      const clock = new VirtualClock()
      const ledger = new Ledger(LIMITS, clock)
      ledger.ordered(['a.example.com'], false)
      ledger.ordered(['a.example.com'], false)
      ledger.refused(['b.example.com'], HOUR)
      await clock.advance(MINUTE)
      clock.jump(jumpMs)
      t.equal(ledger.openAt(['a.example.com'], false), clock.now() + 7 * DAY - MINUTE)
      t.equal(ledger.openAt(['b.example.com'], true), clock.now() + HOUR - MINUTE)
    },
  )
}

t.test('what others have done counts as well', async (t) => {
  const clock = new VirtualClock()
  const [one, other] = [new Ledger(LIMITS, clock), new Ledger(LIMITS, clock)]
  const first = clock.now()
  one.ordered(['a.example.com'], false)
  await clock.advance(MINUTE)
  other.ordered(['a.example.com'], false)
  await clock.advance(MINUTE)
  other.ordered(['b.example.com'], false)
  one.refused(['example.org'], HOUR)
  other.learn([one.snapshot()])
  t.equal(other.openAt(['a.example.com'], false), first + 7 * DAY)
  t.equal(other.openAt(['c.example.com'], false), first + 7 * DAY, 'three of one domain')
  t.equal(other.openAt(['www.example.org'], false), clock.now() + HOUR)
  t.same(other.snapshot().refusals, [], 'and is told by the others alone')
  t.same(other.counted().get('domain example.com'), [first, first + MINUTE, first + 2 * MINUTE])
  other.learn([])
  t.equal(other.openAt(['a.example.com'], false), 0, 'until they tell otherwise')
})

t.test('what others have done as another account counts by domain and names alone', async (t) => {
  const clock = new VirtualClock()
  const [one, other] = [new Ledger(LIMITS, clock), new Ledger(LIMITS, clock)]
  one.useAccount('https://ca.test/1')
  for (let index = 0; index < 10; index++) one.ordered([`site${index % 4}.com`], false)
  for (let failures = 0; failures < 2; failures++) one.unvalidated(['failing.com'])
  other.learn([one.snapshot()])
  t.ok(other.openAt(['new.com'], false) > 0, 'while it has used none')
  other.useAccount('https://ca.test/2')
  t.equal(other.openAt(['new.com'], false), 0)
  t.equal(other.openAt(['failing.com'], false), 0)
  t.ok(other.openAt(['www.site0.com'], false) > 0)
  other.useAccount('https://ca.test/1')
  t.ok(other.openAt(['new.com'], false) > 0)
})

t.test('what others tell of the future counts from when it was first heard', async (t) => {
  const clock = new VirtualClock()
  const [one, other] = [new Ledger(LIMITS, clock), new Ledger(LIMITS, clock)]
  for (let orders = 0; orders < 2; orders++) one.ordered(['a.example.com'], false)
  const told = [one.snapshot()]
  clock.jump(-30 * DAY)
  const heardAt = clock.now()
  other.learn(told)
  await clock.advance(DAY)
  other.learn(told)
  t.equal(other.openAt(['a.example.com'], false), heardAt + 7 * DAY)
})

t.test('what a clock that was set back over a restart told counts as new', async (t) => {
  const clock = new VirtualClock()
  const before = new Ledger(LIMITS, clock)
  before.ordered(['a.example.com'], false)
  before.ordered(['a.example.com'], false)
  const snapshot = before.snapshot()
  clock.jump(-30 * DAY)
  const after = new Ledger(LIMITS, clock, snapshot)
  t.equal(after.openAt(['a.example.com'], false), clock.now() + 7 * DAY)
})

t.test('old events are dropped from what is kept', async (t) => {
  const clock = new VirtualClock()
  const ledger = new Ledger([{ scope: 'failures', limit: 2, windowMs: HOUR }], clock)
  ledger.unvalidated(['a.example.com'])
  await clock.advance(HOUR + MINUTE)
  t.same(ledger.snapshot().events, {})
})

t.test('registered domains follow the public suffix list', async (t) => {
  t.same(
    ['a.b.example.co.uk', '*.example.com', 'app.github.io', 'localhost', '127.0.0.1'].map(registeredDomain),
    ['example.co.uk', 'example.com', 'app.github.io', 'localhost', '127.0.0.1'],
  )
})

t.test('IPv6 addresses count by their first half', async (t) => {
  for (const [address, prefix] of [
    ['2001:db8::1', '2001:db8:0:0::/64'],
    ['2001:db8::5:6:7:8', '2001:db8:0:0::/64'],
    ['2001:db8:1:2:3:4:5:6', '2001:db8:1:2::/64'],
    ['::1', '0:0:0:0::/64'],
    ['2001:db8:1:2::', '2001:db8:1:2::/64'],
  ] as const)
    t.equal(registeredDomain(address), prefix, address)
  const ledger = new Ledger(LIMITS, new VirtualClock())
  for (const last of [1, 2, 3]) ledger.ordered([`2001:db8::${last}`], false)
  t.ok(ledger.openAt(['2001:db8::4'], false) > 0)
  t.equal(ledger.openAt(['2001:db8:0:1::4'], false), 0)
})
