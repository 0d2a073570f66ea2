/**
 * An upstream as one route sees it: the shared `Backend`, and the part it plays there, made from the config.
 * `strategies.ts` chooses among them for `balancer.ts`.
 */
import type { UpstreamConfig } from '../config/schema.ts'
import type { Backend } from './backend.ts'
import { hashOf } from './hash.ts'
import type { HealthCheck } from './health.ts'

/** What a slow start begins with, so that the first request comes at all. */
const LEAST_SHARE = 0.05

/** The better the less: well, failed lately, or failing its health check. */
export type Standing = 0 | 1 | 2

export class Member {
  readonly backend: Backend
  readonly weight: number
  readonly backup: boolean
  /** Infinity for no limit. */
  readonly maxConnections: number
  /** Its place in consistent hashing; the same in every process. */
  readonly seed: number
  /** Of smooth weighted round-robin: what it is owed. */
  credit = 0
  /** Undefined: it is not checked. */
  readonly check: Pick<HealthCheck, 'failing' | 'problem'> | undefined
  readonly #slowStartMs: number

  constructor(
    backend: Backend,
    { weight, backup, maxConnections }: UpstreamConfig,
    slowStartMs: number,
    check?: Member['check'],
  ) {
    this.backend = backend
    this.check = check
    this.weight = weight
    this.backup = backup
    this.maxConnections = maxConnections ?? Number.POSITIVE_INFINITY
    this.seed = hashOf(backend.url)
    this.#slowStartMs = slowStartMs
  }

  get full(): boolean {
    return this.backend.active >= this.maxConnections
  }

  /** Does its health check say that it is down? */
  get failing(): boolean {
    return this.check?.failing === true
  }

  /** `now` is monotonic. */
  standingAt(now: number): Standing {
    if (this.failing) return 2
    return this.backend.ejectedUntil > now ? 1 : 0
  }

  /** Its weight; less, and growing steadily, while it starts slowly. `now` is monotonic. */
  weightAt(now: number): number {
    if (this.#slowStartMs === 0) return this.weight
    const share = (now - this.backend.upSince) / this.#slowStartMs
    return this.weight * Math.min(1, Math.max(LEAST_SHARE, share))
  }

  /** Requests in progress, measured by what it can take. */
  loadAt(now: number): number {
    return this.backend.active / this.weightAt(now)
  }
}
