/**
 * What a route does before or instead of asking an upstream: who may ask, and how often; answers of its own. Compiled
 * at a reload from `config/shaping.ts`; asked by `gateway.ts` for the routes that use any of it.
 *
 *     deny, allow → maintenance → rate → size → password → redirect | respond | upstream
 */
import { extname } from 'node:path'
import { readTextOf } from '../config/named-files.ts'
import type { Shaping } from '../config/shaping.ts'
import { ProxyError } from '../errors.ts'
import { type Clock, SECOND } from '../time.ts'
import { type Admission, BasicAuth, Gate } from './basic-auth.ts'
import { AddressRanges } from './forwarded.ts'
import { RateLimit } from './rate-limit.ts'
import type { Decision, Forward, RequestFacts, Verdict } from './verdict.ts'

type Answer = Extract<Decision, { action: 'answer' }>
type Refusal = Extract<Decision, { action: 'refuse' }>

const FORBIDDEN: Refusal = {
  action: 'refuse',
  error: new ProxyError('FORBIDDEN', 403, 'the route is not open to the client’s address'),
}

/** Also for content whose length shows only as it comes. */
export function tooLarge(): ProxyError {
  return new ProxyError('TOO_LARGE', 413, 'the request’s content is larger than the route allows')
}

const TOO_LARGE: Refusal = { action: 'refuse', error: tooLarge() }

const BUSY: Refusal = {
  action: 'refuse',
  error: new ProxyError('RATE_LIMITED', 429, 'too many passwords wait to be checked', { retryAfter: 1 }),
}

/** Compiles the routes of one policy: those that share a rate limit count together, those that share users remember together. */
export class Shapers {
  readonly #clock: Clock
  readonly #rateLimits = new Map<object, RateLimit>()
  readonly #auths = new Map<object, BasicAuth>()
  readonly #gate = new Gate()

  constructor(clock: Clock) {
    this.#clock = clock
  }

  /**
   * `hsts`: value of Strict-Transport-Security for answers over TLS. Undefined where nothing is to be decided. Reads the
   * page of maintenance (blocking); throws `ConfigError` when it cannot.
   */
  compile(shaping: Shaping, hsts: string | undefined): Shaper | undefined {
    const { allow, deny, maintenance, maxBody, basicAuth, rateLimit, redirectTo, respond } = shaping
    const keys = [allow, deny, maintenance, maxBody, basicAuth, rateLimit, redirectTo, respond]
    if (keys.every((key) => key === undefined)) return undefined
    return new Shaper(shaping, hsts, this.#rateLimitOf(shaping), this.#authOf(shaping))
  }

  #rateLimitOf({ rateLimit: config }: Shaping): RateLimit | undefined {
    if (config === undefined) return undefined
    const limit = this.#rateLimits.get(config) ?? new RateLimit(config, this.#clock)
    this.#rateLimits.set(config, limit)
    return limit
  }

  #authOf({ basicAuth: config }: Shaping): BasicAuth | undefined {
    if (config === undefined) return undefined
    const auth = this.#auths.get(config) ?? new BasicAuth(config, this.#gate)
    this.#auths.set(config, auth)
    return auth
  }
}

export class Shaper {
  readonly #hsts: string | undefined
  readonly #rateLimit: RateLimit | undefined
  readonly #auth: BasicAuth | undefined
  readonly #allow: AddressRanges | undefined
  readonly #deny: AddressRanges | undefined
  readonly #closed: { readonly decision: Answer | Refusal; readonly exempt: AddressRanges } | undefined
  readonly #maxBodyBytes: number
  readonly #redirect: Shaping['redirectTo']
  readonly #response: Answer | undefined

  constructor(
    { allow, deny, maintenance, maxBody = Number.POSITIVE_INFINITY, redirectTo, respond }: Shaping,
    hsts: string | undefined,
    rateLimit: RateLimit | undefined,
    auth: BasicAuth | undefined,
  ) {
    this.#hsts = hsts
    this.#rateLimit = rateLimit
    this.#auth = auth
    this.#allow = allow === undefined ? undefined : new AddressRanges(allow)
    this.#deny = deny === undefined ? undefined : new AddressRanges(deny)
    this.#closed =
      maintenance === undefined
        ? undefined
        : { decision: closed(maintenance), exempt: new AddressRanges(maintenance.allow) }
    this.#maxBodyBytes = maxBody
    this.#redirect = redirectTo
    this.#response = respond === undefined ? undefined : responseOf(respond)
  }

