/**
 * Octets that wait to be sent, in the order in which they came. A peer may send them one by one: small pieces share a
 * buffer, since each of their own would cost many times its size.
 */
import { NOTHING } from './octets.ts'

/** Pieces from this size on may be kept as they are. */
const LARGE_BYTES = 4096
/** What small pieces share is not larger than this. */
const MAX_SHARED_BYTES = 64 * 1024

export class HeldPieces {
  /** Of all pieces. */
  bytes = 0
  #whole: Buffer[] = []
  /** What small pieces are gathered in, behind `#whole`. */
  #shared = NOTHING
  #sharedBytes = 0

  /** The octets at the head of the line. Not while there are none. */
  get first(): Buffer {
    if (this.#whole.length === 0) this.#closeShared()
    return this.#whole[0] ?? NOTHING
  }

  /**
   * Takes `bytes` over, or a copy where it is one more small piece, or a small part of what was read and would hold on to all of
   * that.
   */
  push(bytes: Buffer): void {
    const { length } = bytes
    const isSmall = length < LARGE_BYTES && this.bytes > 0
    if (isSmall || length < bytes.buffer.byteLength / 2) this.append(bytes, 0, length)
    else {
      this.#closeShared()
      this.#whole.push(bytes)
      this.bytes += length
    }
  }

  /** Copies `bytes[start, end)`. */
  append(bytes: Buffer, start: number, end: number): void {
    const length = end - start
    if (this.#sharedBytes + length > MAX_SHARED_BYTES) this.#closeShared()
    const needed = this.#sharedBytes + length
    if (needed > this.#shared.length) this.#grow(needed)
    bytes.copy(this.#shared, this.#sharedBytes, start, end)
    this.#sharedBytes = needed
    this.bytes += length
  }

  /** Takes out up to `max` of the octets at the head of the line: as many as are in one buffer. */
  take(max = Number.POSITIVE_INFINITY): Buffer {
    const { first } = this
    const taken = max < first.length ? first.subarray(0, max) : first
    this.drop(taken.length)
    return taken
  }

  /** Takes out so many octets of `first`. */
  drop(count: number): void {
    const { first } = this
    if (count < first.length) this.#whole[0] = first.subarray(count)
    else this.#whole.shift()
    this.bytes -= count
  }

  clear(): void {
    if (this.bytes === 0) return
    this.bytes = 0
    this.#whole = []
    this.#shared = NOTHING
    this.#sharedBytes = 0
  }

  #grow(needed: number): void {
    const doubled = Math.min(2 * this.#shared.length, MAX_SHARED_BYTES)
    const larger = Buffer.allocUnsafe(Math.max(needed, doubled))
    this.#shared.copy(larger, 0, 0, this.#sharedBytes)
    this.#shared = larger
  }

  #closeShared(): void {
    if (this.#sharedBytes === 0) return
    this.#whole.push(this.#shared.subarray(0, this.#sharedBytes))
    this.#shared = NOTHING
    this.#sharedBytes = 0
  }
}
