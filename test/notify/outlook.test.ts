/** The forecast of the fleet as it is: what the CAs that are well may issue, and by when. */
import t from 'tap'
import { CaHealth } from '../../src/ca/health.ts'
import { Ledger, type RateLimit } from '../../src/ca/ledger.ts'
import { Inventory } from '../../src/cert/inventory.ts'
import { Verdicts } from '../../src/cert/verdicts.ts'
import { VirtualClock } from '../../src/commands/simulate/virtual-clock.ts'
import { datesOnly, SimulatedCa, simulatedLimits } from '../../src/commands/simulate/world.ts'
import { silentLog } from '../../src/log.ts'
import { Outlook } from '../../src/notify/outlook.ts'
import { DAY, HOUR } from '../../src/time.ts'
import { seeded } from '../support/fleet.ts'

interface FleetCase {
  readonly hosts: number
  /** Of each host's certificate. */
  readonly leftMs: number
  /** Who issued it; `a` when absent. */
  readonly source?: string
  readonly limits: readonly RateLimit[]
  readonly exemptsRenewals?: boolean
}

/** Every host may be supplied by `a` and by `b`, which has these limits; both are well. */
function makeOutlook({ hosts: count, leftMs, source = 'a', limits, exemptsRenewals = false }: FleetCase) {
  const clock = new VirtualClock()
  const shared = { clock, random: seeded(), log: silentLog() }
  const verdicts = new Verdicts()
  const inventory = new Inventory(clock, verdicts)
  const health = new CaHealth(shared)
  for (const id of ['a', 'b']) health.add(new SimulatedCa({ ...shared, id, lifetimeMs: 90 * DAY }))
  const hosts = Array.from({ length: count }, (_, index) => `site${index}.example${index}.com`)
  for (const host of hosts) {
    const age = 90 * DAY - leftMs
    inventory.publish(host, 'live', datesOnly(source, [host], clock.now() - age, 90 * DAY, shared.random))
  }
  const ledger = new Ledger(limits, clock)
  return {
    clock,
    ledger,
    outlook: new Outlook({
      clock,
      inventory,
      verdicts,
      health,
      access: () => ({ ledger, exemptsRenewals }),
      hosts: () => hosts.map((host) => ({ host, cas: ['a', 'b'] })),
    }),
  }
}

/** 300 in 3 hours. */
const { limits } = simulatedLimits('zerossl')

t.test("five thousand hosts that end before the second CA's rate limit lets them in are told", async (t) => {
  // At once, and after each 3 hours: 9 times 300.
  const { clock, outlook } = makeOutlook({ hosts: 5000, leftMs: DAY, limits })
  t.equal(outlook.exposures('a').length, 5000 - 2700)
  t.match(outlook.describe('a'), /^2300 hosts expire from /)
  t.equal(outlook.exposures('a').length, 5000 - 2700, 'asking costs nothing')
  t.equal(outlook.exposures('a')[0]?.from, clock.now() + DAY)
})

t.test('none of them is lost where there is time enough', async (t) => {
  t.equal(makeOutlook({ hosts: 5000, leftMs: 50 * HOUR, limits }).outlook.describe('a'), '')
})

t.test('renewals at a CA that keeps them out of its limits are not held up', async (t) => {
  const renewals = { hosts: 5000, leftMs: HOUR, source: 'b', limits }
  t.equal(makeOutlook({ ...renewals, exemptsRenewals: true }).outlook.describe('a'), '')
  t.equal(makeOutlook(renewals).outlook.exposures('a').length, 4700)
})

t.test('a CA that has told us to stay away (429) until the end is no help', async (t) => {
  const { ledger, outlook } = makeOutlook({ hosts: 1, leftMs: HOUR, limits: [] })
  t.equal(outlook.describe('a'), '')
  ledger.refused(['site0.example0.com'], 2 * HOUR)
  t.match(outlook.describe('a'), /^1 host expires on /)
})
