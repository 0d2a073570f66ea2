/** A clock that moves only when it is told to: plays months in seconds for `simulate`, and for the tests. */
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
  /** A binary heap, the next timer first. */
  readonly #timers: Timer[] = []

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
    const timer = { at: this.#elapsedMs + Math.max(0, delayMs), order: this.#order++, task, cancelled: false }
    this.#push(timer)
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
    await settle()
    for (;;) {
      const next = this.#timers[0]
      if (next === undefined || next.at > until) break
      this.#pop()
      if (next.cancelled) continue
      this.#elapsedMs = next.at
      next.task()
      await settle()
    }
    this.#elapsedMs = until
  }

  #push(timer: Timer): void {
    const heap = this.#timers
    let index = heap.push(timer) - 1
    while (index > 0) {
      const parent = (index - 1) >> 1
      if (!isBefore(timer, heap[parent] as Timer)) break
      heap[index] = heap[parent] as Timer
      index = parent
    }
    heap[index] = timer
  }

  #pop(): void {
    const heap = this.#timers
    const last = heap.pop()
    if (last === undefined || heap.length === 0) return
    let index = 0
    for (;;) {
      let child = 2 * index + 1
      if (child >= heap.length) break
      if (child + 1 < heap.length && isBefore(heap[child + 1] as Timer, heap[child] as Timer)) child++
      if (!isBefore(heap[child] as Timer, last)) break
      heap[index] = heap[child] as Timer
      index = child
    }
    heap[index] = last
  }
}

function isBefore(a: Timer, b: Timer): boolean {
  return a.at < b.at || (a.at === b.at && a.order < b.order)
}

/** Resolves when every promise that can go on without time passing has gone on. */
export function settle(): Promise<void> {
  return new Promise((resolve) => setImmediate(resolve))
}
