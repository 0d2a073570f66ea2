/**
 * What is known of each CA, shared by all certificates: one circuit breaker a CA, fed by issuances, probes and status
 * feeds. A CA that hangs costs one bounded wait in total: an unproven CA is tried by one order at a time while the
 * others hold, and once it has failed everybody goes straight to the next.
 *
 * `renew/` asks for admission and reports outcomes; `admin/` and metrics read the snapshots.
 */
import { PROBE_INTERVAL_MS } from '../config/cas.ts'
import { type IssueCode, IssueError } from '../errors.ts'
import type { Log } from '../log.ts'
import { backoffMs, type Cancel, type Clock, HOUR, MINUTE, SECOND, sleep, withDeadline } from '../time.ts'
import { type Issuer, LONGEST_ORDER_MS } from './issuer.ts'

/** A CA that answered an order within this long needs no trial. */
const PROOF_MS = 30 * SECOND
const FIRST_PAUSE_MS = 30 * SECOND
const LONGEST_PAUSE_MS = 10 * MINUTE
/** Nobody who is down knows for how long: a CA that asks for more patience than this (Retry-After) is tried again all the same. */
const LONGEST_RETRY_AFTER_MS = HOUR
const PROBE_LIMIT_MS = 8 * SECOND
/** So long must probes have succeeded, and no order failed, before a breaker that orders have opened closes without one. */
const CALM_MS = HOUR
/** By when an order is usually done at a CA that has not issued yet. */
const USUAL_ORDER_MS = 5 * SECOND
/** Most orders are done within this many times the average. */
const USUAL_FACTOR = 1.5

/** `up`: takes orders. `down`: the breaker is open. `trial`: it may be back; one order at a time finds out. */
export type CaState = 'up' | 'trial' | 'down'

export interface CaFailure {
  readonly at: number
  readonly reason: IssueCode
  readonly message: string
}

/** For people, `/api/cas` and metrics. Times are milliseconds since the epoch. */
export interface CaSnapshot {
  readonly id: string
  readonly state: CaState
  /** The CA's own status page reports trouble; it is asked after the others. */
  readonly troubled: boolean
  readonly since: number
  readonly lastAnswerAt: number | undefined
  readonly lastFailure: CaFailure | undefined
  /** When the next order may try it; only while `down`. */
  readonly retryAt: number | undefined
  /** By when an order is usually done, in milliseconds. */
  readonly usualMs: number
}

/** One order's permission to go to a CA. Report exactly one outcome. */
export interface Admission {
  /** The CA issued. */
  succeeded(tookMs: number): void
  /** The order failed; only blame `ca` counts against the CA, any other blame proves that it answers. */
  failed(error: IssueError): void
  /** We gave up for a reason of our own. */
  abandoned(): void
}

/** What survives a restart. */
export interface HealthRecord {
  readonly isDown: boolean
  readonly pauses: number
  readonly pausedAt: number
  readonly pauseMs: number
  readonly lastFailure?: CaFailure
  /** Of the state. */
  readonly since?: number
}

export interface HealthOptions {
  readonly clock: Clock
  readonly random: () => number
  readonly log: Log
  /** Called at every change of `state`; must not throw. */
  readonly onChange?: (snapshot: CaSnapshot, previous: CaState) => void
  /** For metrics: orders tell of their own failures. */
  readonly onProbeFailed?: (id: string, reason: IssueCode) => void
  /** Keeps a record over restarts; called seldom. */
  readonly persist?: (id: string, record: HealthRecord) => void
}

export class CaHealth {
  readonly #breakers = new Map<string, Breaker>()
  readonly #options: HealthOptions
  readonly #stop = new AbortController()

  constructor(options: HealthOptions) {
    this.#options = options
  }

