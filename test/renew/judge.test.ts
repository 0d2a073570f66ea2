import t from 'tap'
import type { Certificate } from '../../src/cert/certificate.ts'
import { Inventory } from '../../src/cert/inventory.ts'
import { type Fault, Verdicts } from '../../src/cert/verdicts.ts'
import { settle, VirtualClock } from '../../src/commands/simulate/virtual-clock.ts'
import { datesOnly, memoryRecords } from '../../src/commands/simulate/world.ts'
import { silentLog } from '../../src/log.ts'
import { Judge, type JudgeOptions } from '../../src/renew/judge.ts'
import { DAY, HOUR, MINUTE } from '../../src/time.ts'
import { seeded } from '../support/fleet.ts'

const HOST = 'app.example.com'

function setUp(more: Partial<JudgeOptions> = {}) {
  const clock = new VirtualClock()
  const verdicts = new Verdicts()
  const inventory = new Inventory(clock, verdicts)
  const live = datesOnly('a', [HOST], clock.now(), 90 * DAY, seeded())
  inventory.publish(HOST, 'live', live)
  const passed: [Certificate, Fault][] = []
  const records = memoryRecords()
  const make = (): Judge =>
    new Judge({
      clock,
      log: silentLog(),
      records,
      inventory,
      verdicts,
      verify: () => {},
      endOf: ({ notAfter }) => notAfter,
      isRevoked: async () => false,
      onVerdict: (certificate, fault) => passed.push([certificate, fault]),
      ...more,
    })
  return { clock, inventory, verdicts, live, passed, judge: make(), records }
}

t.test('a certificate that its CA has revoked is condemned, and told once', async (t) => {
  const { judge, live, passed, verdicts } = setUp({ isRevoked: async () => true })
  await judge.review()
  await judge.review()
  t.equal(verdicts.faultOf(live), 'revoked')
  t.same(passed, [[live, 'revoked']])
  await judge.stop()
})

t.test('what cannot be told about a revocation is no verdict', async (t) => {
  for (const isRevoked of [async () => undefined, () => Promise.reject(new Error('no answer'))]) {
    const { judge, live, verdicts } = setUp({ isRevoked })
    await judge.review()
    t.equal(verdicts.faultOf(live), undefined)
    await judge.stop()
  }
})

t.test('a chain that no longer verifies is condemned, until it does again', async (t) => {
  let trusted = false
  const verify = (): void => {
    if (!trusted) throw new Error('the root is gone')
  }
  const { judge, live, verdicts } = setUp({ verify })
  await judge.review()
  t.equal(verdicts.faultOf(live), 'unverifiable')
  trusted = true
  await judge.review()
  t.equal(verdicts.faultOf(live), undefined)
  await judge.stop()
})

t.test(
  'a chain is condemned when it ends, not at the next look, and absolved with a clock that was ahead',
  async (t) => {
    const end = new VirtualClock().now() + 2 * HOUR
    const verify = (): void => {
      if (clock.now() >= end) throw new Error('an intermediate has expired')
    }
    const { clock, judge, live, passed, verdicts } = setUp({ verify, endOf: () => end })
    judge.start()
    await clock.advance(2 * HOUR - 1)
    t.equal(verdicts.faultOf(live), undefined)
    await clock.advance(1)
    t.equal(verdicts.faultOf(live), 'unverifiable')
    t.same(passed, [[live, 'unverifiable']])
    clock.jump(-HOUR)
    await clock.advance(MINUTE)
    t.equal(verdicts.faultOf(live), undefined)
    clock.jump(HOUR)
    await clock.advance(MINUTE)
    t.equal(verdicts.faultOf(live), 'unverifiable')
    await judge.stop()
  },
)

t.test('one whose chain lasts as long as itself is left to the next look', async (t) => {
  let looks = 0
  const { clock, judge } = setUp({ verify: () => void looks++ })
  judge.start()
  await clock.advance(3 * HOUR)
  t.equal(looks, 1)
  await judge.stop()
})

t.test('a certificate that its CA demands back is condemned, told once, and absolved with it', async (t) => {
  const { judge, live, passed, verdicts, records } = setUp()
  await judge.setRecalled(live, true)
  await judge.setRecalled(live, true)
  t.equal(verdicts.faultOf(live), 'recalled')
  t.same(passed, [[live, 'recalled']])
  t.match(await records.loadState('verdicts', 'all'), { condemned: { [live.fingerprint]: 'recalled' } })
  await judge.setRecalled(live, false)
  t.equal(verdicts.faultOf(live), undefined)
  t.match(await records.loadState('verdicts', 'all'), { condemned: {} })
})

t.test('a compromised key is told of every certificate that has it', async (t) => {
  const { inventory, judge, live, passed } = setUp()
  const alike = datesOnly('b', ['www.example.com'], 0, DAY, seeded(2))
  Object.defineProperty(alike, 'keyFingerprint', { value: live.keyFingerprint })
  const other = datesOnly('b', ['other.example.com'], 0, DAY, seeded(3))
  inventory.publish('www.example.com', 'live', alike)
  inventory.publish('other.example.com', 'live', other)
  await judge.condemn(live, 'compromised')
  t.same(passed, [
    [live, 'compromised'],
    [alike, 'compromised'],
  ])
})

t.test('verdicts that come while others are written are written too', async (t) => {
  const memory = memoryRecords()
  const saved = Promise.withResolvers<void>()
  let writes = 0
  const saveState: typeof memory.saveState = async (...record) => {
    writes++
    await saved.promise
    await memory.saveState(...record)
  }
  const { judge } = setUp({ records: { ...memory, saveState } })
  const words = ['b', 'c', 'd'].map((ca) => judge.setDistrusted(ca, true))
  saved.resolve()
  await Promise.all(words)
  t.match(await memory.loadState('verdicts', 'all'), { distrusted: ['b', 'c', 'd'] })
  t.equal(writes, 2)
})

t.test(
  'what the config comes to distrust is told, and nothing of it is left when it does no more',
  async (t) => {
    const { judge, live, passed, verdicts } = setUp()
    judge.distrustOnly(new Set(['a']))
    judge.distrustOnly(new Set(['a']))
    t.equal(verdicts.faultOf(live), 'distrusted')
    t.same(passed, [[live, 'distrusted']])
    judge.distrustOnly(new Set())
    t.equal(verdicts.faultOf(live), undefined)
  },
)

t.test('it looks at the start and every six hours', async (t) => {
  let looks = 0
  const verify = (): void => void looks++
  const { clock, judge } = setUp({ verify })
  judge.start()
  const pass = async (ms: number): Promise<void> => {
    await clock.advance(ms)
    await settle()
    await settle()
  }
  await pass(1)
  t.equal(looks, 1)
  for (const look of [2, 3, 4]) {
    await pass(6 * HOUR)
    t.equal(looks, look)
  }
  await judge.stop()
  await clock.advance(3 * DAY)
  t.equal(looks, 4, 'and not after its stop')
})

t.test('the word of the operator outlives a restart', async (t) => {
  const records = memoryRecords()
  const before = setUp({ records })
  t.equal(await before.judge.setDistrusted('a', true), true)
  t.equal(await before.judge.setDistrusted('a', true), false, 'once is enough')
  t.same(before.passed, [[before.live, 'distrusted']])
  await before.judge.condemn(before.live, 'compromised')
  const after = setUp({ records })
  await after.judge.load()
  t.equal(after.verdicts.isDistrusted('a'), true)
  t.equal(after.verdicts.faultOf(before.live), 'compromised')
})
