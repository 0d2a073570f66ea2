/**
 * The upstreams of all routes, or of all streams, as these see them: backends and health checks are shared, and kept over
 * reloads. `gateway.ts` and `tcp/streams.ts` have one each, and put a `Balancer` over what it makes.
 */
import type { Balancing } from '../config/balancing.ts'
import type { UpstreamConfig } from '../config/schema.ts'
import type { Site } from '../config/sites.ts'
import { Backends } from './backend.ts'
import { HealthChecks, type HealthOptions } from './health.ts'
import { Member } from './member.ts'
import type { Names } from './names.ts'

export type MembersOf = (
  upstreams: readonly UpstreamConfig[],
  balancing: Pick<Balancing, 'healthCheck' | 'slowStart'>,
  tls: Site['upstreamTls'],
) => Member[]

export class Members {
  readonly #backends: Backends
  readonly #checks: HealthChecks

  constructor(names: Names, options: HealthOptions) {
    this.#backends = new Backends(names)
    this.#checks = new HealthChecks(options)
  }

  /**
   * Runs `build`, which asks for members; what it did not ask for is retired, and checked no more. Throws what `build` and
   * `Backends.renew` throw, and keeps everything then.
   */
  renew(build: (membersOf: MembersOf) => void): void {
    this.#backends.renew((find) =>
      this.#checks.renew((check) =>
        build((upstreams, { healthCheck, slowStart }, tls) =>
          upstreams.map((upstream) => {
            const backend = find(upstream, tls)
            return new Member(backend, upstream, slowStart, healthCheck && check(backend, healthCheck))
          }),
        ),
      ),
    )
  }

  /** Ends the health checks. */
  stop(): void {
    this.#checks.stop()
  }
}
