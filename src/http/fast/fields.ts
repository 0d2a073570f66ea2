/**
 * Field lines of HTTP/1.1 (RFC 9112 section 5): those of a head and those of a trailer section.
 *
 * A line is checked and copied into `out` as `name: value` in one go; one that must not be forwarded is dropped by
 * rewinding the write index. Fields that frame, route or steer a message end up in `Head`.
 *
 * `lexer.ts` calls this after a start line, `body.ts` for trailers.
 */
import { isForwardingField } from '../forwarded.ts'
import { MAX_FIELDS, NOT_IN_TRAILERS } from '../headers.ts'
import { type Fault, type Head, RECENT_HOST_BYTES, type Verdict } from './head.ts'
import {
  COLON,
  COMMA,
  CR,
  copyWhile,
  HOST_NAME,
  HT,
  IPV6,
  isDigit,
  LF,
  LOWER,
  SP,
  skipSpaces,
  spells,
  TOKEN,
  VALUE,
} from './octets.ts'

/**
 * Lexes field lines up to the empty line. On `complete`, `head.end` is the index after it, and `head.length` the
 * used part of `out`, in which the kept lines begin at `outStart`.
 */
export function lexFields(
  head: Head,
  bytes: Buffer,
  start: number,
  end: number,
  out: Buffer,
  outStart: number,
  known: KnownFields,
): Verdict {
  let p = start
  let o = outStart
  head.fieldsStart = outStart
  for (let count = 0; ; count++) {
    if (p === end) return 'incomplete'
    if (bytes[p] === CR) {
      if (p + 1 === end) return 'incomplete'
      if (bytes[p + 1] !== LF) return 'line-ending-invalid'
      head.end = p + 2
      head.length = o
      return 'complete'
    }
    if (count === MAX_FIELDS) return 'too-many-fields'

    const lineStart = o
    const nameStart = p
    p = copyWhile(TOKEN, bytes, p, end, out, o)
    if (p === end) return 'incomplete'
    if (bytes[p] !== COLON || p === nameStart) return nameFault(bytes[p] as number, p === nameStart)
    o += p - nameStart
    let kind = known.kindOf(bytes, nameStart, p)
    if (kind === KEEP && !head.trusted && LOWER[bytes[nameStart] as number] === LOWER_X) {
      if (isForwardingField(bytes.toString('latin1', nameStart, p).toLowerCase())) kind = DROP
    }
    out[o++] = COLON
    out[o++] = SP
    p++

    const valueBegin = skipSpaces(bytes, p, end)
    p = copyWhile(VALUE, bytes, valueBegin, end, out, o)
    if (p === end) return 'incomplete'
    if (bytes[p] !== CR) return bytes[p] === LF ? 'line-ending-invalid' : 'control-in-value'
    const valueStart = o
    o += p - valueBegin
    if (p + 1 === end) return 'incomplete'
    if (bytes[p + 1] !== LF) return 'line-ending-invalid'
    p += 2
    // Parsers disagree on a tab after a length or a coding: there it stays, and is refused.
    const alsoSpace = kind === CONTENT_LENGTH || kind === TRANSFER_ENCODING ? SP : HT
    while (o > valueStart && (out[o - 1] === SP || out[o - 1] === alsoSpace)) o--

    if (kind !== KEEP) {
      const fault = take(head, kind, out, valueStart, o)
      if (fault !== '') return fault
      if (kind > LAST_KEPT) {
        o = lineStart
        continue
      }
    }
    out[o++] = CR
    out[o++] = LF
  }
}

const LOWER_X = 0x78

function nameFault(octet: number, atLineStart: boolean): Fault {
  if (octet === LF || octet === CR) return 'line-ending-invalid'
  if (octet === SP || octet === HT) return atLineStart ? 'line-folded' : 'space-before-colon'
  return 'name-invalid'
}

