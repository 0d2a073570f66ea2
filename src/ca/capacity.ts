/**
 * How much may still be ordered at a CA, and by when: its rate limits looked at ahead of time, for the forecast. Counts
 * what the ledger has counted, and changes nothing there.
 *
 * It is never too low, so that nobody is alarmed in vain: an order that one limit holds up is counted by that one alone,
 * whatever it takes of the others in the end.
 */
import { keysOf, type Ledger, type RateLimit } from './ledger.ts'

export class Capacity {
  readonly #limits: readonly RateLimit[]
  /** By key, milliseconds since the epoch, oldest first; those of planned orders too. */
  readonly #events: Map<string, number[]>
  readonly #now: number

  constructor(ledger: Pick<Ledger, 'limits' | 'counted'>, now: number) {
    // Nobody plans to fail.
    this.#limits = ledger.limits.filter(({ scope }) => scope !== 'failures')
    this.#events = ledger.counted()
    this.#now = now
  }

  /**
   * Plans an order for these names; to be asked for the most urgent first.
   * @returns may it be placed by then? If not it is not counted
   */
  plan(names: readonly string[], by: number): boolean {
    const places = this.#limits.flatMap((limit) =>
      keysOf(limit.scope, names).map((key) => ({ key, at: this.#freeAt(key, limit) })),
    )
    const at = Math.max(this.#now, ...places.map((place) => place.at))
    if (at > by) return false
    for (const place of places) if (place.at === at) this.#count(place.key, at)
    return true
  }

  #freeAt(key: string, { limit, windowMs }: RateLimit): number {
    const filling = this.#events.get(key)?.at(-limit)
    return filling === undefined ? this.#now : Math.max(this.#now, filling + windowMs)
  }

  #count(key: string, at: number): void {
    const times = this.#events.get(key)
    if (times === undefined) this.#events.set(key, [at])
    else times.push(at)
  }
}
