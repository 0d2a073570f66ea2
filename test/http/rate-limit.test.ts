import t from 'tap'
import { VirtualClock } from '../../src/commands/simulate/virtual-clock.ts'
import { RateLimit } from '../../src/http/rate-limit.ts'

const SECOND = 1000

function limitOf(config: {
  by?: string
  requests: number
  per: number
  burst?: number
}): [RateLimit, VirtualClock] {
  const clock = new VirtualClock()
  return [new RateLimit({ by: 'ip', burst: undefined, ...config }, clock), clock]
}

function take(limit: RateLimit, address = '192.0.2.1', key?: string): number {
  return limit.take(address, { field: (name) => (name === 'x-key' ? key : undefined) })
}

t.test('a client has its requests at once, and then one at every even step', async (t) => {
  const [limit, clock] = limitOf({ requests: 3, per: 3 * SECOND })
  for (let i = 0; i < 3; i++) t.equal(take(limit), 0)
  t.equal(take(limit), SECOND, 'when to come again')
  await clock.advance(SECOND - 1)
  t.equal(take(limit), 1)
  await clock.advance(1)
  t.equal(take(limit), 0)
  t.equal(take(limit), SECOND)
})

t.test('a refused request does not count', async (t) => {
  const [limit, clock] = limitOf({ requests: 1, per: SECOND })
  t.equal(take(limit), 0)
  for (let i = 0; i < 5; i++) t.equal(take(limit), SECOND)
  await clock.advance(SECOND)
  t.equal(take(limit), 0)
})

t.test('who was silent has no more than a burst', async (t) => {
  const [limit, clock] = limitOf({ requests: 10, per: 10 * SECOND, burst: 2 })
  await clock.advance(3600 * SECOND)
  t.equal(take(limit), 0)
  t.equal(take(limit), 0)
  t.equal(take(limit), SECOND)
})

t.test('even steps that are no whole numbers add up', async (t) => {
  const [limit, clock] = limitOf({ requests: 3, per: SECOND, burst: 1 })
  let passed = 0
  for (let i = 0; i < 300; i++) {
    if (take(limit) === 0) passed++
    await clock.advance(SECOND / 3)
  }
  t.equal(passed, 300)
})

t.test('clients count by themselves, IPv6 ones by their /64', async (t) => {
  for (const [one, other, together] of [
    ['192.0.2.1', '192.0.2.2', false],
    ['2001:db8::1', '2001:db8::2:3', true],
    ['2001:db8:0:0:1::1', '2001:0DB8::ffff', true],
    ['2001:db8:0:1::1', '2001:db8:0:2::1', false],
    ['::1', '1::', false],
  ] as const) {
    const [limit] = limitOf({ requests: 1, per: SECOND })
    t.equal(take(limit, one), 0)
    t.equal(take(limit, other) > 0, together, `${one} ${other}`)
  }
})

t.test('past its bound it forgets who was silent for longest', async (t) => {
  const [limit] = limitOf({ requests: 1, per: SECOND })
  const address = (i: number): string => `10.${i >> 16}.${(i >> 8) & 255}.${i & 255}`
  take(limit, address(0))
  for (let i = 1; i <= 100_000; i++) take(limit, address(i))
  t.ok(take(limit, address(100_000)) > 0, 'the newest is known')
  t.equal(take(limit, address(0)), 0, 'the oldest is not')
})

t.test('where a header tells clients apart, those without it count by their address', async (t) => {
  const [limit] = limitOf({ by: 'header:X-Key', requests: 1, per: SECOND })
  t.equal(take(limit, '192.0.2.1', 'a'), 0)
  t.equal(take(limit, '192.0.2.1', 'b'), 0)
  t.equal(take(limit, '192.0.2.1'), 0)
  t.ok(take(limit, '192.0.2.9', 'a') > 0, 'from another address')
  t.ok(take(limit, '192.0.2.1') > 0)
  t.equal(take(limit, '192.0.2.9', '192.0.2.1'), 0, 'a key that looks like an address')
})
