import t from 'tap'
import { Authorities } from '../../src/ca/authorities.ts'
import { VirtualClock } from '../../src/commands/simulate/virtual-clock.ts'
import { memoryRecords, SimulatedCa } from '../../src/commands/simulate/world.ts'
import { type Ca, resolveCa } from '../../src/config/cas.ts'
import type { CaConfig } from '../../src/config/schema.ts'
import { IssueError } from '../../src/errors.ts'
import { silentLog } from '../../src/log.ts'
import { DAY, SECOND } from '../../src/time.ts'

const CA = 'letsencrypt'
const STAGING = 'letsencrypt-staging'
const NAMES = ['app.example.com']
/** Let's Encrypt's for one set of names, in seven days. */
const LIMIT = 5

function update(authorities: Authorities, config: Partial<CaConfig> = {}): Promise<void> {
  return authorities.update(new Map([[CA, resolveCa(CA, { contact: [], ...config }) as Ca]]))
}

/** Two processes' worth over one store. */
function setUp() {
  const clock = new VirtualClock()
  const records = memoryRecords()
  const start = async (config?: Partial<CaConfig>): Promise<Authorities> => {
    const options = { clock, random: () => 0.5, log: silentLog(), records, onChange: () => {} }
    const authorities = new Authorities({
      ...options,
      createIssuer: ({ name }) =>
        new SimulatedCa({ id: name, lifetimeMs: 45 * DAY, clock, random: () => 0.5 }),
    })
    await update(authorities, config)
    return authorities
  }
  return { clock, records, start }
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

t.test('processes that share a store count together', async (t) => {
  const { clock, start } = setUp()
  const [one, other] = [await start(), await start()]
  for (let orders = 0; orders < LIMIT - 1; orders++) order(one)
  t.ok(isOpen(other))
  await clock.advance(1.1 * SECOND)
  order(other)
  await clock.advance(1.1 * SECOND)
  t.notOk(isOpen(other), 'an order made it hear of the others')
  t.ok(isOpen(one))
  order(one)
  await clock.advance(1.1 * SECOND)
  await one.stop()
  await other.stop()
  t.notOk(isOpen(await start()), 'and one that comes later knows of all')
})

t.test('what others have ordered is not forgotten while the store cannot be read', async (t) => {
  const { clock, records, start } = setUp()
  const [one, other] = [await start(), await start()]
  for (let orders = 0; orders < LIMIT - 1; orders++) order(one)
  await one.stop()
  order(other)
  await clock.advance(1.1 * SECOND)
  t.notOk(isOpen(other))
  const loadStates = records.loadStates.bind(records)
  records.loadStates = () => Promise.reject(new Error('the store is away'))
  other.access(CA)?.ledger.ordered(['app.example.org'], false)
  await clock.advance(1.1 * SECOND)
  t.notOk(isOpen(other))
  records.loadStates = loadStates
  await other.stop()
})

t.test('what is damaged in a ledger of others hides nothing else', async (t) => {
  const { records, start } = setUp()
  const refusals = [null, { domain: 'example.com' }, { domain: 'example.com', at: 'now', forMs: 1 }]
  const events = { 'account all': 'many', 'domain example.com': [null, '1'], 'names a': { 0: 1 } }
  for (const [id, value] of [
    ['0', { events: {}, refusals }],
    ['4', { events, refusals: [] }],
    ['1', null],
    ['2', []],
    ['3', { events: [], refusals: 'none' }],
  ] as const)
    await records.saveState('ledgers', `${CA}.${id}`, value)
  const one = await start()
  for (let orders = 0; orders < LIMIT; orders++) order(one)
  await one.stop()
  t.notOk(isOpen(await start()))
})

t.test('ledgers of processes that are long gone are removed, others stay', async (t) => {
  const { clock, records, start } = setUp()
  const keys = async (): Promise<string[]> => [...(await records.loadStates('ledgers')).keys()]
  const first = await start()
  order(first)
  await first.stop()
  const [kept] = await keys()
  await clock.advance(90 * DAY)
  await start()
  t.same(await keys(), [kept], 'whose clock is wrong must not lose what others have counted')
  await clock.advance(91 * DAY)
  await start()
  t.same(await keys(), [])
})

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

t.test(
  'limits of the config go before those that the CA publishes, and what was ordered counts on',
  async (t) => {
    const { start } = setUp()
    const authorities = await start()
    for (let orders = 0; orders < LIMIT; orders++) order(authorities)
    t.notOk(isOpen(authorities))
    await update(authorities, { rateLimits: { names: { limit: LIMIT + 1, per: DAY } } })
    t.ok(isOpen(authorities))
    order(authorities)
    t.notOk(isOpen(authorities))
    await update(authorities, { rateLimits: { names: false } })
    t.ok(isOpen(authorities))
  },
)

t.test('what one CA has counted is nothing to another that takes over its name', async (t) => {
  const { clock, start } = setUp()
  const authorities = await start()
  for (let orders = 0; orders < LIMIT; orders++) order(authorities)
  const admission = await authorities.health.admit(CA, new AbortController().signal)
  admission?.failed(new IssueError('CA_UNAVAILABLE', 'answered 503', { blame: 'ca', retry: 'now' }))
  await clock.advance(2 * SECOND)
  const staging = {
    directory: 'https://ca.example/directory',
    rateLimits: { names: { limit: LIMIT, per: DAY } },
  }
  await update(authorities, staging)
  t.ok(isOpen(authorities), 'at a reload')
  t.equal(authorities.health.snapshot(CA)?.state, 'up')
  t.ok(isOpen(await start(staging)), 'at a start')
})

t.test(
  'a breaker that an order has opened is open after a restart, and says since when and why',
  async (t) => {
    const { clock, start } = setUp()
    const stopped = await start()
    const admission = await stopped.health.admit(CA, new AbortController().signal)
    admission?.failed(new IssueError('CA_UNAVAILABLE', 'answered 503', { blame: 'ca', retry: 'now' }))
    const before = stopped.health.snapshot(CA)
    await clock.advance(10 * SECOND)
    await stopped.stop()
    const { health } = await start()
    t.match(before, { state: 'down', lastFailure: { reason: 'CA_UNAVAILABLE', message: 'answered 503' } })
    t.same(health.snapshot(CA), before)
    t.equal(await health.admit(CA, new AbortController().signal), undefined, 'no order goes there')
  },
)

t.test('CAs are listed in the order of the config, also after one of them has changed', async (t) => {
  const { start } = setUp()
  const authorities = await start()
  const cas = (config: Partial<CaConfig>): Map<string, Ca> =>
    new Map([
      [CA, resolveCa(CA, { contact: [], ...config }) as Ca],
      [STAGING, resolveCa(STAGING, undefined) as Ca],
    ])
  await authorities.update(cas({}))
  await authorities.update(cas({ profile: 'shortlived' }))
  t.same(
    authorities.health.snapshots().map(({ id }) => id),
    [CA, STAGING],
  )
})
