/**
 * Active health checks: each upstream of a route that asks for them is looked at again and again, and is failing after
 * some bad looks in a row until it has passed some. Each process checks by itself: what it sees is what its own requests
 * would meet, no process waits for another's word, and none is left without when the main process is busy or gone.
 *
 * `HealthChecks` keeps what is unchanged over reloads. `balancer.ts` asks `failing`; `probe.ts` does the looking.
 */
import type { HealthCheckPolicy } from '../config/balancing.ts'
import type { Log } from '../log.ts'
import { type Cancel, type Clock, SECOND, withDeadline } from '../time.ts'
import type { Backend } from './backend.ts'
import { connectProblem } from './connect-problem.ts'
import { probe } from './probe.ts'

export interface HealthOptions {
  readonly clock: Clock
  readonly log: Log
  /** From 0 up to 1: when each first looks, so that they do not all do so at once. */
  readonly random: () => number
}

export class HealthCheck {
  /** What the last looks found wrong; undefined while it passes, and before the first look is over. */
  problem: string | undefined
  readonly #backend: Backend
  readonly #policy: HealthCheckPolicy
  readonly #options: HealthOptions
  readonly #stopped = new AbortController()
  #cancel: Cancel = () => {}
  #failing = false
  /** Looks in a row that were otherwise than the state says. */
  #against = 0
  /** Has a look ever passed? Before, one that fails is enough: nothing says yet that it is up. */
  #known = false

  constructor(backend: Backend, policy: HealthCheckPolicy, options: HealthOptions) {
    this.#backend = backend
    this.#policy = policy
    this.#options = options
  }

  /** Is it to get no requests, where others can take them? */
  get failing(): boolean {
    return this.#failing
  }

  start(): void {
    const { clock, random } = this.#options
    const firstMs = random() * Math.min(SECOND, this.#policy.interval)
    this.#cancel = clock.after(firstMs, () => void this.#look())
  }

  /** Ends the look under way too. */
  stop(): void {
    this.#cancel()
    this.#stopped.abort()
  }

  async #look(): Promise<void> {
    const { clock } = this.#options
    const { timeout, interval } = this.#policy
    const { signal } = this.#stopped
    let problem: string | undefined
    try {
      await withDeadline(clock, timeout, 'the health check', signal, (limited) =>
        probe(this.#backend, this.#policy, limited),
      )
    } catch (error) {
      problem = connectProblem(error)
    }
    if (signal.aborted) return
    this.#judge(problem)
    this.#cancel = clock.after(interval, () => void this.#look())
  }

  #judge(problem: string | undefined): void {
    this.problem = problem
    if (problem === undefined) this.#known = true
    if (this.#failing === (problem !== undefined)) {
      this.#against = 0
      return
    }
    this.#against++
    const needed = this.#failing ? this.#policy.rise : this.#known ? this.#policy.fall : 1
    if (this.#against < needed) return
    this.#against = 0
    this.#failing = problem !== undefined
    this.#tell(problem)
  }

  #tell(problem: string | undefined): void {
    const { clock, log } = this.#options
    const { url } = this.#backend
    if (problem === undefined) {
      this.#backend.upSince = clock.monotonic()
      log.info({ upstream: url }, `${url} passes its health check again`)
      this.#backend.tellOfRoom()
    } else
      log.warn(
        { upstream: url, problem },
        `${url} fails its health check: ${problem}. It is asked only where no other upstream can be`,
      )
  }
}

/** The checks that are in use, by upstream and policy: routes that ask the same share one. */
export class HealthChecks {
  readonly #options: HealthOptions
  #checks = new Map<Backend, Map<string, HealthCheck>>()

  constructor(options: HealthOptions) {
    this.#options = options
  }

  /**
   * Runs `build`, which asks for checks; those that it did not ask for are stopped, new ones start. Throws what `build`
   * throws, and changes nothing then.
   */
  renew(build: (find: (backend: Backend, policy: HealthCheckPolicy) => HealthCheck) => void): void {
    const next = new Map<Backend, Map<string, HealthCheck>>()
    const fresh: HealthCheck[] = []
    build((backend, policy) => {
      const key = JSON.stringify(policy)
      const ofBackend = next.get(backend) ?? new Map<string, HealthCheck>()
      next.set(backend, ofBackend)
      let check = ofBackend.get(key) ?? this.#checks.get(backend)?.get(key)
      if (check === undefined) {
        check = new HealthCheck(backend, policy, this.#options)
        fresh.push(check)
      }
      ofBackend.set(key, check)
      return check
    })
    for (const [backend, checks] of this.#checks)
      for (const [key, check] of checks) if (next.get(backend)?.get(key) !== check) check.stop()
    this.#checks = next
    for (const check of fresh) check.start()
  }

  stop(): void {
    this.renew(() => {})
  }
}
