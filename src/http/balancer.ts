/**
 * Which upstream takes the next request: round-robin, with passive ejection. One for each route. Receives outcomes of
 * connecting from the wires; knows nothing of sockets.
 */
import { type Clock, SECOND } from '../time.ts'
import type { Backend } from './backend.ts'

/** How long an upstream that could not be connected to is left alone while there are others. */
const EJECTION_MS = 10 * SECOND

export class Balancer {
  readonly backends: readonly Backend[]
  readonly #clock: Clock
  #next = 0

  constructor(backends: readonly Backend[], clock: Clock) {
    this.backends = backends
    this.#clock = clock
  }

  /**
   * The next backend that this request has not tried; undefined when there is none left. When all failed lately, the
   * one that failed first is tried, so that a service that is back is found at once; a request that has tried one
   * already does not wait for more of these.
   */
  pick(tried: readonly Backend[] = []): Backend | undefined {
    const now = this.#clock.monotonic()
    const count = this.backends.length
    let fallback: Backend | undefined
    for (let step = 0; step < count; step++) {
      const index = (this.#next + step) % count
      const backend = this.backends[index]
      if (backend === undefined || tried.includes(backend)) continue
      if (backend.ejectedUntil <= now) {
        this.#next = index + 1
        return backend
      }
      if (fallback === undefined || backend.ejectedUntil < fallback.ejectedUntil) fallback = backend
    }
    return tried.length === 0 ? fallback : undefined
  }

  /** The backend could not be connected to. */
  connectFailed(backend: Backend): void {
    backend.ejectedUntil = this.#clock.monotonic() + EJECTION_MS
  }

  connected(backend: Backend): void {
    backend.ejectedUntil = 0
  }
}
