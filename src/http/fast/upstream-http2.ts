/**
 * Connections to upstreams over HTTP/2 (RFC 9113), each shared by many exchanges: frames, settings, flow control and
 * header compression. Their streams are `upstream-http2-stream.ts`.
 *
 * An upstream is believed no more than a client: header blocks are bounded in octets and frames, what makes us answer
 * is counted against an allowance, pushes are refused, and any error of the connection ends it.
 *
 * `upstream-http2-pool.ts` asks for streams; what a failure means is up to `exchange.ts`.
 *
 * Over 500 lines, since every frame type is handled here and they share the connection's state.
 */
import net from 'node:net'
import tls from 'node:tls'
import { SECOND } from '../../time.ts'
import type { Backend } from '../../upstreams/backend.ts'
import { connectProblem } from '../../upstreams/connect-problem.ts'
import { Allowance } from './allowance.ts'
import type { Timed } from './deadlines.ts'
import type { Engine } from './engine.ts'
import { FrameBuffer } from './frame-buffer.ts'
import {
  DEFAULT_WINDOW,
  ERROR,
  FLAG,
  FRAME,
  FRAME_HEADER_BYTES,
  MAX_FRAME_BYTES,
  MAX_WINDOW,
  PREFACE,
  SETTING,
  settingsFrame,
  writeFrameHeader,
} from './frames.ts'
import { writeHeaderFrames } from './header-frames.ts'
import { HpackDecoder, HpackEncoder } from './hpack.ts'
import { lexResponseHead } from './lexer.ts'
import type { UpstreamFault, UpstreamUser } from './upstream-connection.ts'
import { Http2Response, MAX_LIST_BYTES, requestLines, tunnelLines } from './upstream-http2-head.ts'
import { STREAM_WINDOW, UpstreamHttp2Stream, type UpstreamStreamHost } from './upstream-http2-stream.ts'

const CONNECTION_WINDOW = 4 * 1024 * 1024
const MAX_BLOCK_BYTES = 64 * 1024
const MAX_BLOCK_FRAMES = 16
const ALLOWANCE = 1000
const ALLOWANCE_PER_SECOND = 200
/** Of one connection, also where the upstream sets no limit. */
export const MAX_STREAMS = 100
/** Stream ids run out at 2^31: a connection is replaced before. */
const LAST_STREAM_ID = 2 ** 31 - 1024
const IDLE_MS = 60 * SECOND
/** By TCP, not PING: gRPC servers end a connection whose client pings more often than every five minutes. */
const KEEP_ALIVE_MS = 30 * SECOND
/** How long the upstream may take to close a connection that we have ended. */
const LINGER_MS = 2 * SECOND

const NO_H2 = 'it does not speak HTTP/2 over TLS (no "h2" by ALPN): write https:// for HTTP/1.1'

const OPENING = Buffer.concat([
  PREFACE,
  settingsFrame([
    [SETTING.ENABLE_PUSH, 0],
    [SETTING.INITIAL_WINDOW_SIZE, STREAM_WINDOW],
    [SETTING.MAX_HEADER_LIST_SIZE, MAX_LIST_BYTES],
  ]),
])

/** A header block whose CONTINUATION frames are still to come. */
interface OpenBlock {
  readonly streamId: number
  readonly last: boolean
  readonly parts: Buffer[]
  bytes: number
}

/** What the connections to one backend share. */
export interface Http2Pool {
  readonly connections: Set<UpstreamHttp2>
  /** Streams of one connection, as the backend said last: a new connection keeps to it before it is told. */
  maxStreams: number
}

