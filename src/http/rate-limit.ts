/**
 * How often each client may ask: the generic cell rate algorithm (ITU-T I.371), which keeps one number a client.
 * Memory is bounded: who has been silent for longest is forgotten first. Serves `shaping.ts`.
 */
import { hash } from 'node:crypto'
import { networkOf } from '../config/addresses.ts'
import type { Shaping } from '../config/shaping.ts'
import type { Clock } from '../time.ts'
import type { RequestFields } from './verdict.ts'

const MAX_CLIENTS = 100_000

/** Sums of intervals are not exact. */
const TOLERANCE_MS = 1e-6

export class RateLimit {
  readonly #clock: Clock
  /** In lower case; undefined: clients are told apart by their address. */
  readonly #header: string | undefined
  readonly #intervalMs: number
  readonly #burstMs: number
  /** When the requests of a client so far would be through at the even rate; least recently seen first. */
  readonly #due = new Map<string, number>()

  constructor({ by, requests, per, burst = requests }: NonNullable<Shaping['rateLimit']>, clock: Clock) {
    this.#clock = clock
    this.#header = by === 'ip' ? undefined : by.slice(by.indexOf(':') + 1).toLowerCase()
    this.#intervalMs = per / requests
    this.#burstMs = burst * this.#intervalMs
  }

  /** Counts a request if it may pass, and gives 0; else the milliseconds by which it comes too early. */
  take(clientAddress: string, fields: RequestFields): number {
    const value = this.#header === undefined ? undefined : fields.field(this.#header)
    const client = value === undefined ? networkOf(clientAddress) : digestOf(value)
    const now = this.#clock.monotonic()
    const due = Math.max(this.#due.get(client) ?? now, now) + this.#intervalMs
    const earlyMs = due - now - this.#burstMs
    if (earlyMs > TOLERANCE_MS) return earlyMs
    this.#due.delete(client)
    this.#due.set(client, due)
    if (this.#due.size > MAX_CLIENTS) {
      const [oldest = client] = this.#due.keys()
      this.#due.delete(oldest)
    }
    return 0
  }
}

/** As short as all others, and no secret to keep in memory; not the form of an address. */
function digestOf(value: string): string {
  return hash('sha256', Buffer.from(value, 'latin1'), 'base64')
}
