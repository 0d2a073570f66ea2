import t from 'tap'
import type { Certificate } from '../../src/cert/certificate.ts'
import { Inventory } from '../../src/cert/inventory.ts'
import { Verdicts } from '../../src/cert/verdicts.ts'
import { VirtualClock } from '../../src/commands/simulate/virtual-clock.ts'
import { datesOnly } from '../../src/commands/simulate/world.ts'
import { DAY } from '../../src/time.ts'
import { seeded } from '../support/fleet.ts'

const HOST = 'app.example.com'

function setUp() {
  const clock = new VirtualClock()
  const random = seeded()
  const make = (source: string): Certificate => datesOnly(source, [HOST], clock.now(), 90 * DAY, random)
  const verdicts = new Verdicts()
  const inventory = new Inventory(clock, verdicts)
  const [live, standby] = [make('a'), make('b')]
  inventory.publish(HOST, 'live', live)
  inventory.publish(HOST, 'standby', standby)
  return { clock, verdicts, inventory, live, standby, make }
}

for (const fault of ['revoked', 'unverifiable', 'compromised'] as const) {
  t.test(`the standby is served as soon as the live certificate is ${fault}`, async (t) => {
    const { inventory, verdicts, live, standby } = setUp()
    t.equal(inventory.find(HOST), live)
    verdicts.condemn(live, fault)
    t.equal(inventory.find(HOST), standby)
  })
}

t.test(
  'the standby is served while the CA of the live certificate is distrusted, and the live one again after',
  async (t) => {
    const { inventory, verdicts, live, standby } = setUp()
    verdicts.setDistrusted('a', true)
    t.equal(inventory.find(HOST), standby)
    verdicts.setDistrusted('a', false)
    t.equal(inventory.find(HOST), live)
  },
)

t.test('a new live certificate that is good is served again', async (t) => {
  const { inventory, verdicts, live, make } = setUp()
  verdicts.condemn(live, 'revoked')
  const renewed = make('a')
  inventory.publish(HOST, 'live', renewed)
  t.equal(inventory.find(HOST), renewed)
})

t.test('a revoked certificate is better than none, a compromised key is not', async (t) => {
  const { inventory, verdicts, live } = setUp()
  inventory.withdraw(HOST, 'standby')
  verdicts.condemn(live, 'revoked')
  t.equal(inventory.find(HOST), live)
  verdicts.condemn(live, 'compromised')
  t.equal(inventory.find(HOST), undefined)
})

t.test('a compromised key is served in no certificate that has it, whenever that came', async (t) => {
  const { inventory, verdicts, live, standby, make } = setUp()
  const renewed = Object.defineProperty(make('a'), 'keyFingerprint', { value: live.keyFingerprint })
  verdicts.condemn(live, 'compromised')
  inventory.publish(HOST, 'live', renewed)
  t.equal(verdicts.faultOf(renewed), 'compromised')
  t.equal(inventory.find(HOST), standby)
})

t.test('a chain that verifies again is absolved, a compromised key never', async (t) => {
  const { verdicts, live, standby } = setUp()
  verdicts.condemn(live, 'unverifiable')
  t.equal(verdicts.absolve(live, 'unverifiable'), true)
  t.equal(verdicts.faultOf(live), undefined)
  verdicts.condemn(standby, 'compromised')
  t.equal(verdicts.condemn(standby, 'revoked'), false)
  t.equal(verdicts.absolve(standby, 'unverifiable'), false)
  t.equal(verdicts.faultOf(standby), 'compromised')
})

t.test('a revoked certificate whose chain fails and verifies again is still revoked', async (t) => {
  const { verdicts, live } = setUp()
  verdicts.condemn(live, 'recalled')
  verdicts.condemn(live, 'revoked')
  t.equal(verdicts.condemn(live, 'unverifiable'), false)
  t.equal(verdicts.absolve(live, 'unverifiable'), false)
  t.equal(verdicts.absolve(live, 'recalled'), false)
  t.equal(verdicts.faultOf(live), 'revoked')
})

t.test('the config and the operator distrust a CA apart from each other', async (t) => {
  const { verdicts, live } = setUp()
  t.same(verdicts.setConfigured(new Set(['a', 'b'])), ['a', 'b'])
  t.same(verdicts.setConfigured(new Set(['a'])), [], 'nothing that was not distrusted before')
  verdicts.setDistrusted('a', true)
  verdicts.setDistrusted('a', false)
  t.equal(verdicts.faultOf(live), 'distrusted', 'the config does')
  const inWorker = new Verdicts()
  inWorker.restore(JSON.parse(JSON.stringify(verdicts.snapshot(() => true))))
  t.equal(inWorker.faultOf(live), 'distrusted')
  verdicts.setDistrusted('a', true)
  verdicts.setConfigured(new Set())
  t.equal(verdicts.faultOf(live), 'distrusted', 'the operator does')
  verdicts.setDistrusted('a', false)
  t.equal(verdicts.faultOf(live), undefined)
})

t.test('verdicts outlive a restart, as long as they matter', async (t) => {
  const { verdicts, live, standby } = setUp()
  verdicts.condemn(live, 'revoked')
  verdicts.condemn(standby, 'compromised')
  verdicts.setDistrusted('c', true)
  const after = new Verdicts()
  after.restore(JSON.parse(JSON.stringify(verdicts.snapshot(() => false))))
  t.equal(after.faultOf(live), undefined, 'nobody holds it any more')
  t.equal(after.faultOf(standby), 'compromised')
  t.equal(after.isDistrusted('c'), true)
})

t.test(
  'a compromise that was kept by the fingerprint of the certificate, as once it was, still stands',
  async (t) => {
    const { inventory, verdicts, live, standby } = setUp()
    // `datesOnly` has one fingerprint for both.
    const certificate = Object.assign(Object.create(live), { keyFingerprint: 'another' })
    inventory.publish(HOST, 'live', certificate)
    verdicts.restore({ condemned: { [live.fingerprint]: 'compromised' }, distrusted: [] })
    t.equal(verdicts.faultOf(certificate), 'compromised')
    t.equal(inventory.find(HOST), standby)
  },
)
