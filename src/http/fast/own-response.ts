/** Responses that no upstream gave, for `client-http1.ts` and `http2-stream.ts` to frame. */
import type { ProxyError } from '../../errors.ts'
import { errorPage } from '../pages.ts'
import type { Exchange } from './exchange.ts'

export interface OwnResponse {
  readonly status: number
  readonly headers: readonly (readonly [name: string, value: string])[]
  readonly body: string
}

/** The page for a request that failed; `hsts` is what the site says for TLS. */
export function pageFor(error: ProxyError, exchange: Exchange, hsts: string | undefined): OwnResponse {
  const { contentType, body } = errorPage(error.status, exchange.facts.id, exchange.field('accept'))
  const headers: [string, string][] = [
    ['content-type', contentType],
    ['cache-control', 'no-store'],
  ]
  if (error.retryAfter !== undefined) headers.push(['retry-after', String(error.retryAfter)])
  if (error.challenge !== undefined) headers.push(['www-authenticate', error.challenge])
  if (hsts !== undefined) headers.push(['strict-transport-security', hsts])
  return { status: error.status, headers, body }
}

/** The content's length in octets; a response with 204 has none to tell (RFC 9110 section 8.6). */
export function contentLengthOf({ status, body }: OwnResponse): [name: string, value: string][] {
  return status === 204 ? [] : [['content-length', String(Buffer.byteLength(body))]]
}
