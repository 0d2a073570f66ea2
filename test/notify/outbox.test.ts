import t from 'tap'
import { VirtualClock } from '../../src/commands/simulate/virtual-clock.ts'
import { composeMessage, type Message } from '../../src/notify/message.ts'
import { Outbox, RefusedError, type Send } from '../../src/notify/outbox.ts'
import { DAY, HOUR, MINUTE, SECOND } from '../../src/time.ts'
import { degraded } from '../support/events.ts'
import { memoryLog } from '../support/log.ts'

function makeOutbox(send: Send) {
  const clock = new VirtualClock()
  const results: string[] = []
  const { log, lines } = memoryLog()
  const outbox = new Outbox({
    clock,
    random: () => 0.5,
    log,
    metrics: { notificationDone: (result) => results.push(result) },
    name: 'notify[0] (example.com)',
    send,
  })
  return { clock, outbox, results, lines }
}

function message(id: string): Message {
  return composeMessage(id, { last: degraded(), count: 1, since: '', hosts: new Set() })
}

t.test('messages arrive in order, and one that fails is repeated before the next', async (t) => {
  const seen: string[] = []
  const { clock, outbox, results } = makeOutbox(async ({ id }) => {
    seen.push(id)
    if (seen.length === 1) throw new Error('answered 503')
  })
  outbox.push(message('1'))
  outbox.push(message('2'))
  await clock.advance(MINUTE)
  t.same(seen, ['1', '1', '2'])
  t.same(results, ['failed', 'sent', 'sent'])
})

t.test(
  'pauses between attempts grow, and stale messages are given up with one line in the log',
  async (t) => {
    const attemptedAt: number[] = []
    const { clock, outbox, lines } = makeOutbox(async () => {
      attemptedAt.push(clock.monotonic())
      throw new Error('answered 503')
    })
    outbox.push(message('1'))
    await clock.advance(DAY)
    t.ok(attemptedAt.length > 5 && attemptedAt.length < 40, `${attemptedAt.length} attempts`)
    t.ok((attemptedAt.at(-1) ?? 0) <= HOUR)
    const complaints = lines.filter(({ level }) => level >= 40)
    t.match(complaints, [{ msg: /could not tell notify\[0\] \(example\.com\) .*answered 503/ }])
    t.equal(complaints.length, 1)
  },
)

t.test('a refusal is not repeated', async (t) => {
  let attempts = 0
  const { clock, outbox } = makeOutbox(async () => {
    attempts++
    throw new RefusedError('answered 404')
  })
  outbox.push(message('1'))
  await clock.advance(DAY)
  t.equal(attempts, 1)
})

t.test('an attempt that hangs is cut off', async (t) => {
  let attempts = 0
  const { clock, outbox, results } = makeOutbox(async () => {
    attempts++
    if (attempts === 1) await new Promise(() => {})
  })
  outbox.push(message('1'))
  await clock.advance(2 * MINUTE)
  t.same(results, ['failed', 'sent'])
})

t.test('a target that is gone for long loses the oldest messages, and memory stays bounded', async (t) => {
  const seen: string[] = []
  let isBack = false
  const { clock, outbox, results } = makeOutbox(async ({ id }) => {
    if (!isBack) throw new Error('answered 503')
    seen.push(id)
  })
  outbox.push(message('first'))
  await clock.advance(SECOND)
  for (let index = 0; index < 150; index++) outbox.push(message(`${index}`))
  isBack = true
  await clock.advance(10 * MINUTE)
  t.equal(results.filter((result) => result === 'dropped').length, 50)
  t.same(seen, ['first', ...Array.from({ length: 100 }, (_, index) => `${index + 50}`)])
})

t.test('stop aborts the attempt under way and takes nothing more', async (t) => {
  let aborted = false
  const { clock, outbox } = makeOutbox(async (_, signal) => {
    await new Promise((_resolve, reject) =>
      signal.addEventListener('abort', () => {
        aborted = true
        reject(signal.reason)
      }),
    )
  })
  outbox.push(message('1'))
  await clock.advance(SECOND)
  await outbox.stop()
  t.ok(aborted)
  outbox.push(message('2'))
  await clock.advance(DAY)
})
