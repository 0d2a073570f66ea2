import t from 'tap'
import { VirtualClock } from '../../src/commands/simulate/virtual-clock.ts'
import { Digest } from '../../src/notify/digest.ts'
import type { Message } from '../../src/notify/message.ts'
import { HOUR, MINUTE, SECOND } from '../../src/time.ts'
import { degraded, failed, recovered } from '../support/events.ts'

function makeDigest() {
  const clock = new VirtualClock()
  const messages: Message[] = []
  const digest = new Digest(clock, (message) => messages.push(message))
  return { clock, digest, messages }
}

t.test('an outage and its end are told within seconds', async (t) => {
  const { clock, digest, messages } = makeDigest()
  digest.add(degraded())
  await clock.advance(10 * SECOND)
  digest.add(recovered())
  await clock.advance(10 * SECOND)
  t.same(
    messages.map(({ title }) => title),
    ['letsencrypt is down', 'letsencrypt issues again'],
  )
})

t.test('a CA that comes and goes all the time is told of twice, then once in ten minutes', async (t) => {
  const { clock, digest, messages } = makeDigest()
  for (let elapsed = 0; elapsed < HOUR; elapsed += MINUTE) {
    digest.add(degraded())
    await clock.advance(30 * SECOND)
    digest.add(recovered())
    await clock.advance(30 * SECOND)
  }
  t.equal(messages.length, 2 + 5)
  const last = messages.at(-1)
  t.match(last?.text, /\d+ such events since/)
})

t.test('what is held back says how it stands at the end', async (t) => {
  const { clock, digest, messages } = makeDigest()
  for (const event of [degraded(), recovered(), degraded(), recovered(), degraded()]) {
    digest.add(event)
    await clock.advance(20 * SECOND)
  }
  await clock.advance(10 * MINUTE)
  t.equal(messages.length, 3)
  t.match(messages[2], { type: 'ca.degraded', count: 3 })
})

t.test('many hosts that fail at once are one message', async (t) => {
  const { clock, digest, messages } = makeDigest()
  for (let index = 0; index < 37; index++) digest.add(failed(`h${index}.example`))
  await clock.advance(10 * SECOND)
  t.match(messages, [{ title: '37 hosts: no CA issues a certificate', count: 37, hostCount: 37 }])
  t.equal(messages.length, 1)
  t.match(messages[0]?.text, /h0\.example, .*, and 32 more\./)
})

t.test('the message of a huge fleet stays small', async (t) => {
  const { clock, digest, messages } = makeDigest()
  for (let index = 0; index < 5000; index++) digest.add(failed(`h${index}.example`))
  await clock.advance(10 * SECOND)
  t.equal(messages[0]?.hostCount, 5000)
  t.ok(JSON.stringify(messages[0]).length < 5000)
})

t.test('two CAs are two topics', async (t) => {
  const { clock, digest, messages } = makeDigest()
  digest.add(degraded('letsencrypt'))
  digest.add(degraded('zerossl'))
  await clock.advance(10 * SECOND)
  t.same(messages.map(({ title }) => title).sort(), ['letsencrypt is down', 'zerossl is down'])
})

t.test('after stop nothing is told', async (t) => {
  const { clock, digest, messages } = makeDigest()
  digest.add(degraded())
  digest.stop()
  await clock.advance(HOUR)
  t.same(messages, [])
})
