import t from 'tap'
import { VirtualClock } from '../src/commands/simulate/virtual-clock.ts'
import { IdleTimer } from '../src/idle-timer.ts'

t.test('silence is noticed when it has lasted, and again when it lasts on', async (t) => {
  const clock = new VirtualClock()
  const calls: number[] = []
  new IdleTimer(clock, 100, () => calls.push(clock.monotonic()))
  await clock.advance(250)
  t.strictSame(calls, [100, 200])
})

t.test('every touch starts the silence anew', async (t) => {
  const clock = new VirtualClock()
  const calls: number[] = []
  const timer = new IdleTimer(clock, 100, () => calls.push(clock.monotonic()))
  for (let i = 0; i < 5; i++) {
    await clock.advance(60)
    timer.touch()
  }
  t.strictSame(calls, [])
  await clock.advance(100)
  t.strictSame(calls, [400])
})

t.test('nothing is noticed once it was stopped, also by the call itself', async (t) => {
  const clock = new VirtualClock()
  let calls = 0
  const timer = new IdleTimer(clock, 100, () => {
    calls++
    timer.stop()
  })
  await clock.advance(1000)
  t.equal(calls, 1)
})
