/** The last things that happened to certificates and CAs, newest last, for `/api/events`. */
import type { DatedEvent } from '../events.ts'

const KEPT = 1000

export class Events {
  readonly #recent: DatedEvent[] = []
  readonly #listeners = new Set<(event: DatedEvent) => void>()

  add(event: DatedEvent): void {
    this.#recent.push(event)
    if (this.#recent.length > KEPT) this.#recent.shift()
    for (const listener of this.#listeners) listener(event)
  }

  /** Tells what happens from now on. @returns how to stop listening */
  listen(listener: (event: DatedEvent) => void): () => void {
    this.#listeners.add(listener)
    return () => this.#listeners.delete(listener)
  }

  recent(): readonly DatedEvent[] {
    return this.#recent
  }
}
