/**
 * One client connection that speaks HTTP/1.1 (RFC 9112): reads requests one after another, has each of them carried
 * out, and writes the responses in the same order.
 *
 * Reading and writing move on independently, so that a response may begin before its request has ended. A further
 * request that is there already (pipelining) waits, unread, until the response before it is written.
 *
 * What one event brings is gathered in the engine's `out` and written with one call. While a write is on its way, the
 * upstream is not read, so that a slow client costs one read's worth of memory.
 *
 * Over 500 lines: reading, telling and writing share the connection's state, and are told apart by its sections.
 *
 * Receives its socket from `wire.ts`; hands requests to `gateway.ts` and `exchange.ts`.
 */
import type { Socket } from 'node:net'
import { plainAddress } from '../../config/addresses.ts'
import { ProxyError } from '../../errors.ts'
import { SECOND } from '../../time.ts'
import { FieldLines } from '../headers.ts'
import { titleOf } from '../pages.ts'
import type { Decision, RequestFields, Route } from '../verdict.ts'
import type { Connection } from '../wire.ts'
import { BodyReader, type ContentSink, type Framing, writeChunkSize } from './body.ts'
import type { Timed } from './deadlines.ts'
import { type Engine, OUT_BYTES } from './engine.ts'
import { Exchange, type ExchangeClient, HAVE_CONTENT } from './exchange.ts'
import { dropLines, HSTS_LINES, TRAILER_LINES } from './fields.ts'
import { FAULT_STATUS, type Fault, type Head } from './head.ts'
import { HopLines, receivedOf } from './hop-lines.ts'
import { lexRequestHead, MAX_HEAD_BYTES } from './lexer.ts'
import { CR, copyOf, LF, writeText } from './octets.ts'
import { contentLengthOf, type OwnResponse, pageFor } from './own-response.ts'
import type { Upstreams } from './upstream.ts'

/** Content pieces from this size on are not gathered, but written as they are. */
const DIRECT_BYTES = 16 * 1024
/** Room that is kept in `out` for a chunk's size line and its end. */
const CHUNK_OVERHEAD = 32
/** Up to here a loop over the octets costs less than a call into the runtime. */
const LOOPED_BYTES = 32
/** What may be on its way to the client without the upstream being told to wait. */
const IN_FLIGHT_BYTES = 16 * 1024
/** How much of a request is read and thrown away once its response is complete. */
const MAX_DISCARDED_BYTES = 64 * 1024 * 1024
/** RFC 9112 section 9.6: how long a client may go on sending after our last response. */
const LINGER_MS = 2 * SECOND

/**
 * `head`: between requests or in a head. `body`: in a body. `waiting`: the request is read; its response is not written
 * yet. `tunnel`: after 101. `lingering`: our side is closed; what comes is thrown away.
 */
type ReadState = 'head' | 'body' | 'waiting' | 'tunnel' | 'lingering' | 'closed'

/** How the response's content is framed towards the client. */
type ResponseFraming = 'none' | 'as-is' | 'chunked'

export class ClientHttp1 implements ExchangeClient, ContentSink, RequestFields, Timed {
  deadline: number
  readonly connection: Connection
  readonly #engine: Engine
  readonly #upstreams: Upstreams
  readonly #socket: Socket
  readonly #peerAddress: string
  readonly #trusted: boolean
  readonly #hopLines: HopLines
  readonly #onClosed: (client: ClientHttp1) => void

  #state: ReadState = 'head'
  readonly #body = new BodyReader()
  /** Octets that are read and not used yet: the start of a head, or requests that wait. */
  #pending: Buffer | undefined
  #reading = false
  #socketPaused = false
  /** The `#readDeadline` of a connection between requests, to tell it from that of a head that has begun. */
  #idleDeadline = Number.NaN
  /** What `deadline` is while no write is on its way. */
  #readDeadline: number
  #draining = false

