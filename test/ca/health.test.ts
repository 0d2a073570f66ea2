import t from 'tap'
import { CaHealth, type CaState, type HealthOptions, type HealthRecord } from '../../src/ca/health.ts'
import type { Issuer } from '../../src/ca/issuer.ts'
import { settle, VirtualClock } from '../../src/commands/simulate/virtual-clock.ts'
import { IssueError } from '../../src/errors.ts'
import { silentLog } from '../../src/log.ts'
import { DAY, MINUTE, SECOND } from '../../src/time.ts'

const never = new AbortController().signal
const outage = new IssueError('CA_UNAVAILABLE', 'a: answered 503', { blame: 'ca', retry: 'now' })
const badDomain = new IssueError('DOMAIN_UNVALIDATED', 'a: no such host', { blame: 'domain', retry: 'later' })

interface Probe {
  /** What the next probes do. */
  outcome: 'answers' | 'fails' | 'hangs'
  /** What it fails with. */
  error: Error
  count: number
}

function setUp(more: Partial<HealthOptions> = {}, record?: HealthRecord) {
  const clock = new VirtualClock()
  const probe: Probe = { outcome: 'answers', error: outage, count: 0 }
  const changes: [CaState, CaState][] = []
  const records: HealthRecord[] = []
  const health = new CaHealth({
    clock,
    random: () => 1,
    log: silentLog(),
    onChange: (snapshot, previous) => changes.push([previous, snapshot.state]),
    persist: (_, kept) => records.push(kept),
    ...more,
  })
  const issuer: Issuer = {
    id: 'a',
    issue: () => Promise.reject(new Error('not asked in these tests')),
    probe: () => {
      probe.count++
      if (probe.outcome === 'hangs') return new Promise(() => {})
      return probe.outcome === 'answers' ? Promise.resolve() : Promise.reject(probe.error)
    },
  }
  health.add(issuer, record)
  return { clock, health, probe, changes, records }
}

t.test('a CA that failed is not asked again until its pause is over', async (t) => {
  const { clock, health } = setUp()
  const first = await health.admit('a', never)
  first?.failed(outage)
  t.equal(await health.admit('a', never), undefined)
  t.equal(health.openAt('a'), clock.now() + 30 * SECOND)
  await clock.advance(30 * SECOND)
  t.equal(health.snapshot('a')?.state, 'trial')
  t.ok(await health.admit('a', never))
})

t.test(
  'a CA that says when to come again is left alone until then, but for an hour at the most',
  async (t) => {
    for (const [askedMs, pauseMs] of [
      [5 * MINUTE, 5 * MINUTE],
      [SECOND, 30 * SECOND],
      [DAY, 60 * MINUTE],
    ] as const) {
      const { clock, health } = setUp()
      const admission = await health.admit('a', never)
      const overloaded = { blame: 'ca', retry: 'now', retryAfterMs: askedMs } as const
      admission?.failed(new IssueError('CA_UNAVAILABLE', 'a: answered 503', overloaded))
      t.equal(health.openAt('a'), clock.now() + pauseMs)
    }
  },
)

t.test('a CA is probed at the interval of its own', async (t) => {
  const clock = new VirtualClock()
  const health = new CaHealth({ clock, random: () => 0.5, log: silentLog() })
  let probes = 0
  const issuer: Issuer = {
    id: 'a',
    issue: () => Promise.reject(new Error('not asked in this test')),
    probe: async () => {
      probes++
      if (probes > 1) throw outage
    },
  }
  health.add(issuer, undefined, 10 * MINUTE)
  health.start()
  await clock.advance(9 * MINUTE)
  t.equal(probes, 1)
  await clock.advance(MINUTE)
  t.equal(probes, 2)
  t.equal(health.openAt('a'), clock.now() + 10 * MINUTE, 'down until a probe says otherwise')
  health.stop()
})

