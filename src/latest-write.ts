/**
 * Keeps the latest state of something, one write at a time: what changes while it is written is written with the next,
 * so that thousands of changes at once take two writes. Serves `renew/` and `notify/`.
 */
export class LatestWrite {
  readonly #write: () => Promise<void>
  #isStale = false
  #running: Promise<void> | undefined

  /** @param write writes the state as it is when called; must not reject */
  constructor(write: () => Promise<void>) {
    this.#write = write
  }

  /** Resolves once the state as it is now is written. */
  request(): Promise<void> {
    this.#isStale = true
    this.#running ??= this.#run()
    return this.#running
  }

  /** Resolves once nothing is being written. */
  async settled(): Promise<void> {
    await this.#running
  }

  async #run(): Promise<void> {
    while (this.#isStale) {
      this.#isStale = false
      await this.#write()
    }
    // In one go with the last look at it: nobody may take this round for one to come.
    this.#running = undefined
  }
}
