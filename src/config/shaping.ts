/**
 * What a route does before, besides or instead of asking an upstream, and what of it contradicts itself.
 * Receives a site and its route; `sites.ts` hands it on, `consistency.ts` asks for the faults. Pure.
 */
import type { ConfigProblem } from '../errors.ts'
import { meaningless } from './modes.ts'
import type { RouteConfig, SiteConfig } from './schema.ts'

/** In the order in which a site that cannot have them is told. */
const KEYS = [
  'redirectTo',
  'respond',
  'rewrite',
  'requestHeaders',
  'responseHeaders',
  'compress',
  'allow',
  'deny',
  'maintenance',
  'maxBody',
  'basicAuth',
  'rateLimit',
] as const

type Keys = Pick<RouteConfig | SiteConfig, 'upstreams' | (typeof KEYS)[number]>

/** Durations in milliseconds; addresses and CIDR ranges. Undefined: not used. */
export interface Shaping {
  /** At most one of this and `respond`. */
  readonly redirectTo: Keys['redirectTo']
  readonly respond: Keys['respond']
  /** In place of the route's path. */
  readonly rewrite: Keys['rewrite']
  readonly requestHeaders: Keys['requestHeaders']
  readonly responseHeaders: Keys['responseHeaders']
  readonly compress: true | undefined
  readonly allow: Keys['allow']
  readonly deny: Keys['deny']
  readonly maintenance: Exclude<Keys['maintenance'], false>
  /** In octets. */
  readonly maxBody: Keys['maxBody']
  /** The same object for all routes that take it over. */
  readonly basicAuth: Exclude<Keys['basicAuth'], false>
  /** The same object for all routes that count together. */
  readonly rateLimit: Exclude<Keys['rateLimit'], false>
}

/** Each of these answers a request, so that a route has one of them. */
const ANSWERS = ['upstreams', 'redirectTo', 'respond'] as const
/** These are for what passes between clients and upstreams. */
const OF_UPSTREAMS = ['rewrite', 'requestHeaders', 'responseHeaders', 'compress'] as const

/** What the route says, else the site; but a site's own answers are for its own route. Undefined for nothing at all. */
export function shapingOf(site: Keys, route: Keys): Shaping | undefined {
  const shaping: Shaping = {
    redirectTo: route.redirectTo,
    respond: route.respond,
    rewrite: route.rewrite,
    requestHeaders: route.requestHeaders ?? site.requestHeaders,
    responseHeaders: route.responseHeaders ?? site.responseHeaders,
    compress: (route.compress ?? site.compress) || undefined,
    allow: route.allow ?? site.allow,
    deny: route.deny ?? site.deny,
    maintenance: (route.maintenance ?? site.maintenance) || undefined,
    maxBody: route.maxBody ?? site.maxBody,
    basicAuth: (route.basicAuth ?? site.basicAuth) || undefined,
    rateLimit: (route.rateLimit ?? site.rateLimit) || undefined,
  }
  return Object.values(shaping).some((value) => value !== undefined) ? shaping : undefined
}

/** What answers the requests of a route, or those of a site that no route of its `routes` takes. */
export function answerOf(holder: Keys): (typeof ANSWERS)[number] | undefined {
  return ANSWERS.find((key) => holder[key] !== undefined)
}

export function checkShaping(site: SiteConfig, path: string): ConfigProblem[] {
  if (site.mode !== 'http') return checkStream(site, path)
  return [
    // What routes take over may stand at a site that asks none itself.
    ...checkAnswers(site, path, ['rewrite']),
    ...site.routes.flatMap((route, index) => {
      const here = `${path}.routes[${index}]`
      if (answerOf(route) !== undefined) return checkAnswers(route, here, OF_UPSTREAMS)
      const hint = 'add "upstreams": ["http://127.0.0.1:3000"]'
      return [{ path: here, message: 'has none of `upstreams`, `redirectTo` and `respond`', hint }]
    }),
  ]
}

function checkAnswers(
  holder: Keys,
  path: string,
  ofUpstreams: readonly (typeof OF_UPSTREAMS)[number][],
): ConfigProblem[] {
  const [first, ...others] = ANSWERS.filter((key) => holder[key] !== undefined)
  const { status = 200, body = '' } = holder.respond ?? {}
  const bodiless = status === 204 || status === 205 || status === 304
  const idle = holder.upstreams === undefined ? ofUpstreams.filter((key) => holder[key] !== undefined) : []
  return [
    ...idle.map((key) => ({
      path: `${path}.${key}`,
      message: 'means nothing without `upstreams` beside it',
      hint: 'remove it',
    })),
    ...others.map((key) => ({
      path: `${path}.${key}`,
      message: `is there beside \`${first}\`, and a request gets one answer`,
      hint: 'keep one of the two',
    })),
    ...(bodiless && body !== ''
      ? [
          {
            path: `${path}.respond.body`,
            message: `a response with status ${status} has no content`,
            hint: 'remove it, or choose another status',
          },
        ]
      : []),
  ]
}

function checkStream(site: SiteConfig, path: string): ConfigProblem[] {
  const said = Object.fromEntries(KEYS.map((key) => [key, site[key]]))
  return meaningless(said, path, `it is for HTTP, and the mode is "${site.mode}": remove it`)
}
