import t from 'tap'
import { VirtualClock } from '../../src/commands/simulate/virtual-clock.ts'
import { RateLimit } from '../../src/http/rate-limit.ts'

const SECOND = 1000

function limitOf(config: { requests: number; per: number; burst?: number }): [RateLimit, VirtualClock] {
  const clock = new VirtualClock()
  return [new RateLimit({ burst: undefined, ...config }, clock), clock]
}

t.test('a client has its requests at once, and then one at every even step', async (t) => {
  const [limit, clock] = limitOf({ requests: 3, per: 3 * SECOND })
  for (let i = 0; i < 3; i++) t.equal(limit.take('192.0.2.1'), 0)
  t.equal(limit.take('192.0.2.1'), SECOND, 'when to come again')
  await clock.advance(SECOND - 1)
  t.equal(limit.take('192.0.2.1'), 1)
  await clock.advance(1)
  t.equal(limit.take('192.0.2.1'), 0)
  t.equal(limit.take('192.0.2.1'), SECOND)
})

t.test('a refused request does not count', async (t) => {
  const [limit, clock] = limitOf({ requests: 1, per: SECOND })
  t.equal(limit.take('192.0.2.1'), 0)
  for (let i = 0; i < 5; i++) t.equal(limit.take('192.0.2.1'), SECOND)
  await clock.advance(SECOND)
  t.equal(limit.take('192.0.2.1'), 0)
})

t.test('who was silent has no more than a burst', async (t) => {
  const [limit, clock] = limitOf({ requests: 10, per: 10 * SECOND, burst: 2 })
  await clock.advance(3600 * SECOND)
  t.equal(limit.take('192.0.2.1'), 0)
  t.equal(limit.take('192.0.2.1'), 0)
  t.equal(limit.take('192.0.2.1'), SECOND)
})

t.test('even steps that are no whole numbers add up', async (t) => {
  const [limit, clock] = limitOf({ requests: 3, per: SECOND, burst: 1 })
  let passed = 0
  for (let i = 0; i < 300; i++) {
    if (limit.take('192.0.2.1') === 0) passed++
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
    t.equal(limit.take(one), 0)
    t.equal(limit.take(other) > 0, together, `${one} ${other}`)
  }
})

t.test('past its bound it forgets who was silent for longest', async (t) => {
  const [limit] = limitOf({ requests: 1, per: SECOND })
  const address = (i: number): string => `10.${i >> 16}.${(i >> 8) & 255}.${i & 255}`
  limit.take(address(0))
  for (let i = 1; i <= 100_000; i++) limit.take(address(i))
  t.ok(limit.take(address(100_000)) > 0, 'the newest is known')
  t.equal(limit.take(address(0)), 0, 'the oldest is not')
})
