/**
 * HPACK (RFC 7541): header compression of HTTP/2, both ways. One decoder and one encoder for each connection.
 *
 * The decoder hands out `HpackField` objects, which live in its dynamic table, so that what a client sends again and
 * again is parsed and checked once. The encoder works on bytes, as `lexer.ts` left them, and puts into its table what it
 * has seen before, so that a value that never comes again costs no entry.
 *
 * Serves `client-http2.ts` and `upstream-http2.ts`, which keep the limits on what decoding may yield.
 */
import { decodeHuffman, encodeHuffman, huffmanLength } from './huffman.ts'
import { COLON, CR, LOWER, SP } from './octets.ts'

/** SETTINGS_HEADER_TABLE_SIZE: its default, and all we keep for either direction. */
export const TABLE_SIZE = 4096
/** Section 4.1: what an entry weighs beyond its name and value. */
const ENTRY_OVERHEAD = 32

/** A decoded field. `line` is what its owner derives from it, once for as long as the entry lives. */
export class HpackField {
  readonly name: string
  readonly value: string
  readonly size: number
  /** For the owner's use: see `http2-request.ts`. -1 means not classified yet. */
  kind = -1
  line = ''

  constructor(name: string, value: string) {
    this.name = name
    this.value = value
    this.size = name.length + value.length + ENTRY_OVERHEAD
  }
}

/** Appendix A. */
const STATIC_TABLE: readonly (readonly [name: string, value: string])[] = [
  [':authority', ''],
  [':method', 'GET'],
  [':method', 'POST'],
  [':path', '/'],
  [':path', '/index.html'],
  [':scheme', 'http'],
  [':scheme', 'https'],
  [':status', '200'],
  [':status', '204'],
  [':status', '206'],
  [':status', '304'],
  [':status', '400'],
  [':status', '404'],
  [':status', '500'],
  ['accept-charset', ''],
  ['accept-encoding', 'gzip, deflate'],
  ['accept-language', ''],
  ['accept-ranges', ''],
  ['accept', ''],
  ['access-control-allow-origin', ''],
  ['age', ''],
  ['allow', ''],
  ['authorization', ''],
  ['cache-control', ''],
  ['content-disposition', ''],
  ['content-encoding', ''],
  ['content-language', ''],
  ['content-length', ''],
  ['content-location', ''],
  ['content-range', ''],
  ['content-type', ''],
  ['cookie', ''],
  ['date', ''],
  ['etag', ''],
  ['expect', ''],
  ['expires', ''],
  ['from', ''],
  ['host', ''],
  ['if-match', ''],
  ['if-modified-since', ''],
  ['if-none-match', ''],
  ['if-range', ''],
  ['if-unmodified-since', ''],
  ['last-modified', ''],
  ['link', ''],
  ['location', ''],
  ['max-forwards', ''],
  ['proxy-authenticate', ''],
  ['proxy-authorization', ''],
  ['range', ''],
  ['referer', ''],
  ['refresh', ''],
  ['retry-after', ''],
  ['server', ''],
  ['set-cookie', ''],
  ['strict-transport-security', ''],
  ['transfer-encoding', ''],
  ['user-agent', ''],
  ['vary', ''],
  ['via', ''],
  ['www-authenticate', ''],
]

const STATIC_COUNT = STATIC_TABLE.length

/** The static table for decoders. */
export function createStaticTable(): HpackField[] {
  return STATIC_TABLE.map(([name, value]) => new HpackField(name, value))
}

export interface FieldSink {
  onField(field: HpackField): void
}

export class HpackDecoder {
  readonly #scratch: Buffer
  readonly #static: readonly HpackField[]
  /** Oldest first. */
  readonly #dynamic: HpackField[] = []
  #size = 0
  #maxSize = TABLE_SIZE
  /** Index after the integer or string read last; -1 when it could not be read. */
  #next = 0

  /**
   * `scratch` needs room for 8/5 of the longest block; it is used during `decode` only. Both arguments may be shared
   * by connections.
   */
  constructor(scratch: Buffer, staticTable: readonly HpackField[]) {
    this.#scratch = scratch
    this.#static = staticTable
  }

