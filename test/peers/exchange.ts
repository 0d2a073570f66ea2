/** One HTTP or HTTPS exchange, whole in memory: what the tests ask of management interfaces and upstreams. */
import { once } from 'node:events'
import * as http from 'node:http'
import * as https from 'node:https'

export interface ExchangeOptions {
  readonly method?: string
  readonly headers?: http.OutgoingHttpHeaders
  readonly body?: string | Buffer
  /** Roots to trust, PEM. */
  readonly ca?: string
  readonly signal?: AbortSignal
}

export interface Exchange {
  readonly status: number
  readonly headers: http.IncomingHttpHeaders
  readonly body: Buffer
}

/** On a connection of its own. Rejects on a broken connection, also when it breaks within the body. */
export async function exchange(url: string, options: ExchangeOptions = {}): Promise<Exchange> {
  const { body, ...settings } = options
  const client = url.startsWith('https:') ? https : http
  const request = client.request(url, { agent: false, ...settings })
  request.end(body)
  const [response] = (await once(request, 'response')) as [http.IncomingMessage]
  const chunks = await response.toArray()
  return { status: response.statusCode ?? 0, headers: response.headers, body: Buffer.concat(chunks) }
}