t.test('an unproven CA is tried by one order while the others hold', async (t) => {
  const { health } = setUp()
  const trial = await health.admit('a', never)
  let held = 'holding'
  const others = [1, 2, 3].map(() =>
    health.admit('a', never).then((admission) => {
      held = admission === undefined ? 'refused' : 'admitted'
      admission?.abandoned()
    }),
  )
  await settle()
  t.equal(held, 'holding')
  trial?.failed(outage)
  await Promise.all(others)
  t.equal(held, 'refused', 'one failure speaks for all')
})

t.test('a CA that has just issued takes orders side by side', async (t) => {
  const { health } = setUp()
  const trial = await health.admit('a', never)
  trial?.succeeded(SECOND)
  t.ok(await health.admit('a', never))
  t.ok(await health.admit('a', never))
})

t.test('an order does not hold for ever behind one that drags on', async (t) => {
  const { clock, health } = setUp()
  await health.admit('a', never)
  const second = health.admit('a', never)
  await clock.advance(2 * health.usualMs('a'))
  t.equal(await second, undefined)
})

t.test('an order that can go nowhere else holds until the outcome', async (t) => {
  const { clock, health } = setUp()
  const trial = await health.admit('a', never)
  const last = health.admit('a', never, true)
  await clock.advance(10 * health.usualMs('a'))
  trial?.succeeded(10 * health.usualMs('a'))
  t.ok(await last)
})

t.test(
  'a CA that fails an order is probed before the pause is over, and spared where that fails',
  async (t) => {
    const { clock, health, probe } = setUp()
    health.start()
    await settle()
    probe.outcome = 'hangs'
    const first = await health.admit('a', never)
    first?.failed(outage)
    await clock.advance(35 * SECOND)
    t.equal(await health.admit('a', never), undefined)
    probe.outcome = 'answers'
    await clock.advance(2 * MINUTE)
    t.ok(await health.admit('a', never), 'until one succeeds')
    health.stop()
  },
)

t.test('a bad domain never marks its CA down', async (t) => {
  const { health, changes } = setUp()
  const first = await health.admit('a', never)
  first?.failed(badDomain)
  t.equal(health.snapshot('a')?.state, 'up')
  t.same(changes, [])
  const [second, third] = [await health.admit('a', never), await health.admit('a', never)]
  t.ok(second && third, 'it even proves that the CA answers')
})

t.test('pauses grow, to ten minutes at the most, and an issuance ends them', async (t) => {
  const { clock, health, changes } = setUp()
  const pauses: number[] = []
  for (let round = 0; round < 7; round++) {
    const admission = await health.admit('a', never)
    admission?.failed(outage)
    const pauseMs = health.openAt('a') - clock.now()
    pauses.push(pauseMs / SECOND)
    await clock.advance(pauseMs)
  }
  t.same(pauses, [30, 60, 120, 240, 480, 600, 600])
  const admission = await health.admit('a', never)
  admission?.succeeded(SECOND)
  t.equal(health.snapshot('a')?.state, 'up')
  t.same(
    changes,
    [
      ['up', 'down'],
      ['down', 'up'],
    ],
    'told once each way',
  )
  const later = await health.admit('a', never)
  later?.failed(outage)
  t.equal(health.openAt('a') - clock.now(), 30 * SECOND)
})

t.test('orders that fail together for one outage lengthen the pause once', async (t) => {
  const { clock, health } = setUp()
  const trial = await health.admit('a', never)
  trial?.succeeded(SECOND)
  const admissions = [
    await health.admit('a', never),
    await health.admit('a', never),
    await health.admit('a', never),
  ]
  for (const admission of admissions) admission?.failed(outage)
  t.equal(health.openAt('a') - clock.now(), 30 * SECOND)
})

t.test('a probe finds an outage before an order does, and its end', async (t) => {
  const { clock, health, probe } = setUp()
  probe.outcome = 'fails'
  health.start()
  await settle()
  t.equal(health.snapshot('a')?.state, 'down')
  probe.outcome = 'answers'
  await clock.advance(2 * MINUTE)
  t.equal(health.snapshot('a')?.state, 'up')
  health.stop()
})

