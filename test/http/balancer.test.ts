import t from 'tap'
import { VirtualClock } from '../../src/commands/simulate/virtual-clock.ts'
import { parseUpstream } from '../../src/config/schema.ts'
import { Backend } from '../../src/http/backend.ts'
import { Balancer } from '../../src/http/balancer.ts'

function makeBalancer(count: number): { balancer: Balancer; backends: Backend[]; clock: VirtualClock } {
  const clock = new VirtualClock()
  const backends = Array.from(
    { length: count },
    (_, i) => new Backend(parseUpstream(`http://127.0.0.1:${i + 1}`)!, undefined),
  )
  return { balancer: new Balancer(backends, clock), backends, clock }
}

t.test('each in its turn', async (t) => {
  const { balancer, backends } = makeBalancer(3)
  t.strictSame(
    Array.from({ length: 7 }, () => backends.indexOf(balancer.pick()!)),
    [0, 1, 2, 0, 1, 2, 0],
  )
})

t.test('one that cannot be connected to is left out for ten seconds', async (t) => {
  const { balancer, backends, clock } = makeBalancer(3)
  balancer.connectFailed(backends[1]!)
  const turns = (): number[] => Array.from({ length: 4 }, () => backends.indexOf(balancer.pick()!))
  t.strictSame(turns(), [0, 2, 0, 2])
  await clock.advance(9_999)
  t.notOk(turns().includes(1))
  await clock.advance(1)
  t.ok(turns().includes(1))
})

t.test('one that is connected to again is back at once', async (t) => {
  const { balancer, backends } = makeBalancer(2)
  balancer.connectFailed(backends[0]!)
  balancer.connected(backends[0]!)
  t.ok([balancer.pick(), balancer.pick()].includes(backends[0]))
})

t.test('a request does not get one that it has tried', async (t) => {
  const { balancer, backends } = makeBalancer(2)
  const first = balancer.pick()!
  const second = balancer.pick([first])!
  t.strictSame([first, second].map((backend) => backends.indexOf(backend)).sort(), [0, 1])
  t.equal(balancer.pick([first, second]), undefined)
})

t.test('when all failed lately, the one that failed first is tried, and only one', async (t) => {
  const { balancer, backends, clock } = makeBalancer(2)
  balancer.connectFailed(backends[1]!)
  await clock.advance(10)
  balancer.connectFailed(backends[0]!)
  t.equal(balancer.pick(), backends[1])
  t.equal(balancer.pick([backends[1]!]), undefined)
})

t.test('the only one is never given up', async (t) => {
  const { balancer, backends } = makeBalancer(1)
  balancer.connectFailed(backends[0]!)
  t.equal(balancer.pick(), backends[0])
})

t.test('no backends, no pick', async (t) => {
  t.equal(makeBalancer(0).balancer.pick(), undefined)
})
