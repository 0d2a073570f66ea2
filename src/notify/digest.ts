/**
 * Makes few messages of many events: what happens to many hosts at once becomes one message, and a CA that comes and
 * goes is told of twice, then once in ten minutes with a count.
 */
import { randomUUID } from 'node:crypto'
import { caOf, type DatedEvent, hostOf } from '../events.ts'
import { type Cancel, type Clock, MINUTE, SECOND } from '../time.ts'
import { composeMessage, type Message } from './message.ts'

/** How long to wait for more of the same. */
const GATHER_MS = 5 * SECOND
/** Of one topic there is a message each `QUIET_MS`, and `BURST` at once: an outage and its end are told without delay. */
const QUIET_MS = 10 * MINUTE
const BURST = 2

interface Pending {
  last: DatedEvent
  count: number
  readonly since: string
  readonly hosts: Set<string>
}

interface Topic {
  pending: Pending | undefined
  /** When all its messages so far are paid for, at one each `QUIET_MS`; on the monotonic clock. */
  paidAt: number
  cancel: Cancel
}

export class Digest {
  readonly #clock: Clock
  readonly #send: (message: Message) => void
  readonly #topics = new Map<string, Topic>()

  constructor(clock: Clock, send: (message: Message) => void) {
    this.#clock = clock
    this.#send = send
  }

  add(event: DatedEvent): void {
    const topic = this.#topic(topicOf(event))
    if (topic.pending === undefined) {
      topic.pending = { last: event, count: 0, since: event.at, hosts: new Set() }
      topic.cancel = this.#clock.after(this.#delayMs(topic), () => this.#tell(topic))
    }
    const host = hostOf(event)
    if (host !== undefined) topic.pending.hosts.add(host)
    topic.pending.last = event
    topic.pending.count++
  }

  /** What is gathered is dropped: the log has it. */
  stop(): void {
    for (const topic of this.#topics.values()) topic.cancel()
    this.#topics.clear()
  }

  #topic(name: string): Topic {
    const known = this.#topics.get(name)
    if (known !== undefined) return known
    const topic = { pending: undefined, paidAt: 0, cancel: () => {} }
    this.#topics.set(name, topic)
    return topic
  }

  #delayMs({ paidAt }: Topic): number {
    return Math.max(GATHER_MS, paidAt - (BURST - 1) * QUIET_MS - this.#clock.monotonic())
  }

  #tell(topic: Topic): void {
    const { pending } = topic
    if (pending === undefined) return
    topic.pending = undefined
    topic.paidAt = Math.max(topic.paidAt, this.#clock.monotonic()) + QUIET_MS
    this.#send(composeMessage(randomUUID(), pending))
  }
}

/** A CA's going and coming is one topic; of certificates each type (from each CA) is one, whatever the host. */
function topicOf(event: DatedEvent): string {
  const family = event.type.slice(0, event.type.indexOf('.'))
  return `${family === 'certificate' ? event.type : family} ${caOf(event) ?? ''}`
}