  #exchange: Exchange | undefined
  #http10 = false
  #closeAfter = false
  #discardedBytes = 0
  #responseStarted = false
  #responseFraming: ResponseFraming = 'none'
  /** Of the response, where it says so; else -1. */
  #contentLength = -1

  /** How much of `engine.out` this connection has filled; 0 between events. */
  #gathered = 0
  #writing = false
  #writingSince = 0
  #inFlightBytes = 0
  #queue: Buffer[] = []
  #upstreamPaused = false
  #endWhenWritten = false
  readonly #onWritten = (): void => this.#written()

  constructor(
    engine: Engine,
    upstreams: Upstreams,
    socket: Socket,
    connection: Connection,
    onClosed: (client: ClientHttp1) => void,
  ) {
    this.#engine = engine
    this.#upstreams = upstreams
    this.#socket = socket
    this.connection = connection
    this.#peerAddress = plainAddress(connection.clientAddress)
    this.#trusted = engine.gateway.trusts(this.#peerAddress)
    this.#hopLines = new HopLines(connection, this.#peerAddress)
    this.#onClosed = onClosed
    this.#readDeadline = engine.deadlines.now + engine.timeouts.head
    this.deadline = this.#readDeadline
    engine.deadlines.add(this)
    socket.on('data', (data: Buffer) => this.#onData(data))
    socket.on('end', () => this.#onEnd())
    socket.on('error', () => {})
    socket.on('close', () => this.#onClose())
  }

  /** Says with the next response that it is the last. */
  lastCall(): void {
    this.#draining = true
  }

  /** Closes after the response that is being written, or at once. */
  drain(): void {
    this.#draining = true
    this.#closeAfter = true
    if (this.#state === 'head' && this.#exchange === undefined && this.#pending === undefined) this.#close()
  }

  destroy(): void {
    this.#socket.destroy()
  }

  /* Reading requests */

  #onData(data: Buffer): void {
    if (this.#state === 'lingering' || this.#state === 'closed') return
    const pending = this.#pending
    if (pending === undefined) {
      this.#read(data, 0, data.length)
      return
    }
    const bytes = Buffer.concat([pending, data])
    // A head that grows octet by octet is lexed again only when a line has ended.
    if (this.#state === 'head' && bytes.length < MAX_HEAD_BYTES && !data.includes(LF)) this.#pending = bytes
    else {
      this.#pending = undefined
      this.#read(bytes, 0, bytes.length)
    }
  }

  #read(bytes: Buffer, start: number, end: number): void {
    let p = start
    this.#reading = true
    while (p < end) {
      if (this.#state === 'head') p = this.#readHead(bytes, p, end)
      else if (this.#state === 'body') p = this.#readBody(bytes, p, end)
      else if (this.#state === 'tunnel') p = this.#readTunnel(bytes, p, end)
      else if (this.#state === 'waiting') p = this.#hold(bytes, p, end)
      else break
    }
    this.#reading = false
    this.#flush()
  }

  /** Keeps what cannot be used yet. */
  #hold(bytes: Buffer, start: number, end: number): number {
    this.#pending = bytes.subarray(start, end)
    this.#pauseSocket()
    return end
  }

  #readHead(bytes: Buffer, start: number, end: number): number {
    const { requestHead: head, requestLines: lines, deadlines, timeouts } = this.#engine
    head.trusted = this.#trusted
    const verdict = lexRequestHead(head, bytes, start, end, lines)
    if (verdict === 'incomplete') {
      if (this.#readDeadline === this.#idleDeadline) this.#readDeadline = deadlines.now + timeouts.head
      this.#pending = bytes.subarray(start, end)
      return end
    }
    if (verdict !== 'complete') {
      this.#refuseHead(verdict)
      return end
    }
    const next = head.end
    this.#begin(head, lines)
    return next
  }

  #begin(head: Head, lines: Buffer): void {
    const { gateway, requestIds } = this.#engine
    const { secure, serverName, client } = this.connection
    this.#http10 = head.minorVersion === 0
    this.#closeAfter = head.close || this.#draining
    this.#discardedBytes = 0
    this.#readDeadline = Number.POSITIVE_INFINITY
    const peerAddress = this.#peerAddress
    const clientAddress = this.#trusted ? gateway.clientOf(peerAddress, head.forwardedFor) : peerAddress
    const exchange = new Exchange(this.#engine, this.#upstreams, this, {
      secure,
      id: this.#trusted ? requestIds.continue(head.requestId || undefined) : requestIds.next(),
      method: head.method,
      host: head.host,
      target: head.target,
      clientAddress,
      protocol: this.#http10 ? 'HTTP/1.0' : 'HTTP/1.1',
    })
    this.#exchange = exchange
    this.#startBody(head)
    const { host, method, target, expectContinue } = head
    const verdict = gateway.decide({
      secure,
      serverName,
      client,
      method,
      host,
      target,
      clientAddress,
      contentLength: head.contentLength,
      fields: this,
    })
    if (verdict.action === 'refuse' || verdict.action === 'answer') {
      this.#decline(exchange, verdict, copyOf(lines, head.length), expectContinue)
      return
    }
    const request = this.#compose(exchange, verdict.route, head, lines)
    if (verdict.action === 'forward') this.#forward(exchange, verdict.route, request, expectContinue)
    else verdict.decision.then((decision) => this.#carryOut(exchange, decision, request, expectContinue))
  }

  /** Of the request that is decided upon. */
  field(name: string): string | undefined {
    const { requestHead, requestLines } = this.#engine
    return new FieldLines(requestLines.toString('latin1', 0, requestHead.length)).field(name)
  }

  /** What was decided later; meanwhile the exchange has held what came of the body. */
  #carryOut(exchange: Exchange, decision: Decision, request: Buffer, expectContinue: boolean): void {
    if (this.#exchange !== exchange) return
    if (decision.action === 'forward') this.#forward(exchange, decision.route, request, expectContinue)
    else this.#decline(exchange, decision, request, expectContinue)
    this.#flush()
  }

  #decline(
    exchange: Exchange,
    decision: Exclude<Decision, { action: 'forward' }>,
    lines: Buffer,
    expectContinue: boolean,
  ): void {
    // A client that was not told to continue sends its content or does not: what comes next cannot be told.
    if (expectContinue) this.#closeAfter = true
    exchange.keepLines(lines)
    if (decision.action === 'refuse') this.#refuse(decision.error, decision.hsts)
    else this.#respond(decision)
  }

  #startBody(head: Head): void {
    let framing: Framing = 'none'
    if (head.chunked) framing = 'chunked'
    else if (head.contentLength > 0) framing = 'length'
    this.#body.start(framing, head.contentLength)
    this.#state = framing === 'none' ? 'waiting' : 'body'
  }

  /** The head to send on, whole. */
  #compose(exchange: Exchange, route: Route, head: Head, lines: Buffer): Buffer {
    const { framing } = this.#body
    let o = head.length
    if (route.clientFields !== undefined) {
      const told = route.clientFields.over(
        lines.toString('latin1', head.fieldsStart, o),
        this.connection.client,
      )
      o = writeText(lines, told, head.fieldsStart)
    }
    const received = this.#trusted ? receivedOf(head) : undefined
    const via = this.#engine.viaLine(this.#http10 ? '1.0' : '1.1', head.via)
    o = this.#hopLines.write(lines, o, head.host, via, exchange.facts.id, received)
    if (framing === 'none' && head.contentLength === -1 && HAVE_CONTENT.has(head.method)) {
      o += lines.write('Content-Length: 0\r\n', o, 'latin1')
    }
    if (framing === 'chunked') o += lines.write('Transfer-Encoding: chunked\r\n', o, 'latin1')
    if (head.upgrade !== '' && framing === 'none') {
      exchange.upgrade = head.upgrade
      // What follows may be of either protocol: a refused upgrade ends the connection.
      this.#closeAfter = true
      o += lines.write(`Connection: Upgrade\r\nUpgrade: ${head.upgrade}\r\n`, o, 'latin1')
    }
    lines[o++] = CR
    lines[o++] = LF
    return copyOf(lines, o)
  }

  #forward(exchange: Exchange, route: Route, request: Buffer, expectContinue: boolean): void {
    const { framing } = this.#body
    if (this.#state === 'body' && !this.#socketPaused) {
      this.#touchBody()
      if (expectContinue) this.#gatherText('HTTP/1.1 100 Continue\r\n\r\n')
    }
    exchange.send(route, request, framing === 'until-close' ? 'none' : framing)
  }

  #readBody(bytes: Buffer, start: number, end: number): number {
    // What is thrown away has one deadline for all of it.
    if (this.#exchange !== undefined) this.#touchBody()
    const next = this.#body.read(bytes, start, end, this)
    if (this.#state !== 'body') return end
    if (this.#body.fault !== '') {
      this.#refuseBody(this.#body.fault)
      return end
    }
    if (this.#body.done) {
      this.#state = 'waiting'
      this.#readDeadline = Number.POSITIVE_INFINITY
      if (this.#exchange === undefined) this.#next()
      else this.#exchange.endBody(this.#body.trailers)
    }
    return next
  }

  #touchBody(): void {
    this.#readDeadline = this.#engine.deadlines.now + this.#engine.timeouts.body
  }

  #readTunnel(bytes: Buffer, start: number, end: number): number {
    this.#touchTunnel()
    if (this.#exchange?.writeBody(bytes.subarray(start, end)) === false) this.#pauseSocket()
    return end
  }

  #touchTunnel(): void {
    this.#readDeadline = this.#engine.deadlines.now + this.#engine.timeouts.upgrade
  }

  #pauseSocket(): void {
    if (this.#socketPaused) return
    this.#socketPaused = true
    this.#socket.pause()
  }

  #resumeSocket(): void {
    if (!this.#socketPaused) return
    this.#socketPaused = false
    this.#socket.resume()
  }

  /** The client has ended its side. Whoever does that before the response has come is taken to have left. */
  #onEnd(): void {
    if (this.#state === 'tunnel') this.#exchange?.endTunnel()
    else if (this.#state === 'lingering' || this.#exchange !== undefined) this.#socket.destroy()
    else this.#close()
  }

  #onClose(): void {
    if (this.#state === 'closed') return
    this.#state = 'closed'
    this.#engine.deadlines.delete(this)
    this.#exchange?.finish(new ProxyError('CLIENT_GONE', 499, 'the client closed the connection'))
    this.#exchange = undefined
    this.#queue = []
    this.#pending = undefined
    this.#onClosed(this)
  }

  onDeadline(): void {
    if (this.#writing || this.#state === 'tunnel' || this.#state === 'lingering') this.#socket.destroy()
    else if (this.#state === 'body') this.#refuseBody('body-timeout')
    else if (this.#pending !== undefined) this.#refuseHead('head-timeout')
    else this.#close()
  }

  /* Telling of the response */

  onResponseHead(head: Head, lines: Buffer): void {
    const exchange = this.#exchange
    if (exchange === undefined) return
    const { status } = head
    if (status < 200 && status !== 101) {
      if (this.#http10) return
      this.#gather(lines, 0, head.length)
      this.#gatherText('\r\n')
      return
    }
    exchange.status = status
    this.#responseStarted = true
    const hsts = this.#hstsOf(exchange)
    if (hsts !== undefined && head.hasHsts) dropLines(head, lines, HSTS_LINES)
    if (head.announcesTrailers && (this.#http10 || isBodiless(exchange, status)))
      dropLines(head, lines, TRAILER_LINES)
    this.#gather(lines, 0, head.length)
    this.#gatherAll(this.#engine.viaLine(head.version, head.via))
    if (!head.hasDate && status !== 101) this.#gatherAll(this.#engine.dateLine)
    if (hsts !== undefined) this.#gatherText(`Strict-Transport-Security: ${hsts}\r\n`)
    if (status === 101) this.#startTunnel(head.upgrade)
    else this.#finishHead(exchange, head)
  }

  /** How the content is framed, and whether the connection stays. */
  #finishHead(exchange: Exchange, head: Head): void {
    const { status } = head
    if (isBodiless(exchange, status)) {
      this.#responseFraming = 'none'
      // Whole with its head, whatever becomes of the upstream.
      this.#contentLength = 0
    } else if (head.contentLength !== -1) {
      this.#responseFraming = 'as-is'
      this.#contentLength = head.contentLength
    } else if (this.#http10 || exchange.upgrade !== '') {
      this.#responseFraming = 'as-is'
      this.#closeAfter = true
    } else {
      this.#responseFraming = 'chunked'
      this.#gatherText('Transfer-Encoding: chunked\r\n')
    }
    if (this.#closeAfter || this.#http10) this.#gatherText(this.#connectionLine())
    this.#gatherEnd()
  }

  #connectionLine(): string {
    if (this.#closeAfter) return 'Connection: close\r\n'
    return this.#http10 ? 'Connection: keep-alive\r\n' : ''
  }

  #startTunnel(protocol: string): void {
    this.#gatherText(`Connection: Upgrade\r\nUpgrade: ${protocol}\r\n\r\n`)
    this.#responseFraming = 'as-is'
    this.#state = 'tunnel'
    this.#touchTunnel()
    this.#flush()
    const pending = this.#pending
    this.#pending = undefined
    if (pending !== undefined) this.#readTunnel(pending, 0, pending.length)
    this.#resumeSocket()
  }

  /** Of the request's body when `#body` reads, of the response when the exchange tells. */
  onContent(bytes: Buffer, start: number, end: number): void {
    if (this.#reading) this.#sendContent(bytes, start, end)
    else this.#gatherContent(bytes, start, end)
  }

  #sendContent(bytes: Buffer, start: number, end: number): void {
    if (this.#exchange === undefined) {
      this.#discardedBytes += end - start
      if (this.#discardedBytes > MAX_DISCARDED_BYTES) this.#close()
      return
    }
    if (this.#exchange.writeBody(bytes.subarray(start, end))) return
    // The upstream's own deadline runs while it takes nothing.
    this.#readDeadline = Number.POSITIVE_INFINITY
    this.#pauseSocket()
  }

  #gatherContent(bytes: Buffer, start: number, end: number): void {
    const exchange = this.#exchange
    if (exchange === undefined || this.#responseFraming === 'none') return
    const length = end - start
    exchange.bodyBytes += length
    if (this.#state === 'tunnel') this.#touchTunnel()
    const chunked = this.#responseFraming === 'chunked'
    if (chunked) {
      this.#reserve(CHUNK_OVERHEAD)
      this.#gathered = writeChunkSize(this.#engine.out, length, this.#gathered)
    }
    if (this.#gathered === 0 && length >= DIRECT_BYTES) this.#write(bytes, start, end)
    else this.#gather(bytes, start, end)
    if (chunked) this.#gatherEnd()
  }

  onReadEnd(): void {
    this.#flush()
    if (this.#writing && this.#inFlightBytes > IN_FLIGHT_BYTES && this.#exchange !== undefined) {
      this.#upstreamPaused = true
      this.#exchange.pause()
    }
  }

  onResponseEnd(trailers: Buffer | undefined): void {
    if (this.#responseFraming === 'chunked') {
      this.#gatherText('0\r\n')
      if (trailers !== undefined) this.#gatherAll(trailers)
      this.#gatherText('\r\n')
    }
    this.#responseDone()
  }

  onDrain(): void {
    if (this.#state === 'body') this.#touchBody()
    if (this.#state !== 'waiting') this.#resumeSocket()
    this.#settle()
  }

  onFailure(error: ProxyError): void {
    if (this.#responseStarted) {
      const isWhole = this.#exchange?.bodyBytes === this.#contentLength
      this.#exchange?.finish(error)
      // An upstream of HTTP/2 may break off after its last octet: the client does not know, and asks on.
      if (isWhole) this.#responseDone()
      else this.#cutOff()
    } else this.#refuse(error)
  }

  /** Ends a response so that it cannot be taken for a whole one: where only the connection's end tells, by a reset. */
  #cutOff(): void {
    if (this.#responseFraming === 'chunked' || this.#contentLength !== -1) {
      this.#flush()
      this.#close()
    } else if (this.connection.secure) this.#socket.destroy()
    else this.#socket.resetAndDestroy()
  }

  /** The response is gathered to its end: on to the next request, or close. */
  #responseDone(): void {
    this.#exchange?.finish()
    this.#exchange = undefined
    this.#upstreamPaused = false
    this.#responseStarted = false
    this.#responseFraming = 'none'
    this.#contentLength = -1
    this.#flush()
    if (this.#closeAfter || this.#state === 'tunnel') {
      this.#close()
      return
    }
    if (this.#state === 'waiting') {
      this.#next()
      return
    }
    // The rest of the request's body is still to come.
    this.#touchBody()
    this.#settle()
    this.#resumeSocket()
  }

  /** On to the next request: what of it has come, and what will. */
  #next(): void {
    this.#state = 'head'
    this.#idleDeadline = this.#engine.deadlines.now + this.#engine.timeouts.keepAlive
    this.#readDeadline = this.#idleDeadline
    this.#settle()
    if (this.#reading) return
    const pending = this.#pending
    this.#pending = undefined
    // First, since what is read may have reasons to pause it again.
    this.#resumeSocket()
    if (pending !== undefined) this.#read(pending, 0, pending.length)
  }

  /* Responses of our own */

  #refuseHead(fault: Fault | 'head-timeout'): void {
    const status = fault === 'head-timeout' ? 408 : FAULT_STATUS[fault]
    const { requestIds } = this.#engine
    this.#exchange = new Exchange(this.#engine, this.#upstreams, this, {
      secure: this.connection.secure,
      id: requestIds.next(),
      method: '',
      host: undefined,
      target: '',
      clientAddress: this.#peerAddress,
      protocol: 'HTTP/1.1',
    })
    this.#closeAfter = true
    this.#pending = undefined
    const code = fault === 'head-timeout' ? 'REQUEST_TIMEOUT' : 'REQUEST_INVALID'
    this.#refuse(new ProxyError(code, status, `the request's head is refused: ${fault}`))
    this.#flush()
  }

  /** The exchange cannot go on, whether or not its response has begun; one that is over has nobody to tell. */
  #refuseBody(fault: Fault | 'body-timeout'): void {
    if (this.#exchange === undefined) {
      this.#close()
      return
    }
    this.#closeAfter = true
    const status = fault === 'body-timeout' ? 408 : FAULT_STATUS[fault]
    const code = fault === 'body-timeout' ? 'REQUEST_TIMEOUT' : 'REQUEST_INVALID'
    this.onFailure(new ProxyError(code, status, `the request's body is refused: ${fault}`))
    this.#flush()
  }

  /** `hsts`: of a route that the exchange does not know, since it is not on its way there. */
  #refuse(error: ProxyError, hsts?: string): void {
    const exchange = this.#exchange
    if (exchange === undefined) return
    exchange.error = error
    this.#respond(pageFor(error, exchange, hsts ?? this.#hstsOf(exchange)))
  }

  #hstsOf(exchange: Exchange): string | undefined {
    return this.connection.secure ? exchange.route?.hsts : undefined
  }

  #respond(response: OwnResponse): void {
    const { status, headers, body } = response
    const exchange = this.#exchange
    if (exchange === undefined) return
    const content = Buffer.from(exchange.isHead ? '' : body)
    const lines = [
      `HTTP/1.1 ${status} ${titleOf(status)}`,
      ...[...headers, ...contentLengthOf(response)].map(([name, value]) => `${name}: ${value}`),
    ]
    exchange.status = status
    exchange.bodyBytes = content.length
    this.#gatherText(`${lines.join('\r\n')}\r\n`)
    this.#gatherAll(this.#engine.dateLine)
    this.#gatherText(`${this.#connectionLine()}\r\n`)
    this.#gatherAll(content)
    this.#responseDone()
  }

  /* Writing */

  #gather(bytes: Buffer, start: number, end: number): void {
    if (end - start > OUT_BYTES) {
      this.#flush()
      this.#write(bytes, start, end)
      return
    }
    this.#reserve(end - start)
    this.#gathered += bytes.copy(this.#engine.out, this.#gathered, start, end)
  }

  #gatherAll(bytes: Buffer): void {
    const { length } = bytes
    if (length > LOOPED_BYTES) {
      this.#gather(bytes, 0, length)
      return
    }
    this.#reserve(length)
    const { out } = this.#engine
    for (let i = 0; i < length; i++) out[this.#gathered++] = bytes[i] as number
  }

  #gatherText(text: string): void {
    this.#reserve(text.length)
    this.#gathered += this.#engine.out.write(text, this.#gathered, 'latin1')
  }

  /** CRLF. */
  #gatherEnd(): void {
    this.#reserve(2)
    const { out } = this.#engine
    out[this.#gathered++] = CR
    out[this.#gathered++] = LF
  }

  #reserve(length: number): void {
    if (this.#gathered + length > OUT_BYTES) this.#flush()
  }

  #flush(): void {
    const length = this.#gathered
    if (length > 0) {
      this.#gathered = 0
      this.#write(this.#engine.out, 0, length)
    }
    this.#settle()
  }

  /**
   * One write at a time is on its way. A TLS socket has encrypted the bytes when `write` returns, so that they need no
   * copy (guarded by `write-reuse.test.ts`); a plain socket may hold on to them.
   */
  #write(bytes: Buffer, start: number, end: number): void {
    if (this.#state === 'closed') return
    const piece = bytes.subarray(start, end)
    if (this.#writing) {
      this.#queue.push(Buffer.from(piece))
      this.#inFlightBytes += piece.length
      return
    }
    this.#writing = true
    this.#writingSince = this.#engine.deadlines.now
    this.#inFlightBytes = piece.length
    this.#socket.write(this.connection.secure ? piece : Buffer.from(piece), this.#onWritten)
  }

  #written(): void {
    this.#writing = false
    this.#inFlightBytes = 0
    if (this.#state === 'closed') return
    // A client that only listens now, with its own side left open, is not late. Paused, it is not waited for.
    if (this.#state === 'body' && !this.#socketPaused) this.#touchBody()
    if (this.#queue.length > 0) {
      const queued = this.#queue.length === 1 ? this.#queue[0] : Buffer.concat(this.#queue)
      this.#queue = []
      if (queued !== undefined) this.#write(queued, 0, queued.length)
    } else if (this.#endWhenWritten) this.#socket.end()
    else if (this.#upstreamPaused) {
      this.#upstreamPaused = false
      this.#exchange?.resume()
    }
    this.#settle()
  }

  /** The deadline that is in force: the client's to take what is written, else the one for reading. */
  #settle(): void {
    const { response } = this.#engine.timeouts
    this.deadline = this.#writing ? this.#writingSince + response : this.#readDeadline
  }

  /** Ends our side after what is written; then gives the client a moment to take it. */
  #close(): void {
    if (this.#state === 'lingering' || this.#state === 'closed') return
    this.#state = 'lingering'
    this.#pending = undefined
    this.#readDeadline = this.#engine.deadlines.now + LINGER_MS
    this.#endWhenWritten = true
    if (!this.#writing) this.#socket.end()
    this.#resumeSocket()
    this.#settle()
  }
}

/** RFC 9112 section 6.3. */
function isBodiless({ isHead }: Exchange, status: number): boolean {
  return isHead || status === 204 || status === 304
}
