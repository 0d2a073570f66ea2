import t from 'tap'
import { LatestWrite } from '../src/latest-write.ts'

function setUp() {
  let state = 0
  const written: number[] = []
  const gates: (() => void)[] = []
  const latest = new LatestWrite(async () => {
    written.push(state)
    await new Promise<void>((resolve) => gates.push(resolve))
  })
  const change = (): Promise<void> => {
    state++
    return latest.request()
  }
  const finish = async (): Promise<void> => {
    gates.shift()?.()
    await new Promise(setImmediate)
  }
  return { latest, written, change, finish }
}

t.test('what changes while it writes is written with the next, and nothing twice', async (t) => {
  const { latest, written, change, finish } = setUp()
  const changes = [change(), change(), change()]
  t.same(written, [1])
  await finish()
  t.same(written, [1, 3])
  await finish()
  await Promise.all(changes)
  await latest.settled()
  t.same(written, [1, 3])
})

t.test('a change in the moment in which a write has ended is written too', async (t) => {
  const { written, change, finish } = setUp()
  const second = change().then(change)
  await finish()
  t.same(written, [1, 2])
  await finish()
  await second
})