export class UpstreamHttp2 implements UpstreamStreamHost, Timed {
  /** In the past, so that every sweep looks in. */
  deadline = Number.NEGATIVE_INFINITY
  sendWindow = DEFAULT_WINDOW
  readonly #engine: Engine
  readonly #backend: Backend
  readonly #pool: Http2Pool
  readonly #socket: net.Socket
  readonly #frames: FrameBuffer
  readonly #decoder: HpackDecoder
  readonly #encoder = new HpackEncoder()
  readonly #response = new Http2Response()
  readonly #streams = new Map<number, UpstreamHttp2Stream>()
  /** Streams that wait for the upstream's settings, with what they will begin with. */
  readonly #unopened = new Map<UpstreamHttp2Stream, { head: Buffer; last: boolean }>()
  readonly #waiting = new Set<UpstreamHttp2Stream>()
  #settingsSeen = false
  /** RFC 8441 section 3. */
  #carriesTunnels = false
  #closing = false
  #closed = false
  #nextId = 1
  #maxStreams: number
  #initialSendWindow = DEFAULT_WINDOW
  #receiveWindow = CONNECTION_WINDOW
  #partial: Buffer | undefined
  #block: OpenBlock | undefined
  readonly #allowance: Allowance
  /** Has a stream begun, or had content, either way, since the last PING? */
  #activeSincePing = false
  #startedAt: number
  /** From when on it takes no further streams. */
  readonly #renewAt: number
  #idleSince: number
  /** When we had said all. */
  #closingSince = 0

