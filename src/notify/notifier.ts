/**
 * Tells people what happens: each target of the config's `notify` gets the events that it asked for, few messages of
 * many events, delivered in order. Receives dated events from `server.ts`.
 */
import type { Config } from '../config/schema.ts'
import type { DatedEvent, EventType } from '../events.ts'
import type { Log } from '../log.ts'
import type { Metrics } from '../metrics.ts'
import type { Clock } from '../time.ts'
import { run } from './command.ts'
import { Digest } from './digest.ts'
import { Outbox, type Send } from './outbox.ts'
import { post } from './webhook.ts'

export type Target = Config['notify'][number]

export interface NotifierOptions {
  readonly clock: Clock
  readonly random: () => number
  readonly log: Log
  readonly metrics: Pick<Metrics, 'notificationDone'>
  /** What commands may inherit from. */
  readonly environment: NodeJS.ProcessEnv
}

interface Channel {
  readonly patterns: readonly string[]
  readonly digest: Digest
  readonly outbox: Outbox
}

export class Notifier {
  readonly #options: NotifierOptions
  #targets = ''
  #channels: readonly Channel[] = []

  constructor(options: NotifierOptions) {
    this.#options = options
  }

  /** Takes other targets over; where they are the same, what is on its way stays so. */
  async update(targets: readonly Target[]): Promise<void> {
    const described = JSON.stringify(targets)
    if (described === this.#targets) return
    const before = this.#channels
    this.#targets = described
    this.#channels = targets.map((target, index) => this.#open(target, index))
    await close(before)
  }

  /** Never blocks, never throws. */
  tell(event: DatedEvent): void {
    for (const { patterns, digest } of this.#channels) {
      if (patterns.some((pattern) => matches(pattern, event.type))) digest.add(event)
    }
  }

  async stop(): Promise<void> {
    const before = this.#channels
    this.#channels = []
    await close(before)
  }

  #open(target: Target, index: number): Channel {
    const name = `notify[${index}] (${target.url === undefined ? target.command?.[0] : originOf(target.url)})`
    const outbox = new Outbox({ ...this.#options, name, send: this.#sendTo(target) })
    const digest = new Digest(this.#options.clock, (message) => outbox.push(message))
    return { patterns: target.events, digest, outbox }
  }

  #sendTo({ url, format, secret, command = [] }: Target): Send {
    const { clock, environment } = this.#options
    return url === undefined
      ? (message, signal) => run(command, message, environment, signal)
      : (message, signal) => post({ url, format, secret }, message, clock, signal)
  }
}

/** `*`, `ca.*` or a whole name. */
export function matches(pattern: string, type: EventType): boolean {
  return (
    pattern === '*' || pattern === type || (pattern.endsWith('.*') && type.startsWith(pattern.slice(0, -1)))
  )
}

async function close(channels: readonly Channel[]): Promise<void> {
  for (const { digest } of channels) digest.stop()
  await Promise.all(channels.map(({ outbox }) => outbox.stop()))
}

/** The rest of a webhook's URL may be secret. */
function originOf(url: string): string {
  return new URL(url).host
}
