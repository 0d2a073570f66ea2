/** The fuzzer's targets: what was found once, and a number of inputs from one seed. `npm run fuzz` goes on for longer. */
import { existsSync, readdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import t from 'tap'
import { Coverage } from './coverage.ts'
import { Fuzzer } from './fuzzer.ts'
import { TARGETS } from './targets.ts'

/** As many as take a few seconds each. */
const BATCHES: Readonly<Record<string, number>> = {
  requests: 20,
  responses: 40,
  hpack: 60,
  'client-frames': 3,
  'upstream-frames': 2,
}

function foundInputs(name: string): Buffer[] {
  const folder = join(import.meta.dirname, 'found', name)
  if (!existsSync(folder)) return []
  return readdirSync(folder).map((file) =>
    Buffer.from(readFileSync(join(folder, file), 'utf8').trim(), 'hex'),
  )
}

const coverage = new Coverage()

for (const [name, make] of Object.entries(TARGETS)) {
  t.test(name, { timeout: 110_000 }, async (t) => {
    const target = await make()
    for (const input of foundInputs(name)) await target.run(input)
    const fuzzer = new Fuzzer(target, 1, coverage)
    await fuzzer.start()
    const reached = fuzzer.reached
    for (let batch = 0; batch < (BATCHES[name] ?? 1); batch++) await fuzzer.batch()
    t.ok(
      fuzzer.reached > reached,
      `${reached} blocks reached by the seeds, ${fuzzer.reached} after ${fuzzer.inputs} inputs`,
    )
    fuzzer.stop()
    target.stop()
  })
}
