/**
 * One request and its response on an HTTP/2 connection (RFC 9113 section 5.1): turns the request into HTTP/1.1 for the
 * upstream, and the response into frames, within the client's flow control windows.
 *
 * Made by `client-http2.ts`, which hands it frames; drives an `Exchange`.
 */
import { randomBytes } from 'node:crypto'
import { ProxyError } from '../../errors.ts'
import type { Decision, Route } from '../verdict.ts'
import type { Connection } from '../wire.ts'
import type { Engine } from './engine.ts'
import { Exchange, type ExchangeClient, HAVE_CONTENT, type RequestFraming } from './exchange.ts'
import { dropLines, HSTS_LINES, KnownFields } from './fields.ts'
import { ERROR } from './frames.ts'
import type { Head } from './head.ts'
import { HeldPieces } from './held-pieces.ts'
import type { HopLines } from './hop-lines.ts'
import type { Http2Request } from './http2-request.ts'
import { CR, copyOf, LF, NOTHING } from './octets.ts'
import { contentLengthOf, type OwnResponse, pageFor } from './own-response.ts'
import { readPriority, UNSAID } from './priority.ts'
import type { Upstreams } from './upstream.ts'

/** The connection, as its streams need it. */
export interface StreamHost {
  readonly engine: Engine
  readonly upstreams: Upstreams
  readonly connection: Connection
  readonly clientAddress: string
  readonly trusted: boolean
  readonly hopLines: HopLines
  readonly maxFrameBytes: number
  sendWindow: number
  readonly congested: boolean
  headers(
    streamId: number,
    status: number,
    lines: Buffer,
    start: number,
    end: number,
    endStream: boolean,
  ): void
  data(streamId: number, bytes: Buffer, start: number, end: number): void
  endData(streamId: number): void
  windowUpdate(streamId: number, increment: number): void
  /** Calls `pump` when there may be room. */
  wait(stream: Http2Stream): void
  forget(stream: Http2Stream): void
  reset(stream: Http2Stream, error: number): void
  stopRequest(streamId: number): void
}

/** A request as it is to be sent on. */
interface ComposedRequest {
  readonly head: Buffer
  readonly framing: RequestFraming
  readonly expectsContinue: boolean
}

export class Http2Stream implements ExchangeClient {
  readonly id: number
  /** What the client lets us send; negative after it has shrunk its windows. */
  sendWindow: number
  /** What the client may still send. */
  receiveWindow: number
  requestEnded = false
  priority = UNSAID
  readonly #host: StreamHost
  readonly #windowBytes: number
  #exchange: Exchange | undefined
  /** Content-Length of the request; -1 when there is none. */
  #declaredBytes = -1
  #receivedBytes = 0
  /** Received, and not given back to the client's window yet. */
  #unreturned = 0
  #bodyHeldUp = false
  /** When the client last sent content, or took something of the response. */
  #activeAt: number
  #tunnel = false
  #wantsTunnel = false

  #responseStarted = false
  /** END_STREAM is sent. */
  #responseEnded = false
  /** Content that the windows have no room for. */
  readonly #held = new HeldPieces()
  #heldSince = 0
  /** The response has ended once `#held` is sent. */
  #endHeld = false
  #trailers: Buffer | undefined

  constructor(host: StreamHost, id: number, sendWindow: number, receiveWindow: number) {
    this.#host = host
    this.id = id
    this.sendWindow = sendWindow
    this.receiveWindow = receiveWindow
    this.#windowBytes = receiveWindow
    this.#activeAt = host.engine.deadlines.now
  }

  /* The request */

