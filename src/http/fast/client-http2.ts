/**
 * One client connection that speaks HTTP/2 (RFC 9113): frames, settings, flow control and header compression. Its
 * streams are `http2-stream.ts`.
 *
 * Frames of all streams are gathered in one buffer, and written in one call when the event loop has turned. While that
 * write is on its way, further frames are gathered, and the upstreams of streams that have more to say are not read.
 *
 * What costs a client little and us much is counted against allowances that fill up again with time: one for resets
 * (CVE-2023-44487), one for PING without content, SETTINGS, PRIORITY, empty DATA. Header blocks are bounded in octets and in
 * frames (CVE-2024-27316).
 *
 * Over 500 lines, since every frame type is handled here and they share the connection's state.
 */
import type { Socket } from 'node:net'
import { plainAddress } from '../../config/addresses.ts'
import { SECOND } from '../../time.ts'
import type { Connection } from '../wire.ts'
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
import { HopLines } from './hop-lines.ts'
import { HpackDecoder, HpackEncoder } from './hpack.ts'
import { Http2Request, MAX_LIST_BYTES } from './http2-request.ts'
import { Http2Stream, type StreamHost } from './http2-stream.ts'
import { inOrder, type Priority, readPriority } from './priority.ts'
import type { Upstreams } from './upstream.ts'

export const MAX_STREAMS = 128
/** What a client may send on a stream before we have passed it on. */
const STREAM_WINDOW = 128 * 1024
/** What it may send on all streams before we have read it. */
const CONNECTION_WINDOW = 1024 * 1024
const MAX_BLOCK_BYTES = 64 * 1024
const MAX_BLOCK_FRAMES = 16
const ALLOWANCE = 400
const ALLOWANCE_PER_SECOND = 100
/**
 * Calls that a client cancels: by deadlines and hedging, gRPC does it hundreds of times a second where many share a connection. Each
 * second gives what connecting anew would, so that a flood gains no more by staying.
 */
const RESETS = 400
const RESETS_PER_SECOND = 400
const LINGER_MS = 2 * SECOND

const OUR_SETTINGS = settingsFrame([
  [SETTING.MAX_CONCURRENT_STREAMS, MAX_STREAMS],
  [SETTING.INITIAL_WINDOW_SIZE, STREAM_WINDOW],
  [SETTING.MAX_HEADER_LIST_SIZE, MAX_LIST_BYTES],
  [SETTING.ENABLE_CONNECT_PROTOCOL, 1],
  [SETTING.NO_RFC7540_PRIORITIES, 1],
])

/** A header block whose CONTINUATION frames are still to come. */
interface OpenBlock {
  readonly streamId: number
  readonly flags: number
  readonly parts: Buffer[]
  bytes: number
}

export class ClientHttp2 implements StreamHost, Timed {
  /** In the past, so that every sweep looks in. */
  deadline = Number.NEGATIVE_INFINITY
  readonly engine: Engine
  readonly upstreams: Upstreams
  readonly connection: Connection
  readonly clientAddress: string
  readonly trusted: boolean
  readonly hopLines: HopLines
  /** The peer's SETTINGS_MAX_FRAME_SIZE, so far as we use it. */
  readonly maxFrameBytes = MAX_FRAME_BYTES
  /** What we may send on all streams. */
  sendWindow = DEFAULT_WINDOW
  readonly #socket: Socket
  readonly #onClosed: (client: ClientHttp2) => void
  readonly #frames: FrameBuffer
  readonly #streams = new Map<number, Http2Stream>()
  /** Streams that have more to say once there is room. */
  readonly #waiting = new Set<Http2Stream>()
  readonly #decoder: HpackDecoder
  readonly #encoder = new HpackEncoder()
  readonly #request = new Http2Request()
  /** Of streams that are still to come, told ahead. */
  readonly #priorities = new Map<number, Priority>()

  #partial: Buffer | undefined
  #prefaceSeen = false
  #settingsSeen = false
  #block: OpenBlock | undefined
  #lastStreamId = 0
  #initialSendWindow = DEFAULT_WINDOW
  #receiveWindow = DEFAULT_WINDOW
  readonly #allowance: Allowance
  readonly #resets: Allowance
  /** Has a stream begun, or had content, either way, since the last PING? */
  #activeSincePing = false
  /** When the last stream ended. */
  #idleSince: number
  /** When the header block that is open began. */
  #blockSince = 0
  #lastCall = false
  #closing = false
  #closingSince = 0
  #closed = false
  /** After an error of the connection, what comes is thrown away. */
  #failed = false

