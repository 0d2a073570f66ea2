/**
 * One log line and one metric for each request, written when it is over. Receives records from the wires.
 *
 * The lines are made here, as pino would: its redaction and a write for each line cost twice as much as the request.
 */
import type { ProxyError } from '../errors.ts'
import type { Log } from '../log.ts'
import type { Metrics } from '../metrics.ts'
import type { Clock } from '../time.ts'

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
  /** See `Gateway.clientOf`; the peer's where the head was not understood. */
  readonly clientAddress: string
  readonly protocol: 'HTTP/1.0' | 'HTTP/1.1' | 'HTTP/2'
  /** Why no upstream answered, or why the response was cut off. */
  readonly error: ProxyError | undefined
}

export interface AccessLogOptions {
  readonly clock: Clock
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
  readonly #clock: Clock
  #timeMs = Number.NEGATIVE_INFINITY
  #time = ''

  constructor(options: AccessLogOptions) {
    this.#clock = options.clock
    this.#log = options.log
    this.#metrics = options.metrics
    this.#access = options.access
    this.#random = options.random
  }

  record(request: RequestRecord): void {
    this.#metrics.requestDone(request.status, request.durationMs)
    if (hasFailed(request)) this.#log.warn(fieldsOf(request), 'request failed')
    else if (this.#random() < Number(this.#access())) this.#write(request)
  }

  #write(request: RequestRecord): void {
    const { lines } = this.#log
    if (lines === undefined || request.error !== undefined) this.#log.info(fieldsOf(request), 'request')
    else if (this.#log.isLevelEnabled('info')) lines.add(this.#lineOf(request))
  }

  #lineOf(request: RequestRecord): string {
    const { id, method, host, target, status, bodyBytes, durationMs, upstream } = request
    const { clientAddress, protocol } = request
    const named = host === undefined ? '' : `"host":${quote(host)},`
    const asked = upstream === undefined ? '' : `"upstream":${quote(upstream)},`
    return `{"level":"info","time":"${this.#now()}","id":${quote(id)},"method":${quote(method)},${named}"status":${status},${asked}"protocol":"${protocol}","path":${quote(pathOf(target))},"bytes":${bodyBytes},"ms":${tenths(durationMs)},"client":${quote(clientAddress)},"msg":"request"}\n`
  }

  /** As ISO 8601, made once a millisecond. */
  #now(): string {
    const now = this.#clock.now()
    if (now !== this.#timeMs) {
      this.#timeMs = now
      this.#time = new Date(now).toISOString()
    }
    return this.#time
  }
}

/** What an operator should hear of; maintenance is the operator’s own doing. */
function hasFailed({ error }: RequestRecord): boolean {
  return error !== undefined && error.status >= 500 && error.code !== 'MAINTENANCE'
}

function fieldsOf(request: RequestRecord): object {
  const { target, durationMs, error, clientAddress, bodyBytes, ...rest } = request
  return {
    ...rest,
    path: pathOf(target),
    bytes: bodyBytes,
    ms: tenths(durationMs),
    client: clientAddress,
    ...(error === undefined ? {} : { err: error }),
  }
}

function pathOf(target: string): string {
  const query = target.indexOf('?')
  return query === -1 ? target : target.slice(0, query)
}

function tenths(ms: number): number {
  return Math.round(ms * 10) / 10
}

/** What JSON writes otherwise than it is. */
const TO_ESCAPE = /[^ !#-[\]-~]/

function quote(text: string): string {
  return TO_ESCAPE.test(text) ? JSON.stringify(text) : `"${text}"`
}
