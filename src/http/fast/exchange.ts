/**
 * One request on its way: choosing an upstream, connecting, trying again where that is safe, and what a failure means
 * to the client; at the end the record for the access log.
 *
 * `client-http1.ts` and `http2-stream.ts` make one, give it the request, and are told of the response.
 */
import { ProxyError } from '../../errors.ts'
import type { Backend } from '../../upstreams/backend.ts'
import type { BalancedRequest } from '../../upstreams/strategies.ts'
import type { Waiter } from '../../upstreams/waiting-line.ts'
import { Compressor, type CompressorUser, compressionOf } from '../compression.ts'
import { FieldLines } from '../headers.ts'
import { tooLarge } from '../shaping.ts'
import type { Route } from '../verdict.ts'
import type { Engine } from './engine.ts'
import type { Head } from './head.ts'
import { HeldPieces } from './held-pieces.ts'
import type { Upstreams } from './upstream.ts'
import type { UpstreamConnection, UpstreamFault, UpstreamUser } from './upstream-connection.ts'

/** Who is told of the response. */
export interface ExchangeClient {
  /** Interim responses first. `lines` holds the kept lines up to `head.length`; both are valid during the call only. */
  onResponseHead(head: Head, lines: Buffer): void
  onContent(bytes: Buffer, start: number, end: number): void
  onResponseEnd(trailers: Buffer | undefined): void
  onReadEnd(): void
  /** More of the request's body can be taken. */
  onDrain(): void
  /** No response comes, or no more of it. */
  onFailure(error: ProxyError): void
}

export interface ExchangeFacts {
  /** Did it come over TLS? */
  readonly secure: boolean
  readonly id: string
  readonly method: string
  readonly host: string | undefined
  readonly target: string
  /** See `Gateway.clientOf`; the peer's where the head was not understood. */
  readonly clientAddress: string
  readonly protocol: 'HTTP/1.0' | 'HTTP/1.1' | 'HTTP/2'
}

/** RFC 9110 section 9.2.2: sending these twice does no more than sending them once. */
const IDEMPOTENT: ReadonlySet<string> = new Set(['GET', 'HEAD', 'OPTIONS', 'TRACE', 'PUT', 'DELETE'])

/** What the log says where the client was gone before a response began. */
const CLIENT_GONE_STATUS = 499

/** RFC 9110 section 8.6: methods whose requests say so when they have no content. */
export const HAVE_CONTENT: ReadonlySet<string> = new Set(['POST', 'PUT', 'PATCH'])

/** Of a body that is sent, how much is kept for as long as the upstream may say that it did not process the request. */
const KEPT_BYTES = 64 * 1024

/** How a request's body is framed on its way to the upstream; `raw` is for tunnels. */
export type RequestFraming = 'none' | 'length' | 'chunked' | 'raw'

export class Exchange implements CompressorUser, UpstreamUser, BalancedRequest, Waiter {
  readonly facts: ExchangeFacts
  readonly isHead: boolean
  upgrade = ''
  requestDone = false
  /** What the client got so far. */
  status = CLIENT_GONE_STATUS
  bodyBytes = 0
  /** Why no upstream's response was sent, where one of our own was. */
  error: ProxyError | undefined
  readonly #engine: Engine
  readonly #upstreams: Upstreams
  readonly #client: ExchangeClient
  readonly #startedMs: number
  readonly #tried: Backend[] = []
  #route: Route | undefined
  /** The upstream that was asked last. */
  #backend: Backend | undefined
  /** Is a place at it taken? */
  #occupies = false
  #retries = 0
  #connection: UpstreamConnection | undefined
  #requestHead: Buffer | undefined
  /** Of the request's head, once one is looked up. */
  #fields: FieldLines | undefined
  #framing: RequestFraming = 'none'
  /** The body, so far as it is not sent, or may be sent again. */
  #held: HeldPieces | undefined
  /** Has body been sent that is not kept? Then the request cannot be sent again. */
  #bodyGone = false
  #trailers: Buffer | undefined
  #connected = false
  /** Has the request been sent again to the same upstream, which did not process it? */
  #resent = false
  #bodyStarted = false
  #requestBytes = 0
  /** Between the upstream and the client, where the response is compressed. */
  #compressor: Compressor | undefined
  /** Is the response one whose end is not known, so that each piece of it counts by itself? */
  #flushes = false
  #responseTrailers: Buffer | undefined
  /** Has the client been told of a final response? */
  #responding = false
  #over = false

