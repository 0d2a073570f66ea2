/**
 * Deadlines of many connections at the cost of one timer: a sweep at a fixed step looks at each of them. A deadline is
 * met up to one step late, and setting one costs an assignment, so that it can be moved with every read.
 */
import type { Cancel, Clock } from '../../time.ts'

export interface Timed {
  /** On the scale of `Deadlines.now`; Infinity for none. */
  deadline: number
  /** Called once `deadline` has passed, and at each sweep until it is moved. */
  onDeadline(): void
}

export class Deadlines {
  readonly #clock: Clock
  readonly #stepMs: () => number
  readonly #timed = new Set<Timed>()
  #cancel: Cancel | undefined
  #now = 0

  /** `stepMs` is asked at each step. */
  constructor(clock: Clock, stepMs: () => number) {
    this.#clock = clock
    this.#stepMs = stepMs
  }

  /** The clock's monotonic time, at most one step old. */
  get now(): number {
    return this.#cancel === undefined ? this.#clock.monotonic() : this.#now
  }

  add(timed: Timed): void {
    this.#timed.add(timed)
    if (this.#cancel !== undefined) return
    this.#now = this.#clock.monotonic()
    this.#arm()
  }

  delete(timed: Timed): void {
    this.#timed.delete(timed)
  }

  #arm(): void {
    this.#cancel = this.#clock.after(this.#stepMs(), () => this.#sweep())
  }

  #sweep(): void {
    this.#now = this.#clock.monotonic()
    for (const timed of this.#timed) if (timed.deadline <= this.#now) timed.onDeadline()
    this.#cancel = undefined
    if (this.#timed.size > 0) this.#arm()
  }
}
