/**
 * Who finds out about a CA that has not issued lately: one order alone, while the others for it are not even begun. So a
 * CA that hangs costs one bounded wait in all, and holds up no host that other CAs supply.
 *
 * `health.ts` keeps orders apart that meet at a CA all the same: as their second choice, or from another process.
 */
import type { CaHealth } from '../ca/health.ts'
import type { Cancel, Clock } from '../time.ts'
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
  /** On the monotonic clock. */
  readonly since: number
  readonly waiting: Set<Task>
  readonly cancels: readonly Cancel[]
}

/** Others wait for a scout for so many times as long as an order usually takes, while another CA could be asked. */
const PATIENCE = 2
/** And those that are without a certificate, or nearly. */
const URGENT_PATIENCE = 1

export class Scouts {
  readonly #options: ScoutsOptions
  /** By CA. */
  readonly #scouts = new Map<string, Scout>()

  constructor(options: ScoutsOptions) {
    this.#options = options
  }

  /** The order as it may begin now, as a scout perhaps; undefined: the task waits, and is released in time. */
  admit(task: Task, order: Order): Order | undefined {
    const { clock, health } = this.#options
    const [ca, ...rest] = order.cas
    if (ca === undefined || health.isProven(ca)) return order
    const scout = this.#scouts.get(ca)
    if (scout === undefined) {
      this.#send(task, ca)
      return order
    }
    const waitedMs = clock.monotonic() - scout.since
    if (rest.length > 0 && waitedMs >= this.#patienceMs(ca, order))
      return this.admit(task, { ...order, cas: rest, skipped: [...order.skipped, ca] })
    scout.waiting.add(task)
    return undefined
  }

  /** The CA has issued, or failed to, whoever asked: `health` knows more now. */
  settled(ca: string): void {
    const scout = this.#scouts.get(ca)
    if (scout === undefined) return
    this.#scouts.delete(ca)
    for (const cancel of scout.cancels) cancel()
    this.#options.release(scout.waiting)
  }

  /** The task's order is over: as a scout it may never have come so far as to ask. */
  ended(task: Task): void {
    for (const [ca, scout] of this.#scouts) if (scout.task === task) this.settled(ca)
  }

  /** None for a CA that was down: most likely it still is. */
  #patienceMs(ca: string, { hedge }: Order): number {
    const { health } = this.#options
    if (health.snapshot(ca)?.state !== 'up') return 0
    return (hedge ? URGENT_PATIENCE : PATIENCE) * health.usualMs(ca)
  }

  #send(task: Task, ca: string): void {
    const { clock, health, release } = this.#options
    const waiting = new Set<Task>()
    const look = (): void => {
      const tasks = [...waiting]
      waiting.clear()
      release(tasks)
    }
    const cancels = [URGENT_PATIENCE, PATIENCE].map((times) => clock.after(times * health.usualMs(ca), look))
    this.#scouts.set(ca, { task, since: clock.monotonic(), waiting, cancels })
  }
}