t.test('what an order has found, a probe takes back after an hour of calm only', async (t) => {
  const { clock, health } = setUp()
  health.start()
  await settle()
  const order = await health.admit('a', never)
  order?.failed(outage)
  await clock.advance(50 * MINUTE)
  t.equal(health.snapshot('a')?.state, 'trial', 'a CA may answer probes and fail orders')
  await clock.advance(15 * MINUTE)
  t.equal(health.snapshot('a')?.state, 'up')
  health.stop()
})

t.test('a probe that fails here, and not at the CA, opens no breaker', async (t) => {
  const { clock, health, probe } = setUp()
  probe.error = new IssueError('LOCAL_FAILURE', 'a: the store cannot be read', {
    blame: 'local',
    retry: 'later',
  })
  probe.outcome = 'fails'
  health.start()
  await clock.advance(5 * MINUTE)
  t.match(health.snapshot('a'), { state: 'up', lastFailure: { reason: 'LOCAL_FAILURE' } })
  health.stop()
})

t.test('an outage that a probe has found outlives a restart, with the time when it began', async (t) => {
  const before = setUp()
  before.probe.outcome = 'fails'
  before.health.start()
  await settle()
  const { since } = before.health.snapshot('a') ?? {}
  const after = setUp({}, before.records.at(-1))
  await after.clock.advance(MINUTE)
  t.match(after.health.snapshot('a'), { state: 'down', since })
  before.health.stop()
})

t.test('while probes fail no order is risked, however long that takes', async (t) => {
  const { clock, health, probe } = setUp()
  probe.outcome = 'fails'
  health.start()
  await clock.advance(DAY)
  t.equal(await health.admit('a', never), undefined)
  t.ok(health.openAt('a') > clock.now())
  probe.outcome = 'answers'
  await clock.advance(2 * MINUTE)
  t.ok(await health.admit('a', never), 'and an answer is noticed within two minutes')
  health.stop()
})

t.test('a probe that hangs counts as a failure after eight seconds', async (t) => {
  const { clock, health, probe } = setUp()
  probe.outcome = 'hangs'
  health.start()
  await clock.advance(7 * SECOND)
  t.equal(health.snapshot('a')?.state, 'up')
  await clock.advance(2 * SECOND)
  t.equal(health.snapshot('a')?.lastFailure?.reason, 'CA_TIMEOUT')
  t.equal(health.snapshot('a')?.state, 'down')
  health.stop()
})

t.test('each probe that fails is told of, with its reason', async (t) => {
  const told: [string, string][] = []
  const { clock, health, probe } = setUp({ onProbeFailed: (...failure) => told.push(failure) })
  probe.outcome = 'fails'
  health.start()
  await clock.advance(2 * MINUTE)
  t.same(told, [
    ['a', 'CA_UNAVAILABLE'],
    ['a', 'CA_UNAVAILABLE'],
  ])
  health.stop()
})

t.test('no probe follows a stop', async (t) => {
  const { clock, health, probe } = setUp()
  health.start()
  await settle()
  health.stop()
  await clock.advance(10 * MINUTE)
  t.equal(probe.count, 1)
})

t.test('an outage outlives a restart', async (t) => {
  const before = setUp()
  const admission = await before.health.admit('a', never)
  admission?.failed(outage)
  const after = setUp({ clock: before.clock }, before.records.at(-1))
  t.equal(after.health.snapshot('a')?.state, 'down')
  t.equal(after.health.snapshot('a')?.lastFailure?.message, 'a: answered 503')
})

t.test('a clock that is set back a month ends a pause', async (t) => {
  const { clock, health } = setUp()
  const admission = await health.admit('a', never)
  admission?.failed(outage)
  clock.jump(-30 * DAY)
  t.ok(await health.admit('a', never))
})

t.test('a CA whose status page reports trouble is asked last, but asked', async (t) => {
  const { health } = setUp()
  health.add({ id: 'b', issue: () => Promise.reject(new Error()), probe: () => Promise.resolve() })
  t.same(health.order(['a', 'b', 'unknown']), ['a', 'b'])
  health.setTroubled('a', true)
  t.same(health.order(['a', 'b']), ['b', 'a'])
  t.ok(await health.admit('a', never))
})
