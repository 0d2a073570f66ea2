/** How a route spreads its requests, with every default applied. Receives a site and its route; `sites.ts` hands it on. */
import type { RouteConfig, SiteConfig } from './schema.ts'

/** Durations in milliseconds. */
export interface Balancing {
  readonly balance: NonNullable<RouteConfig['balance']>
  readonly retries: number
  /** 0: no upstream is ever left alone. */
  readonly maxFails: number
  readonly failTimeout: number
  /** 0: none. */
  readonly slowStart: number
  readonly queue: RouteConfig['queue']
}

export const DEFAULT_BALANCING: Balancing = {
  balance: 'round-robin',
  retries: 1,
  maxFails: 3,
  failTimeout: 10_000,
  slowStart: 0,
  queue: undefined,
}

type BalancingKeys = Pick<RouteConfig | SiteConfig, keyof Balancing>

/** What the route says, else the site, else the default. */
export function balancingOf(site: BalancingKeys, route: BalancingKeys): Balancing {
  const said = <K extends keyof Balancing>(key: K): Balancing[K] =>
    (route[key] ?? site[key] ?? DEFAULT_BALANCING[key]) as Balancing[K]
  return {
    balance: said('balance'),
    retries: said('retries'),
    maxFails: said('maxFails'),
    failTimeout: said('failTimeout'),
    slowStart: said('slowStart'),
    queue: said('queue'),
  }
}
