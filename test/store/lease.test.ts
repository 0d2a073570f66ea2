import t from 'tap'
import { VirtualClock } from '../../src/commands/simulate/virtual-clock.ts'
import { type Hold, waitForLease } from '../../src/store/lease.ts'
import type { Lease } from '../../src/store/store.ts'

const TTL_MS = 30_000
const never = new AbortController().signal

/** The medium's side, played. */
class FakeHold implements Hold {
  renewals = 0
  releases = 0
  answer: () => Promise<boolean> = async () => true

  renew(): Promise<boolean> {
    this.renewals++
    return this.answer()
  }

  async release(): Promise<void> {
    this.releases++
  }
}

async function hold(clock: VirtualClock, fake: FakeHold): Promise<Lease> {
  return waitForLease(clock, 'app.example.com', TTL_MS, never, async () => fake)
}

t.test('a lease is renewed well inside its ttl, for as long as it is held', async (t) => {
  const clock = new VirtualClock()
  const fake = new FakeHold()
  const lease = await hold(clock, fake)
  await clock.advance(TTL_MS)
  t.equal(fake.renewals, 3)
  await clock.advance(100 * TTL_MS)
  t.equal(lease.lost.aborted, false)
})

t.test('a lease that somebody else took over is lost at the next renewal', async (t) => {
  const clock = new VirtualClock()
  const fake = new FakeHold()
  const lease = await hold(clock, fake)
  fake.answer = async () => false
  await clock.advance(TTL_MS / 3)
  t.match(lease.lost.reason, { name: 'StoreError', code: 'LOCK_LOST', message: /app\.example\.com/ })
})

for (const [how, answer] of [
  ['fails', () => Promise.reject(new Error('down'))],
  ['hangs', () => new Promise<boolean>(() => {})],
] as const) {
  t.test(`a lease is lost a ttl after its last renewal when the store ${how}`, async (t) => {
    const clock = new VirtualClock()
    const fake = new FakeHold()
    const lease = await hold(clock, fake)
    await clock.advance(TTL_MS / 3)
    fake.answer = answer
    await clock.advance(TTL_MS - 1)
    t.equal(lease.lost.aborted, false)
    await clock.advance(1)
    t.match(lease.lost.reason, { code: 'LOCK_LOST' })
  })
}

t.test('a renewal that fails once loses nothing', async (t) => {
  const clock = new VirtualClock()
  const fake = new FakeHold()
  const lease = await hold(clock, fake)
  fake.answer = () => Promise.reject(new Error('down'))
  await clock.advance(TTL_MS / 3)
  fake.answer = async () => true
  await clock.advance(10 * TTL_MS)
  t.equal(lease.lost.aborted, false)
})

t.test('a clock that jumps loses nothing', async (t) => {
  const clock = new VirtualClock()
  const lease = await hold(clock, new FakeHold())
  clock.jump(30 * 86_400_000)
  await clock.advance(TTL_MS)
  clock.jump(-60 * 86_400_000)
  await clock.advance(TTL_MS)
  t.equal(lease.lost.aborted, false)
})

t.test('a released lease is never lost, and is released once, even where that fails', async (t) => {
  const clock = new VirtualClock()
  const fake = new FakeHold()
  fake.answer = async () => false
  fake.release = async () => {
    fake.releases++
    throw new Error('down')
  }
  const lease = await hold(clock, fake)
  await lease.release()
  await lease.release()
  await clock.advance(10 * TTL_MS)
  t.equal(lease.lost.aborted, false)
  t.equal(fake.releases, 1)
  t.equal(fake.renewals, 0)
})

t.test('the ttl counts from before the lease was asked for', async (t) => {
  const clock = new VirtualClock()
  const fake = new FakeHold()
  const slow = async (): Promise<Hold> => {
    await clock.advance(TTL_MS - 1000)
    return fake
  }
  const lease = await waitForLease(clock, 'a', TTL_MS, never, slow)
  await clock.advance(1000)
  t.match(lease.lost.reason, { code: 'LOCK_LOST' })
})

t.test('a lease that comes after the signal is given back', async (t) => {
  const fake = new FakeHold()
  const controller = new AbortController()
  const reason = new Error('enough')
  const late = async (): Promise<Hold> => {
    controller.abort(reason)
    return fake
  }
  await t.rejects(waitForLease(new VirtualClock(), 'a', TTL_MS, controller.signal, late), reason)
  t.equal(fake.releases, 1)
})

t.test('a store that fails ends the waiting', async (t) => {
  const failure = new Error('down')
  await t.rejects(
    waitForLease(new VirtualClock(), 'a', TTL_MS, never, () => Promise.reject(failure)),
    failure,
  )
})
