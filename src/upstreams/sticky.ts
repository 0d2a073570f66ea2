/**
 * Clients that stay with an upstream by a cookie. Its value names the upstream to whoever has the key, and tells nobody
 * else where it is; the same in every process and after a restart. `balancer.ts` asks before its strategy.
 */
import { createHmac } from 'node:crypto'
import type { Backend } from './backend.ts'
import type { Member } from './member.ts'
import { type BalancedRequest, cookieValues } from './strategies.ts'

/** Of an HMAC: enough that no two upstreams share a value, and that none can be made up. */
const ID_BYTES = 16

export interface StickyOptions {
  /** The cookie's name. */
  readonly cookie: string
  /** Requests below it get the cookie: that of the route. */
  readonly path: string
  /** Secret. */
  readonly key: Buffer
}

export class Sticky {
  readonly #cookie: string
  readonly #path: string
  readonly #ids: ReadonlyMap<Backend, string>

  constructor(members: readonly Member[], { cookie, path, key }: StickyOptions) {
    this.#cookie = cookie
    // What would end the attribute (RFC 6265 section 4.1.1).
    this.#path = /[;,]|[^ -~]/.test(path) ? '/' : path
    this.#ids = new Map(members.map(({ backend }) => [backend, idOf(backend, key)]))
  }

  /** The one among the candidates that the request's cookie names. */
  find(candidates: readonly Member[], request: BalancedRequest): Member | undefined {
    const ids = this.#idsOf(request)
    if (ids.length === 0) return undefined
    return candidates.find(({ backend }) => ids.includes(this.#ids.get(backend) ?? ''))
  }

  /**
   * Value of Set-Cookie for a response of this upstream; undefined when the client has the cookie. It lasts as long as
   * the browser does. `secure`: the request came over TLS.
   */
  setCookie(backend: Backend, request: BalancedRequest, secure: boolean): string | undefined {
    const id = this.#ids.get(backend)
    if (id === undefined || this.#idsOf(request).includes(id)) return undefined
    const attributes = `Path=${this.#path}; HttpOnly; ${secure ? 'Secure; ' : ''}SameSite=Lax`
    return `${this.#cookie}=${id}; ${attributes}`
  }

  /** Several where routes lie within one another; the closest one first. */
  #idsOf(request: BalancedRequest): string[] {
    return cookieValues(request.field('cookie'), this.#cookie)
  }
}

function idOf({ url }: Backend, key: Buffer): string {
  return createHmac('sha256', key).update(url).digest().subarray(0, ID_BYTES).toString('base64url')
}
