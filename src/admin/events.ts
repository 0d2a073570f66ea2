/** The last things that happened to certificates and CAs, newest last, for `/api/events`. */
import type { CaState } from '../ca/health.ts'
import type { RenewalEvent } from '../renew/fulfilment.ts'
import type { Clock } from '../time.ts'

export type HoldfastEvent =
  | RenewalEvent
  | {
      readonly type: 'ca.degraded' | 'ca.recovered'
      readonly ca: string
      readonly state: CaState
      readonly reason: string | undefined
    }

const KEPT = 1000

export class Events {
  readonly #clock: Clock
  readonly #recent: (HoldfastEvent & { readonly at: string })[] = []

  constructor(clock: Clock) {
    this.#clock = clock
  }

  add(event: HoldfastEvent): void {
    this.#recent.push({ ...event, at: new Date(this.#clock.now()).toISOString() })
    if (this.#recent.length > KEPT) this.#recent.shift()
  }

  recent(): readonly (HoldfastEvent & { readonly at: string })[] {
    return this.#recent
  }
}
