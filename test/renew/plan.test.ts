import t from 'tap'
import {
  type Candidate,
  type Duty,
  type Held,
  HOPELESS_AFTER,
  isRecalled,
  plan,
  renewalDueAt,
  retryDelayMs,
  type Situation,
} from '../../src/renew/plan.ts'
import { DAY, HOUR, MINUTE } from '../../src/time.ts'

const NOW = Date.parse('2026-06-19T00:00:00Z')

const open = (id: string): Candidate => ({ id, openAt: 0, degraded: false })
const down = (id: string, forMs = HOUR): Candidate => ({ id, openAt: NOW + forMs, degraded: true })

/** A certificate of `lifetimeMs` that is `age` (0 to 1) through its life; a fingerprint of zeros means no jitter. */
function held(source: string, age: number, lifetimeMs = 90 * DAY, more: Partial<Held> = {}): Held {
  const notBefore = NOW - age * lifetimeMs
  return { source, notBefore, notAfter: notBefore + lifetimeMs, fingerprint: '0'.repeat(64), ...more }
}

/** `a` and `b` are one. */
const COMPANIES = {
  cas: ['a', 'b', 'c'],
  operators: new Map([
    ['a', 'one'],
    ['b', 'one'],
    ['c', 'two'],
  ]),
  standby: 'always',
} as const

function situation(more: Partial<Situation>): Situation {
  return {
    now: NOW,
    policy: { cas: ['a', 'b'], standby: 'always' },
    live: undefined,
    standby: undefined,
    backoff: {},
    candidates: [open('a'), open('b')],
    ...more,
  }
}

