/**
 * Requests that wait until an upstream of their route has room: first come, first served, each for a limited time.
 * `balancer.ts` lets them in; each is told once, in an event of its own.
 */
import type { Cancel, Clock } from '../time.ts'

export interface Waiter {
  /** There is room now: pick. */
  onTurn(): void
  onWaitedTooLong(): void
}

export class WaitingLine {
  readonly #size: number
  readonly #limitMs: number
  readonly #clock: Clock
  /** Until when each waits, on the clock's monotonic scale; in the order in which they came. */
  readonly #waiters = new Map<Waiter, number>()
  /** The same, also of those that have had a turn, and may come back. */
  readonly #deadlines = new WeakMap<Waiter, number>()
  #cancel: Cancel | undefined

  constructor(size: number, limitMs: number, clock: Clock) {
    this.#size = size
    this.#limitMs = limitMs
    this.#clock = clock
  }

  get length(): number {
    return this.#waiters.size
  }

  /** One that comes back from its turn has its place and its deadline still. False: the line is full, or it is too late. */
  enter(waiter: Waiter): boolean {
    const until = this.#deadlines.get(waiter)
    if (until !== undefined) return this.#comeBack(waiter, until)
    if (this.#waiters.size >= this.#size) return false
    const limit = this.#clock.monotonic() + this.#limitMs
    this.#deadlines.set(waiter, limit)
    this.#waiters.set(waiter, limit)
    if (this.#cancel === undefined) this.#arm(this.#limitMs)
    return true
  }

  #comeBack(waiter: Waiter, until: number): boolean {
    const now = this.#clock.monotonic()
    if (until <= now) return false
    const later = [...this.#waiters].filter(([, other]) => other >= until)
    for (const [each] of later) this.#waiters.delete(each)
    this.#waiters.set(waiter, until)
    for (const [each, other] of later) this.#waiters.set(each, other)
    const [first = until] = this.#waiters.values()
    this.#cancel?.()
    this.#arm(first - now)
    return true
  }

  /** Harmless for one that does not wait. */
  leave(waiter: Waiter): void {
    this.#waiters.delete(waiter)
    this.#disarmWhenEmpty()
  }

  /** The one that has waited longest has its turn. */
  admit(): void {
    const [first] = this.#waiters.keys()
    if (first === undefined) return
    this.leave(first)
    first.onTurn()
  }

  #arm(delayMs: number): void {
    this.#cancel = this.#clock.after(delayMs, () => this.#expire())
  }

  #expire(): void {
    this.#cancel = undefined
    const now = this.#clock.monotonic()
    for (const [waiter, until] of this.#waiters) {
      if (until > now) {
        this.#arm(until - now)
        return
      }
      this.#waiters.delete(waiter)
      waiter.onWaitedTooLong()
    }
  }

  #disarmWhenEmpty(): void {
    if (this.#waiters.size > 0) return
    this.#cancel?.()
    this.#cancel = undefined
  }
}