  /**
   * Starts watching a CA.
   * @param record what `persist` was given before the restart
   * @param probeIntervalMs between two probes, on average
   */
  add(issuer: Issuer, record?: HealthRecord, probeIntervalMs = PROBE_INTERVAL_MS): void {
    const breaker: Breaker = new Breaker(
      issuer,
      { ...this.#options, onChange: (...change) => this.#tell(breaker, ...change) },
      probeIntervalMs,
      record,
    )
    this.#breakers.set(issuer.id, breaker)
  }

  /**
   * Judges the CA by another issuer until it is called off: a breaker of its own begins with what is known of the CA,
   * and nothing of it is kept. The CA's own breaker goes on unseen, and is what counts again afterwards.
   * @returns how to call it off; it does nothing once the CA was added anew or removed
   */
  rehearse(issuer: Issuer): () => void {
    const own = this.#breakers.get(issuer.id)
    if (own === undefined) throw new Error(`no CA ${issuer.id} to rehearse with`)
    const { persist: _, onProbeFailed: __, ...options } = this.#options
    const standIn: Breaker = own.copy(issuer, {
      ...options,
      onChange: (...change) => this.#tell(standIn, ...change),
    })
    this.#breakers.set(issuer.id, standIn)
    standIn.startProbing(this.#stop.signal, 'later')
    return () => {
      standIn.stop()
      if (this.#breakers.get(issuer.id) !== standIn) return own.stop()
      own.troubled = standIn.troubled
      this.#breakers.set(issuer.id, own)
      const [before, after] = [standIn.state, own.snapshot()]
      if (after.state !== before) this.#options.onChange?.(after, before)
    }
  }

  /** Puts those that are watched into this order, for people who look at `snapshots`. */
  arrange(ids: readonly string[]): void {
    for (const id of ids) {
      const breaker = this.#breakers.get(id)
      if (breaker === undefined) continue
      this.#breakers.delete(id)
      this.#breakers.set(id, breaker)
    }
  }

  remove(id: string): void {
    this.#breakers.get(id)?.stop()
    this.#breakers.delete(id)
  }

  /** Probes every CA that is not probed yet, now and at its interval from then on, until `stop`. */
  start(): void {
    for (const breaker of this.#breakers.values()) breaker.startProbing(this.#stop.signal, 'now')
  }

  stop(): void {
    this.#stop.abort()
    for (const breaker of this.#breakers.values()) breaker.stop()
  }

  /** The CAs in the order in which to ask: preference as given, but those whose status page reports trouble last. */
  order(preference: readonly string[]): string[] {
    const known = preference.filter((id) => this.#breakers.has(id))
    const troubled = (id: string): boolean => this.#breakers.get(id)?.troubled ?? false
    return [...known.filter((id) => !troubled(id)), ...known.filter(troubled)]
  }

  /** When an order may go to this CA, milliseconds since the epoch; 0 means at once, infinity never. */
  openAt(id: string): number {
    return this.#breakers.get(id)?.openAt() ?? Number.POSITIVE_INFINITY
  }

  /**
   * For how long to ask it nothing, be it no order: while probes fail, until about the next one. 0: it answers, though
   * orders may fail.
   */
  silentForMs(id: string): number {
    return this.#breakers.get(id)?.silentForMs ?? 0
  }

  /** Is anything wrong with it? */
  isDegraded(id: string): boolean {
    const breaker = this.#breakers.get(id)
    return breaker === undefined || breaker.troubled || breaker.state !== 'up'
  }

  /** Has it issued so lately that orders may go to it side by side? */
  isProven(id: string): boolean {
    return this.#breakers.get(id)?.isProven() ?? false
  }

  /** By when an order placed now is usually done, in milliseconds. */
  usualMs(id: string): number {
    return this.#breakers.get(id)?.usualMs ?? USUAL_ORDER_MS
  }

  /**
   * Permission for one order, or undefined while the CA is down. Waits only while another order tries a CA that has
   * not answered an order lately: until that order's outcome, or until it has taken far longer than is usual. Where the CA
   * was down nobody waits.
   * @param isLast no other CA is left to ask, so the outcome is waited for however long it takes
   */
  async admit(id: string, signal: AbortSignal, isLast = false): Promise<Admission | undefined> {
    return this.#breakers.get(id)?.admit(signal, isLast)
  }

  /** What the CA's status page says: lowers its preference, never opens its breaker. */
  setTroubled(id: string, troubled: boolean): void {
    const breaker = this.#breakers.get(id)
    if (breaker !== undefined) breaker.troubled = troubled
  }

  snapshot(id: string): CaSnapshot | undefined {
    return this.#breakers.get(id)?.snapshot()
  }

  snapshots(): CaSnapshot[] {
    return [...this.#breakers.values()].map((breaker) => breaker.snapshot())
  }

  /** A breaker that another one stands in for is not heard. */
  #tell(breaker: Breaker, snapshot: CaSnapshot, previous: CaState): void {
    if (this.#breakers.get(snapshot.id) === breaker) this.#options.onChange?.(snapshot, previous)
  }
}

class Breaker {
  troubled = false
  #averageMs = USUAL_ORDER_MS / USUAL_FACTOR
  readonly #issuer: Issuer
  readonly #options: HealthOptions
  readonly #probeIntervalMs: number
  #state: CaState
  #since: number
  /** How often orders have been paused without an issuance in between; sets the length of the next pause. */
  #pauses = 0
  #pausedAt = 0
  #pauseMs = 0
  #lastAnswerAt: number | undefined
  /** When an order last got a real answer; a probe proves nothing about orders. */
  #provenAt: number | undefined
  #lastFailure: CaFailure | undefined
  /** Resolves when the order that tries this CA has an outcome. */
  #trial: Promise<void> | undefined
  /** Did the last probe fail? Then no order need find out. */
  #probeFails = false
  #isProbing = false
  #cancelProbe: Cancel = () => {}
  /** Does nothing while it is not probed. */
  #probeNow: () => void = () => {}

  constructor(
    issuer: Issuer,
    options: HealthOptions,
    probeIntervalMs: number,
    record: HealthRecord | undefined,
  ) {
    this.#issuer = issuer
    this.#options = options
    this.#probeIntervalMs = probeIntervalMs
    this.#since = options.clock.now()
    this.#state = 'up'
    if (record === undefined) return
    this.#pauses = record.pauses
    this.#pausedAt = record.pausedAt
    this.#pauseMs = record.pauseMs
    this.#lastFailure = record.lastFailure
    if (!record.isDown) return
    this.#state = 'down'
    this.#since = record.since ?? this.#since
    this.#probeFails = record.pauses === 0
  }

  /** Another breaker that knows what this one knows, about another issuer. */
  copy(issuer: Issuer, options: HealthOptions): Breaker {
    const copy = new Breaker(issuer, options, this.#probeIntervalMs, undefined)
    copy.troubled = this.troubled
    copy.#averageMs = this.#averageMs
    copy.#state = this.#state
    copy.#since = this.#since
    copy.#pauses = this.#pauses
    copy.#pausedAt = this.#pausedAt
    copy.#pauseMs = this.#pauseMs
    copy.#lastAnswerAt = this.#lastAnswerAt
    copy.#provenAt = this.#provenAt
    copy.#lastFailure = this.#lastFailure
    copy.#probeFails = this.#probeFails
    return copy
  }

  get usualMs(): number {
    return this.#averageMs * USUAL_FACTOR
  }

  get state(): CaState {
    return this.#state === 'down' && this.#closedForMs() === 0 ? 'trial' : this.#state
  }

  get silentForMs(): number {
    return this.#probeFails ? this.#probeIntervalMs : 0
  }

  openAt(): number {
    const closedForMs = this.#closedForMs()
    return closedForMs === 0 ? 0 : this.#options.clock.now() + closedForMs
  }

  async admit(signal: AbortSignal, isLast: boolean): Promise<Admission | undefined> {
    const { clock } = this.#options
    const patienceMs = this.#state === 'up' ? 2 * this.usualMs : 0
    const patienceEndsAt = clock.monotonic() + (isLast ? LONGEST_ORDER_MS : patienceMs)
    while (this.#trial !== undefined) {
      const leftMs = patienceEndsAt - clock.monotonic()
      if (leftMs <= 0) return undefined
      await Promise.race([this.#trial, sleep(clock, leftMs, signal)])
    }
    if (this.state === 'down') return undefined
    if (this.isProven()) return this.#admission(() => {})
    const { promise, resolve } = Promise.withResolvers<void>()
    this.#trial = promise
    return this.#admission(() => {
      this.#trial = undefined
      resolve()
    })
  }

  startProbing(signal: AbortSignal, first: 'now' | 'later'): void {
    if (this.#isProbing) return
    this.#isProbing = true
    const again = (): void => {
      this.#cancelProbe()
      if (!this.#isProbing) return
      const delayMs = this.#probeIntervalMs * (0.8 + 0.4 * this.#options.random())
      this.#cancelProbe = this.#options.clock.after(delayMs, this.#probeNow)
    }
    this.#probeNow = () => {
      this.#probe(signal).then(again)
    }
    if (first === 'now') this.#probeNow()
    else again()
  }

  stop(): void {
    this.#isProbing = false
    this.#probeNow = () => {}
    this.#cancelProbe()
  }

  snapshot(): CaSnapshot {
    const state = this.state
    return {
      id: this.#issuer.id,
      state,
      troubled: this.troubled,
      since: this.#since,
      lastAnswerAt: this.#lastAnswerAt,
      lastFailure: this.#lastFailure,
      retryAt: state === 'down' ? this.openAt() : undefined,
      usualMs: this.usualMs,
    }
  }

  /**
   * While probes fail no order is risked. One that succeeds takes back what probes alone have found; where orders failed,
   * it allows a trial, and an issuance closes the breaker, or an hour of calm in which no host had to order.
   */
  async #probe(signal: AbortSignal): Promise<void> {
    try {
      await withDeadline(
        this.#options.clock,
        PROBE_LIMIT_MS,
        `a probe of ${this.#issuer.id}`,
        signal,
        (inner) => this.#issuer.probe(inner),
      )
      this.#lastAnswerAt = this.#options.clock.now()
      this.#probeFails = false
      if (this.#pauses === 0 || this.#isCalm()) this.#close()
    } catch (error) {
      if (signal.aborted) return
      const failure = error instanceof IssueError ? error : timeoutOf(this.#issuer.id, error)
      this.#note(failure)
      this.#options.onProbeFailed?.(this.#issuer.id, failure.code)
      if (failure.blame === 'local') return
      this.#probeFails = true
      if (this.#state === 'up') this.#move('down', 'up')
    }
  }

  #admission(settle: () => void): Admission {
    return {
      succeeded: (tookMs) => {
        this.#averageMs = this.#averageMs * 0.8 + tookMs * 0.2
        this.#proven()
        this.#close()
        settle()
      },
      failed: (error) => {
        if (error.blame === 'ca') this.#failed(error)
        else if (error.blame !== 'local') this.#proven()
        settle()
      },
      abandoned: settle,
    }
  }

  #proven(): void {
    this.#lastAnswerAt = this.#options.clock.now()
    this.#provenAt = this.#lastAnswerAt
  }

  #close(): void {
    const previous = this.#state
    if (previous === 'up') return
    this.#pauses = 0
    this.#pauseMs = 0
    this.#move('up', previous)
  }

  #note(error: IssueError): void {
    this.#lastFailure = { at: this.#options.clock.now(), reason: error.code, message: error.message }
    this.#provenAt = undefined
  }

  #failed(error: IssueError): void {
    const { clock, random } = this.#options
    this.#note(error)
    // Several orders may fail at once for the one outage: only the first lengthens the pause.
    if (this.#state === 'down' && this.#pauseLeftMs() > 0) return
    const previous = this.#state
    this.#pauses++
    this.#pausedAt = clock.now()
    const askedMs = Math.min(error.retryAfterMs ?? 0, LONGEST_RETRY_AFTER_MS)
    this.#pauseMs = Math.max(askedMs, backoffMs(this.#pauses, FIRST_PAUSE_MS, LONGEST_PAUSE_MS, random))
    this.#move('down', previous)
    // What fails this one too is down as a whole, and no further order need wait for it when the pause is over.
    this.#probeNow()
  }

  #move(state: CaState, previous: CaState): void {
    this.#state = state
    if (state !== previous) this.#since = this.#options.clock.now()
    this.#options.persist?.(this.#issuer.id, {
      isDown: state === 'down',
      pauses: this.#pauses,
      pausedAt: this.#pausedAt,
      pauseMs: this.#pauseMs,
      since: this.#since,
      ...(this.#lastFailure === undefined ? {} : { lastFailure: this.#lastFailure }),
    })
    if (state === previous) return
    this.#options.onChange?.(this.snapshot(), previous)
  }

  /** A clock that was set back counts as calm: the next order is a trial in any case. */
  #isCalm(): boolean {
    const ageMs = this.#options.clock.now() - (this.#lastFailure?.at ?? 0)
    return this.#pauseLeftMs() === 0 && (ageMs < 0 || ageMs >= CALM_MS)
  }

  isProven(): boolean {
    if (this.#provenAt === undefined || this.state !== 'up') return false
    const ageMs = this.#options.clock.now() - this.#provenAt
    return ageMs >= 0 && ageMs <= PROOF_MS
  }

  /** How long orders are kept away: until the pause is over and, where the last probe failed, the next one. */
  #closedForMs(): number {
    if (this.#state !== 'down') return 0
    return Math.max(this.#pauseLeftMs(), this.silentForMs)
  }

  /** A clock that was set back ends the pause: a month of waiting helps nobody. */
  #pauseLeftMs(): number {
    const elapsedMs = this.#options.clock.now() - this.#pausedAt
    return elapsedMs < 0 ? 0 : Math.max(0, this.#pauseMs - elapsedMs)
  }
}

function timeoutOf(id: string, cause: unknown): IssueError {
  return new IssueError('CA_TIMEOUT', `${id}: did not answer a probe in time`, {
    blame: 'ca',
    retry: 'now',
    cause,
  })
}