t.test('what is ordered, from whom', async (t) => {
  const table: [string, Partial<Situation>, { duty: string; cas: string[] } | undefined][] = [
    ['no certificate: live, from the first CA on', {}, { duty: 'live', cas: ['a', 'b'] }],
    [
      'no certificate, first CA down: live, from the second',
      { candidates: [down('a'), open('b')] },
      { duty: 'live', cas: ['b'] },
    ],
    ['no certificate, all CAs down: nothing', { candidates: [down('a'), down('b')] }, undefined],
    [
      'young live, no standby: a standby from another CA',
      { live: held('a', 0.1) },
      { duty: 'standby', cas: ['b'] },
    ],
    [
      'young live, standbys off: nothing',
      { live: held('a', 0.1), policy: { cas: ['a', 'b'], standby: 'off' } },
      undefined,
    ],
    [
      'young ones of both, the order of the CAs turned around, as `spread` does: nothing',
      {
        policy: { cas: ['b', 'a'], standby: 'always' },
        candidates: [open('b'), open('a')],
        live: held('a', 0.1),
        standby: held('b', 0.1),
      },
      undefined,
    ],
    [
      'young live, one CA: nothing',
      { live: held('a', 0.1), policy: { cas: ['a'], standby: 'always' }, candidates: [open('a')] },
      undefined,
    ],
    [
      'standby on-degraded, CA well: nothing',
      { live: held('a', 0.1), policy: { cas: ['a', 'b'], standby: 'on-degraded' } },
      undefined,
    ],
    [
      'standby on-degraded, CA of the live one down: a standby',
      {
        live: held('a', 0.1),
        policy: { cas: ['a', 'b'], standby: 'on-degraded' },
        candidates: [down('a'), open('b')],
      },
      { duty: 'standby', cas: ['b'] },
    ],
    [
      'another name of the CA of the live one, and another company: a standby from the company',
      { live: held('a', 0.1), policy: COMPANIES, candidates: [open('a'), open('b'), open('c')] },
      { duty: 'standby', cas: ['c'] },
    ],
    [
      'the other company down: it is waited for',
      { live: held('a', 0.1), policy: COMPANIES, candidates: [open('a'), open('b'), down('c')] },
      undefined,
    ],
    [
      'the other company never asked, for it is distrusted: a standby from the other name',
      {
        live: held('a', 0.1),
        policy: COMPANIES,
        candidates: [open('a'), open('b'), down('c', Number.POSITIVE_INFINITY)],
      },
      { duty: 'standby', cas: ['b'] },
    ],
    [
      'no other company: a standby from the other name',
      { live: held('a', 0.1), policy: { ...COMPANIES, cas: ['a', 'b'] } },
      { duty: 'standby', cas: ['b'] },
    ],
    [
      'a young standby from another name of the CA of the live one, and another company: a standby from the company',
      {
        live: held('a', 0.1),
        standby: held('b', 0.1),
        policy: COMPANIES,
        candidates: [open('a'), open('b'), open('c')],
      },
      { duty: 'standby', cas: ['c'] },
    ],
    [
      'the same where the other company is never asked: nothing',
      {
        live: held('a', 0.1),
        standby: held('b', 0.1),
        policy: COMPANIES,
        candidates: [open('a'), open('b'), down('c', Number.POSITIVE_INFINITY)],
      },
      undefined,
    ],
    ['both young: nothing', { live: held('a', 0.1), standby: held('b', 0.1) }, undefined],
    [
      'live past two thirds: live',
      { live: held('a', 0.67), standby: held('b', 0.1) },
      { duty: 'live', cas: ['a', 'b'] },
    ],
    [
      'standby past seven twelfths: standby',
      { live: held('a', 0.1), standby: held('b', 0.59) },
      { duty: 'standby', cas: ['b'] },
    ],
    [
      'short life past one half: live',
      { live: held('a', 0.51, 6 * DAY), standby: held('b', 0.1) },
      { duty: 'live', cas: ['a', 'b'] },
    ],
    [
      'live and standby of one CA, the other well: a new standby',
      { live: held('b', 0.1), standby: held('b', 0.1) },
      { duty: 'standby', cas: ['a'] },
    ],
    [
      'live and standby of one CA, the other down: nothing',
      { live: held('b', 0.1), standby: held('b', 0.1), candidates: [down('a'), open('b')] },
      undefined,
    ],
    [
      'live of a CA that the policy no longer names: live',
      { live: held('old', 0.1) },
      { duty: 'live', cas: ['a', 'b'] },
    ],
    [
      'young live imported by hand: a standby only',
      { live: held('import', 0.1) },
      { duty: 'standby', cas: ['a', 'b'] },
    ],
    [
      'live condemned: live',
      { live: held('a', 0.1, 90 * DAY, { condemned: true }), standby: held('b', 0.1) },
      { duty: 'live', cas: ['a', 'b'] },
    ],
    [
      'the CA wishes it renewed by now: live',
      {
        live: held('a', 0.1, 90 * DAY, { window: { start: NOW - DAY, end: NOW + DAY } }),
        standby: held('b', 0.1),
      },
      { duty: 'live', cas: ['a', 'b'] },
    ],
    [
      'the CA wishes it renewed later than we would: nothing',
      {
        live: held('a', 0.7, 90 * DAY, { window: { start: NOW + DAY, end: NOW + 2 * DAY } }),
        standby: held('b', 0.1),
      },
      undefined,
    ],
    [
      'the CA wishes it renewed when it has ended: live, a sixth of the lifetime before',
      {
        live: held('a', 0.84, 90 * DAY, { window: { start: NOW + 30 * DAY, end: NOW + 31 * DAY } }),
        standby: held('b', 0.1),
      },
      { duty: 'live', cas: ['a', 'b'] },
    ],
    [
      'a short life, and the CA wishes it renewed at the last moment: live, a third of the lifetime before',
      {
        live: held('a', 0.67, 6 * DAY, { window: { start: NOW + DAY, end: NOW + 2 * DAY } }),
        standby: held('b', 0.1),
      },
      { duty: 'live', cas: ['a', 'b'] },
    ],
    [
      'backing off: nothing',
      { backoff: { live: { failures: 1, lastAt: NOW - MINUTE, delayMs: HOUR } } },
      undefined,
    ],
    [
      'backed off long enough: live',
      { backoff: { live: { failures: 1, lastAt: NOW - 2 * HOUR, delayMs: HOUR } } },
      { duty: 'live', cas: ['a', 'b'] },
    ],
    [
      'backing off by a clock that was set back a month since: live',
      { backoff: { live: { failures: 1, lastAt: NOW + 30 * DAY, delayMs: HOUR } } },
      { duty: 'live', cas: ['a', 'b'] },
    ],
    [
      'backing off from the CA that failed it: live, from the other at once',
      { backoff: { live: { failures: 9, lastAt: NOW - MINUTE, delayMs: HOUR, failed: ['a'] } } },
      { duty: 'live', cas: ['b'] },
    ],
    [
      'live backing off does not stop the standby',
      { live: held('a', 0.9), backoff: { live: { failures: 1, lastAt: NOW, delayMs: HOUR } } },
      { duty: 'standby', cas: ['b'] },
    ],
  ]
  for (const [name, more, expected] of table) {
    const { order } = plan(situation(more))
    t.same(order === undefined ? undefined : { duty: order.duty, cas: order.cas }, expected, name)
  }
})

t.test('when to plan again', async (t) => {
  const due = (live: Held): number => plan(situation({ live, standby: held('b', 0.1) })).wakeAt
  t.equal(due(held('a', 0.66)), renewalDueAt(held('a', 0.66), 'live'), 'at the renewal when it is near')
  t.equal(due(held('a', 0.1)), NOW + 7 * DAY, 'never later than in a week')
  t.equal(
    plan(situation({ candidates: [down('a', 10 * MINUTE), down('b', HOUR)] })).wakeAt,
    NOW + 10 * MINUTE,
    'when the first CA may be tried',
  )
})

t.test('a host that backs off from one CA is planned again when the other is open', async (t) => {
  const backoff = { live: { failures: 1, lastAt: NOW, delayMs: HOUR, failed: ['a'] } }
  const full = { id: 'b', openAt: NOW + MINUTE, degraded: false }
  t.equal(plan(situation({ backoff, candidates: [open('a'), full] })).wakeAt, NOW + MINUTE)
})

