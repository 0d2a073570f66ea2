/** One log line and one metric for each request, written when it is over. Receives records from the wires. */
import type { ProxyError } from '../errors.ts'
import type { Log } from '../log.ts'
import type { Metrics } from '../metrics.ts'

/** A request that is over. */
export interface RequestRecord {
  readonly id: string
  readonly method: string
  /** As sent; undefined when the request had none. */
  readonly host: string | undefined
  /** Path and query as sent; the query, which may hold secrets, is not logged. */
  readonly target: string
  /** 499 when the client left before a response began. */
  readonly status: number
  /** Of the response's content, as sent to the client. */
  readonly bodyBytes: number
  readonly durationMs: number
  /** URL of the upstream that was asked last. */
  readonly upstream: string | undefined
  readonly clientAddress: string
  readonly protocol: 'HTTP/1.0' | 'HTTP/1.1' | 'HTTP/2'
  /** Why no upstream answered, or why the response was cut off. */
  readonly error: ProxyError | undefined
}

export interface AccessLogOptions {
  readonly log: Log
  readonly metrics: Metrics
  /** Asked for each request: all, none, or this share of them; failures of upstreams are logged in any case. */
  readonly access: () => boolean | number
  /** Between 0 and 1, as Math.random. */
  readonly random: () => number
}

export class AccessLog {
  readonly #log: Log
  readonly #metrics: Metrics
  readonly #access: AccessLogOptions['access']
  readonly #random: () => number

  constructor(options: AccessLogOptions) {
    this.#log = options.log
    this.#metrics = options.metrics
    this.#access = options.access
    this.#random = options.random
  }

  record(request: RequestRecord): void {
    this.#metrics.requestDone(request.status, request.durationMs)
    if (hasFailed(request)) this.#log.warn(fieldsOf(request), 'request failed')
    else if (this.#random() < Number(this.#access())) this.#log.info(fieldsOf(request), 'request')
  }
}

/** What an operator should hear of; maintenance is the operator’s own doing. */
function hasFailed({ error }: RequestRecord): boolean {
  return error !== undefined && error.status >= 500 && error.code !== 'MAINTENANCE'
}

function fieldsOf(request: RequestRecord): object {
  const { target, durationMs, error, clientAddress, bodyBytes, ...rest } = request
  const query = target.indexOf('?')
  return {
    ...rest,
    path: query === -1 ? target : target.slice(0, query),
    bytes: bodyBytes,
    ms: Math.round(durationMs * 10) / 10,
    client: clientAddress,
    ...(error === undefined ? {} : { err: error }),
  }
}