  /** `last`: no body follows. */
  begin(request: Http2Request, last: boolean): void {
    const host = this.#host
    const { requestIds, gateway } = host.engine
    const { secure, serverName, client } = host.connection
    const { authority, path } = request
    const clientAddress = host.trusted
      ? gateway.clientOf(host.clientAddress, request.received().for ?? '')
      : host.clientAddress
    this.#wantsTunnel = request.protocol === 'websocket'
    const exchange = new Exchange(host.engine, host.upstreams, this, {
      secure,
      id: host.trusted ? requestIds.continue(request.requestId || undefined) : requestIds.next(),
      method: request.method,
      host: authority || undefined,
      target: path,
      clientAddress,
      protocol: 'HTTP/2',
    })
    this.#exchange = exchange
    this.#declaredBytes = request.contentLength
    if (request.priority !== '') this.priority = readPriority(request.priority)
    this.requestEnded = last
    if (last && request.contentLength > 0) {
      host.reset(this, ERROR.PROTOCOL_ERROR)
      return
    }
    const fault = faultOf(request)
    if (fault !== undefined) {
      this.#refuse(fault)
      return
    }
    const method = this.#wantsTunnel ? 'GET' : request.method
    const verdict = gateway.decide({
      secure,
      serverName,
      client,
      method,
      host: authority || undefined,
      target: path,
      clientAddress,
      contentLength: request.contentLength,
      fields: request,
    })
    if (verdict.action === 'refuse' || verdict.action === 'answer') {
      this.#decline(exchange, verdict, Buffer.from(`\r\n${request.lines}`, 'latin1'))
      return
    }
    const composed = this.#compose(exchange, verdict.route, request, method)
    if (verdict.action === 'forward') this.#forward(exchange, verdict.route, composed)
    else verdict.decision.then((decision) => this.#carryOut(exchange, decision, composed))
  }

  /** What was decided later; meanwhile the exchange has held what came of the body. */
  #carryOut(exchange: Exchange, decision: Decision, composed: ComposedRequest): void {
    if (exchange.over) return
    if (decision.action === 'forward') this.#forward(exchange, decision.route, composed)
    else this.#decline(exchange, decision, composed.head)
  }

