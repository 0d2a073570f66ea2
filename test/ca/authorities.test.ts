import t from 'tap'
import { Authorities } from '../../src/ca/authorities.ts'
import { VirtualClock } from '../../src/commands/simulate/virtual-clock.ts'
import { memoryRecords, SimulatedCa } from '../../src/commands/simulate/world.ts'
import { type Ca, resolveCa } from '../../src/config/cas.ts'
import { silentLog } from '../../src/log.ts'
import { DAY, SECOND } from '../../src/time.ts'

const CA = 'letsencrypt'
const NAMES = ['app.example.com']
/** Let's Encrypt's for one set of names, in seven days. */
const LIMIT = 5

/** Two processes' worth over one store. */
function setUp() {
  const clock = new VirtualClock()
  const records = memoryRecords()
  const start = async (): Promise<Authorities> => {
    const issuer = new SimulatedCa({ id: CA, lifetimeMs: 45 * DAY, clock, random: () => 0.5 })
    const options = { clock, random: () => 0.5, log: silentLog(), records, onChange: () => {} }
    const authorities = new Authorities({ ...options, createIssuer: () => issuer })
    await authorities.update(new Map([[CA, resolveCa(CA, undefined) as Ca]]))
    return authorities
  }
  return { clock, start }
}

const order = (authorities: Authorities): unknown => authorities.access(CA)?.ledger.ordered(NAMES, false)
const isOpen = (authorities: Authorities): boolean =>
  authorities.access(CA)?.ledger.openAt(NAMES, false) === 0

t.test(
  'an order is kept within a second, though others follow it, for a process that is killed',
  async (t) => {
    const { clock, start } = setUp()
    const killed = await start()
    for (let orders = 0; orders < LIMIT + 2; orders++) {
      order(killed)
      await clock.advance(0.9 * SECOND)
    }
    t.notOk(isOpen(await start()))
  },
)

t.test('what was ordered while the clock was a month behind counts after a restart', async (t) => {
  const { clock, start } = setUp()
  const stopped = await start()
  clock.jump(-30 * DAY)
  for (let orders = 0; orders < LIMIT; orders++) order(stopped)
  await clock.advance(10 * SECOND)
  clock.jump(30 * DAY)
  await stopped.stop()
  t.notOk(isOpen(await start()))
})