  /**
   * Decodes the whole header block `bytes[start, end)`. False: COMPRESSION_ERROR, and the connection is beyond use
   * (section 4.3 of RFC 9113). The sink sees each field in order, without any check of what it says.
   */
  decode(bytes: Buffer, start: number, end: number, sink: FieldSink): boolean {
    let p = start
    let fieldSeen = false
    while (p < end) {
      const first = bytes[p] as number
      if ((first & 0xe0) === 0x20) {
        // Section 4.2: size updates come first.
        const size = this.#integer(bytes, p, end, 5)
        if (this.#next === -1 || fieldSeen || size > TABLE_SIZE) return false
        p = this.#next
        this.#maxSize = size
        this.#evict(0)
        continue
      }
      fieldSeen = true
      const field = first & 0x80 ? this.#indexed(bytes, p, end) : this.#literal(bytes, p, end)
      if (field === undefined) return false
      p = this.#next
      sink.onField(field)
    }
    return true
  }

  /** Section 6.1. */
  #indexed(bytes: Buffer, start: number, end: number): HpackField | undefined {
    const index = this.#integer(bytes, start, end, 7)
    return this.#next === -1 ? undefined : this.#entry(index)
  }

  /** Sections 6.2.1 (with indexing, 01), 6.2.2 (without, 0000) and 6.2.3 (never, 0001). */
  #literal(bytes: Buffer, start: number, end: number): HpackField | undefined {
    const indexing = ((bytes[start] as number) & 0x40) !== 0
    const index = this.#integer(bytes, start, end, indexing ? 6 : 4)
    if (this.#next === -1) return undefined
    const name = index === 0 ? this.#string(bytes, this.#next, end) : this.#entry(index)?.name
    if (name === undefined) return undefined
    const value = this.#string(bytes, this.#next, end)
    if (value === undefined) return undefined
    const field = new HpackField(name, value)
    if (indexing) this.#add(field)
    return field
  }

  #entry(index: number): HpackField | undefined {
    if (index <= STATIC_COUNT) return this.#static[index - 1]
    return this.#dynamic[this.#dynamic.length - (index - STATIC_COUNT)]
  }

  #add(field: HpackField): void {
    this.#evict(field.size)
    // Section 4.4: one that is too large empties the table and is no error.
    if (field.size > this.#maxSize) return
    this.#dynamic.push(field)
    this.#size += field.size
  }

  #evict(needed: number): void {
    while (this.#size > 0 && this.#size + needed > this.#maxSize) {
      this.#size -= this.#dynamic.shift()?.size ?? this.#size
    }
  }

  /** Section 5.1, for values below 2^28: no index, length or size of ours is larger. */
  #integer(bytes: Buffer, start: number, end: number, prefixBits: number): number {
    const mask = (1 << prefixBits) - 1
    const prefix = (bytes[start] as number) & mask
    this.#next = start + 1
    if (prefix < mask) return prefix
    let value = mask
    for (let p = start + 1, shift = 0; p < end && shift <= 21; p++, shift += 7) {
      const octet = bytes[p] as number
      value += (octet & 0x7f) << shift
      if (octet < 0x80) {
        this.#next = p + 1
        return value
      }
    }
    this.#next = -1
    return 0
  }

  /** Section 5.2. */
  #string(bytes: Buffer, start: number, end: number): string | undefined {
    if (start >= end) return undefined
    const huffman = ((bytes[start] as number) & 0x80) !== 0
    const length = this.#integer(bytes, start, end, 7)
    const from = this.#next
    const to = from + length
    if (from === -1 || to > end) return undefined
    this.#next = to
    if (!huffman) return bytes.toString('latin1', from, to)
    const decoded = decodeHuffman(bytes, from, to, this.#scratch)
    return decoded === -1 ? undefined : this.#scratch.toString('latin1', 0, decoded)
  }
}

/** First static entry of each field name, by the name's length. */
const STATIC_NAMES: readonly (readonly { name: Buffer; index: number }[])[] = (() => {
  const byLength: { name: Buffer; index: number }[][] = []
  STATIC_TABLE.forEach(([name], i) => {
    if (name.startsWith(':')) return
    byLength[name.length] ??= []
    byLength[name.length]?.push({ name: Buffer.from(name), index: i + 1 })
  })
  return byLength
})()

/** Index of a static entry by its status; 0 when there is none. */
const STATUS_INDEX = new Uint8Array(600)
STATIC_TABLE.forEach(([name, value], i) => {
  if (name === ':status') STATUS_INDEX[Number(value)] = i + 1
})

/** Secrets and one-time values: compressing them beside what an attacker chooses would leak them (section 7.1). */
const NEVER_INDEXED = new Uint8Array(STATIC_COUNT + 1)
for (const wanted of ['set-cookie', 'authorization', 'www-authenticate', 'cookie'])
  NEVER_INDEXED[STATIC_TABLE.findIndex(([name]) => name === wanted) + 1] = 1

