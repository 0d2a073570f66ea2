/** Responses that no upstream gave: error pages, for `client-http1.ts` and `http2-stream.ts` to frame. */
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
  const { contentType, body } = errorPage(error.status, exchange.facts.id, exchange.accept)
  const headers: [string, string][] = [
    ['content-type', contentType],
    ['cache-control', 'no-store'],
  ]
  if (hsts !== undefined) headers.push(['strict-transport-security', hsts])
  return { status: error.status, headers, body }
}
