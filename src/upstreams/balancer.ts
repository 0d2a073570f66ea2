/**
 * Which upstream takes the next request, and what its failures mean for the requests after it: strategy, weights,
 * backups, limits, health, passive ejection, retries. One for each route; each process has its own.
 *
 * Receives outcomes from the wires; knows nothing of sockets. Strategies are in this folder.
 */
import type { Balancing } from '../config/balancing.ts'
import { ProxyError } from '../errors.ts'
import type { Log } from '../log.ts'
import { type Cancel, type Clock, formatDuration } from '../time.ts'
import type { Backend } from './backend.ts'
import type { Member, Standing } from './member.ts'
import { RetryBudget } from './retry-budget.ts'
import type { Sticky } from './sticky.ts'
import { type BalancedRequest, createStrategy, type Strategy } from './strategies.ts'
import { type Waiter, WaitingLine } from './waiting-line.ts'

export interface BalancerOptions {
  readonly clock: Clock
  readonly log: Log
  /** From 0 up to 1. */
  readonly random: () => number
  /** What keeps clients with their upstreams. */
  readonly sticky?: Sticky | undefined
}

/** One upstream of one route, for `/api/upstreams`. The counts are of all routes, and of this process. */
export interface MemberStatus {
  readonly url: string
  /** What its health check says last. */
  readonly health: 'unchecked' | 'passing' | 'failing'
  /** Left alone for a while, since it failed. */
  readonly ejected: boolean
  /** Why it is failing or ejected. */
  readonly problem: string | undefined
  readonly backup: boolean
  readonly weight: number
  /** Requests in progress. */
  readonly active: number
  readonly requests: number
  readonly failures: number
}

/** In a word: does it take requests? */
export function stateOf({
  health,
  ejected,
}: Pick<MemberStatus, 'health' | 'ejected'>): 'up' | 'ejected' | 'down' {
  if (health === 'failing') return 'down'
  return ejected ? 'ejected' : 'up'
}

const NOTHING_TRIED: readonly Backend[] = []

export class Balancer {
  readonly members: readonly Member[]
  readonly sticky: Sticky | undefined
  readonly #tiers: readonly (readonly Member[])[]
  readonly #policy: Balancing
  readonly #clock: Clock
  readonly #log: Log
  readonly #strategy: Strategy
  readonly #budget = new RetryBudget()
  readonly #line: WaitingLine | undefined
  #cancelTrial: Cancel | undefined
  /** Reused by every pick, so that none allocates. */
  readonly #candidates: Member[] = []

  constructor(
    members: readonly Member[],
    policy: Balancing,
    { clock, log, random, sticky }: BalancerOptions,
  ) {
    this.members = members
    this.sticky = sticky
    this.#tiers = [this.members.filter(({ backup }) => !backup), this.members.filter(({ backup }) => backup)]
    this.#policy = policy
    this.#clock = clock
    this.#log = log
    this.#strategy = createStrategy(policy.balance, random)
    const { queue } = policy
    this.#line = queue === undefined ? undefined : new WaitingLine(queue.size, queue.timeout, clock)
  }

  /**
   * The upstream for a request that has tried others already, or none; undefined when none can take it. Whoever gets
   * one calls `release` once it is done with it.
   */
  pick(request: BalancedRequest, tried: readonly Backend[] = NOTHING_TRIED): Backend | undefined {
    const now = this.#clock.monotonic()
    if (tried.length === 0) this.#budget.earn()
    const candidates = this.#gather(now, tried)
    const member = this.sticky?.find(candidates, request) ?? this.#strategy(candidates, request, now)
    if (member === undefined) return undefined
    const { backend } = member
    // Half open: this request finds out whether it is back; the others leave it alone meanwhile.
    if (backend.ejectedUntil !== 0) backend.ejectedUntil = now + this.#policy.failTimeout
    backend.active++
    backend.requests++
    return backend
  }

