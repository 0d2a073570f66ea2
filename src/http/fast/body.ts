/**
 * Where a message's body ends, and its content without transfer coding (RFC 9112 sections 6.3 and 7.1).
 *
 * The reader hands ranges of the very buffer that it was given to its sink, so content is never copied here. Chunks
 * are decoded, extensions dropped, and trailers checked: the next hop gets framing that we made ourselves, so that no
 * doubtful chunk line reaches it.
 *
 * Receives bytes from `client-http1.ts` and `upstream.ts`, after `head.ts` has read the head.
 */
import { lexFields, TRAILER_FIELDS } from './fields.ts'
import { type Fault, Head } from './head.ts'
import { CR, HEX, LF, SEMICOLON, VALUE } from './octets.ts'

/** A chunk extension costs its sender more than us, so long as there are few of them. */
const MAX_EXTENSION_BYTES = 256
const MAX_EXTENSIONS_BYTES = 16 * 1024
const MAX_TRAILER_BYTES = 8 * 1024
const MAX_SIZE_DIGITS = 16

export interface ContentSink {
  /** A run of content: `bytes[start, end)`, valid during the call only, never empty. */
  onContent(bytes: Buffer, start: number, end: number): void
}

export type Framing = 'none' | 'length' | 'chunked' | 'until-close'

/* States of the chunk scanner, in the order in which a chunk passes through them. */
const SIZE = 0
const EXTENSION = 1
const SIZE_LF = 2
const DATA = 3
const DATA_CR = 4
const DATA_LF = 5
const TRAILER_START = 6
const TRAILER_LINE = 7
const END_LF = 8

/** Reused from message to message: `start` makes it new. */
export class BodyReader {
  framing: Framing = 'none'
  /** Has the body ended? With `until-close` it never does by itself. */
  done = true
  fault: Fault | '' = ''
  /** Octets of content so far. */
  contentBytes = 0
  /** Kept trailer lines, `name: value` and CRLF each; undefined when there are none. */
  trailers: Buffer | undefined

  /** Octets left: of the body with `length`, of the chunk with `chunked`. */
  #left = 0
  #state = SIZE
  #digits = 0
  #extensionBytes = 0
  #extensionsBytes = 0
  #trailerBytes: Buffer | undefined
  #trailerLength = 0

  start(framing: Framing, length: number): void {
    this.framing = framing
    this.done = framing === 'none' || (framing === 'length' && length === 0)
    this.fault = ''
    this.contentBytes = 0
    this.trailers = undefined
    this.#left = length
    if (framing === 'chunked') {
      this.#state = SIZE
      this.#left = 0
      this.#digits = 0
      this.#extensionsBytes = 0
      this.#trailerLength = 0
    }
  }

  /**
   * Reads what of `bytes[start, end)` belongs to the body. Returns the index after it: less than `end` once `done`,
   * or where a `fault` was met.
   */
  read(bytes: Buffer, start: number, end: number, sink: ContentSink): number {
    if (this.done) return start
    if (this.framing === 'chunked') return this.#readChunks(bytes, start, end, sink)
    const taken = this.framing === 'length' ? Math.min(this.#left, end - start) : end - start
    this.#left -= taken
    this.done = this.framing === 'length' && this.#left === 0
    if (taken > 0) {
      this.contentBytes += taken
      sink.onContent(bytes, start, start + taken)
    }
    return start + taken
  }

  #readChunks(bytes: Buffer, start: number, end: number, sink: ContentSink): number {
    let p = start
    while (p < end) {
      const c = bytes[p] as number
      switch (this.#state) {
        case SIZE: {
          const digit = HEX[c] as number
          if (digit !== 255) {
            this.#left = this.#left * 16 + digit
            if (++this.#digits > MAX_SIZE_DIGITS || this.#left > Number.MAX_SAFE_INTEGER)
              return this.#fail('chunk-size-invalid', p)
          } else if (this.#digits === 0) return this.#fail('chunk-size-invalid', p)
          else if (c === CR) this.#state = SIZE_LF
          else if (c === SEMICOLON) {
            this.#state = EXTENSION
            this.#extensionBytes = 0
          } else return this.#fail('chunk-size-invalid', p)
          p++
          break
        }
        case EXTENSION:
          if (c === CR) this.#state = SIZE_LF
          else if (VALUE[c] !== 1) return this.#fail('chunk-ending-invalid', p)
          else if (
            ++this.#extensionBytes > MAX_EXTENSION_BYTES ||
            ++this.#extensionsBytes > MAX_EXTENSIONS_BYTES
          )
            return this.#fail('chunk-line-too-long', p)
          p++
          break
        case SIZE_LF:
          if (c !== LF) return this.#fail('chunk-ending-invalid', p)
          this.#state = this.#left === 0 ? TRAILER_START : DATA
          p++
          break
        case DATA: {
          const taken = Math.min(this.#left, end - p)
          this.#left -= taken
          if (this.#left === 0) this.#state = DATA_CR
          this.contentBytes += taken
          sink.onContent(bytes, p, p + taken)
          p += taken
          break
        }
        case DATA_CR:
          if (c !== CR) return this.#fail('chunk-ending-invalid', p)
          this.#state = DATA_LF
          p++
          break
        case DATA_LF:
          if (c !== LF) return this.#fail('chunk-ending-invalid', p)
          this.#state = SIZE
          this.#digits = 0
          p++
          break
        case TRAILER_START:
          if (c === CR) {
            this.#state = END_LF
            p++
            break
          }
          this.#state = TRAILER_LINE
          break
        case TRAILER_LINE:
          if (this.#trailerLength === MAX_TRAILER_BYTES) return this.#fail('trailer-too-large', p)
          this.#trailerBytes ??= Buffer.allocUnsafe(MAX_TRAILER_BYTES + 2)
          this.#trailerBytes[this.#trailerLength++] = c
          if (c === LF) this.#state = TRAILER_START
          p++
          break
        case END_LF:
          if (c !== LF) return this.#fail('chunk-ending-invalid', p)
          this.#finishTrailers()
          return this.fault === '' ? p + 1 : p
      }
    }
    return p
  }

  #finishTrailers(): void {
    this.done = true
    const raw = this.#trailerBytes
    if (raw === undefined || this.#trailerLength === 0) return
    this.#trailerBytes = undefined
    raw[this.#trailerLength++] = CR
    raw[this.#trailerLength++] = LF
    const head = new Head()
    // A kept line grows by one space at most, and has three octets at least.
    const kept = Buffer.allocUnsafe(this.#trailerLength * 2)
    const verdict = lexFields(head, raw, 0, this.#trailerLength, kept, 0, TRAILER_FIELDS)
    if (verdict === 'incomplete') this.fault = 'line-ending-invalid'
    else if (verdict !== 'complete') this.fault = verdict
    else if (head.length > 0) this.trailers = kept.subarray(0, head.length)
    this.done = this.fault === ''
  }

  #fail(fault: Fault, at: number): number {
    this.fault = fault
    return at
  }
}

/** The line that opens a chunk of our own, and what closes it (RFC 9112 section 7.1). */
export function writeChunkSize(out: Buffer, length: number, offset: number): number {
  return offset + out.write(`${length.toString(16)}\r\n`, offset, 'latin1')
}