  #decline(exchange: Exchange, decision: Exclude<Decision, { action: 'forward' }>, lines: Buffer): void {
    exchange.keepLines(lines)
    if (decision.action === 'refuse') this.#refuse(decision.error, decision.hsts)
    else this.#respond(decision)
  }

  #forward(exchange: Exchange, route: Route, { head, framing, expectsContinue }: ComposedRequest): void {
    if (expectsContinue && !this.requestEnded) this.#host.headers(this.id, 100, NOTHING, 0, 0, false)
    exchange.send(route, head, framing)
  }

  #compose(exchange: Exchange, route: Route, request: Http2Request, method: string): ComposedRequest {
    const host = this.#host
    const { requestLines: lines } = host.engine
    const { authority, path } = request
    const fields = route.clientFields?.over(request.lines, host.connection.client) ?? request.lines
    let o = lines.write(`${method} ${path} HTTP/1.1\r\nHost: ${authority}\r\n${fields}`, 0, 'latin1')
    const received = host.trusted ? request.received() : undefined
    const via = host.engine.viaLine('2.0', request.via)
    o = host.hopLines.write(lines, o, authority, via, exchange.facts.id, received)
    const hasBody = !this.requestEnded && !this.#wantsTunnel
    const chunked = hasBody && request.contentLength === -1
    if (!hasBody && request.contentLength === -1 && HAVE_CONTENT.has(method)) {
      o += lines.write('Content-Length: 0\r\n', o, 'latin1')
    }
    if (chunked) o += lines.write('Transfer-Encoding: chunked\r\n', o, 'latin1')
    if (this.#wantsTunnel) {
      // RFC 8441 section 5: what HTTP/1.1 needs beyond an extended CONNECT.
      exchange.upgrade = 'websocket'
      const key = randomBytes(16).toString('base64')
      o += lines.write(
        `Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Key: ${key}\r\n`,
        o,
        'latin1',
      )
    }
    lines[o++] = CR
    lines[o++] = LF
    return {
      head: copyOf(lines, o),
      framing: !hasBody ? 'none' : chunked ? 'chunked' : 'length',
      expectsContinue: hasBody && request.expectsContinue,
    }
  }

  /** `credit`: how much of the windows the frame took, padding included. */
  onData(bytes: Buffer, last: boolean, credit: number): void {
    this.#activeAt = this.#host.engine.deadlines.now
    this.#receivedBytes += bytes.length
    if (this.#wantsTunnel && !this.#tunnel) {
      this.#host.reset(this, ERROR.PROTOCOL_ERROR)
      return
    }
    if (!this.#lengthHolds(last)) return
    this.#unreturned += credit
    if (bytes.length > 0 && this.#exchange?.writeBody(bytes) === false) this.#bodyHeldUp = true
    if (last) this.#endRequest(undefined)
    // The content may have been too much.
    else if (!this.#bodyHeldUp && this.#exchange?.over !== true) this.#returnCredit()
  }

  onTrailers(lines: string): void {
    if (this.#lengthHolds(true)) this.#endRequest(lines === '' ? undefined : Buffer.from(lines, 'latin1'))
  }

  #endRequest(trailers: Buffer | undefined): void {
    this.requestEnded = true
    if (this.#tunnel) this.#exchange?.endTunnel()
    else this.#exchange?.endBody(trailers)
  }

  /** RFC 9113 section 8.1.1: a body that is not as long as it says is malformed; passed on, it would smuggle a request. */
  #lengthHolds(last: boolean): boolean {
    if (this.#declaredBytes === -1) return true
    const fits = last
      ? this.#receivedBytes === this.#declaredBytes
      : this.#receivedBytes <= this.#declaredBytes
    if (!fits) this.#host.reset(this, ERROR.PROTOCOL_ERROR)
    return fits
  }

  #returnCredit(): void {
    if (this.requestEnded || this.#unreturned < this.#windowBytes / 2) return
    this.#host.windowUpdate(this.id, this.#unreturned)
    this.receiveWindow += this.#unreturned
    this.#unreturned = 0
  }

  onDrain(): void {
    this.#bodyHeldUp = false
    this.#activeAt = this.#host.engine.deadlines.now
    this.#returnCredit()
  }

  /** The client has given the stream up, or its connection is gone. */
  abandon(): void {
    this.#exchange?.finish(new ProxyError('CLIENT_GONE', 499, 'the client gave the request up'))
    this.#held.clear()
  }

  onSweep(now: number): void {
    const { body, response, upgrade } = this.#host.engine.timeouts
    if (this.#held.bytes > 0) {
      if (now - this.#heldSince > response) this.#host.reset(this, ERROR.CANCEL)
    } else if (this.#tunnel) {
      if (now - this.#activeAt > upgrade) this.#host.reset(this, ERROR.CANCEL)
    } else if (!this.requestEnded && !this.#bodyHeldUp && now - this.#activeAt > body) {
      this.onFailure(new ProxyError('REQUEST_TIMEOUT', 408, 'the body did not arrive in time'))
    }
  }

  /* The response */

  onResponseHead(head: Head, lines: Buffer): void {
    const exchange = this.#exchange
    if (exchange === undefined) return
    const host = this.#host
    const { status } = head
    this.#activeAt = host.engine.deadlines.now
    if (status < 200 && status !== 101) {
      host.headers(this.id, status, lines, head.fieldsStart, head.length, false)
      return
    }
    this.#tunnel = status === 101
    if (this.#tunnel) dropLines(head, lines, WEBSOCKET_ACCEPT)
    const hsts = host.connection.secure ? exchange.route?.hsts : undefined
    if (hsts !== undefined && head.hasHsts) dropLines(head, lines, HSTS_LINES)
    let o = head.length
    o += host.engine.viaLine(head.version, head.via).copy(lines, o)
    if (!head.hasDate) o += host.engine.dateLine.copy(lines, o)
    if (hsts !== undefined) o += lines.write(`Strict-Transport-Security: ${hsts}\r\n`, o, 'latin1')

    exchange.status = this.#tunnel ? 200 : status
    this.#responseStarted = true
    const bodiless = exchange.isHead || status === 204 || status === 304 || head.contentLength === 0
    this.#responseEnded = bodiless && !this.#tunnel
    host.headers(this.id, exchange.status, lines, head.fieldsStart, o, this.#responseEnded)
  }

  onContent(bytes: Buffer, start: number, end: number): void {
    const exchange = this.#exchange
    if (exchange === undefined || this.#responseEnded) return
    exchange.bodyBytes += end - start
    const sent = this.#held.bytes > 0 ? start : this.#send(bytes, start, end)
    if (sent < end) this.#hold(bytes, sent, end)
  }

  onReadEnd(): void {
    if (this.#responseEnded || (this.#held.bytes === 0 && !this.#host.congested)) return
    this.#exchange?.pause()
    this.#host.wait(this)
  }

  onResponseEnd(trailers: Buffer | undefined): void {
    this.#trailers = trailers
    this.#endHeld = true
    if (this.#held.bytes === 0) this.#endResponse()
    else this.#host.wait(this)
  }

  onFailure(error: ProxyError): void {
    if (this.#responseStarted) {
      this.#exchange?.finish(error)
      this.#host.reset(this, ERROR.INTERNAL_ERROR)
    } else this.#refuse(error)
  }

  /** There may be room now: sends what is held, then lets the upstream go on. */
  pump(): void {
    while (this.#held.bytes > 0) {
      const { first } = this.#held
      const sent = this.#send(first, 0, first.length)
      if (sent > 0) this.#heldSince = this.#host.engine.deadlines.now
      this.#held.drop(sent)
      if (sent < first.length) {
        this.#host.wait(this)
        return
      }
    }
    if (this.#endHeld) this.#endResponse()
    else if (this.#host.congested) this.#host.wait(this)
    else this.#exchange?.resume()
  }

  #hold(bytes: Buffer, start: number, end: number): void {
    if (this.#held.bytes === 0) this.#heldSince = this.#host.engine.deadlines.now
    this.#held.append(bytes, start, end)
  }

  /** Sends what the windows allow; returns the index after it. */
  #send(bytes: Buffer, start: number, end: number): number {
    const host = this.#host
    let p = start
    while (p < end) {
      const length = Math.min(end - p, host.maxFrameBytes, this.sendWindow, host.sendWindow)
      if (length <= 0) break
      host.data(this.id, bytes, p, p + length)
      this.sendWindow -= length
      host.sendWindow -= length
      p += length
    }
    if (p > start) this.#activeAt = host.engine.deadlines.now
    return p
  }

  #endResponse(): void {
    const host = this.#host
    const trailers = this.#trailers
    if (!this.#responseEnded) {
      if (trailers !== undefined) host.headers(this.id, 0, trailers, 0, trailers.length, true)
      else host.endData(this.id)
    }
    this.#responseEnded = true
    this.#exchange?.finish()
    if (!this.requestEnded) host.stopRequest(this.id)
    host.forget(this)
  }

  /** `hsts`: of a route that the exchange does not know, since it is not on its way there. */
  #refuse(error: ProxyError, hsts?: string): void {
    const exchange = this.#exchange
    if (exchange === undefined) return
    const own = this.#host.connection.secure ? exchange.route?.hsts : undefined
    exchange.error = error
    this.#respond(pageFor(error, exchange, hsts ?? own))
  }

  #respond(response: OwnResponse): void {
    const { status, headers, body } = response
    const exchange = this.#exchange
    if (exchange === undefined) return
    const content = Buffer.from(exchange.isHead ? '' : body)
    const lines = [...headers, ...contentLengthOf(response)].map(([name, value]) => `${name}: ${value}\r\n`)
    const bytes = Buffer.concat([Buffer.from(lines.join(''), 'latin1'), this.#host.engine.dateLine])
    exchange.status = status
    this.#responseStarted = true
    this.#responseEnded = content.length === 0
    this.#host.headers(this.id, status, bytes, 0, bytes.length, this.#responseEnded)
    if (content.length > 0) this.onContent(content, 0, content.length)
    this.onResponseEnd(undefined)
  }
}

/** Of HTTP/1.1 only (RFC 8441 section 5). */
const WEBSOCKET_ACCEPT = KnownFields.dropping(['sec-websocket-accept'])

function faultOf(request: Http2Request): ProxyError | undefined {
  if (request.tooLarge)
    return new ProxyError('REQUEST_INVALID', 431, 'the request has too many or too large fields')
  if (request.disagrees) return new ProxyError('REQUEST_INVALID', 400, 'Host disagrees with :authority')
  return undefined
}
