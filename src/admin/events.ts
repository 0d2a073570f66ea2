/** The last things that happened to certificates and CAs, newest last, for `/api/events`. */
import type { DatedEvent } from '../events.ts'

const KEPT = 1000

export class Events {
  readonly #recent: DatedEvent[] = []

  add(event: DatedEvent): void {
    this.#recent.push(event)
    if (this.#recent.length > KEPT) this.#recent.shift()
  }

  recent(): readonly DatedEvent[] {
    return this.#recent
  }
}
