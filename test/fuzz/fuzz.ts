/**
 * `npm run fuzz`: every target for its share of ten minutes. A finding is written to `found/`, which the tests run ever
 * after, and ends the run with exit code 1.
 *
 *   node test/fuzz/fuzz.ts [--minutes 10] [--seed N] [target …]
 */
import { createHash } from 'node:crypto'
import { mkdirSync, writeFileSync, writeSync } from 'node:fs'
import { join } from 'node:path'
import { parseArgs } from 'node:util'
import { setFlagsFromString } from 'node:v8'
import { runInNewContext } from 'node:vm'
import { Worker } from 'node:worker_threads'
import { Coverage } from './coverage.ts'
import { Finding, Fuzzer } from './fuzzer.ts'
import { TARGETS } from './targets.ts'

const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: { minutes: { type: 'string', default: '10' }, seed: { type: 'string' } },
})
const seed = Number(values.seed ?? Date.now() % 1_000_000)
const names = positionals.length === 0 ? Object.keys(TARGETS) : positionals
const shareMs = (Number(values.minutes) * 60_000) / names.length

/** More than this kept by what has run is a leak: the corpus is small. */
const MAX_GROWTH_BYTES = 24 * 2 ** 20
const HANG_MS = 10_000

setFlagsFromString('--expose-gc')
const collectGarbage: () => void = runInNewContext('gc')

function heldBytes(): number {
  collectGarbage()
  const { heapUsed, external } = process.memoryUsage()
  return heapUsed + external
}

/** Sees from another thread that an input takes for ever, and says which. */
class Watch {
  readonly #count = new Int32Array(new SharedArrayBuffer(8))
  readonly #input = new Uint8Array(new SharedArrayBuffer(8192))
  readonly #worker = new Worker(
    `const { workerData: [count, input], parentPort } = require('node:worker_threads')
     let last = -1
     setInterval(() => {
       const now = Atomics.load(count, 0)
       if (now === last) {
         require('node:fs').writeSync(2, 'hangs: input ' + Buffer.from(input.slice(0, count[1])).toString('hex') + '\\n')
         process.kill(process.pid, 'SIGKILL')
       }
       last = now
     }, ${HANG_MS})`,
    { eval: true, workerData: [this.#count, this.#input] },
  )

  note(input: Buffer): void {
    this.#input.set(input)
    this.#count[1] = input.length
    Atomics.add(this.#count, 0, 1)
  }

  stop(): void {
    void this.#worker.terminate()
  }
}

function keep(name: string, { input, message }: Finding): void {
  const folder = join(import.meta.dirname, 'found', name)
  const file = join(folder, `${createHash('sha256').update(input).digest('hex').slice(0, 12)}.hex`)
  mkdirSync(folder, { recursive: true })
  writeFileSync(file, `${input.toString('hex')}\n`)
  writeSync(2, `${message}\nseed ${seed}; kept in ${file}\n`)
}

const coverage = new Coverage()
const watch = new Watch()
for (const name of names) {
  const make = TARGETS[name]
  if (make === undefined) throw new Error(`no target is called ${name}: ${Object.keys(TARGETS).join(', ')}`)
  const target = await make()
  const fuzzer = new Fuzzer(target, seed, coverage, (input) => watch.note(input))
  const endMs = performance.now() + shareMs
  try {
    await fuzzer.start()
    let quarterBytes: number | undefined
    while (performance.now() < endMs) {
      await fuzzer.batch()
      if (quarterBytes === undefined && performance.now() > endMs - shareMs * 0.75) quarterBytes = heldBytes()
    }
    const growth = heldBytes() - (quarterBytes ?? 0)
    const { inputs, corpus, reached } = fuzzer
    console.log(
      `${name}: ${inputs} inputs, ${corpus.length} kept, ${reached} blocks reached, ${Math.round(growth / 1024)} KB more held`,
    )
    if (growth > MAX_GROWTH_BYTES) throw new Error(`${name} grows: ${growth} octets; seed ${seed}`)
  } catch (error) {
    process.exitCode = 1
    if (error instanceof Finding) keep(name, error)
    else console.error(error)
  }
  fuzzer.stop()
  target.stop()
}
watch.stop()