/** Of the 32-bit FNV-1a. */
const FNV_OFFSET = 0x811c9dc5
const FNV_PRIME = 0x01000193
/** What of a hash is kept: a number that takes no memory of its own. */
const SMALL_INTEGER = 0x3fffffff

interface EncoderEntry {
  readonly hash: number
  /** Name in lower case, then value. */
  readonly bytes: Buffer
  readonly nameLength: number
  /** How many entries were added before it. */
  readonly serial: number
}

export class HpackEncoder {
  /** Oldest first. */
  readonly #dynamic: EncoderEntry[] = []
  readonly #byHash = new Map<number, EncoderEntry>()
  /** Hashes seen lately, by their low bits: only what comes again gets an entry. */
  readonly #seen = new Uint32Array(64)
  #size = 0
  #maxSize = TABLE_SIZE
  #added = 0
  #sizeUpdate = -1

  /** The peer's SETTINGS_HEADER_TABLE_SIZE; the next block says that we follow it. */
  setMaxSize(size: number): void {
    const next = Math.min(size, TABLE_SIZE)
    if (next === this.#maxSize) return
    this.#maxSize = next
    // Section 4.2: of several changes between two blocks, the smallest must be told too.
    this.#sizeUpdate = this.#sizeUpdate === -1 ? next : Math.min(this.#sizeUpdate, next)
    this.#evict(0)
  }

  /** Opens a block; call it once before a block's fields. Writes up to 8 octets; returns the offset after them. */
  begin(out: Buffer, offset: number): number {
    if (this.#sizeUpdate === -1) return offset
    let o = writeInteger(out, offset, 0x20, 5, this.#sizeUpdate)
    if (this.#sizeUpdate !== this.#maxSize) o = writeInteger(out, o, 0x20, 5, this.#maxSize)
    this.#sizeUpdate = -1
    return o
  }

  status(out: Buffer, offset: number, status: number): number {
    const index = STATUS_INDEX[status] ?? 0
    if (index !== 0) return writeInteger(out, offset, 0x80, 7, index)
    let o = writeInteger(out, offset, 0x00, 4, 8)
    out[o++] = 3
    return o + out.write(String(status), o, 'latin1')
  }

  /**
   * The field lines of `lines[start, end)`: `name: value` or `name:value`, the name in any case, each ended by CRLF. A
   * pseudo-header's begins with its colon. Writes at most 12 octets more than a line's for each; returns the offset after them.
   */
  lines(out: Buffer, offset: number, lines: Buffer, start: number, end: number): number {
    let o = offset
    for (let p = start; p < end; ) {
      // Its parts are found and hashed in one go: FNV-1a over the lower-case name, a colon and the value.
      let hash = FNV_OFFSET
      let nameEnd = p
      let octet = lines[nameEnd] as number
      do {
        hash = Math.imul(hash ^ (LOWER[octet] as number), FNV_PRIME)
        octet = lines[++nameEnd] as number
      } while (octet !== COLON && nameEnd < end)
      hash = Math.imul(hash ^ COLON, FNV_PRIME)
      const valueStart = lines[nameEnd + 1] === SP ? nameEnd + 2 : nameEnd + 1
      let valueEnd = valueStart
      octet = lines[valueEnd] as number
      while (octet !== CR && valueEnd < end) {
        hash = Math.imul(hash ^ octet, FNV_PRIME)
        octet = lines[++valueEnd] as number
      }
      hash &= SMALL_INTEGER
      const entry = this.#byHash.get(hash)
      o =
        entry !== undefined && holds(entry, lines, p, nameEnd, valueStart, valueEnd)
          ? writeInteger(out, o, 0x80, 7, STATIC_COUNT + this.#added - entry.serial)
          : this.#literal(out, o, lines, p, nameEnd, valueStart, valueEnd, hash)
      p = valueEnd + 2
    }
    return o
  }

  /** A field that the table does not hold. If it was seen lately, it does from now on. */
  #literal(
    out: Buffer,
    offset: number,
    bytes: Buffer,
    nameStart: number,
    nameEnd: number,
    valueStart: number,
    valueEnd: number,
    hash: number,
  ): number {
    const nameIndex = staticName(bytes, nameStart, nameEnd)
    if (NEVER_INDEXED[nameIndex] === 1) {
      return literal(out, offset, 0x10, 4, nameIndex, bytes, nameStart, nameEnd, valueStart, valueEnd)
    }
    const slot = hash & (this.#seen.length - 1)
    const size = nameEnd - nameStart + valueEnd - valueStart + ENTRY_OVERHEAD
    if (this.#seen[slot] === hash && !this.#byHash.has(hash) && size <= this.#maxSize >> 1) {
      this.#add(hash, bytes, nameStart, nameEnd, valueStart, valueEnd)
      return literal(out, offset, 0x40, 6, nameIndex, bytes, nameStart, nameEnd, valueStart, valueEnd)
    }
    this.#seen[slot] = hash
    return literal(out, offset, 0x00, 4, nameIndex, bytes, nameStart, nameEnd, valueStart, valueEnd)
  }

  #add(
    hash: number,
    source: Buffer,
    nameStart: number,
    nameEnd: number,
    valueStart: number,
    valueEnd: number,
  ): void {
    const nameLength = nameEnd - nameStart
    const bytes = Buffer.allocUnsafeSlow(nameLength + valueEnd - valueStart)
    for (let i = 0; i < nameLength; i++) bytes[i] = LOWER[source[nameStart + i] as number] as number
    source.copy(bytes, nameLength, valueStart, valueEnd)
    const size = bytes.length + ENTRY_OVERHEAD
    this.#evict(size)
    const entry = { hash, bytes, nameLength, serial: this.#added++ }
    this.#dynamic.push(entry)
    this.#byHash.set(hash, entry)
    this.#size += size
  }

  #evict(needed: number): void {
    while (this.#size + needed > this.#maxSize) {
      const oldest = this.#dynamic.shift()
      if (oldest === undefined) return
      this.#size -= oldest.bytes.length + ENTRY_OVERHEAD
      this.#byHash.delete(oldest.hash)
    }
  }
}

/** Index of a static entry with this name; 0 when there is none. */
function staticName(bytes: Buffer, start: number, end: number): number {
  const sameLength = STATIC_NAMES[end - start]
  if (sameLength === undefined) return 0
  next: for (const { name, index } of sameLength) {
    for (let i = 0; i < name.length; i++) if (LOWER[bytes[start + i] as number] !== name[i]) continue next
    return index
  }
  return 0
}

function holds(
  entry: EncoderEntry,
  bytes: Buffer,
  nameStart: number,
  nameEnd: number,
  valueStart: number,
  valueEnd: number,
): boolean {
  const { nameLength } = entry
  if (nameEnd - nameStart !== nameLength) return false
  if (valueEnd - valueStart !== entry.bytes.length - nameLength) return false
  for (let i = 0; i < nameLength; i++) {
    if (LOWER[bytes[nameStart + i] as number] !== entry.bytes[i]) return false
  }
  // Short as values are, a loop costs less than a call into the runtime.
  const shift = nameLength - valueStart
  for (let i = valueStart; i < valueEnd; i++) if (bytes[i] !== entry.bytes[i + shift]) return false
  return true
}

/** Section 6.2. What enters the table is worth the Huffman code; the rest is written as it is. */
function literal(
  out: Buffer,
  offset: number,
  pattern: number,
  prefixBits: number,
  nameIndex: number,
  bytes: Buffer,
  nameStart: number,
  nameEnd: number,
  valueStart: number,
  valueEnd: number,
): number {
  let o = writeInteger(out, offset, pattern, prefixBits, nameIndex)
  if (nameIndex === 0) {
    o = writeInteger(out, o, 0, 7, nameEnd - nameStart)
    for (let i = nameStart; i < nameEnd; i++) out[o++] = LOWER[bytes[i] as number] as number
  }
  const length = valueEnd - valueStart
  const coded = pattern === 0x40 ? huffmanLength(bytes, valueStart, valueEnd) : length
  if (coded < length) {
    o = writeInteger(out, o, 0x80, 7, coded)
    return encodeHuffman(bytes, valueStart, valueEnd, out, o)
  }
  o = writeInteger(out, o, 0, 7, length)
  return o + bytes.copy(out, o, valueStart, valueEnd)
}

/** Section 5.1. */
function writeInteger(
  out: Buffer,
  offset: number,
  pattern: number,
  prefixBits: number,
  value: number,
): number {
  const mask = (1 << prefixBits) - 1
  let o = offset
  if (value < mask) {
    out[o++] = pattern | value
    return o
  }
  out[o++] = pattern | mask
  let rest = value - mask
  while (rest >= 0x80) {
    out[o++] = (rest & 0x7f) | 0x80
    rest >>>= 7
  }
  out[o++] = rest
  return o
}