  /** Another upstream for a request that one has failed, within `retries` and the budget; as `pick`. */
  pickAgain(request: BalancedRequest, tried: readonly Backend[], retries: number): Backend | undefined {
    if (retries >= this.#policy.retries || tried.length >= this.members.length) return undefined
    const backend = this.#budget.allows ? this.pick(request, tried) : undefined
    if (backend !== undefined) this.#budget.spend()
    return backend
  }

  /** For a request that got no upstream: true, it waits and will be told; false: refuse it by `refusal`. */
  wait(waiter: Waiter): boolean {
    if (!this.#isFull() || this.#line?.enter(waiter) !== true) return false
    for (const { backend } of this.members) backend.onRoom.add(this.#admit)
    this.#awaitTrial()
    return true
  }

  /** The waiter is gone. Harmless for one that does not wait. */
  leave(waiter: Waiter): void {
    this.#line?.leave(waiter)
    this.#unsubscribe()
  }

  /** Why a request got no upstream. */
  refusal(): ProxyError {
    return this.#isFull()
      ? new ProxyError(
          'UPSTREAM_BUSY',
          503,
          'every upstream of the route that is up is at its `maxConnections`',
        )
      : new ProxyError('NO_UPSTREAM', 503, 'the route has no upstream that can be asked')
  }

  release(backend: Backend): void {
    backend.active--
    backend.tellOfRoom()
  }

  /** Nothing was sent: it is left alone at once. `problem` says why, for people. */
  connectFailed(backend: Backend, problem: string): void {
    backend.failed(problem)
    if (this.#policy.maxFails > 0) this.#eject(backend)
  }

  /** It broke off, was silent, or answered that it cannot serve. `problem` says which, for people. */
  failed(backend: Backend, problem: string): void {
    backend.failed(problem)
    const { maxFails } = this.#policy
    if (maxFails > 0 && (backend.failuresInRow >= maxFails || backend.ejectedUntil !== 0))
      this.#eject(backend)
  }

  succeeded(backend: Backend): void {
    backend.failuresInRow = 0
    if (backend.ejectedUntil === 0) return
    backend.ejectedUntil = 0
    backend.upSince = this.#clock.monotonic()
    this.#log.info({ upstream: backend.url }, `${backend.url} is back`)
    backend.tellOfRoom()
  }

  statuses(): MemberStatus[] {
    const now = this.#clock.monotonic()
    return this.members.map(({ backend, backup, check, failing, weight }) => {
      const ejected = backend.ejectedUntil > now
      return {
        url: backend.url,
        health: check === undefined ? 'unchecked' : failing ? 'failing' : 'passing',
        ejected,
        problem: failing ? check?.problem : ejected ? backend.problem : undefined,
        backup,
        weight,
        active: backend.active,
        requests: backend.requests,
        failures: backend.failures,
      }
    })
  }

  /** Told once: not again when a request that tries it fails too. */
  #eject(backend: Backend): void {
    const { failTimeout } = this.#policy
    if (backend.ejectedUntil === 0) {
      const { url, problem } = backend
      this.#log.warn(
        { upstream: url, problem },
        `${url} fails: ${problem}. For ${formatDuration(failTimeout)} it is asked only where no other upstream can be`,
      )
    }
    backend.ejectedUntil = this.#clock.monotonic() + failTimeout
  }

  /**
   * Who can take the request: backups only where no other can. Where none is well, those of the best standing are asked
   * all the same: those that failed lately, so that a service that is back is found at once; else those that fail their
   * health check, since it may be the check that is wrong. A request that has tried one already does not go through these.
   */
  #gather(now: number, tried: readonly Backend[]): readonly Member[] {
    for (const tier of this.#tiers) {
      const able = this.#select(
        tier,
        (member) => member.standingAt(now) === 0 && !member.full && !tried.includes(member.backend),
      )
      if (able.length > 0) return able
    }
    if (tried.length > 0) return []
    const best = this.#bestStanding(now)
    return this.#select(this.members, (member) => member.standingAt(now) === best && !member.full)
  }

  #bestStanding(now: number): Standing {
    let best: Standing = 2
    for (const member of this.members) {
      const standing = member.standingAt(now)
      if (standing < best) best = standing
    }
    return best
  }

  /** Those of `members` that pass, in the array that every pick reuses. It is cut only where it is longer: cutting to none frees its store. */
  #select(members: readonly Member[], passes: (member: Member) => boolean): readonly Member[] {
    const candidates = this.#candidates
    let count = 0
    for (const member of members) if (passes(member)) candidates[count++] = member
    if (candidates.length > count) candidates.length = count
    return candidates
  }

  /** Is it for want of room only that nobody takes a request? */
  #isFull(): boolean {
    const now = this.#clock.monotonic()
    const best = this.#bestStanding(now)
    return (
      this.members.length > 0 && this.members.every((member) => member.full || member.standingAt(now) > best)
    )
  }

  /** In an event of its own: the one that frees a place may be in the middle of writing. */
  readonly #admit = (): void =>
    queueMicrotask(() => {
      // One that is back has more than one place.
      while (this.#line !== undefined && this.#line.length > 0 && !this.#isFull()) this.#line.admit()
      this.#awaitTrial()
      this.#unsubscribe()
    })

  /** Nothing else tells those who wait that one which failed may be tried again. */
  #awaitTrial(): void {
    this.#cancelTrial?.()
    const now = this.#clock.monotonic()
    let next = Number.POSITIVE_INFINITY
    for (const { backend } of this.members)
      if (backend.ejectedUntil > now && backend.ejectedUntil < next) next = backend.ejectedUntil
    this.#cancelTrial = Number.isFinite(next) ? this.#clock.after(next - now, this.#admit) : undefined
  }

  #unsubscribe(): void {
    if (this.#line === undefined || this.#line.length > 0) return
    for (const { backend } of this.members) backend.onRoom.delete(this.#admit)
    this.#cancelTrial?.()
    this.#cancelTrial = undefined
  }
}
