import t from 'tap'
import { Capacity } from '../../src/ca/capacity.ts'
import { Ledger, type RateLimit } from '../../src/ca/ledger.ts'
import { VirtualClock } from '../../src/commands/simulate/virtual-clock.ts'
import { DAY, HOUR } from '../../src/time.ts'

const ACCOUNT: RateLimit = { scope: 'account', limit: 3, windowMs: 3 * HOUR }
const DOMAIN: RateLimit = { scope: 'domain', limit: 2, windowMs: 7 * DAY }

/** The ledger's own hosts are of other domains than those of `hosts`. */
function makeCapacity(limits: readonly RateLimit[], ordered = 0) {
  const clock = new VirtualClock()
  const ledger = new Ledger(limits, clock)
  for (let index = 0; index < ordered; index++) ledger.ordered([`ordered${index}.test`], false)
  const now = clock.now()
  const capacity = new Capacity(ledger, now)
  /** How many of so many hosts may be ordered within so long. */
  const count = (hosts: readonly string[], withinMs: number): number =>
    hosts.filter((host) => capacity.plan([host], now + withinMs)).length
  return { count, ledger }
}

const hosts = (count: number, domain = (index: number) => `example${index}.com`): string[] =>
  Array.from({ length: count }, (_, index) => `app${index}.${domain(index)}`)

t.test('without limits there is room for everybody', async (t) => {
  t.equal(makeCapacity([]).count(hosts(1000), 0), 1000)
})

t.test('each window of the account takes as many as the limit', async (t) => {
  for (const [withinMs, most] of [
    [0, 3],
    [3 * HOUR - 1, 3],
    [3 * HOUR, 6],
    [9 * HOUR, 12],
  ] as const)
    t.equal(makeCapacity([ACCOUNT]).count(hosts(100), withinMs), most, `${withinMs} ms`)
})

t.test('what was ordered lately takes room, and what is planned is not ordered', async (t) => {
  const { count, ledger } = makeCapacity([ACCOUNT], 2)
  t.equal(count(hosts(100), 0), 1)
  t.equal(ledger.openAt(['app.example.com'], false), 0)
})

t.test('the hosts of one domain are held up by its limit, and others not by them', async (t) => {
  const { count } = makeCapacity([ACCOUNT, DOMAIN])
  const ofOne = hosts(100, () => 'example.org')
  t.equal(count(ofOne, DAY), 2)
  t.equal(count(hosts(100), 3 * HOUR), 4)
  t.equal(count(ofOne, 15 * DAY), 4, 'and go on in a week, and in two')
})

t.test('failures that may come are not planned', async (t) => {
  const { count } = makeCapacity([{ scope: 'failures', limit: 1, windowMs: HOUR }])
  t.equal(count(['app.example.com', 'app.example.com'], 0), 2)
})