t.test(
  'where the CA that may be tried again is in trouble, hosts with time left let others go first',
  async (t) => {
    const more = { standby: held('b', 0.1), candidates: [down('a', HOUR), down('b', HOUR)] }
    const wakeAt = (age: number, start: string): number =>
      plan(situation({ ...more, live: held('a', age, 90 * DAY, { fingerprint: start.padEnd(64, '0') }) }))
        .wakeAt
    const atOnce = NOW + HOUR
    t.equal(wakeAt(0.9, '00000000'), atOnce)
    t.ok(wakeAt(0.9, 'ffffffff') > atOnce + 12 * HOUR)
    const alone = {
      live: held('a', 0.9, 90 * DAY, { fingerprint: 'f'.repeat(64) }),
      candidates: more.candidates,
    }
    t.ok(plan(situation(alone)).wakeAt < atOnce + 2.2 * HOUR, 'less of it with less time left')
    t.equal(plan(situation({ candidates: more.candidates })).wakeAt, atOnce, 'none without a certificate')
    const full = { id: 'a', openAt: atOnce, degraded: false }
    const limited = { live: held('old', 0.9, 90 * DAY, { fingerprint: 'f'.repeat(64) }), candidates: [full] }
    t.equal(plan(situation(limited)).wakeAt, atOnce, 'none where a rate limit is what it waits for')
  },
)

t.test('a second CA is asked beside the first only when it is urgent', async (t) => {
  t.equal(plan(situation({})).order?.hedge, true, 'no certificate at all')
  t.equal(plan(situation({ live: held('a', 0.95) })).order?.hedge, true, 'last tenth of the lifetime')
  t.equal(plan(situation({ live: held('a', 0.7) })).order?.hedge, false, 'due, with time left')
})

t.test('renewals of certificates of one age are spread, and the same after a restart', async (t) => {
  const times = ['00000000', '7fffffff', 'ffffffff'].map((start) =>
    renewalDueAt(held('a', 0, 90 * DAY, { fingerprint: start.padEnd(64, '0') }), 'live'),
  )
  t.equal(new Set(times).size, 3)
  t.ok(Math.max(...times) - Math.min(...times) <= 0.05 * 90 * DAY)
  t.ok(Math.max(...times) <= NOW + 60 * DAY, 'never later than two thirds')
})

t.test('in one and the same window the standby is renewed before the live certificate', async (t) => {
  const window = { start: NOW + 60 * DAY, end: NOW + 62 * DAY }
  const dueAt = (start: string, duty: Duty): number =>
    renewalDueAt(held('a', 0, 90 * DAY, { window, fingerprint: start.padEnd(64, '0') }), duty)
  t.equal(dueAt('00000000', 'standby'), window.start)
  t.ok(dueAt('ffffffff', 'standby') <= dueAt('00000000', 'live'))
  t.ok(dueAt('ffffffff', 'live') <= window.end)
})

t.test('a CA demands a certificate back by a window that is over before its time', async (t) => {
  const table: [string, boolean, age: number, window: readonly [number, number] | undefined][] = [
    ['no window', false, 0.1, undefined],
    ['a window to come', false, 0.1, [DAY, 2 * DAY]],
    ['a window that is open', false, 0.1, [-DAY, DAY]],
    ['a window that is over, early in its life', true, 0.1, [-2 * DAY, -DAY]],
    ['a window that was where it belongs, and missed', false, 0.8, [-10 * DAY, -9 * DAY]],
  ]
  for (const [name, expected, age, ends] of table) {
    const [start, end] = ends ?? []
    const window =
      start === undefined || end === undefined ? {} : { window: { start: NOW + start, end: NOW + end } }
    t.equal(isRecalled(held('a', age, 90 * DAY, window), NOW), expected, name)
  }
})

t.test('a retry comes sooner as the end comes nearer, and never later than twelve hours', async (t) => {
  const middle = (): number => 0.5
  t.equal(retryDelayMs(1, 30 * DAY, middle), MINUTE)
  t.equal(retryDelayMs(30, 30 * DAY, middle), 12 * HOUR)
  t.equal(retryDelayMs(30, DAY, middle), 2 * HOUR)
  t.equal(retryDelayMs(30, -1, middle), 15 * MINUTE)
})

t.test('a host that never validates does not use up the failures in a row that a CA forgives', async (t) => {
  // As Let's Encrypt counts: 1,152 at once, and one a day is forgiven.
  let left = 1152
  let least = left
  for (let failures = 1, atMs = 0; atMs < 5 * 365 * DAY; failures++) {
    const delayMs = retryDelayMs(failures, -1, () => 0)
    // It proves itself each way it may at first, later each time by another.
    const proofs = failures > HOPELESS_AFTER ? 1 : 2
    left = Math.min(1152, left - proofs + delayMs / DAY)
    least = Math.min(least, left)
    atMs += delayMs
  }
  t.ok(least > 500, `${least} left`)
})
