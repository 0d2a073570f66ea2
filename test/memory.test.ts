import { getHeapSpaceStatistics } from 'node:v8'
import t from 'tap'
import { giveMemoryBack } from '../src/memory.ts'

const MIB = 1024 * 1024

function youngGenerationBytes(): number {
  return getHeapSpaceStatistics().find((space) => space.space_name === 'new_space')?.space_size ?? 0
}

t.test('the young generation shrinks to what is in use', async (t) => {
  // What outlives collections makes it grow.
  const kept: object[] = []
  for (let i = 0; i < 400_000; i++) kept.push({ i })
  t.ok(youngGenerationBytes() > 4 * MIB, `it had grown to ${youngGenerationBytes()}`)
  t.equal(kept.length, 400_000)
  giveMemoryBack()
  t.ok(youngGenerationBytes() <= 2 * MIB, `${youngGenerationBytes()} are left`)
})
