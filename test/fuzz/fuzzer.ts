/**
 * The loop: inputs are made of others by chance, and one that reaches code that none has reached before is kept to make
 * more of. `fuzz.ts` runs it by the clock, `fuzz.test.ts` for a number of inputs.
 */
import type { Coverage } from './coverage.ts'
import { mutate, Random } from './random.ts'

export interface Target {
  readonly name: string
  readonly seeds: readonly Buffer[]
  /** Pieces that mean something to it. */
  readonly words: readonly Buffer[]
  /** Throws, or ends the process, when something is wrong with how the input is dealt with. The same whenever it is run. */
  run(input: Buffer): void | Promise<void>
  stop(): void
}

export class Finding extends Error {
  readonly input: Buffer

  constructor(target: Target, input: Buffer, cause: unknown) {
    super(`${target.name}: ${cause instanceof Error ? cause.stack : cause}\ninput ${input.toString('hex')}`)
    this.input = input
  }
}

/** Looking at the coverage costs as much as running many inputs. */
const BATCH = 200

export class Fuzzer {
  readonly corpus: Buffer[]
  readonly #target: Target
  readonly #random: Random
  readonly #coverage: Coverage
  readonly #seen = new Set<string>()
  /** Told of each input before it is run. */
  readonly #onInput: (input: Buffer) => void
  /** What was thrown where nobody catches it is the fault of the input that is run, or of the next. */
  #fail: (error: Error) => void = (error) => {
    this.#uncaught = error
  }
  #uncaught: Error | undefined
  readonly #onUncaught = (error: Error): void => this.#fail(error)
  inputs = 0

  constructor(target: Target, seed: number, coverage: Coverage, onInput: (input: Buffer) => void = () => {}) {
    this.#target = target
    this.#coverage = coverage
    this.corpus = [...target.seeds]
    this.#random = new Random(seed)
    this.#onInput = onInput
  }

  /** Blocks of code that were reached. */
  get reached(): number {
    return this.#seen.size
  }

  /** @throws Finding */
  async start(): Promise<void> {
    process.on('uncaughtException', this.#onUncaught)
    this.#coverage.take()
    for (const seed of this.#target.seeds) await this.#run(seed)
    for (const block of this.#coverage.take()) this.#seen.add(block)
  }

  stop(): void {
    process.off('uncaughtException', this.#onUncaught)
  }

  /** Runs some inputs. @throws Finding */
  async batch(): Promise<void> {
    const inputs = Array.from({ length: BATCH }, () => mutate(this.#random, this.corpus, this.#target.words))
    this.inputs += inputs.length
    for (const block of await this.#explore(inputs)) this.#seen.add(block)
  }

  /** Runs them, again in halves where something new was reached, until it is known by which. */
  async #explore(inputs: readonly Buffer[]): Promise<Set<string>> {
    for (const input of inputs) await this.#run(input)
    const blocks = this.#coverage.take()
    if (!this.#isNew(blocks)) return blocks
    const [only] = inputs
    if (inputs.length === 1 && only !== undefined) {
      this.corpus.push(only)
      for (const block of blocks) this.#seen.add(block)
      return blocks
    }
    await this.#explore(inputs.slice(0, inputs.length / 2))
    await this.#explore(inputs.slice(inputs.length / 2))
    return blocks
  }

  #isNew(blocks: ReadonlySet<string>): boolean {
    for (const block of blocks) if (!this.#seen.has(block)) return true
    return false
  }

  async #run(input: Buffer): Promise<void> {
    this.#onInput(input)
    try {
      if (this.#uncaught !== undefined) throw this.#uncaught
      const running = this.#target.run(input)
      if (running !== undefined) await this.#unlessUncaught(running)
    } catch (error) {
      throw new Finding(this.#target, input, error)
    }
  }

  /** Not `Promise.race` with one promise for all inputs: that would remember each of them. */
  #unlessUncaught(running: Promise<void>): Promise<void> {
    const keep = this.#fail
    return new Promise<void>((resolve, reject) => {
      this.#fail = reject
      running.then(resolve, reject)
    }).finally(() => {
      this.#fail = keep
    })
  }
}