  constructor(
    engine: Engine,
    upstreams: Upstreams,
    socket: Socket,
    connection: Connection,
    onClosed: (client: ClientHttp2) => void,
  ) {
    this.engine = engine
    this.upstreams = upstreams
    this.connection = connection
    this.clientAddress = plainAddress(connection.clientAddress)
    this.trusted = engine.gateway.trusts(this.clientAddress)
    this.hopLines = new HopLines(connection, this.clientAddress)
    this.#socket = socket
    this.#onClosed = onClosed
    this.#frames = new FrameBuffer(engine, socket, connection.secure, () => this.#onWritten())
    this.#decoder = new HpackDecoder(engine.hpackScratch, engine.hpackStatic)
    const { now } = engine.deadlines
    this.#allowance = new Allowance(ALLOWANCE, ALLOWANCE_PER_SECOND, now)
    this.#resets = new Allowance(RESETS, RESETS_PER_SECOND, now)
    this.#idleSince = now
    engine.deadlines.add(this)
    socket.on('data', (data: Buffer) => this.#onData(data))
    socket.on('end', () => socket.destroy())
    socket.on('error', () => {})
    socket.on('close', () => this.#onClose())
    this.#frames.append(OUR_SETTINGS)
    this.windowUpdate(0, CONNECTION_WINDOW - DEFAULT_WINDOW)
    this.#receiveWindow = CONNECTION_WINDOW
  }

  /** Takes one more stream. */
  lastCall(): void {
    this.#lastCall = true
  }

  /** Takes no further streams; closes once those there are have ended. */
  drain(): void {
    if (this.#closing) return
    this.#frames.goAway(this.#lastStreamId, ERROR.NO_ERROR)
    this.#closing = true
    this.#endWhenIdle()
  }

  destroy(): void {
    this.#socket.destroy()
  }

  onDeadline(): void {
    const { deadlines, timeouts } = this.engine
    const { now } = deadlines
    if (this.#closing && this.#streams.size === 0) {
      if (now - this.#closingSince > LINGER_MS) this.destroy()
    } else if (this.#frames.writing && now - this.#frames.writingSince > timeouts.response) this.destroy()
    else if (this.#block !== undefined || !this.#settingsSeen) {
      if (now - (this.#block === undefined ? this.#idleSince : this.#blockSince) > timeouts.head)
        this.#fail(ERROR.CANCEL)
    } else if (this.#streams.size === 0) {
      if (now - this.#idleSince > timeouts.keepAlive) this.drain()
    } else for (const stream of this.#streams.values()) stream.onSweep(now)
  }

  #onClose(): void {
    if (this.#closed) return
    this.#closed = true
    this.engine.deadlines.delete(this)
    this.#frames.close()
    for (const stream of this.#streams.values()) stream.abandon()
    this.#streams.clear()
    this.#waiting.clear()
    this.#onClosed(this)
  }

  /* Reading frames */

  #onData(data: Buffer): void {
    if (this.#closed || this.#failed) return
    let bytes = data
    if (this.#partial !== undefined) {
      bytes = Buffer.concat([this.#partial, data])
      this.#partial = undefined
    }
    let p = 0
    if (!this.#prefaceSeen) {
      const length = Math.min(bytes.length, PREFACE.length)
      if (bytes.compare(PREFACE, 0, length, 0, length) !== 0) {
        this.#fail(ERROR.PROTOCOL_ERROR)
        return
      }
      if (length < PREFACE.length) {
        this.#partial = bytes
        return
      }
      this.#prefaceSeen = true
      p = length
    }
    while (bytes.length - p >= FRAME_HEADER_BYTES && !this.#closed) {
      const length = bytes.readUIntBE(p, 3)
      if (length > MAX_FRAME_BYTES) {
        this.#fail(ERROR.FRAME_SIZE_ERROR)
        return
      }
      const start = p + FRAME_HEADER_BYTES
      if (bytes.length < start + length) break
      const streamId = bytes.readUInt32BE(p + 5) & 0x7fffffff
      const error = this.#onFrame(
        bytes[p + 3] as number,
        bytes[p + 4] as number,
        streamId,
        bytes,
        start,
        start + length,
      )
      if (error !== ERROR.NO_ERROR) {
        this.#fail(error)
        return
      }
      p = start + length
    }
    if (p < bytes.length) this.#partial = bytes.subarray(p)
  }

  /** Returns the error that ends the connection, or NO_ERROR. */
  #onFrame(type: number, flags: number, streamId: number, bytes: Buffer, start: number, end: number): number {
    // Section 6.10: nothing comes between the frames of a header block.
    if (this.#block !== undefined && type !== FRAME.CONTINUATION) return ERROR.PROTOCOL_ERROR
    if (!this.#settingsSeen && type !== FRAME.SETTINGS) return ERROR.PROTOCOL_ERROR
    switch (type) {
      case FRAME.DATA:
        return this.#onDataFrame(flags, streamId, bytes, start, end)
      case FRAME.HEADERS:
        return this.#onHeaders(flags, streamId, bytes, start, end)
      case FRAME.CONTINUATION:
        return this.#onContinuation(flags, streamId, bytes, start, end)
      case FRAME.RST_STREAM:
        return this.#onReset(streamId, end - start)
      case FRAME.SETTINGS:
        return this.#onSettings(flags, streamId, bytes, start, end)
      case FRAME.PING:
        return this.#onPing(flags, streamId, bytes, start, end)
      case FRAME.WINDOW_UPDATE:
        return this.#onWindowUpdate(streamId, bytes, start, end)
      case FRAME.PRIORITY_UPDATE:
        return this.#onPriorityUpdate(streamId, bytes, start, end)
      case FRAME.PRIORITY:
        if (streamId === 0) return ERROR.PROTOCOL_ERROR
        if (end - start !== 5) return ERROR.FRAME_SIZE_ERROR
        return this.#charge()
      case FRAME.PUSH_PROMISE:
        return ERROR.PROTOCOL_ERROR
      case FRAME.GOAWAY:
        return streamId === 0 ? this.#charge() : ERROR.PROTOCOL_ERROR
      default:
        // Section 5.5: frames of unknown types are overlooked.
        return this.#charge()
    }
  }

  /** Counts something that an honest client does rarely. */
  #charge(): number {
    return this.#allowance.take(this.engine.deadlines.now) ? ERROR.NO_ERROR : ERROR.ENHANCE_YOUR_CALM
  }

  /** Section 6.1. */
  #onDataFrame(flags: number, streamId: number, bytes: Buffer, start: number, end: number): number {
    if (streamId === 0 || streamId > this.#lastStreamId) return ERROR.PROTOCOL_ERROR
    const length = end - start
    this.#receiveWindow -= length
    if (this.#receiveWindow < 0) return ERROR.FLOW_CONTROL_ERROR
    if (this.#receiveWindow < CONNECTION_WINDOW / 2) {
      this.windowUpdate(0, CONNECTION_WINDOW - this.#receiveWindow)
      this.#receiveWindow = CONNECTION_WINDOW
    }
    let dataStart = start
    let dataEnd = end
    if ((flags & FLAG.PADDED) !== 0) {
      if (length === 0) return ERROR.FRAME_SIZE_ERROR
      dataStart++
      dataEnd -= bytes[start] as number
      if (dataEnd < dataStart) return ERROR.PROTOCOL_ERROR
    }
    const last = (flags & FLAG.END_STREAM) !== 0
    if (dataEnd === dataStart && !last && this.#charge() !== ERROR.NO_ERROR) return ERROR.ENHANCE_YOUR_CALM
    const stream = this.#streams.get(streamId)
    // What was on its way when we ended the stream.
    if (stream === undefined) return this.#charge()
    if (stream.requestEnded) {
      this.reset(stream, ERROR.STREAM_CLOSED)
      return ERROR.NO_ERROR
    }
    if (dataEnd > dataStart) this.#activeSincePing = true
    stream.receiveWindow -= length
    if (stream.receiveWindow < 0) {
      this.reset(stream, ERROR.FLOW_CONTROL_ERROR)
      return ERROR.NO_ERROR
    }
    stream.onData(bytes.subarray(dataStart, dataEnd), last, length)
    return ERROR.NO_ERROR
  }

  /** Section 6.2. */
  #onHeaders(flags: number, streamId: number, bytes: Buffer, start: number, end: number): number {
    if (streamId % 2 === 0) return ERROR.PROTOCOL_ERROR
    let blockStart = start
    let blockEnd = end
    if ((flags & FLAG.PADDED) !== 0) {
      blockStart++
      blockEnd -= bytes[start] ?? 0
    }
    if ((flags & FLAG.PRIORITY) !== 0) blockStart += 5
    if (blockStart > blockEnd) return ERROR.PROTOCOL_ERROR
    if ((flags & FLAG.END_HEADERS) !== 0) return this.#onBlock(flags, streamId, bytes, blockStart, blockEnd)
    const part = bytes.subarray(blockStart, blockEnd)
    this.#block = { streamId, flags, parts: [part], bytes: part.length }
    this.#blockSince = this.engine.deadlines.now
    return ERROR.NO_ERROR
  }

  /** Section 6.10. */
  #onContinuation(flags: number, streamId: number, bytes: Buffer, start: number, end: number): number {
    const block = this.#block
    if (block === undefined || block.streamId !== streamId) return ERROR.PROTOCOL_ERROR
    block.parts.push(bytes.subarray(start, end))
    block.bytes += end - start
    if (block.bytes > MAX_BLOCK_BYTES || block.parts.length > MAX_BLOCK_FRAMES) return ERROR.ENHANCE_YOUR_CALM
    if ((flags & FLAG.END_HEADERS) === 0) return ERROR.NO_ERROR
    this.#block = undefined
    return this.#onBlock(block.flags, streamId, Buffer.concat(block.parts), 0, block.bytes)
  }

  /** A whole header block: it is decoded in any case, since the table depends on it. */
  #onBlock(flags: number, streamId: number, bytes: Buffer, start: number, end: number): number {
    const last = (flags & FLAG.END_STREAM) !== 0
    const isNew = streamId > this.#lastStreamId
    const request = this.#request
    request.reset(this.trusted, !isNew)
    if (!this.#decoder.decode(bytes, start, end, request)) return ERROR.COMPRESSION_ERROR
    if (!isNew) return this.#onTrailers(streamId, last)
    this.#lastStreamId = streamId
    if (this.#closing) return ERROR.NO_ERROR
    if (this.#streams.size >= MAX_STREAMS) {
      this.#frames.resetStream(streamId, ERROR.REFUSED_STREAM)
      return this.#charge()
    }
    request.finish()
    if (request.fault !== undefined) {
      this.#frames.resetStream(streamId, ERROR.PROTOCOL_ERROR)
      return this.#charge()
    }
    const stream = new Http2Stream(this, streamId, this.#initialSendWindow, STREAM_WINDOW)
    this.#streams.set(streamId, stream)
    this.#activeSincePing = true
    if (this.#lastCall) this.drain()
    stream.begin(request, last)
    this.#prioritize(stream)
    return ERROR.NO_ERROR
  }

  #onTrailers(streamId: number, last: boolean): number {
    const stream = this.#streams.get(streamId)
    if (stream === undefined) return this.#charge()
    const { fault, tooLarge, lines } = this.#request
    if (stream.requestEnded) this.reset(stream, ERROR.STREAM_CLOSED)
    else if (!last || fault !== undefined || tooLarge) this.reset(stream, ERROR.PROTOCOL_ERROR)
    else stream.onTrailers(lines)
    return ERROR.NO_ERROR
  }

  /** Section 6.4. */
  #onReset(streamId: number, length: number): number {
    if (streamId === 0 || streamId > this.#lastStreamId) return ERROR.PROTOCOL_ERROR
    if (length !== 4) return ERROR.FRAME_SIZE_ERROR
    const stream = this.#streams.get(streamId)
    if (stream !== undefined) {
      this.forget(stream)
      stream.abandon()
    }
    return this.#resets.take(this.engine.deadlines.now) ? ERROR.NO_ERROR : ERROR.ENHANCE_YOUR_CALM
  }

  /** Section 6.5. */
  #onSettings(flags: number, streamId: number, bytes: Buffer, start: number, end: number): number {
    if (streamId !== 0) return ERROR.PROTOCOL_ERROR
    if ((flags & FLAG.ACK) !== 0) return start === end ? this.#charge() : ERROR.FRAME_SIZE_ERROR
    if ((end - start) % 6 !== 0) return ERROR.FRAME_SIZE_ERROR
    this.#settingsSeen = true
    for (let p = start; p < end; p += 6) {
      const error = this.#applySetting(bytes.readUInt16BE(p), bytes.readUInt32BE(p + 2))
      if (error !== ERROR.NO_ERROR) return error
    }
    this.#frames.acknowledgeSettings()
    return this.#charge()
  }

  #applySetting(setting: number, value: number): number {
    switch (setting) {
      case SETTING.HEADER_TABLE_SIZE:
        this.#encoder.setMaxSize(value)
        return ERROR.NO_ERROR
      case SETTING.ENABLE_PUSH:
        return value > 1 ? ERROR.PROTOCOL_ERROR : ERROR.NO_ERROR
      case SETTING.INITIAL_WINDOW_SIZE:
        return this.#setInitialWindow(value)
      case SETTING.MAX_FRAME_SIZE:
        return value < MAX_FRAME_BYTES || value > 0xffffff ? ERROR.PROTOCOL_ERROR : ERROR.NO_ERROR
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

  /**
   * Section 6.7. A peer that speaks gRPC measures the way by a PING with its content and with ours, another as soon as one is
   * answered. One is free for content in between, as gRPC itself counts: it adds little to what the content costs.
   */
  #onPing(flags: number, streamId: number, bytes: Buffer, start: number, end: number): number {
    if (streamId !== 0) return ERROR.PROTOCOL_ERROR
    if (end - start !== 8) return ERROR.FRAME_SIZE_ERROR
    if ((flags & FLAG.ACK) !== 0) return this.#charge()
    this.#frames.acknowledgePing(bytes, start, end)
    const free = this.#activeSincePing
    this.#activeSincePing = false
    return free ? ERROR.NO_ERROR : this.#charge()
  }

  /** Section 6.9. */
  #onWindowUpdate(streamId: number, bytes: Buffer, start: number, end: number): number {
    if (end - start !== 4) return ERROR.FRAME_SIZE_ERROR
    if (streamId > this.#lastStreamId) return ERROR.PROTOCOL_ERROR
    const increment = bytes.readUInt32BE(start) & 0x7fffffff
    if (streamId === 0) {
      this.sendWindow += increment
      if (increment === 0) return ERROR.PROTOCOL_ERROR
      if (this.sendWindow > MAX_WINDOW) return ERROR.FLOW_CONTROL_ERROR
      this.#pump()
      return ERROR.NO_ERROR
    }
    const stream = this.#streams.get(streamId)
    if (stream === undefined) return ERROR.NO_ERROR
    stream.sendWindow += increment
    if (increment === 0) this.reset(stream, ERROR.PROTOCOL_ERROR)
    else if (stream.sendWindow > MAX_WINDOW) this.reset(stream, ERROR.FLOW_CONTROL_ERROR)
    else if (this.#waiting.has(stream)) this.#pump()
    return ERROR.NO_ERROR
  }

  /** RFC 9218 section 7.1. */
  #onPriorityUpdate(streamId: number, bytes: Buffer, start: number, end: number): number {
    if (streamId !== 0) return ERROR.PROTOCOL_ERROR
    if (end - start < 4) return ERROR.FRAME_SIZE_ERROR
    const prioritized = bytes.readUInt32BE(start) & 0x7fffffff
    if (prioritized % 2 === 0) return ERROR.PROTOCOL_ERROR
    const priority = readPriority(bytes.toString('latin1', start + 4, end))
    const stream = this.#streams.get(prioritized)
    if (stream !== undefined) stream.priority = priority
    else if (prioritized > this.#lastStreamId && this.#priorities.size < MAX_STREAMS)
      this.#priorities.set(prioritized, priority)
    return this.#charge()
  }

  /** What was told ahead overrides what the request says. */
  #prioritize(stream: Http2Stream): void {
    if (this.#priorities.size === 0) return
    stream.priority = this.#priorities.get(stream.id) ?? stream.priority
    for (const id of this.#priorities.keys()) if (id <= stream.id) this.#priorities.delete(id)
  }

  /* What streams ask for */

  /** Is so much gathered that nothing should be added but control frames? */
  get congested(): boolean {
    return this.#frames.congested
  }

  /** The stream has more to say when there is room: it will be asked by `pump`. */
  wait(stream: Http2Stream): void {
    this.#waiting.add(stream)
  }

  /** Both sides of the stream have ended. */
  forget(stream: Http2Stream): void {
    this.#streams.delete(stream.id)
    this.#waiting.delete(stream)
    if (this.#streams.size > 0) return
    this.#idleSince = this.engine.deadlines.now
    if (this.#closing) this.#endWhenIdle()
  }

  /** Section 5.4.2: ends the stream, and the exchange with it. */
  reset(stream: Http2Stream, error: number): void {
    this.#frames.resetStream(stream.id, error)
    this.forget(stream)
    stream.abandon()
  }

  /** Tells the client that the rest of its request is not wanted. */
  stopRequest(streamId: number): void {
    this.#frames.resetStream(streamId, ERROR.NO_ERROR)
  }

  /** Gives the client leave to send more on a stream; with 0, on the connection. */
  windowUpdate(streamId: number, increment: number): void {
    this.#frames.updateWindow(streamId, increment)
  }

  /**
   * One header block: `:status` unless `status` is 0 (trailers), and the `name: value` CRLF lines in `lines[start, end)`.
   * RFC 9113 section 4.3: in one HEADERS frame, and CONTINUATION frames where it is longer.
   */
  headers(
    streamId: number,
    status: number,
    lines: Buffer,
    start: number,
    end: number,
    endStream: boolean,
  ): void {
    this.#activeSincePing = true
    writeHeaderFrames(this.#frames, this.#encoder, streamId, status, lines, start, end, endStream)
  }

  /** One DATA frame; the caller has seen to the windows and the frame size. */
  data(streamId: number, bytes: Buffer, start: number, end: number): void {
    this.#activeSincePing = true
    const o = this.#frames.reserve(FRAME_HEADER_BYTES + end - start)
    const payload = writeFrameHeader(this.#frames.out, o, end - start, FRAME.DATA, 0, streamId)
    this.#frames.length = payload + bytes.copy(this.#frames.out, payload, start, end)
    this.#frames.lastDataAt = o
    this.#frames.lastDataStream = streamId
  }

  /** Ends the stream from our side: in its last DATA frame where that is still here, else in an empty one. */
  endData(streamId: number): void {
    const frames = this.#frames
    if (frames.lastDataStream === streamId) {
      frames.out[frames.lastDataAt + 4] = FLAG.END_STREAM
      frames.lastDataStream = 0
      return
    }
    const o = frames.reserve(FRAME_HEADER_BYTES)
    frames.length = writeFrameHeader(frames.out, o, 0, FRAME.DATA, FLAG.END_STREAM, streamId)
  }

  #pump(): void {
    if (this.#waiting.size === 0 || this.#closed) return
    const waiting = [...this.#waiting]
    if (waiting.length > 1) waiting.sort(inOrder)
    this.#waiting.clear()
    for (const stream of waiting) stream.pump()
  }

  #onWritten(): void {
    this.#pump()
    if (this.#closing && this.#streams.size === 0) this.#endWhenIdle()
  }

  /* Ending */

  #endWhenIdle(): void {
    if (this.#streams.size > 0) return
    if (this.#closingSince === 0) this.#closingSince = this.engine.deadlines.now
    this.#frames.end()
  }

  /** Section 5.4.1: an error of the connection. */
  #fail(error: number): void {
    if (this.#closed || this.#failed) return
    this.#failed = true
    this.#frames.goAway(this.#lastStreamId, error)
    this.#closing = true
    for (const stream of this.#streams.values()) stream.abandon()
    this.#streams.clear()
    this.#waiting.clear()
    this.#partial = undefined
    this.#block = undefined
    this.#closingSince = this.engine.deadlines.now
    if (error === ERROR.ENHANCE_YOUR_CALM) this.#frames.endAtOnce()
    else this.#frames.end()
  }
}
