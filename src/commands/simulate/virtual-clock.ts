/** A clock that moves only when it is told to: plays months in seconds for `simulate`, and for the tests. */
import { PriorityQueue } from '../../priority-queue.ts'
import type { Cancel, Clock } from '../../time.ts'

interface Timer {
  readonly at: number
  /** Timers of one instant run in the order in which they were set. */
  readonly order: number
  readonly task: () => void
  cancelled: boolean
}

export class VirtualClock implements Clock {
  #elapsedMs = 0
  #offset: number
  #order = 0
  readonly #timers = new PriorityQueue<Timer>((a, b) => a.at < b.at || (a.at === b.at && a.order < b.order))
  readonly #settle: () => Promise<void>

  /** @param settled `settledPromises` where nothing but promises is waited for: twice as fast */
  constructor(startAt = Date.parse('2026-06-19T00:00:00Z'), settled = settle) {
    this.#offset = startAt
    this.#settle = settled
  }

  now(): number {
    return this.#offset + this.#elapsedMs
  }

  monotonic(): number {
    return this.#elapsedMs
  }

  after(delayMs: number, task: () => void): Cancel {
    const timer = { at: this.#elapsedMs + Math.max(0, delayMs), order: this.#order++, task, cancelled: false }
    this.#timers.push(timer)
    return () => {
      timer.cancelled = true
    }
  }

  /** Sets the wall clock forward or back, as an operator or NTP would; timers do not notice. */
  jump(ms: number): void {
    this.#offset += ms
  }

  /** Lets time pass: each timer runs at its time, and what it started settles before the next. */
  async advance(ms: number): Promise<void> {
    const until = this.#elapsedMs + ms
    await this.#settle()
    for (;;) {
      const next = this.#timers.peek()
      if (next === undefined || next.at > until) break
      this.#timers.pop()
      if (next.cancelled) continue
      this.#elapsedMs = next.at
      next.task()
      await this.#settle()
    }
    this.#elapsedMs = until
  }
}

/** Resolves when every promise that can go on without time passing has gone on. */
export function settle(): Promise<void> {
  return new Promise((resolve) => setImmediate(resolve))
}

/** As `settle`, but leaves I/O and what waits for another turn of the event loop alone. */
export function settledPromises(): Promise<void> {
  // Ticks come after all microtasks, and those that they bring forth.
  return new Promise((resolve) => process.nextTick(resolve))
}