  constructor(engine: Engine, upstreams: Upstreams, client: ExchangeClient, facts: ExchangeFacts) {
    this.#engine = engine
    this.#upstreams = upstreams
    this.#client = client
    this.facts = facts
    this.isHead = facts.method === 'HEAD'
    this.#startedMs = engine.clock.monotonic()
  }

  get headOnly(): boolean {
    return this.#framing === 'none' && this.upgrade === ''
  }

  get chunked(): boolean {
    return this.#framing === 'chunked'
  }

  /** The route that was decided upon; undefined where no upstream is asked. */
  get route(): Route | undefined {
    return this.#route
  }

  /** Sends the head, which is taken over; with a framing other than `none`, `writeBody` and `endBody` follow. */
  send(route: Route, head: Buffer, framing: RequestFraming): void {
    this.#route = route
    this.#requestHead = head
    this.#framing = framing
    // The body may have ended before it was decided where it goes.
    this.requestDone ||= framing === 'none'
    if (this.#isTooLarge) {
      this.#fail(tooLarge())
      return
    }
    this.#choose(route.balancer.pick(this))
  }

  /** For a request that is not sent on: its lines, in which `field` looks. */
  keepLines(lines: Buffer): void {
    this.#requestHead = lines
  }

  /** Takes `bytes` over; false: hold the rest until `onDrain`. */
  writeBody(bytes: Buffer): boolean {
    if (this.#over) return true
    this.#requestBytes += bytes.length
    if (this.#isTooLarge) {
      this.#fail(tooLarge())
      return true
    }
    return this.#write(bytes)
  }

  endBody(trailers?: Buffer): void {
    if (this.#over) return
    this.#bodyStarted = true
    this.#trailers = this.#honest(trailers)
    if (this.#connected) this.#connection?.endBody(this.#trailers)
    this.requestDone = true
  }

  /** Without what clients may not say of themselves. */
  #honest(trailers: Buffer | undefined): Buffer | undefined {
    const clientFields = this.#route?.clientFields
    if (trailers === undefined || clientFields === undefined) return trailers
    const kept = clientFields.withoutOwned(trailers.toString('latin1'))
    return kept === '' ? undefined : Buffer.from(kept, 'latin1')
  }

  /** Content that has told its length before was measured by that; a tunnel is none. */
  get #isTooLarge(): boolean {
    return this.chunked && this.#requestBytes > (this.#route?.maxBodyBytes ?? Number.POSITIVE_INFINITY)
  }

  /** Of a tunnel: the client has said all. */
  endTunnel(): void {
    this.#connection?.end()
  }

  pause(): void {
    if (this.#compressor !== undefined) this.#compressor.pause()
    else this.#connection?.pause()
  }

  resume(): void {
    if (this.#compressor !== undefined) this.#compressor.resume()
    else this.#connection?.resume()
  }

  /** Ends the exchange: the client is served, or gone. Idempotent. Writes the access record. */
  finish(error = this.error): void {
    if (this.#over) return
    this.#over = true
    const connection = this.#connection
    this.#connection = undefined
    this.#held = undefined
    connection?.destroy()
    this.#compressor?.destroy()
    this.#release()
    this.#route?.balancer.leave(this)
    const { id, method, host, target, clientAddress, protocol } = this.facts
    this.#engine.accessLog.record({
      id,
      method,
      host,
      target,
      status: this.status,
      bodyBytes: this.bodyBytes,
      durationMs: this.#engine.clock.monotonic() - this.#startedMs,
      upstream: this.#backend?.url,
      clientAddress,
      protocol,
      error,
    })
  }

  get over(): boolean {
    return this.#over
  }

  #write(bytes: Buffer): boolean {
    this.#bodyStarted = true
    if (this.#connected) return this.#pass(bytes)
    this.#hold(bytes)
    return false
  }

  #pass(bytes: Buffer): boolean {
    if (!this.#bodyGone) this.#keep(bytes)
    return this.#connection?.writeBody(bytes) ?? true
  }

  /** Only an upstream of HTTP/2 says what it did not process. */
  #keep(bytes: Buffer): void {
    const keptBytes = this.#held?.bytes ?? 0
    if (this.#backend?.protocol !== 'h2' || keptBytes + bytes.length > KEPT_BYTES) this.#dropBody()
    else this.#hold(bytes)
  }

  #hold(bytes: Buffer): void {
    this.#held ??= new HeldPieces()
    this.#held.push(bytes)
  }

  /** The request is not sent again. */
  #dropBody(): void {
    this.#bodyGone = true
    this.#held = undefined
  }

  get clientAddress(): string {
    return this.facts.clientAddress
  }

