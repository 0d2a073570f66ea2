/**
 * Who finds out about a CA that has not issued lately: one order alone, while the others for it are not even begun. So a
 * CA that hangs costs one bounded wait in all, and holds up no host that other CAs supply.
 *
 * `health.ts` keeps orders apart that meet at a CA all the same: as their second choice, or from another process.
 */
import type { CaHealth } from '../ca/health.ts'
import { type Cancel, type Clock, SECOND } from '../time.ts'
import type { Order } from './plan.ts'
import type { Task } from './task.ts'

export interface ScoutsOptions {
  readonly clock: Clock
  readonly health: CaHealth
  /** These need wait no longer: to be planned anew. */
  readonly release: (tasks: Iterable<Task>) => void
}

interface Scout {
  readonly task: Task
  /** Is it past waiting for the lock of its host? */
  hasLeft: boolean
  /** For how many times as long as an order usually takes it has been away already, as its timers told. */
  usualTimes: number
  readonly cancels: readonly Cancel[]
}

/** A scout whose host another process has locked for so long is not waited for: its order may take minutes. */
const LOCK_PATIENCE_MS = SECOND
/** Others wait for a scout for so many times as long as an order usually takes, while another CA could be asked. */
const PATIENCE = 2
/** And those that are without a certificate, or nearly. */
const URGENT_PATIENCE = 1

export class Scouts {
  readonly #options: ScoutsOptions
  /** By CA. */
  readonly #scouts = new Map<string, Scout>()
  /** By CA: who waits for its scout, and for the one that takes the place of a scout that has learnt nothing. */
  readonly #waiting = new Map<string, Set<Task>>()

  constructor(options: ScoutsOptions) {
    this.#options = options
  }

  /** The order as it may begin now, as a scout perhaps; undefined: the task waits, and is released in time. */
  admit(task: Task, order: Order): Order | undefined {
    const { health } = this.#options
    const [ca, ...rest] = order.cas
    if (ca === undefined || health.isProven(ca)) return order
    const scout = this.#scouts.get(ca)
    if (scout === undefined) {
      this.#send(task, ca)
      return order
    }
    if (rest.length > 0 && scout.usualTimes >= this.#patienceFor(ca, order)) {
      const elsewhere = this.admit(task, { ...order, cas: rest, skipped: [...order.skipped, ca] })
      if (elsewhere !== undefined) return elsewhere
      // It waits for both: this CA may be known before the other.
    }
    this.#waitingFor(ca).add(task)
    return undefined
  }

  /** The task's order is about to ask its CAs. */
  left(task: Task): void {
    for (const scout of this.#scouts.values()) if (scout.task === task) scout.hasLeft = true
  }

  /** The CA has issued, or failed to, whoever asked: `health` knows more now. */
  settled(ca: string): void {
    const { health, release } = this.#options
    const scout = this.#scouts.get(ca)
    if (scout === undefined) return
    this.#scouts.delete(ca)
    for (const cancel of scout.cancels) cancel()
    const waiting = this.#waitingFor(ca)
    if (health.isProven(ca) || health.openAt(ca) > 0) {
      this.#releaseAll(waiting)
      return
    }
    // Nothing was learnt. To plan them all anew after each such order would cost the square of their number.
    for (const task of waiting) {
      if (this.#scouts.has(ca)) return
      waiting.delete(task)
      release([task])
    }
  }

  /** The task's order is over: as a scout it may never have come so far as to ask. */
  ended(task: Task): void {
    for (const [ca, scout] of [...this.#scouts]) if (scout.task === task) this.settled(ca)
  }

  /** None for a CA that was down: most likely it still is. */
  #patienceFor(ca: string, { hedge }: Order): number {
    if (this.#options.health.snapshot(ca)?.state !== 'up') return 0
    return hedge ? URGENT_PATIENCE : PATIENCE
  }

  #send(task: Task, ca: string): void {
    const { clock, health } = this.#options
    const cancels = [URGENT_PATIENCE, PATIENCE].map((times) =>
      clock.after(times * health.usualMs(ca), () => {
        // Not by the clock: a timer may run a little before its time, and there is none after the last.
        scout.usualTimes = times
        this.#releaseAll(this.#waitingFor(ca))
      }),
    )
    const replace = clock.after(LOCK_PATIENCE_MS, () => {
      if (!scout.hasLeft) this.settled(ca)
    })
    const scout: Scout = { task, hasLeft: false, usualTimes: 0, cancels: [...cancels, replace] }
    this.#scouts.set(ca, scout)
  }

  #waitingFor(ca: string): Set<Task> {
    const waiting = this.#waiting.get(ca) ?? new Set()
    this.#waiting.set(ca, waiting)
    return waiting
  }

  #releaseAll(waiting: Set<Task>): void {
    const tasks = [...waiting]
    waiting.clear()
    this.#options.release(tasks)
  }
}
