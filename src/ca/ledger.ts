/**
 * The rate-limit ledger of one CA account: what was ordered and refused lately, so that no limit is broken and a 429
 * sets a deadline instead of a sleep. Synchronous, in memory; by `snapshot` and `learn` processes that share a store know
 * of each other, and each of those before it.
 * It counts by the monotonic clock: the CA's own does not jump with ours.
 * The only user of tldts (the public suffix list).
 */
import { isIP } from 'node:net'
import { getDomain } from 'tldts'
import { networkOf } from '../config/addresses.ts'
import { type Clock, HOUR, MINUTE } from '../time.ts'
import { LONGEST_ORDER_MS } from './issuer.ts'

/**
 * `account`: all orders; `domain`: certificates a registered domain, IPv4 address or /64 of IPv6; `names`: certificates of exactly
 * one set of names; `failures`: failed validations a host.
 */
export const LIMIT_SCOPES = ['account', 'domain', 'names', 'failures'] as const
export type LimitScope = (typeof LIMIT_SCOPES)[number]

export interface RateLimit {
  readonly scope: LimitScope
  readonly limit: number
  readonly windowMs: number
}

/** After refusals of this many different domains within an hour the whole account counts as limited. */
const DOMAINS_THAT_SPEAK_FOR_ALL = 3
const DEFAULT_RETRY_AFTER_MS = 10 * MINUTE

export interface LedgerSnapshot {
  /** `scope key` to the times of the events, milliseconds since the epoch, oldest first. */
  readonly events: Readonly<Record<string, readonly number[]>>
  readonly refusals: readonly Refusal[]
  /** URL of the account that ordered. */
  readonly account?: string
}

interface Refusal {
  readonly domain: string
  /** In a snapshot since the epoch, else on the monotonic clock. */
  readonly at: number
  readonly forMs: number
}

export class Ledger {
  readonly #limits: readonly RateLimit[]
  readonly #clock: Clock
  /** Times on the monotonic clock, oldest first, as in `#refusals`. */
  readonly #events: Map<string, number[]>
  #refusals: Refusal[]
  #account: string | undefined
  /** What other processes have told of this CA, as they told it. */
  #told: readonly LedgerSnapshot[] = []
  /** Of that, what counts for this account: as `#events` and `#refusals`. */
  #eventsElsewhere = new Map<string, number[]>()
  #refusalsElsewhere: readonly Refusal[] = []
  /** Times of the future that were told: when they were first heard of. */
  #heardAt = new Map<number, number>()
  readonly #onChange: () => void

  constructor(limits: readonly RateLimit[], clock: Clock, snapshot?: LedgerSnapshot, onChange = () => {}) {
    this.#limits = limits
    this.#clock = clock
    this.#onChange = onChange
    const { account, events = {}, refusals = [] } = snapshot ?? {}
    const monotonicOf = this.#monotonicOf.bind(this)
    this.#account = account
    this.#events = new Map(Object.entries(events).map(([key, times]) => [key, times.map(monotonicOf)]))
    this.#refusals = refusals.map((refusal) => ({ ...refusal, at: monotonicOf(refusal.at) }))
  }

  /** What other processes have done at this CA, those before this one too, counts as well. Replaces what was told before. */
  learn(told: readonly LedgerSnapshot[]): void {
    this.#told = told
    this.#countElsewhere()
  }

