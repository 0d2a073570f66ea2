/** How a route spreads its requests, with every default applied. Receives a site and its route; `sites.ts` hands it on. */
import type { RouteConfig, SiteConfig } from './schema.ts'
import { STICKY_COOKIE } from './sticky-cookie.ts'

/** How to find out whether an upstream is well. Durations in milliseconds. */
export type HealthCheckPolicy = {
  readonly interval: number
  readonly timeout: number
  /** Failed checks in a row that take it down. */
  readonly fall: number
  /** Passed checks in a row that bring it back. */
  readonly rise: number
} & (
  | { readonly type: 'tcp' }
  | {
      readonly type: 'http'
      readonly path: string
      /** Undefined: the upstream's own address. */
      readonly host: string | undefined
      /** Undefined: 200 to 399. */
      readonly status: readonly number[] | undefined
    }
)

/** Durations in milliseconds. */
export interface Balancing {
  readonly balance: NonNullable<RouteConfig['balance']>
  /** The name of the cookie that keeps a client with its upstream; undefined: nothing does. */
  readonly sticky: string | undefined
  readonly retries: number
  /** 0: no upstream is ever left alone. */
  readonly maxFails: number
  readonly failTimeout: number
  /** 0: none. */
  readonly slowStart: number
  readonly queue: RouteConfig['queue']
  readonly healthCheck: HealthCheckPolicy | undefined
}

export const DEFAULT_BALANCING: Balancing = {
  balance: 'round-robin',
  sticky: undefined,
  retries: 1,
  maxFails: 3,
  failTimeout: 10_000,
  slowStart: 0,
  queue: undefined,
  healthCheck: undefined,
}

type BalancingKeys = Pick<RouteConfig | SiteConfig, keyof Balancing>

/** What the route says, else the site, else the default. */
export function balancingOf(site: BalancingKeys, route: BalancingKeys): Balancing {
  const said = <K extends Exclude<keyof Balancing, 'healthCheck' | 'sticky'>>(key: K): Balancing[K] =>
    (route[key] ?? site[key] ?? DEFAULT_BALANCING[key]) as Balancing[K]
  const healthCheck = route.healthCheck ?? site.healthCheck
  return {
    balance: said('balance'),
    sticky: cookieOf(route.sticky ?? site.sticky ?? false),
    retries: said('retries'),
    maxFails: said('maxFails'),
    failTimeout: said('failTimeout'),
    slowStart: said('slowStart'),
    queue: said('queue'),
    healthCheck: healthCheck && healthCheckOf(healthCheck),
  }
}

/** Of a site whose connections are passed on as they are: nothing more is known of its upstreams than that they take them. */
export function streamBalancingOf(site: BalancingKeys): Balancing {
  const { healthCheck } = site
  const check = healthCheck && healthCheckOf({ ...healthCheck, type: 'tcp' })
  return { ...balancingOf(site, site), healthCheck: check }
}

function cookieOf(sticky: NonNullable<RouteConfig['sticky']>): string | undefined {
  if (typeof sticky === 'object') return sticky.cookie
  return sticky ? STICKY_COOKIE : undefined
}

function healthCheckOf(written: NonNullable<RouteConfig['healthCheck']>): HealthCheckPolicy {
  const { type = 'http', path = '/', host, status, ...rest } = written
  return type === 'tcp' ? { type, ...rest } : { type, path, host, status, ...rest }
}