  /** Counts the request for `rateLimit`. `pass`: what becomes of it where nothing here answers it. */
  decide(facts: RequestFacts, pass: Forward): Verdict {
    const { clientAddress: client } = facts
    if (this.#deny?.contains(client) === true || this.#allow?.contains(client) === false)
      return this.#secured(facts, FORBIDDEN)
    if (this.#closed?.exempt.contains(client) === false) return this.#secured(facts, this.#closed.decision)
    const earlyMs = this.#rateLimit?.take(client, facts.fields) ?? 0
    if (earlyMs > 0) return this.#secured(facts, tooMany(earlyMs))
    if (facts.contentLength > this.#maxBodyBytes) return this.#secured(facts, TOO_LARGE)
    if (this.#auth === undefined) return this.#answer(facts, pass)
    const { challenge } = this.#auth
    const then = (admission: Admission): Decision =>
      admission === 'granted'
        ? this.#answer(facts, pass)
        : this.#secured(facts, unadmitted(admission, challenge))
    const admission = this.#auth.check(facts.fields.field('authorization'))
    return typeof admission === 'string'
      ? then(admission)
      : { action: 'wait', route: pass.route, decision: admission.then(then) }
  }

  #answer(facts: RequestFacts, pass: Forward): Decision {
    if (this.#redirect !== undefined) return this.#secured(facts, redirection(this.#redirect, facts))
    return this.#response === undefined ? pass : this.#secured(facts, this.#response)
  }

  #secured<T extends Answer | Refusal>({ secure }: RequestFacts, decision: T): T {
    const hsts = this.#hsts
    if (!secure || hsts === undefined) return decision
    if (decision.action === 'refuse') return { ...decision, hsts }
    return { ...decision, headers: [...decision.headers, ['strict-transport-security', hsts]] }
  }
}

function unadmitted(admission: Admission, challenge: string): Refusal {
  if (admission === 'busy') return BUSY
  const message = 'name and password are absent or wrong'
  return { action: 'refuse', error: new ProxyError('UNAUTHORIZED', 401, message, { challenge }) }
}

/** Reads the page (blocking). */
function closed({ retryAfter: retryAfterMs, page }: NonNullable<Shaping['maintenance']>): Answer | Refusal {
  const retryAfter = Math.ceil(retryAfterMs / SECOND)
  if (page !== undefined) {
    const headers = [
      ['content-type', PAGE_TYPES[extname(page)] ?? 'text/html; charset=utf-8'],
      ['cache-control', 'no-store'],
      ['retry-after', String(retryAfter)],
    ] as const
    return { action: 'answer', status: 503, headers, body: readTextOf('sites.maintenance.page', page) }
  }
  const error = new ProxyError('MAINTENANCE', 503, 'the route is closed for maintenance', { retryAfter })
  return { action: 'refuse', error }
}

const PAGE_TYPES: Readonly<Record<string, string>> = {
  '.json': 'application/json',
  '.txt': 'text/plain; charset=utf-8',
}

function tooMany(earlyMs: number): Refusal {
  const retryAfter = Math.ceil(earlyMs / SECOND)
  const message = 'the client asks more often than the route allows'
  return { action: 'refuse', error: new ProxyError('RATE_LIMITED', 429, message, { retryAfter }) }
}

function responseOf({ status, headers, body }: NonNullable<Shaping['respond']>): Answer {
  const fields = Object.entries(headers)
  const typed = body === '' || fields.some(([name]) => name.toLowerCase() === 'content-type')
  return {
    action: 'answer',
    status,
    headers: typed ? fields : [...fields, ['content-type', 'text/plain; charset=utf-8']],
    body,
  }
}

function redirection({ to, status }: NonNullable<Shaping['redirectTo']>, facts: RequestFacts): Answer {
  const { host = '', target } = facts
  const [path = ''] = target.split('?', 1)
  const values: Readonly<Record<string, string>> = { '{host}': host, '{path}': path, '{uri}': target }
  const filled = to.replace(/\{\w+\}/g, (variable) => values[variable] ?? variable)
  // What a client puts into a path must not become a host: `//elsewhere.example` names one.
  const location = filled.replace(/^[/\\]{2,}/, '/')
  return { action: 'answer', status, headers: [['location', location]], body: '' }
}
