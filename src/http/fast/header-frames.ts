/**
 * One header block as frames (RFC 9113 section 4.3): HEADERS, and CONTINUATION where it is longer than a frame.
 * Receives `name: value` lines, as the lexer keeps them; writes into a connection's `FrameBuffer`.
 */
import { MAX_FIELDS } from '../headers.ts'
import type { FrameBuffer } from './frame-buffer.ts'
import { FLAG, FRAME, FRAME_HEADER_BYTES, MAX_FRAME_BYTES, writeFrameHeader } from './frames.ts'
import type { HpackEncoder } from './hpack.ts'

/** How much longer than its line a field may be in a header block: see `HpackEncoder.lines`. */
const FIELD_GROWTH_BYTES = 12

/**
 * `:status` unless `status` is 0 (requests, trailers), and the CRLF lines in `lines[start, end)`, of which those of
 * pseudo-headers begin with their colon.
 */
export function writeHeaderFrames(
  frames: FrameBuffer,
  encoder: HpackEncoder,
  streamId: number,
  status: number,
  lines: Buffer,
  start: number,
  end: number,
  endStream: boolean,
): void {
  const o = frames.reserve(FRAME_HEADER_BYTES + end - start + (MAX_FIELDS + 8) * FIELD_GROWTH_BYTES)
  const { out } = frames
  const blockStart = o + FRAME_HEADER_BYTES
  let blockEnd = encoder.begin(out, blockStart)
  if (status !== 0) blockEnd = encoder.status(out, blockEnd, status)
  blockEnd = encoder.lines(out, blockEnd, lines, start, end)
  const flags = endStream ? FLAG.END_STREAM : 0
  const length = blockEnd - blockStart
  if (length <= MAX_FRAME_BYTES) {
    writeFrameHeader(out, o, length, FRAME.HEADERS, flags | FLAG.END_HEADERS, streamId)
    frames.length = blockEnd
  } else splitBlock(frames, Buffer.from(out.subarray(blockStart, blockEnd)), flags, streamId)
}

function splitBlock(frames: FrameBuffer, block: Buffer, flags: number, streamId: number): void {
  for (let p = 0; p < block.length; p += MAX_FRAME_BYTES) {
    const part = block.subarray(p, p + MAX_FRAME_BYTES)
    const type = p === 0 ? FRAME.HEADERS : FRAME.CONTINUATION
    const endHeaders = p + part.length === block.length ? FLAG.END_HEADERS : 0
    const o = frames.reserve(FRAME_HEADER_BYTES + part.length)
    const allFlags = (p === 0 ? flags : 0) | endHeaders
    const payload = writeFrameHeader(frames.out, o, part.length, type, allFlags, streamId)
    frames.length = payload + part.copy(frames.out, payload)
  }
}
