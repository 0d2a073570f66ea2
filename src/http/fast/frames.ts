/** Frame layout and codes of HTTP/2 (RFC 9113 sections 4, 6 and 7). `client-http2.ts` and `upstream-http2.ts` give them meaning. */

export const PREFACE = Buffer.from('PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n')
export const FRAME_HEADER_BYTES = 9
/** SETTINGS_MAX_FRAME_SIZE: its default, kept for both directions. */
export const MAX_FRAME_BYTES = 16_384
export const MAX_WINDOW = 2 ** 31 - 1
/** SETTINGS_INITIAL_WINDOW_SIZE and the connection's window before anything is said. */
export const DEFAULT_WINDOW = 65_535

export const FRAME = {
  DATA: 0x0,
  HEADERS: 0x1,
  PRIORITY: 0x2,
  RST_STREAM: 0x3,
  SETTINGS: 0x4,
  PUSH_PROMISE: 0x5,
  PING: 0x6,
  GOAWAY: 0x7,
  WINDOW_UPDATE: 0x8,
  CONTINUATION: 0x9,
  /** RFC 9218 section 7.1. */
  PRIORITY_UPDATE: 0x10,
} as const

export const FLAG = { END_STREAM: 0x1, ACK: 0x1, END_HEADERS: 0x4, PADDED: 0x8, PRIORITY: 0x20 } as const

export const SETTING = {
  HEADER_TABLE_SIZE: 0x1,
  ENABLE_PUSH: 0x2,
  MAX_CONCURRENT_STREAMS: 0x3,
  INITIAL_WINDOW_SIZE: 0x4,
  MAX_FRAME_SIZE: 0x5,
  MAX_HEADER_LIST_SIZE: 0x6,
  /** RFC 8441. */
  ENABLE_CONNECT_PROTOCOL: 0x8,
  /** RFC 9218 section 2.1. */
  NO_RFC7540_PRIORITIES: 0x9,
} as const

export const ERROR = {
  NO_ERROR: 0x0,
  PROTOCOL_ERROR: 0x1,
  INTERNAL_ERROR: 0x2,
  FLOW_CONTROL_ERROR: 0x3,
  STREAM_CLOSED: 0x5,
  FRAME_SIZE_ERROR: 0x6,
  REFUSED_STREAM: 0x7,
  CANCEL: 0x8,
  COMPRESSION_ERROR: 0x9,
  ENHANCE_YOUR_CALM: 0xb,
} as const

/** Writes a frame's header at `out[offset]`; returns the offset of its payload. */
export function writeFrameHeader(
  out: Buffer,
  offset: number,
  length: number,
  type: number,
  flags: number,
  streamId: number,
): number {
  out[offset] = length >>> 16
  out[offset + 1] = length >>> 8
  out[offset + 2] = length
  out[offset + 3] = type
  out[offset + 4] = flags
  out[offset + 5] = streamId >>> 24
  out[offset + 6] = streamId >>> 16
  out[offset + 7] = streamId >>> 8
  out[offset + 8] = streamId
  return offset + FRAME_HEADER_BYTES
}

/** A SETTINGS frame with these values. */
export function settingsFrame(values: readonly (readonly [setting: number, value: number])[]): Buffer {
  const frame = Buffer.alloc(FRAME_HEADER_BYTES + values.length * 6)
  let o = writeFrameHeader(frame, 0, values.length * 6, FRAME.SETTINGS, 0, 0)
  for (const [setting, value] of values) {
    o = frame.writeUInt16BE(setting, o)
    o = frame.writeUInt32BE(value, o)
  }
  return frame
}