/* Kinds of field. Up to LAST_KEPT the line stays in `out`; the others are dropped, remembered or not. */
const KEEP = 0
const HOST = 1
const CONTENT_LENGTH = 2
const TRAILER = 3
const DATE = 4
const HSTS = 5
const LAST_KEPT = HSTS
const DROP = 6
const CONNECTION = 7
const TRANSFER_ENCODING = 8
const UPGRADE = 9
const EXPECT = 10
const TE = 11
const VIA = 12
const FORWARDED = 13
const FORWARDED_FOR = 14
const FORWARDED_PROTO = 15
const FORWARDED_HOST = 16
const REQUEST_ID = 17
const KEEP_ALIVE_HINT = 18
const MISPLACED = 19

interface KnownField {
  readonly name: Buffer
  readonly kind: number
}

/** Field names that are more than freight, found by length first: nearly every other name is told apart in one load. */
export class KnownFields {
  readonly #byLength: (readonly KnownField[])[]

  /** `kinds`: by name, in lower case. */
  constructor(kinds: Readonly<Record<string, number>>) {
    const fields = Object.entries(kinds).map(([name, kind]) => ({ name: Buffer.from(name), kind }))
    const longest = Math.max(0, ...fields.map(({ name }) => name.length))
    this.#byLength = Array.from({ length: longest + 1 }, (_, length) =>
      fields.filter(({ name }) => name.length === length),
    )
  }

  /** For `keepLines`. In lower case. */
  static dropping(names: Iterable<string>): KnownFields {
    return new KnownFields(allDropped(names))
  }

  kindOf(bytes: Buffer, start: number, end: number): number {
    const sameLength = this.#byLength[end - start]
    if (sameLength === undefined) return KEEP
    for (const field of sameLength) if (spells(bytes, start, field.name)) return field.kind
    return KEEP
  }
}

function allDropped(names: Iterable<string>): Record<string, number> {
  return Object.fromEntries(Array.from(names, (name) => [name, DROP]))
}

const HOP_BY_HOP = {
  connection: CONNECTION,
  'keep-alive': DROP,
  'proxy-connection': DROP,
  'transfer-encoding': TRANSFER_ENCODING,
  upgrade: UPGRADE,
  via: VIA,
  'content-length': CONTENT_LENGTH,
  trailer: TRAILER,
}

/** Which names concern a request: see `headers.ts` and `forwarded.ts`, whose policy this is in the form of bytes. */
export const REQUEST_FIELDS = new KnownFields({
  ...HOP_BY_HOP,
  host: HOST,
  te: TE,
  expect: EXPECT,
  proxy: DROP,
  'proxy-authenticate': DROP,
  'proxy-authorization': DROP,
  'http2-settings': DROP,
  forwarded: FORWARDED,
  'x-forwarded-for': FORWARDED_FOR,
  'x-forwarded-proto': FORWARDED_PROTO,
  'x-forwarded-host': FORWARDED_HOST,
  'x-request-id': REQUEST_ID,
})

export const RESPONSE_FIELDS = new KnownFields({
  ...HOP_BY_HOP,
  'keep-alive': KEEP_ALIVE_HINT,
  date: DATE,
  'strict-transport-security': HSTS,
  te: DROP,
  'proxy-authenticate': DROP,
  'proxy-authorization': DROP,
  'http2-settings': DROP,
})

/** A framing that comes after the message is nothing that an honest sender writes, and is read by some. */
export const TRAILER_FIELDS = new KnownFields({
  ...allDropped(NOT_IN_TRAILERS),
  'content-length': MISPLACED,
  'transfer-encoding': MISPLACED,
})