  /**
   * When an order for these names may be placed, milliseconds since the epoch; 0 means at once.
   * @param exempt an ARI renewal, where the CA counts those outside its limits (refusals still hold)
   */
  openAt(names: readonly string[], exempt: boolean): number {
    const now = this.#clock.monotonic()
    let waitMs = this.#refusedForMs(names, now)
    if (!exempt) {
      for (const limit of this.#limits) {
        for (const key of keysOf(limit.scope, names))
          waitMs = Math.max(waitMs, this.#fullForMs(key, limit, now))
      }
    }
    return waitMs === 0 ? 0 : this.#clock.now() + waitMs
  }

  /**
   * An order is being placed. Counts at once, so that orders that run side by side see each other.
   * @returns how to tell, once, that no certificate came of it: it counts as an order only, then
   */
  ordered(names: readonly string[], exempt: boolean): () => void {
    if (exempt) return () => {}
    const at = this.#clock.monotonic()
    for (const scope of ['account', 'domain', 'names'] as const) this.#record(scope, names)
    this.#onChange()
    return () => {
      for (const key of [...keysOf('domain', names), ...keysOf('names', names)]) {
        const times = this.#events.get(key) ?? []
        const index = times.indexOf(at)
        if (index >= 0) times.splice(index, 1)
      }
      this.#onChange()
    }
  }

  /**
   * Orders are placed as this account from now on. Another than before has placed none but those that may be under way,
   * and failed none; what domains and sets of names have had does not depend on the account.
   *
   * @param account its URL
   */
  useAccount(account: string): void {
    if (account === this.#account) return
    if (this.#account !== undefined) {
      const now = this.#clock.monotonic()
      for (const [key, times] of this.#events) {
        if (key.startsWith('failures ')) this.#events.delete(key)
        if (!key.startsWith('account ')) continue
        const underWay = times.filter((time) => isWithin(now, time, LONGEST_ORDER_MS))
        this.#events.set(key, underWay)
      }
    }
    this.#account = account
    this.#countElsewhere()
    this.#onChange()
  }

  /**
   * May a renewal count as one at a CA that keeps those out of its limits? Only the account that ordered the certificate
   * may say which one it replaces (RFC 9773 section 5). Where it is not known, nothing speaks against it.
   *
   * @param account URL of the one that the certificate was issued to
   */
  renewsFor(account: string | undefined): boolean {
    return account === undefined || this.#account === undefined || account === this.#account
  }

  /** A validation failed. */
  unvalidated(names: readonly string[]): void {
    this.#record('failures', names)
    this.#onChange()
  }

  /** The CA answered 429: stay away with this domain, and with all when several domains hear the same. */
  refused(names: readonly string[], retryAfterMs: number | undefined): void {
    const now = this.#clock.monotonic()
    const forMs = retryAfterMs ?? DEFAULT_RETRY_AFTER_MS
    this.#refusals = this.#refusals.filter((refusal) => isWithin(now, refusal.at, refusal.forMs))
    for (const domain of new Set(names.map(registeredDomain))) this.#refusals.push({ domain, at: now, forMs })
    this.#onChange()
  }

  get limits(): readonly RateLimit[] {
    return this.#limits
  }

  /** The times of all that counts, here and elsewhere, by counter: milliseconds since the epoch, oldest first. */
  counted(): Map<string, number[]> {
    const keys = new Set([...this.#events.keys(), ...this.#eventsElsewhere.keys()])
    const timesOf = (key: string): number[] => {
      const times = [...(this.#events.get(key) ?? []), ...(this.#eventsElsewhere.get(key) ?? [])]
      return times.map((at) => this.#epochOf(at)).sort((a, b) => a - b)
    }
    return new Map([...keys].map((key) => [key, timesOf(key)]))
  }

  get isEmpty(): boolean {
    return this.#events.size + this.#refusals.length === 0
  }

  /** Another one that begins with the same and tells nobody of its changes. */
  copy(): Ledger {
    const copy = new Ledger(this.#limits, this.#clock, this.snapshot())
    copy.learn(this.#told)
    return copy
  }

  snapshot(): LedgerSnapshot {
    const now = this.#clock.monotonic()
    for (const limit of this.#limits) {
      for (const [key, times] of this.#events) {
        if (!key.startsWith(`${limit.scope} `)) continue
        const kept = times.filter((time) => isWithin(now, time, limit.windowMs))
        if (kept.length === 0) this.#events.delete(key)
        else this.#events.set(key, kept)
      }
    }
    const epochOf = this.#epochOf.bind(this)
    const events = [...this.#events].map(([key, times]) => [key, times.map(epochOf)] as const)
    return {
      ...(this.#account === undefined ? {} : { account: this.#account }),
      events: Object.fromEntries(events),
      refusals: this.#refusals.map((refusal) => ({ ...refusal, at: epochOf(refusal.at) })),
    }
  }

  #record(scope: LimitScope, names: readonly string[]): void {
    if (!this.#limits.some((limit) => limit.scope === scope)) return
    const now = this.#clock.monotonic()
    for (const key of keysOf(scope, names)) {
      const times = this.#events.get(key)
      if (times === undefined) this.#events.set(key, [now])
      else times.push(now)
    }
  }

  #epochOf(at: number): number {
    return this.#clock.now() - (this.#clock.monotonic() - at)
  }

  /** What lies in the future was told by a clock that was set back since: taken for new, it breaks no limit. */
  #monotonicOf(at: number): number {
    return this.#clock.monotonic() - Math.max(0, this.#clock.now() - at)
  }

  /** Of another account only what does not depend on the account. */
  #countElsewhere(): void {
    const now = this.#clock.now()
    const heardAt = new Map<number, number>()
    const timeOf = (at: number): number => {
      if (at <= now) return this.#monotonicOf(at)
      const time = this.#heardAt.get(at) ?? this.#clock.monotonic()
      heardAt.set(at, time)
      return time
    }
    const events = new Map<string, number[]>()
    for (const told of this.#told) {
      const isOurs = this.#isOurs(told)
      for (const [key, times] of Object.entries(told.events)) {
        if (!isOurs && /^(?:account|failures) /.test(key)) continue
        events.set(key, [...(events.get(key) ?? []), ...times.map(timeOf)])
      }
    }
    for (const times of events.values()) times.sort((a, b) => a - b)
    this.#eventsElsewhere = events
    const refusals = this.#told.flatMap((told) => told.refusals)
    this.#refusalsElsewhere = refusals.map((refusal) => ({ ...refusal, at: timeOf(refusal.at) }))
    this.#heardAt = heardAt
  }

  #isOurs({ account }: LedgerSnapshot): boolean {
    return account === undefined || this.#account === undefined || account === this.#account
  }

  /** Until the oldest event that fills the window leaves it. */
  #fullForMs(key: string, limit: RateLimit, now: number): number {
    const filling = nthFromEnd(this.#events.get(key) ?? [], this.#eventsElsewhere.get(key) ?? [], limit.limit)
    return filling === undefined ? 0 : Math.max(0, filling + limit.windowMs - now)
  }

  #refusedForMs(names: readonly string[], now: number): number {
    if (this.#refusals.length + this.#refusalsElsewhere.length === 0) return 0
    const all = [...this.#refusals, ...this.#refusalsElsewhere]
    const current = all.filter((refusal) => isWithin(now, refusal.at, refusal.forMs))
    const domains = new Set(names.map(registeredDomain))
    const recent = current.filter((refusal) => isWithin(now, refusal.at, HOUR))
    const speakForAll = new Set(recent.map((refusal) => refusal.domain)).size >= DOMAINS_THAT_SPEAK_FOR_ALL
    let until = now
    for (const refusal of current) {
      if (domains.has(refusal.domain)) until = Math.max(until, refusal.at + refusal.forMs)
    }
    if (speakForAll) {
      const first = recent.reduce((end, { at, forMs }) => Math.min(end, at + forMs), Number.POSITIVE_INFINITY)
      until = Math.max(until, first)
    }
    return Math.max(0, until - now)
  }
}

/** Of the two together, each sorted; undefined where there are fewer. */
function nthFromEnd(a: readonly number[], b: readonly number[], n: number): number | undefined {
  if (a.length + b.length < n) return undefined
  let [i, j] = [a.length, b.length]
  let value = 0
  for (let taken = 0; taken < n; taken++) {
    const [ofA, ofB] = [a[i - 1] ?? Number.NEGATIVE_INFINITY, b[j - 1] ?? Number.NEGATIVE_INFINITY]
    if (ofA >= ofB) i--
    else j--
    value = Math.max(ofA, ofB)
  }
  return value
}

function isWithin(now: number, at: number, windowMs: number): boolean {
  return now < at + windowMs
}

/** `a.b.example.co.uk` → `example.co.uk`; what has no registered domain speaks for itself, an IPv6 address for its network. */
export function registeredDomain(name: string): string {
  if (isIP(name) !== 0) return networkOf(name)
  const bare = name.replace(/^\*\./, '')
  return getDomain(bare, { allowPrivateDomains: true }) ?? bare
}

/** The counters that an order, or a failure, for these names counts in. */
export function keysOf(scope: LimitScope, names: readonly string[]): string[] {
  switch (scope) {
    case 'account':
      return ['account all']
    case 'domain':
      return [...new Set(names.map((name) => `domain ${registeredDomain(name)}`))]
    case 'names':
      return [`names ${[...names].sort().join(',')}`]
    case 'failures':
      return names.map((name) => `failures ${name}`)
  }
}
