/**
 * What a route does before or instead of asking an upstream: who may ask, and how often; answers of its own. Compiled
 * at a reload from `config/shaping.ts`; asked by `gateway.ts` for the routes that use any of it.
 *
 *     deny, allow → maintenance → rate → redirect | respond
 */
import type { Shaping } from '../config/shaping.ts'
import { ProxyError } from '../errors.ts'
import { type Clock, SECOND } from '../time.ts'
import { AddressRanges, plainAddress } from './forwarded.ts'
import { RateLimit } from './rate-limit.ts'
import type { RequestFacts, Verdict } from './verdict.ts'

type Answer = Extract<Verdict, { action: 'answer' }>

const FORBIDDEN: Verdict = {
  action: 'refuse',
  error: new ProxyError('FORBIDDEN', 403, 'the route is not open to the client’s address'),
}

/** Compiles the routes of one policy: those that share a rate limit count together. */
export class Shapers {
  readonly #clock: Clock
  readonly #trusted: AddressRanges
  readonly #rateLimits = new Map<object, RateLimit>()

  constructor(clock: Clock, trusted: AddressRanges) {
    this.#clock = clock
    this.#trusted = trusted
  }

  /** `hsts`: value of Strict-Transport-Security for answers over TLS. Undefined where nothing is to be decided. */
  compile(shaping: Shaping, hsts: string | undefined): Shaper | undefined {
    const { allow, deny, maintenance, rateLimit, redirectTo, respond } = shaping
    const keys = [allow, deny, maintenance, rateLimit, redirectTo, respond]
    if (keys.every((key) => key === undefined)) return undefined
    return new Shaper(shaping, hsts, this.#trusted, this.#rateLimitOf(shaping))
  }

  #rateLimitOf({ rateLimit: config }: Shaping): RateLimit | undefined {
    if (config === undefined) return undefined
    const limit = this.#rateLimits.get(config) ?? new RateLimit(config, this.#clock)
    this.#rateLimits.set(config, limit)
    return limit
  }
}

export class Shaper {
  readonly #hsts: string | undefined
  readonly #trusted: AddressRanges
  readonly #rateLimit: RateLimit | undefined
  readonly #allow: AddressRanges | undefined
  readonly #deny: AddressRanges | undefined
  readonly #closed: { readonly verdict: Verdict; readonly exempt: AddressRanges } | undefined
  readonly #redirect: Shaping['redirectTo']
  readonly #response: Answer | undefined

  constructor(
    { allow, deny, maintenance, redirectTo, respond }: Shaping,
    hsts: string | undefined,
    trusted: AddressRanges,
    rateLimit: RateLimit | undefined,
  ) {
    this.#hsts = hsts
    this.#trusted = trusted
    this.#rateLimit = rateLimit
    this.#allow = allow === undefined ? undefined : new AddressRanges(allow)
    this.#deny = deny === undefined ? undefined : new AddressRanges(deny)
    this.#closed =
      maintenance === undefined
        ? undefined
        : { verdict: closed(maintenance.retryAfter), exempt: new AddressRanges(maintenance.allow) }
    this.#redirect = redirectTo
    this.#response = respond === undefined ? undefined : responseOf(respond)
  }

  /** Counts the request for `rateLimit`. Undefined: it is to be forwarded. */
  decide(facts: RequestFacts): Verdict | undefined {
    const client = this.#clientOf(facts)
    if (this.#deny?.contains(client) === true || this.#allow?.contains(client) === false) return FORBIDDEN
    if (this.#closed?.exempt.contains(client) === false) return this.#closed.verdict
    const earlyMs = this.#rateLimit?.take(client) ?? 0
    if (earlyMs > 0) return tooMany(earlyMs)
    if (this.#redirect !== undefined) return this.#secured(facts, redirection(this.#redirect, facts))
    return this.#response === undefined ? undefined : this.#secured(facts, this.#response)
  }

  /** The peer; behind trusted proxies the last address that is none of theirs. */
  #clientOf({ clientAddress, forwardedFor }: RequestFacts): string {
    if (forwardedFor === undefined) return clientAddress
    const chain = forwardedFor.split(',').map((address) => plainAddress(address.trim()))
    return chain.findLast((address) => !this.#trusted.contains(address)) || clientAddress
  }

  #secured({ secure }: RequestFacts, answer: Answer): Answer {
    if (!secure || this.#hsts === undefined) return answer
    return { ...answer, headers: [...answer.headers, ['strict-transport-security', this.#hsts]] }
  }
}

function closed(retryAfterMs: number): Verdict {
  const retryAfter = Math.ceil(retryAfterMs / SECOND)
  const error = new ProxyError('MAINTENANCE', 503, 'the route is closed for maintenance', { retryAfter })
  return { action: 'refuse', error }
}

function tooMany(earlyMs: number): Verdict {
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
