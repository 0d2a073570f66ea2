import t from 'tap'
import { Inventory } from '../../src/cert/inventory.ts'
import { Verdicts } from '../../src/cert/verdicts.ts'
import { VirtualClock } from '../../src/commands/simulate/virtual-clock.ts'
import { datesOnly } from '../../src/commands/simulate/world.ts'
import type { HoldfastEvent } from '../../src/events.ts'
import { CertificateWatch } from '../../src/notify/watch.ts'
import { DAY, HOUR, MINUTE } from '../../src/time.ts'
import { seeded } from '../support/fleet.ts'

const HOST = 'app.example.com'
const random = seeded()

function makeWatch() {
  const clock = new VirtualClock()
  const verdicts = new Verdicts()
  const inventory = new Inventory(clock, verdicts)
  const events: HoldfastEvent[] = []
  const watch = new CertificateWatch({ clock, inventory, verdicts, onEvent: (event) => events.push(event) })
  const publish = (role: 'live' | 'standby' | 'interim', source: string, lifetimeMs: number) => {
    const certificate = datesOnly(source, [HOST], clock.now(), lifetimeMs, random)
    inventory.publish(HOST, role, certificate)
    return certificate
  }
  const types = (): string[] => events.map(({ type }) => type)
  return { clock, verdicts, inventory, events, watch, publish, types }
}

t.test(
  'when the live certificate ends the standby is served, and the switch is told; and the way back',
  async (t) => {
    const { clock, events, publish, watch } = makeWatch()
    publish('live', 'a', DAY)
    publish('standby', 'b', 90 * DAY)
    watch.start()
    await clock.advance(DAY + MINUTE)
    t.match(events, [
      {
        type: 'certificate.switched',
        host: HOST,
        from: { role: 'live', source: 'a' },
        to: { role: 'standby', source: 'b' },
      },
    ])
    publish('live', 'a', DAY)
    t.match(events[1], { type: 'certificate.switched', from: { role: 'standby' }, to: { role: 'live' } })
    t.equal(events.length, 2)
    watch.stop()
  },
)

t.test('a renewal is no switch, and neither is the first certificate', async (t) => {
  const { clock, publish, types, watch } = makeWatch()
  watch.start()
  publish('live', 'a', 90 * DAY)
  await clock.advance(HOUR)
  publish('live', 'b', 90 * DAY)
  await clock.advance(HOUR)
  t.same(types(), [])
  watch.stop()
})

t.test('a verdict switches within a minute, also to nothing', async (t) => {
  const { clock, events, publish, verdicts, watch } = makeWatch()
  const live = publish('live', 'a', 90 * DAY)
  watch.start()
  verdicts.condemn(live, 'compromised')
  await clock.advance(MINUTE)
  t.match(events, [{ type: 'certificate.switched', to: undefined }])
  watch.stop()
})

t.test('the coming end is told in the last tenth of a lifetime, once a day', async (t) => {
  const { clock, events, publish, watch } = makeWatch()
  publish('live', 'a', 90 * DAY)
  watch.start()
  await clock.advance(80 * DAY)
  t.same(events, [])
  await clock.advance(DAY + HOUR)
  t.match(events, [{ type: 'certificate.expiring', host: HOST, source: 'a' }])
  await clock.advance(12 * HOUR)
  t.equal(events.length, 1)
  await clock.advance(DAY)
  t.equal(events.length, 2)
  watch.stop()
})

t.test('an end that a standby outlasts is not told; a condemned standby does not count', async (t) => {
  const { clock, publish, types, verdicts, watch } = makeWatch()
  publish('live', 'a', 10 * DAY)
  const standby = publish('standby', 'b', 90 * DAY)
  watch.start()
  await clock.advance(9 * DAY + HOUR)
  t.same(types(), [])
  verdicts.condemn(standby, 'revoked')
  await clock.advance(MINUTE)
  t.same(types(), ['certificate.expiring'])
  watch.stop()
})

t.test('a host that leaves the config is no event', async (t) => {
  const { clock, inventory, publish, types, watch } = makeWatch()
  publish('live', 'a', 90 * DAY)
  watch.start()
  inventory.withdraw(HOST)
  await clock.advance(HOUR)
  t.same(types(), [])
  watch.stop()
})