  /** Of the request. */
  field(name: string): string | undefined {
    this.#fields ??= new FieldLines(this.#requestHead?.toString('latin1') ?? '')
    return this.#fields.field(name)
  }

  #choose(backend: Backend | undefined): void {
    if (backend !== undefined) this.#connect(backend, false)
    else if (this.#route?.balancer.wait(this) === false) this.#fail(this.#route.balancer.refusal())
  }

  onTurn(): void {
    this.#choose(this.#route?.balancer.pick(this))
  }

  onWaitedTooLong(): void {
    if (this.#route !== undefined) this.#fail(this.#route.balancer.refusal())
  }

  #release(): void {
    if (!this.#occupies || this.#backend === undefined) return
    this.#occupies = false
    this.#route?.balancer.release(this.#backend)
  }

  /** May it be sent again where it may have been processed? */
  get #isRepeatable(): boolean {
    return !this.#responding && !this.#bodyStarted && IDEMPOTENT.has(this.facts.method)
  }

  /** On to another upstream, where sending the request again is safe, if the route's budget allows it. */
  #tryAnother(): boolean {
    const backend = this.#backend
    if (backend === undefined) return false
    this.#tried.push(backend)
    const next = this.#route?.balancer.pickAgain(this, this.#tried, this.#retries)
    if (next === undefined) return false
    this.#retries++
    this.#connection?.destroy()
    this.#release()
    this.#connect(next, true)
    return true
  }

  #connect(backend: Backend, fresh: boolean): void {
    this.#backend = backend
    this.#occupies = true
    const connection = this.#upstreams.acquire(backend, this, fresh)
    this.#connection = connection
    this.#connected = connection.reused
    if (this.#requestHead !== undefined) connection.sendHead(this.#edited(this.#requestHead))
    if (this.#connected && this.#bodyStarted) this.#sendHeld()
  }

  /** As the upstream is to get it; what is decided and logged goes by what the client sent. */
  #edited(head: Buffer): Buffer {
    const route = this.#route
    if (route === undefined || !changesRequests(route)) return head
    return this.#engine.headEditor.editRequest(head, route, route.target ?? this.facts.target)
  }

  onConnected(): void {
    this.#connected = true
    this.#sendHeld()
  }

  /** What came of the body before there was a connection, this one or an earlier one. */
  #sendHeld(): void {
    const held = this.#held
    this.#held = undefined
    let room = held !== undefined
    while (held !== undefined && held.bytes > 0) room = this.#pass(held.take())
    if (this.requestDone && this.#framing !== 'none') this.#connection?.endBody(this.#trailers)
    else if (room) this.#client.onDrain()
  }

  onConnectFailed(error: Error, timedOut: boolean): void {
    const backend = this.#backend
    const route = this.#route
    if (backend === undefined || route === undefined) return
    this.#connection = undefined
    this.#tried.push(backend)
    route.balancer.connectFailed(backend, error.message)
    this.#release()
    const next = route.balancer.pick(this, this.#tried)
    if (next !== undefined) {
      this.#connect(next, true)
      return
    }
    // The others may be well, and only full.
    if (route.balancer.wait(this)) return
    const status = timedOut ? 504 : 502
    const code = timedOut ? 'UPSTREAM_TIMEOUT' : 'UPSTREAM_UNREACHABLE'
    this.#fail(
      new ProxyError(code, status, `cannot connect to ${backend.url}: ${error.message}`, { cause: error }),
    )
  }

  onResponseHead(head: Head, lines: Buffer): void {
    // We have asked for no 100 ourselves: the client's Expect was answered here.
    if (head.status === 100) return
    if (head.status >= 200 || head.status === 101) {
      const unable = head.status >= 502 && head.status <= 504
      this.#judge(unable ? `it answered ${head.status}` : undefined)
      if (unable && this.#isRepeatable && this.#tryAnother()) return
      this.#responding = true
      this.#dropBody()
      const edits = this.#route?.responseEdits
      if (edits !== undefined && head.status !== 101) this.#engine.headEditor.editResponse(head, lines, edits)
      if (this.#route?.balancer.sticky !== undefined) this.#stick(head, lines)
      if (this.#route?.compress === true) this.#startCompressor(head, lines)
    }
    this.#client.onResponseHead(head, lines)
    // The content comes in events of its own: the head does not wait for it in a buffer that is shared.
    if (this.#compressor !== undefined) this.#client.onReadEnd()
  }

  /** Where the response gains by it, and the client takes it. */
  #startCompressor(head: Head, lines: Buffer): void {
    const { status, contentLength } = head
    const fields = new FieldLines(lines.toString('latin1', head.fieldsStart, head.length))
    const response = {
      method: this.facts.method,
      status,
      contentLength,
      field: (name: string) => fields.field(name),
    }
    const compression = compressionOf(response, this.field('accept-encoding'))
    if (compression === undefined) return
    this.#engine.headEditor.editResponse(head, lines, compression.edits)
    if (compression.coding === undefined) return
    head.contentLength = -1
    this.#flushes = contentLength === -1
    this.#compressor = new Compressor(compression.coding, this)
  }

  /** `lines` has room: see `Engine.responseLines`. */
  #stick(head: Head, lines: Buffer): void {
    if (this.#backend === undefined) return
    const cookie = this.#route?.balancer.sticky?.setCookie(this.#backend, this, this.facts.secure)
    if (cookie !== undefined) head.length += lines.write(`Set-Cookie: ${cookie}\r\n`, head.length, 'latin1')
  }

  onContent(bytes: Buffer, start: number, end: number): void {
    if (this.#compressor === undefined) this.#client.onContent(bytes, start, end)
    else if (!this.#compressor.write(Buffer.from(bytes.subarray(start, end)))) this.#connection?.pause()
  }

  onCompressed(bytes: Buffer): void {
    if (this.#over) return
    this.#client.onContent(bytes, 0, bytes.length)
    this.#client.onReadEnd()
  }

  onCompressedEnd(): void {
    if (!this.#over) this.#client.onResponseEnd(this.#responseTrailers)
  }

  onCompressorDrain(): void {
    this.#connection?.resume()
  }

  onCompressorError(cause: Error): void {
    const message = `the response cannot be compressed: ${cause.message}`
    if (!this.#over) this.#fail(new ProxyError('UPSTREAM_INVALID', 502, message, { cause }))
  }

  /** @param problem undefined: it did as it should */
  #judge(problem: string | undefined): void {
    if (this.#backend === undefined) return
    if (problem === undefined) this.#route?.balancer.succeeded(this.#backend)
    else this.#route?.balancer.failed(this.#backend, problem)
  }

  onResponseEnd(trailers: Buffer | undefined): void {
    this.#connection = undefined
    this.#release()
    this.#responseTrailers = trailers
    if (this.#compressor === undefined) this.#client.onResponseEnd(trailers)
    else this.#compressor.end()
  }

  onReadEnd(): void {
    if (this.#compressor === undefined) this.#client.onReadEnd()
    else if (this.#flushes) this.#compressor.flush()
  }

  onDrain(): void {
    this.#client.onDrain()
  }

  onLost(fault: UpstreamFault, detail: string, started: boolean): void {
    const stale = fault === 'closed' && !started && this.#connection?.reused === true
    const backend = this.#backend
    this.#connection = undefined
    // RFC 9113 section 8.7: safe for any method. An upstream that has answered and then says it did nothing lies.
    const unprocessed = fault === 'refused' && !started && !this.#bodyGone
    // Once, and as often as not even the head was sent: each connection takes at least one of those that wait.
    if (unprocessed && backend !== undefined && !(this.#connected && this.#resent)) {
      this.#resent ||= this.#connected
      this.#connect(backend, true)
      return
    }
    if (stale && this.#isRepeatable && backend !== undefined) {
      this.#connect(backend, true)
      return
    }
    // Neither what it cannot do nor what it leaves to others speaks against it.
    if (fault !== 'unsupported' && fault !== 'refused') this.#judge(detail)
    // One that went silent may be at work on it, and the client has waited long.
    if ((unprocessed || (fault === 'closed' && this.#isRepeatable)) && this.#tryAnother()) return
    this.#release()
    this.#fail(errorOf(fault, this.#responding, this.#backend?.url ?? '', detail))
  }

  #fail(error: ProxyError): void {
    this.#client.onFailure(error)
  }
}

function changesRequests({ rewrite, target, requestEdits }: Route): boolean {
  return rewrite !== undefined || target !== undefined || requestEdits !== undefined
}

function errorOf(fault: UpstreamFault, responding: boolean, url: string, detail: string): ProxyError {
  if (fault === 'timeout') return new ProxyError('UPSTREAM_TIMEOUT', 504, `${url}: ${detail}`)
  if (fault === 'invalid' && !responding)
    return new ProxyError('UPSTREAM_INVALID', 502, `${url} sent no valid HTTP: ${detail}`)
  if (fault === 'unsupported') return new ProxyError('UPSTREAM_INVALID', 502, `${url}: ${detail}`)
  return new ProxyError('UPSTREAM_UNREACHABLE', 502, `${url} broke off: ${detail}`)
}
