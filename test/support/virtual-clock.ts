/** A clock that only moves when a test says so. */
import type { Cancel, Clock } from '../../src/time.ts'

interface Timer {
  readonly at: number
  readonly order: number
  readonly task: () => void
}

export class VirtualClock implements Clock {
  #elapsedMs = 0
  #offset: number
  #order = 0
  readonly #timers = new Set<Timer>()

  constructor(startAt = Date.parse('2026-06-19T00:00:00Z')) {
    this.#offset = startAt
  }

  now(): number {
    return this.#offset + this.#elapsedMs
  }

  monotonic(): number {
    return this.#elapsedMs
  }

  after(delayMs: number, task: () => void): Cancel {
    const timer = { at: this.#elapsedMs + Math.max(0, delayMs), order: this.#order++, task }
    this.#timers.add(timer)
    return () => this.#timers.delete(timer)
  }

  /** Sets the wall clock forward or back, as an operator or NTP would; timers do not notice. */
  jump(ms: number): void {
    this.#offset += ms
  }

  /** Lets time pass: each timer runs at its time, and what it started settles before the next. */
  async advance(ms: number): Promise<void> {
    const until = this.#elapsedMs + ms
    await settle()
    for (;;) {
      const next = this.#next(until)
      if (next === undefined) break
      this.#timers.delete(next)
      this.#elapsedMs = Math.max(this.#elapsedMs, next.at)
      next.task()
      await settle()
    }
    this.#elapsedMs = until
  }

  #next(until: number): Timer | undefined {
    let first: Timer | undefined
    for (const timer of this.#timers) {
      if (timer.at > until) continue
      if (first === undefined || timer.at < first.at || (timer.at === first.at && timer.order < first.order))
        first = timer
    }
    return first
  }
}

/** Everything that can go on without time passing has gone on. */
export async function settle(): Promise<void> {
  for (let turn = 0; turn < 3; turn++) await new Promise((resolve) => setImmediate(resolve))
}