/** Learns from a known field, whose value is `out[start, end)`; returns a fault or the empty string. */
function take(head: Head, kind: number, out: Buffer, start: number, end: number): Fault | '' {
  switch (kind) {
    case HOST:
      return takeHost(head, out, start, end)
    case CONTENT_LENGTH:
      return takeContentLength(head, out, start, end)
    case TRANSFER_ENCODING:
      return takeTransferEncoding(head, out, start, end)
    case CONNECTION:
      return takeConnection(head, out, start, end)
    case UPGRADE:
      // A response may advertise several (RFC 9110 section 7.8); a request asks for one.
      if (head.status === 0 && (head.upgrade !== '' || start === end)) return 'upgrade-invalid'
      head.upgrade = joined(head.upgrade, out.toString('latin1', start, end))
      return ''
    case EXPECT:
      // RFC 9110 section 10.1.1: 100-continue is the only expectation there is.
      if (head.expectContinue || end - start !== CONTINUE.length || !spells(out, start, CONTINUE))
        return 'expectation-unknown'
      head.expectContinue = true
      return ''
    case TE:
      if (/(^|,)[ \t]*trailers[ \t]*(,|$)/i.test(out.toString('latin1', start, end)))
        head.acceptsTrailers = true
      return ''
    case TRAILER:
      head.announcesTrailers = true
      return ''
    case FORWARDED:
      head.forwarded = joined(head.forwarded, out.toString('latin1', start, end))
      return ''
    case FORWARDED_FOR:
      head.forwardedFor = joined(head.forwardedFor, out.toString('latin1', start, end))
      return ''
    case FORWARDED_PROTO:
      head.forwardedProto = joined(head.forwardedProto, out.toString('latin1', start, end))
      return ''
    case FORWARDED_HOST:
      head.forwardedHost = joined(head.forwardedHost, out.toString('latin1', start, end))
      return ''
    case VIA:
      head.via = joined(head.via, out.toString('latin1', start, end))
      return ''
    case DATE:
      head.hasDate = true
      return ''
    case HSTS:
      head.hasHsts = true
      return ''
    case KEEP_ALIVE_HINT: {
      const timeout = /(?:^|[ \t,])timeout=(\d{1,6})(?:$|[ \t,])/i.exec(out.toString('latin1', start, end))
      if (timeout !== null) head.keepAliveSeconds = Number(timeout[1])
      return ''
    }
    case REQUEST_ID:
      head.requestId = joined(head.requestId, out.toString('latin1', start, end))
      return ''
    case MISPLACED:
      return 'trailer-frames-message'
    default:
      return ''
  }
}

const CHUNKED = Buffer.from('chunked')
const CONTINUE = Buffer.from('100-continue')
const CLOSE = Buffer.from('close')
const KEEP_ALIVE = Buffer.from('keep-alive')

function joined(list: string, value: string): string {
  return list === '' ? value : `${list}, ${value}`
}

function takeHost(head: Head, out: Buffer, start: number, end: number): Fault | '' {
  if (head.hostSeen) return 'host-repeated'
  head.hostSeen = true
  if (!isAuthority(out, start, end)) return 'host-invalid'
  head.host = isRecentHost(head, out, start, end) ? head.recentHostText : newHost(head, out, start, end)
  return ''
}

function isRecentHost(
  { recentHost, recentHostText }: Head,
  out: Buffer,
  start: number,
  end: number,
): boolean {
  const { length } = recentHostText
  if (end - start !== length) return false
  for (let i = 0; i < length; i++) if (out[start + i] !== recentHost[i]) return false
  return true
}

function newHost(head: Head, out: Buffer, start: number, end: number): string {
  const host = out.toString('latin1', start, end)
  if (host.length <= RECENT_HOST_BYTES) {
    out.copy(head.recentHost, 0, start, end)
    head.recentHostText = host
  }
  return host
}

/** RFC 9110 section 8.6, without its leave to accept a list of equal values. */
function takeContentLength(head: Head, out: Buffer, start: number, end: number): Fault | '' {
  if (head.contentLength !== -1) return 'content-length-repeated'
  // 15 digits stay below 2^53. A leading zero could be read as octal.
  if (start === end || end - start > 15 || (out[start] === 0x30 && end - start > 1)) {
    return 'content-length-invalid'
  }
  let length = 0
  for (let i = start; i < end; i++) {
    const digit = (out[i] as number) - 0x30
    if (digit < 0 || digit > 9) return 'content-length-invalid'
    length = length * 10 + digit
  }
  head.contentLength = length
  return ''
}

