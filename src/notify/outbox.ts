/**
 * Messages on their way to one target: in order, one at a time, repeated with growing pauses until the target takes
 * them or they are stale. Bounded: a target that is gone for long loses the oldest.
 */
import { messageOf } from '../errors.ts'
import type { Log } from '../log.ts'
import type { Metrics } from '../metrics.ts'
import { backoffMs, type Clock, HOUR, MINUTE, SECOND, sleep, withDeadline } from '../time.ts'
import type { Message } from './message.ts'

/** Repeating cannot help: the target refuses what it was sent. */
export class RefusedError extends Error {
  override name = 'RefusedError'
}

/** One attempt. Rejects when it failed, with a `RefusedError` where no other attempt is to be made. */
export type Send = (message: Message, signal: AbortSignal) => Promise<void>

export interface OutboxOptions {
  readonly clock: Clock
  readonly random: () => number
  readonly log: Log
  readonly metrics: Pick<Metrics, 'notificationDone'>
  /** For the log: never with a secret, such as the path of a webhook. */
  readonly name: string
  readonly send: Send
}

const LONGEST_QUEUE = 100
const ATTEMPT_LIMIT_MS = 30 * SECOND
const FIRST_PAUSE_MS = 5 * SECOND
const LONGEST_PAUSE_MS = 5 * MINUTE
/** What could not be told for this long interests nobody any more. */
const STALE_AFTER_MS = HOUR

export class Outbox {
  readonly #options: OutboxOptions
  readonly #queue: { message: Message; addedAt: number }[] = []
  readonly #stop = new AbortController()
  #running: Promise<void> | undefined

  constructor(options: OutboxOptions) {
    this.#options = options
  }

  push(message: Message): void {
    if (this.#stop.signal.aborted) return
    if (this.#queue.length >= LONGEST_QUEUE) {
      const dropped = this.#queue.shift()
      this.#options.metrics.notificationDone('dropped')
      this.#options.log.warn(
        { notify: this.#options.name, type: dropped?.message.type },
        `${this.#options.name} takes no messages: dropped the oldest of ${LONGEST_QUEUE}`,
      )
    }
    this.#queue.push({ message, addedAt: this.#options.clock.monotonic() })
    this.#running ??= this.#run().finally(() => {
      this.#running = undefined
    })
  }

  /** Lets go of what is under way. What is still queued is lost; the log and `/api/events` have its events. */
  async stop(): Promise<void> {
    this.#stop.abort(new Error('Holdfast is stopping'))
    this.#queue.length = 0
    await this.#running
  }

  async #run(): Promise<void> {
    for (let next = this.#queue.shift(); next !== undefined; next = this.#queue.shift()) {
      await this.#deliver(next.message, next.addedAt + STALE_AFTER_MS)
    }
  }

  /** Never rejects. */
  async #deliver(message: Message, staleAt: number): Promise<void> {
    const { clock, log, metrics, name, random, send } = this.#options
    const { signal } = this.#stop
    for (let failures = 1; !signal.aborted; failures++) {
      try {
        await withDeadline(clock, ATTEMPT_LIMIT_MS, name, signal, (inner) => send(message, inner))
        metrics.notificationDone('sent')
        return
      } catch (error) {
        if (signal.aborted) return
        const pauseMs = backoffMs(failures, FIRST_PAUSE_MS, LONGEST_PAUSE_MS, random)
        const isLast = error instanceof RefusedError || clock.monotonic() + pauseMs > staleAt
        metrics.notificationDone('failed')
        const fields = { notify: name, type: message.type, failures }
        if (isLast) return log.error(fields, `could not tell ${name} "${message.title}": ${messageOf(error)}`)
        log.debug(fields, `${name} is told "${message.title}" again later: ${messageOf(error)}`)
        await sleep(clock, pauseMs, signal).catch(() => {})
      }
    }
  }
}
