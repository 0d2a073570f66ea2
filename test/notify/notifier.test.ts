import t, { type Test } from 'tap'
import { VirtualClock } from '../../src/commands/simulate/virtual-clock.ts'
import { configSchema } from '../../src/config/schema.ts'
import { Notifier, type Target } from '../../src/notify/notifier.ts'
import { SECOND } from '../../src/time.ts'
import { degraded, failed } from '../support/events.ts'
import { memoryLog } from '../support/log.ts'
import { type Receiver, startReceiver } from '../support/webhook-receiver.ts'

function makeNotifier(t: Test) {
  const clock = new VirtualClock()
  const { log, lines } = memoryLog()
  const notifier = new Notifier({
    clock,
    random: () => 0.5,
    log,
    metrics: { notificationDone: () => {} },
    environment: {},
  })
  t.teardown(() => notifier.stop())
  return { clock, notifier, lines }
}

function targets(...notify: object[]): Target[] {
  return configSchema.parse({ sites: [{ hosts: ['x.example'] }], notify }).notify
}

const typesOf = ({ messages }: Receiver): string[] => messages.map(({ type }) => type)

t.test('each target gets what it asked for', async (t) => {
  const { clock, notifier } = makeNotifier(t)
  const [ofCas, ofCertificates] = [await startReceiver(t), await startReceiver(t)]
  await notifier.update(
    targets(
      { url: ofCas.url, events: ['ca.*'] },
      { url: ofCertificates.url, events: ['certificate.failed'] },
    ),
  )
  notifier.tell(degraded())
  notifier.tell(failed('x.example'))
  await clock.advance(10 * SECOND)
  await Promise.all([ofCas.received('ca.degraded'), ofCertificates.received('certificate.failed')])
  t.same(typesOf(ofCas), ['ca.degraded'])
  t.same(typesOf(ofCertificates), ['certificate.failed'])
})

t.test('a reload that changes no target keeps what is gathered', async (t) => {
  const { clock, notifier } = makeNotifier(t)
  const { url, received } = await startReceiver(t)
  await notifier.update(targets({ url }))
  notifier.tell(degraded())
  await notifier.update(targets({ url }))
  await clock.advance(10 * SECOND)
  await t.resolves(received('ca.degraded'))
})

t.test('no secret of a target reaches the log', async (t) => {
  const { clock, notifier, lines } = makeNotifier(t)
  await notifier.update(targets({ url: 'http://127.0.0.1:1/services/T0KEN', secret: 'hush-hush-hush-hush' }))
  notifier.tell(degraded())
  for (let minute = 0; minute < 90 && !lines.some(({ level }) => level >= 50); minute++) {
    await clock.advance(60 * SECOND)
    await new Promise((resolve) => setImmediate(resolve))
  }
  t.ok(lines.length > 0)
  t.notMatch(JSON.stringify(lines), /T0KEN|hush/)
})