/** RFC 9112 section 6.1: no coding but `chunked`, once. */
function takeTransferEncoding(head: Head, out: Buffer, start: number, end: number): Fault | '' {
  if (head.chunked || end - start !== CHUNKED.length || !spells(out, start, CHUNKED)) {
    return 'transfer-encoding-invalid'
  }
  head.chunked = true
  return ''
}

/** RFC 9110 section 7.6.1: a list of tokens. */
function takeConnection(head: Head, out: Buffer, start: number, end: number): Fault | '' {
  if (end - start === CLOSE.length && spells(out, start, CLOSE)) {
    head.connectionClose = true
    return ''
  }
  if (end - start === KEEP_ALIVE.length && spells(out, start, KEEP_ALIVE)) {
    head.connectionKeepAlive = true
    return ''
  }
  for (let p = start; p < end; p++) {
    const c = out[p] as number
    if (TOKEN[c] !== 1 && c !== COMMA && c !== SP && c !== HT) return 'connection-invalid'
  }
  for (const part of out.toString('latin1', start, end).split(',')) {
    const token = part.trim().toLowerCase()
    if (/[ \t]/.test(token)) return 'connection-invalid'
    if (token === 'close') head.connectionClose = true
    else if (token === 'keep-alive') head.connectionKeepAlive = true
    else if (token === 'upgrade') head.connectionUpgrade = true
    else if (token !== '' && !UNSEVERABLE.has(token)) head.nominated = [...(head.nominated ?? []), token]
  }
  return ''
}

/** Fields that frame or route a message: `Connection` cannot make a proxy forget them. */
const UNSEVERABLE: ReadonlySet<string> = new Set(['host', 'content-length', 'transfer-encoding', 'te'])

/* What else may have to go from a head. */
export const CONTENT_LENGTH_LINES = KnownFields.dropping(['content-length'])
export const TRAILER_LINES = KnownFields.dropping(['trailer'])
export const HSTS_LINES = KnownFields.dropping(['strict-transport-security'])

/** Takes lines out of `out`. The cold path of a head: a `Connection` that names them may come after them. */
export function dropLines(head: Head, out: Buffer, dropped: KnownFields): void {
  head.length = keepLines(out, head.fieldsStart, head.length, dropped, out, head.fieldsStart)
}

/**
 * Copies the lines of `bytes[start, end)` that are not dropped to `out[offset]`, which may be where they come from or
 * before that; returns the offset after them.
 */
export function keepLines(
  bytes: Buffer,
  start: number,
  end: number,
  dropped: KnownFields,
  out: Buffer,
  offset: number,
): number {
  let o = offset
  let keptFrom = start
  for (let p = start; p < end; ) {
    let nameEnd = p
    while (nameEnd < end && bytes[nameEnd] !== COLON) nameEnd++
    let next = nameEnd
    while (next < end && bytes[next] !== LF) next++
    next++
    if (dropped.kindOf(bytes, p, nameEnd) !== KEEP) {
      o += bytes.copy(out, o, keptFrom, p)
      keptFrom = next
    }
    p = next
  }
  return o + bytes.copy(out, o, keptFrom, end)
}

/** RFC 9110 section 4.2: host [":" port], without user information; also used on `:authority`. */
export function isAuthority(bytes: Uint8Array, start: number, end: number): boolean {
  let p = start
  if (bytes[p] === 0x5b) {
    p++
    while (p < end && IPV6[bytes[p] as number] === 1) p++
    if (p === end || bytes[p] !== 0x5d || p - start < 3) return false
    p++
  } else {
    while (p < end && HOST_NAME[bytes[p] as number] === 1) p++
    if (p === start) return false
  }
  if (p === end) return true
  if (bytes[p] !== COLON || end - p < 2 || end - p > 6) return false
  for (p++; p < end; p++) if (!isDigit(bytes[p] as number)) return false
  return true
}
