/**
 * Frames on their way over one HTTP/2 connection: gathered in a borrowed buffer, written with one call when the event loop
 * has turned, one write at a time.
 *
 * Knows the control frames that both sides of the proxy send; whoever has others to send writes into `out` at the offset
 * that `reserve` gave, and sets `length`.
 */
import type { Socket } from 'node:net'
import type { Engine } from './engine.ts'
import { FLAG, FRAME, FRAME_HEADER_BYTES, writeFrameHeader } from './frames.ts'
import { NOTHING } from './octets.ts'

/** More than this gathered while a write is on its way: hold back what is not a control frame. */
const CONGESTED_BYTES = 64 * 1024
/** A client that makes us answer and does not read. */
const MAX_OVERFLOW_BYTES = 4 * 1024 * 1024

export class FrameBuffer {
  /** Valid from `reserve` to the end of the frame. */
  out: Buffer = NOTHING
  length = 0
  /** Where the header of the last DATA frame in `out` is, and of which stream; 0 for none. */
  lastDataAt = 0
  lastDataStream = 0
  /** Is a write on its way? */
  writing = false
  writingSince = 0
  readonly #engine: Engine
  readonly #socket: Socket
  readonly #secure: boolean
  readonly #onWritten: () => void
  #overflow: Buffer[] = []
  #overflowBytes = 0
  #scheduled = false
  #ending = false
  #closed = false
  readonly #written = (): void => this.#afterWrite()

  constructor(engine: Engine, socket: Socket, secure: boolean, onWritten: () => void) {
    this.#engine = engine
    this.#socket = socket
    this.#secure = secure
    this.#onWritten = onWritten
  }

  get congested(): boolean {
    return this.writing && this.length + this.#overflowBytes > CONGESTED_BYTES
  }

  /** Room for `bytes` (at most the engine's frame buffer); returns where. */
  reserve(bytes: number): number {
    if (this.out.length - this.length < bytes) this.#makeRoom(bytes)
    if (!this.#scheduled) {
      this.#scheduled = true
      this.#engine.flushSoon(this)
    }
    return this.length
  }

  append(bytes: Buffer): void {
    const o = this.reserve(bytes.length)
    this.length = o + bytes.copy(this.out, o)
  }

  acknowledgeSettings(): void {
    const o = this.reserve(FRAME_HEADER_BYTES)
    this.length = writeFrameHeader(this.out, o, 0, FRAME.SETTINGS, FLAG.ACK, 0)
  }

  /** The answer to a PING that holds the 8 octets `bytes[start, end)`. */
  acknowledgePing(bytes: Buffer, start: number, end: number): void {
    const o = this.reserve(FRAME_HEADER_BYTES + 8)
    const payload = writeFrameHeader(this.out, o, 8, FRAME.PING, FLAG.ACK, 0)
    this.length = payload + bytes.copy(this.out, payload, start, end)
  }

  resetStream(streamId: number, error: number): void {
    this.#word(FRAME.RST_STREAM, streamId, error)
  }

  /** Leave to send so much more on a stream; with 0, on the connection. */
  updateWindow(streamId: number, increment: number): void {
    this.#word(FRAME.WINDOW_UPDATE, streamId, increment)
  }

  goAway(lastStreamId: number, error: number): void {
    const o = this.reserve(FRAME_HEADER_BYTES + 8)
    const payload = writeFrameHeader(this.out, o, 8, FRAME.GOAWAY, 0, 0)
    this.out.writeUInt32BE(lastStreamId, payload)
    this.length = this.out.writeUInt32BE(error, payload + 4)
  }

  /** A frame that holds one number. */
  #word(type: number, streamId: number, value: number): void {
    const o = this.reserve(FRAME_HEADER_BYTES + 4)
    const payload = writeFrameHeader(this.out, o, 4, type, 0, streamId)
    this.length = this.out.writeUInt32BE(value, payload)
  }

  /** Ends the connection once everything is written. */
  end(): void {
    this.#ending = true
    if (this.length === 0 && !this.writing && !this.#closed) this.#socket.end()
  }

  /** Ends it without waiting for the client, which may be flooding us. */
  endAtOnce(): void {
    // A copy, since it may have to wait for the write that is on its way.
    this.#socket.write(Buffer.concat([...this.#overflow, this.out.subarray(0, this.length)]))
    this.#socket.destroySoon()
    this.close()
  }

  close(): void {
    this.#closed = true
    this.length = 0
    this.#overflow = []
    this.#giveBack()
  }

  /** By the engine, once an event loop turn. */
  flush(): void {
    this.#scheduled = false
    if (!this.writing) this.#writeOut()
  }

  #makeRoom(bytes: number): void {
    if (this.length > 0) {
      if (!this.writing) this.#writeOut()
      else this.#setAside()
    }
    if (this.out.length < bytes) this.out = this.#engine.borrow(bytes)
  }

  #setAside(): void {
    this.#overflow.push(Buffer.from(this.out.subarray(0, this.length)))
    this.#overflowBytes += this.length
    this.length = 0
    this.lastDataStream = 0
    if (this.#overflowBytes > MAX_OVERFLOW_BYTES) this.#socket.destroy()
  }

  /** See `ClientHttp1` on writing a TLS socket without a copy. */
  #writeOut(): void {
    if (this.#closed) {
      this.close()
      return
    }
    let bytes = this.out.subarray(0, this.length)
    if (this.#overflow.length > 0) {
      bytes = Buffer.concat([...this.#overflow, bytes])
      this.#overflow = []
      this.#overflowBytes = 0
    } else if (!this.#secure) bytes = Buffer.from(bytes)
    this.length = 0
    this.lastDataStream = 0
    if (bytes.length === 0) return
    this.writing = true
    this.writingSince = this.#engine.deadlines.now
    this.#socket.write(bytes, this.#written)
    this.#giveBack()
  }

  #giveBack(): void {
    this.#engine.giveBack(this.out)
    this.out = NOTHING
  }

  #afterWrite(): void {
    this.writing = false
    if (this.#closed) return
    if (this.length > 0 || this.#overflow.length > 0) this.#writeOut()
    else if (this.#ending) this.#socket.end()
    this.#onWritten()
  }
}