  constructor(engine: Engine, backend: Backend, pool: Http2Pool) {
    this.#engine = engine
    this.#backend = backend
    this.#pool = pool
    this.#maxStreams = pool.maxStreams
    const { now } = engine.deadlines
    this.#allowance = new Allowance(ALLOWANCE, ALLOWANCE_PER_SECOND, now)
    this.#startedAt = now
    this.#renewAt = now + backend.maxAgeMs
    this.#idleSince = now
    const { address } = backend
    const secure = backend.tls !== undefined
    const socket = secure
      ? tls.connect({ ...address, ALPNProtocols: ['h2'], ...backend.tls })
      : net.connect(address)
    this.#socket = socket
    socket.setNoDelay(true)
    socket.setKeepAlive(true, KEEP_ALIVE_MS)
    this.#frames = new FrameBuffer(engine, socket, secure, () => this.#pump())
    this.#decoder = new HpackDecoder(engine.hpackScratch, engine.hpackStatic)
    socket.on(secure ? 'secureConnect' : 'connect', () => this.#onConnect())
    socket.on('data', (data: Buffer) => this.#onData(data))
    socket.on('error', (error) => this.#end('closed', isAlpnRefusal(error) ? NO_H2 : connectProblem(error)))
    socket.on('end', () => this.#end('closed', 'the upstream closed the connection'))
    socket.on('close', () => this.#end('closed', 'the connection was closed'))
    engine.deadlines.add(this)
  }

  get hasRoom(): boolean {
    const taken = this.#streams.size + this.#unopened.size
    return !this.#closing && taken < this.#maxStreams && this.#nextId < LAST_STREAM_ID
  }

  stream(user: UpstreamUser): UpstreamHttp2Stream {
    return new UpstreamHttp2Stream(this, user, this.#settingsSeen)
  }

  /** Takes no further streams; closes once those there are have ended. */
  drain(): void {
    this.#closing = true
    this.#endWhenIdle()
  }

  #onConnect(): void {
    if (this.#closed) return
    if (this.#socket instanceof tls.TLSSocket && this.#socket.alpnProtocol !== 'h2') {
      this.#end('closed', NO_H2)
      return
    }
    this.#frames.append(OPENING)
    this.credit(0, CONNECTION_WINDOW - DEFAULT_WINDOW)
    this.#endWhenIdle()
  }

  /** The upstream's settings are there, and say how many streams it takes: the others go elsewhere. */
  #openWaiting(): void {
    for (const [stream, { head, last }] of [...this.#unopened]) {
      if (!this.#unopened.delete(stream)) continue
      if (this.#streams.size < this.#maxStreams) {
        this.open(stream, head, last)
        if (stream.id !== 0) stream.onConnected()
      } else if (this.#maxStreams === 0) stream.failConnect(new Error('it takes no streams'), false)
      else stream.lose('refused', 'it takes no more streams at once')
    }
    this.#endWhenIdle()
  }

  onDeadline(): void {
    const { now } = this
    const { connect, response, upgrade } = this.#engine.timeouts
    if (now >= this.#renewAt && !this.#closing) this.drain()
    if (!this.#settingsSeen) {
      if (now - this.#startedAt > connect) this.#end('timeout', 'no HTTP/2 connection in time')
    } else if (this.#streams.size > 0) {
      for (const stream of [...this.#streams.values()]) stream.onSweep(now, response, upgrade)
    } else if (this.#closing) {
      if (now - this.#closingSince > LINGER_MS) this.#end('closed', 'the upstream does not close')
    } else if (now - this.#idleSince > IDLE_MS) this.drain()
  }

  /* Reading frames */

  #onData(data: Buffer): void {
    if (this.#closed) return
    const bytes = this.#partial === undefined ? data : Buffer.concat([this.#partial, data])
    this.#partial = undefined
    let p = 0
    while (bytes.length - p >= FRAME_HEADER_BYTES && !this.#closed) {
      const length = bytes.readUIntBE(p, 3)
      if (length > MAX_FRAME_BYTES) {
        this.#fail(ERROR.FRAME_SIZE_ERROR, 'a frame that is too large, or no HTTP/2')
        return
      }
      const start = p + FRAME_HEADER_BYTES
      if (bytes.length < start + length) break
      const type = bytes[p + 3] as number
      const id = bytes.readUInt32BE(p + 5) & 0x7fffffff
      const error = this.#onFrame(type, bytes[p + 4] as number, id, bytes, start, start + length)
      if (error !== ERROR.NO_ERROR) {
        this.#fail(error, `a frame of type ${type} that breaks HTTP/2 (error ${error})`)
        return
      }
      p = start + length
    }
    if (p < bytes.length) this.#partial = bytes.subarray(p)
  }

  /** Returns the error that ends the connection, or NO_ERROR. */
  #onFrame(type: number, flags: number, id: number, bytes: Buffer, start: number, end: number): number {
    if (this.#block !== undefined && type !== FRAME.CONTINUATION) return ERROR.PROTOCOL_ERROR
    if (!this.#settingsSeen && type !== FRAME.SETTINGS) return ERROR.PROTOCOL_ERROR
    // Streams are ours alone: what names another has never been opened.
    if (id !== 0 && (id % 2 === 0 || id >= this.#nextId)) return ERROR.PROTOCOL_ERROR
    switch (type) {
      case FRAME.DATA:
        return this.#onDataFrame(flags, id, bytes, start, end)
      case FRAME.HEADERS:
        return this.#onHeaders(flags, id, bytes, start, end)
      case FRAME.CONTINUATION:
        return this.#onContinuation(flags, id, bytes, start, end)
      case FRAME.RST_STREAM:
        return this.#onReset(id, bytes, start, end)
      case FRAME.SETTINGS:
        return this.#onSettings(flags, id, bytes, start, end)
      case FRAME.PUSH_PROMISE:
        return ERROR.PROTOCOL_ERROR
      case FRAME.PING:
        return this.#onPing(flags, id, bytes, start, end)
      case FRAME.GOAWAY:
        return this.#onGoAway(id, bytes, start, end)
      case FRAME.WINDOW_UPDATE:
        return this.#onWindowUpdate(id, bytes, start, end)
      default:
        return this.#charge()
    }
  }

  /** Counts something that makes us work and brings nothing. */
  #charge(): number {
    return this.#allowance.take(this.now) ? ERROR.NO_ERROR : ERROR.ENHANCE_YOUR_CALM
  }

  #onDataFrame(flags: number, id: number, bytes: Buffer, start: number, end: number): number {
    if (id === 0) return ERROR.PROTOCOL_ERROR
    const credit = end - start
    this.#receiveWindow -= credit
    if (this.#receiveWindow < 0) return ERROR.FLOW_CONTROL_ERROR
    if (this.#receiveWindow < CONNECTION_WINDOW / 2) {
      this.credit(0, CONNECTION_WINDOW - this.#receiveWindow)
      this.#receiveWindow = CONNECTION_WINDOW
    }
    const padded = (flags & FLAG.PADDED) !== 0
    if (padded && credit === 0) return ERROR.FRAME_SIZE_ERROR
    const from = padded ? start + 1 : start
    const to = padded ? end - (bytes[start] as number) : end
    if (to < from) return ERROR.PROTOCOL_ERROR
    const last = (flags & FLAG.END_STREAM) !== 0
    if (to === from && !last && this.#charge() !== ERROR.NO_ERROR) return ERROR.ENHANCE_YOUR_CALM
    const stream = this.#streams.get(id)
    // What was on its way when we ended the stream.
    if (stream === undefined) return ERROR.NO_ERROR
    if (to > from) this.#activeSincePing = true
    stream.receiveWindow -= credit
    if (stream.receiveWindow < 0) return ERROR.FLOW_CONTROL_ERROR
    stream.onData(bytes, from, to, last, credit)
    return ERROR.NO_ERROR
  }

  #onHeaders(flags: number, id: number, bytes: Buffer, start: number, end: number): number {
    if (id === 0) return ERROR.PROTOCOL_ERROR
    const padded = (flags & FLAG.PADDED) !== 0
    const to = padded ? end - (bytes[start] ?? 0) : end
    const from = start + (padded ? 1 : 0) + ((flags & FLAG.PRIORITY) === 0 ? 0 : 5)
    if (from > to) return ERROR.PROTOCOL_ERROR
    const last = (flags & FLAG.END_STREAM) !== 0
    if ((flags & FLAG.END_HEADERS) !== 0) return this.#onBlock(id, last, bytes, from, to)
    this.#block = { streamId: id, last, parts: [bytes.subarray(from, to)], bytes: to - from }
    return ERROR.NO_ERROR
  }

  #onContinuation(flags: number, id: number, bytes: Buffer, start: number, end: number): number {
    const block = this.#block
    if (block === undefined || block.streamId !== id) return ERROR.PROTOCOL_ERROR
    block.parts.push(bytes.subarray(start, end))
    block.bytes += end - start
    if (block.bytes > MAX_BLOCK_BYTES || block.parts.length > MAX_BLOCK_FRAMES) return ERROR.ENHANCE_YOUR_CALM
    if ((flags & FLAG.END_HEADERS) === 0) return ERROR.NO_ERROR
    this.#block = undefined
    return this.#onBlock(id, block.last, Buffer.concat(block.parts), 0, block.bytes)
  }

  /** A whole header block: it is decoded in any case, since the table depends on it. */
  #onBlock(id: number, last: boolean, bytes: Buffer, start: number, end: number): number {
    const stream = this.#streams.get(id)
    const response = this.#response
    const trailers = stream?.responding ?? false
    response.reset(trailers)
    if (!this.#decoder.decode(bytes, start, end, response)) return ERROR.COMPRESSION_ERROR
    if (stream === undefined) return this.#charge()
    if (!trailers) response.finish()
    if (trailers && !last) response.fault = 'trailers that do not end the stream'
    if (response.fault !== '') this.#malformed(stream, response.fault)
    else if (trailers) stream.onTrailers(response.lines)
    else this.#onHead(stream, response, last)
    return ERROR.NO_ERROR
  }

  #onHead(stream: UpstreamHttp2Stream, response: Http2Response, last: boolean): void {
    const { status, hasLength } = response
    // An HTTP/1.1 client could not tell otherwise that nothing follows.
    const empty = last && !hasLength && status >= 200 && status !== 204 && status !== 304 && !stream.isHead
    const switches = stream.switching !== '' && status >= 200 && status < 300
    const text = Buffer.from(
      switches
        ? `HTTP/1.1 101 \r\n${tunnelLines(response.lines)}${stream.switching}\r\n`
        : `HTTP/1.1 ${status} \r\n${response.lines}${empty ? 'content-length: 0\r\n' : ''}\r\n`,
      'latin1',
    )
    const { responseHead: head, responseLines: lines } = this.#engine
    const verdict = lexResponseHead(head, text, 0, text.length, lines)
    head.http2 = true
    if (verdict === 'complete') stream.onHead(head, lines, last)
    else this.#malformed(stream, verdict)
  }

  #malformed(stream: UpstreamHttp2Stream, detail: string): void {
    this.close(stream, ERROR.PROTOCOL_ERROR)
    stream.lose('invalid', detail)
  }

  #onReset(id: number, bytes: Buffer, start: number, end: number): number {
    if (id === 0) return ERROR.PROTOCOL_ERROR
    if (end - start !== 4) return ERROR.FRAME_SIZE_ERROR
    const stream = this.#streams.get(id)
    if (stream === undefined) return this.#charge()
    stream.onReset(bytes.readUInt32BE(start))
    return ERROR.NO_ERROR
  }

  #onSettings(flags: number, id: number, bytes: Buffer, start: number, end: number): number {
    if (id !== 0) return ERROR.PROTOCOL_ERROR
    if ((flags & FLAG.ACK) !== 0) return start === end ? this.#charge() : ERROR.FRAME_SIZE_ERROR
    if ((end - start) % 6 !== 0) return ERROR.FRAME_SIZE_ERROR
    for (let p = start; p < end; p += 6) {
      const error = this.#applySetting(bytes.readUInt16BE(p), bytes.readUInt32BE(p + 2))
      if (error !== ERROR.NO_ERROR) return error
    }
    this.#frames.acknowledgeSettings()
    if (!this.#settingsSeen) {
      this.#settingsSeen = true
      this.#openWaiting()
    }
    return this.#charge()
  }

  #applySetting(setting: number, value: number): number {
    switch (setting) {
      case SETTING.HEADER_TABLE_SIZE:
        this.#encoder.setMaxSize(value)
        return ERROR.NO_ERROR
      case SETTING.ENABLE_PUSH:
        // Section 6.5.2: a server must not offer it.
        return value === 0 ? ERROR.NO_ERROR : ERROR.PROTOCOL_ERROR
      case SETTING.MAX_CONCURRENT_STREAMS:
        this.#maxStreams = Math.min(MAX_STREAMS, value)
        this.#pool.maxStreams = Math.max(1, this.#maxStreams)
        return ERROR.NO_ERROR
      case SETTING.INITIAL_WINDOW_SIZE:
        return this.#setInitialWindow(value)
      case SETTING.MAX_FRAME_SIZE:
        return value < MAX_FRAME_BYTES || value > 0xffffff ? ERROR.PROTOCOL_ERROR : ERROR.NO_ERROR
      case SETTING.ENABLE_CONNECT_PROTOCOL:
        if (value > 1) return ERROR.PROTOCOL_ERROR
        this.#carriesTunnels = value === 1
        return ERROR.NO_ERROR
      default:
        return ERROR.NO_ERROR
    }
  }

  /** Section 6.9.2: the difference counts for the streams there are; their windows may become negative. */
  #setInitialWindow(value: number): number {
    if (value > MAX_WINDOW) return ERROR.FLOW_CONTROL_ERROR
    const difference = value - this.#initialSendWindow
    this.#initialSendWindow = value
    for (const stream of this.#streams.values()) {
      stream.sendWindow += difference
      if (stream.sendWindow > MAX_WINDOW) return ERROR.FLOW_CONTROL_ERROR
    }
    this.#pump()
    return ERROR.NO_ERROR
  }

  /** Free with content, as in `client-http2.ts`. */
  #onPing(flags: number, id: number, bytes: Buffer, start: number, end: number): number {
    if (id !== 0) return ERROR.PROTOCOL_ERROR
    if (end - start !== 8) return ERROR.FRAME_SIZE_ERROR
    if ((flags & FLAG.ACK) !== 0) return this.#charge()
    this.#frames.acknowledgePing(bytes, start, end)
    const free = this.#activeSincePing
    this.#activeSincePing = false
    return free ? ERROR.NO_ERROR : this.#charge()
  }

  /** Section 6.8: streams above the last one named were not processed. */
  #onGoAway(id: number, bytes: Buffer, start: number, end: number): number {
    if (id !== 0) return ERROR.PROTOCOL_ERROR
    if (end - start < 8) return ERROR.FRAME_SIZE_ERROR
    this.#closing = true
    const lastId = bytes.readUInt32BE(start) & 0x7fffffff
    for (const stream of [...this.#streams.values()]) {
      if (stream.id <= lastId) continue
      this.close(stream, undefined)
      stream.lose('refused', 'the upstream is going away')
    }
    this.#endWhenIdle()
    return this.#charge()
  }

  #onWindowUpdate(id: number, bytes: Buffer, start: number, end: number): number {
    if (end - start !== 4) return ERROR.FRAME_SIZE_ERROR
    const increment = bytes.readUInt32BE(start) & 0x7fffffff
    if (increment === 0) return ERROR.PROTOCOL_ERROR
    if (id === 0) {
      this.sendWindow += increment
      if (this.sendWindow > MAX_WINDOW) return ERROR.FLOW_CONTROL_ERROR
      this.#pump()
      return ERROR.NO_ERROR
    }
    const stream = this.#streams.get(id)
    if (stream === undefined) return ERROR.NO_ERROR
    stream.sendWindow += increment
    if (stream.sendWindow > MAX_WINDOW) return ERROR.FLOW_CONTROL_ERROR
    if (this.#waiting.delete(stream)) stream.pump()
    return ERROR.NO_ERROR
  }

  /* What streams ask for */

  get congested(): boolean {
    return this.#frames.congested
  }

  get now(): number {
    return this.#engine.deadlines.now
  }

  /**
   * Section 3.4: an upstream says its settings at once. A stream that does not wait for them may be one more than it takes, or be a
   * WebSocket to one that takes none.
   */
  open(stream: UpstreamHttp2Stream, head: Buffer, last: boolean): void {
    const tunnel = stream.switching !== ''
    if (!this.#settingsSeen) {
      this.#unopened.set(stream, { head, last })
      return
    }
    if (tunnel && !this.#carriesTunnels) {
      stream.lose(
        'unsupported',
        'it takes no WebSocket over HTTP/2 (RFC 8441): write http:// or https:// for this route',
      )
      return
    }
    stream.id = this.#nextId
    stream.sendWindow = this.#initialSendWindow
    this.#nextId += 2
    this.#streams.set(stream.id, stream)
    const lines = requestLines(head, this.#backend.tls === undefined ? 'http' : 'https', tunnel)
    this.#headers(stream.id, lines, last)
  }

  data(streamId: number, bytes: Buffer, endStream: boolean): void {
    this.#activeSincePing = true
    const o = this.#frames.reserve(FRAME_HEADER_BYTES + bytes.length)
    const flags = endStream ? FLAG.END_STREAM : 0
    const payload = writeFrameHeader(this.#frames.out, o, bytes.length, FRAME.DATA, flags, streamId)
    this.#frames.length = payload + bytes.copy(this.#frames.out, payload)
  }

  trailers(streamId: number, lines: Buffer): void {
    this.#headers(streamId, lines, true)
  }

  #headers(streamId: number, lines: Buffer, last: boolean): void {
    this.#activeSincePing = true
    writeHeaderFrames(this.#frames, this.#encoder, streamId, 0, lines, 0, lines.length, last)
  }

  credit(streamId: number, bytes: number): void {
    this.#frames.updateWindow(streamId, bytes)
  }

  wait(stream: UpstreamHttp2Stream): void {
    this.#waiting.add(stream)
  }

  close(stream: UpstreamHttp2Stream, error: number | undefined): void {
    this.#unopened.delete(stream)
    this.#waiting.delete(stream)
    if (!this.#streams.delete(stream.id)) return
    if (error !== undefined) this.#frames.resetStream(stream.id, error)
    this.#idleSince = this.now
    this.#endWhenIdle()
  }

  #pump(): void {
    const waiting = [...this.#waiting]
    this.#waiting.clear()
    for (const stream of waiting) stream.pump()
  }

  /* Ending */

  #endWhenIdle(): void {
    if (!this.#closing || this.#closed || this.#streams.size + this.#unopened.size > 0) return
    this.#closingSince = this.now
    this.#frames.end()
    this.#pool.connections.delete(this)
  }

  /** Section 5.4.1: an error of the connection, which is the upstream's. */
  #fail(error: number, detail: string): void {
    this.#frames.goAway(0, error)
    this.#frames.endAtOnce()
    this.#end('invalid', detail)
  }

  #end(fault: UpstreamFault, detail: string): void {
    if (this.#closed) return
    this.#closed = true
    this.#closing = true
    this.#engine.deadlines.delete(this)
    this.#frames.close()
    if (fault !== 'invalid') this.#socket.destroy()
    this.#pool.connections.delete(this)
    const unopened = [...this.#unopened.keys()]
    const streams = [...this.#streams.values()]
    this.#unopened.clear()
    this.#streams.clear()
    this.#waiting.clear()
    for (const stream of unopened) stream.failConnect(new Error(detail), fault === 'timeout')
    for (const stream of streams) stream.lose(fault, detail)
  }
}

/** RFC 7301 section 3.2. */
function isAlpnRefusal(error: Error): boolean {
  return 'code' in error && error.code === 'ERR_SSL_TLSV1_ALERT_NO_APPLICATION_PROTOCOL'
}
