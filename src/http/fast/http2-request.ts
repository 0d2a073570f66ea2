/**
 * From the fields of an HTTP/2 request (RFC 9113 section 8) to the lines of an HTTP/1.1 one.
 *
 * HPACK hands over the same `HpackField` object for what a client sends again, so that what a field means, whether it
 * is valid, and its line are worked out once and kept in it.
 *
 * `client-http2.ts` feeds it one header block at a time and reads the facts afterwards.
 */
import { type ForwardedFields, isForwardingField } from '../forwarded.ts'
import {
  FieldLines,
  HOP_BY_HOP,
  isMethod,
  MAX_FIELDS,
  NOT_IN_TRAILERS,
  REQUEST_ONLY_HERE,
} from '../headers.ts'
import type { RequestFields } from '../verdict.ts'
import { isAuthority } from './fields.ts'
import type { FieldSink, HpackField } from './hpack.ts'
import { TARGET, TOKEN, VALUE } from './octets.ts'

/** SETTINGS_MAX_HEADER_LIST_SIZE: as much as an HTTP/1.1 head may have. */
export const MAX_LIST_BYTES = 32 * 1024

/* Kinds of field. */
const UNKNOWN = -1
const PLAIN = 0
const INVALID = 1
const METHOD = 2
const PATH = 3
const SCHEME = 4
const AUTHORITY = 5
const PROTOCOL = 6
const HOST = 7
const CONTENT_LENGTH = 8
const COOKIE = 9
const TE = 10
const DROP = 11
const FORWARDED = 12
const FORWARDED_FOR = 13
const FORWARDED_PROTO = 14
const FORWARDED_HOST = 15
const REQUEST_ID = 16
/** Believed of trusted proxies only. */
const FORWARDING = 17
const ACCEPT_TRAILERS = 18
const EXPECT = 19
const VIA = 20
const PRIORITY = 21

const KINDS: ReadonlyMap<string, number> = new Map([
  [':method', METHOD],
  [':path', PATH],
  [':scheme', SCHEME],
  [':authority', AUTHORITY],
  [':protocol', PROTOCOL],
  ['host', HOST],
  ['content-length', CONTENT_LENGTH],
  ['cookie', COOKIE],
  ['te', TE],
  ['expect', EXPECT],
  ['via', VIA],
  ['forwarded', FORWARDED],
  ['x-forwarded-for', FORWARDED_FOR],
  ['x-forwarded-proto', FORWARDED_PROTO],
  ['x-forwarded-host', FORWARDED_HOST],
  ['x-request-id', REQUEST_ID],
  ['priority', PRIORITY],
])

export class Http2Request implements FieldSink, RequestFields {
  /** Why the request is malformed (section 8.1.1); undefined when it is not. */
  fault: string | undefined
  tooLarge = false
  /** Host and :authority name different hosts (section 8.3.1): well-formed, and refused. */
  disagrees = false
  method = ''
  path = ''
  authority = ''
  /** `:protocol` of an extended CONNECT (RFC 8441). */
  protocol = ''
  /** -1 when there is none. */
  contentLength = -1
  requestId = ''
  acceptsTrailers = false
  expectsContinue = false
  /** `Via` of the hops before us. */
  via = ''
  /** `Priority` (RFC 9218 section 5); empty when there is none. It is sent on too. */
  priority = ''
  /** `name: value` lines of all other fields. */
  lines = ''
  trusted = false
  #scheme = ''
  #host = ''
  #cookie = ''
  #listBytes = 0
  #count = 0
  #fieldsBegun = false
  #trailers = false
  #forwarded = ''
  #forwardedFor = ''
  #forwardedProto = ''
  #forwardedHost = ''

  /** Before each block. `trusted`: is the peer a trusted proxy? `trailers`: the block comes after a body. */
  reset(trusted: boolean, trailers: boolean): void {
    this.fault = undefined
    this.tooLarge = false
    this.disagrees = false
    this.method = ''
    this.path = ''
    this.authority = ''
    this.protocol = ''
    this.contentLength = -1
    this.requestId = ''
    this.acceptsTrailers = false
    this.expectsContinue = false
    this.via = ''
    this.priority = ''
    this.lines = ''
    this.trusted = trusted
    this.#scheme = ''
    this.#host = ''
    this.#cookie = ''
    this.#listBytes = 0
    this.#count = 0
    this.#fieldsBegun = false
    this.#trailers = trailers
    this.#forwarded = ''
    this.#forwardedFor = ''
    this.#forwardedProto = ''
    this.#forwardedHost = ''
  }

  onField(field: HpackField): void {
    this.#listBytes += field.size
    if (this.#listBytes > MAX_LIST_BYTES || ++this.#count > MAX_FIELDS) {
      this.tooLarge = true
      return
    }
    if (field.kind === UNKNOWN) classify(field)
    if (this.#trailers) this.#takeTrailer(field)
    else if (field.name.charCodeAt(0) === COLON) this.#takePseudo(field)
    else this.#take(field)
  }

  /** After a request's block: whether it is whole. */
  finish(): void {
    if (this.fault !== undefined || this.tooLarge) return
    if (this.#cookie !== '') this.lines += `cookie: ${this.#cookie}\r\n`
    if (this.method === 'CONNECT' && this.protocol === '') {
      if (this.authority === '') this.fault = 'CONNECT without an authority'
      return
    }
    if (this.method === '' || this.path === '' || this.#scheme === '')
      this.fault = 'a pseudo-header is absent'
    else if (this.path === '*' && this.method !== 'OPTIONS') this.fault = 'the path is *'
    else if (this.protocol !== '' && this.method !== 'CONNECT') this.fault = ':protocol without CONNECT'
    else if (this.authority === '') this.authority = this.#host
    else this.disagrees = this.#host !== '' && this.#host.toLowerCase() !== this.authority.toLowerCase()
  }

  /** Of those that are sent on as they came. */
  field(name: string): string | undefined {
    return new FieldLines(this.lines).field(name)
  }

  received(): ForwardedFields {
    return {
      for: this.#forwardedFor || undefined,
      proto: this.#forwardedProto || undefined,
      host: this.#forwardedHost || undefined,
      forwarded: this.#forwarded || undefined,
    }
  }

  /** Section 8.3: before all other fields, each once. */
  #takePseudo({ kind, value }: HpackField): void {
    if (this.#fieldsBegun) this.fault = 'a pseudo-header after a field'
    else if (kind === METHOD && this.method === '') this.method = value
    else if (kind === PATH && this.path === '') this.path = value
    else if (kind === SCHEME && this.#scheme === '') this.#scheme = value
    else if (kind === AUTHORITY && this.authority === '') this.authority = value
    else if (kind === PROTOCOL && this.protocol === '') this.protocol = value
    else this.fault = 'a pseudo-header is repeated, unknown or invalid'
  }

  #take(field: HpackField): void {
    const { value } = field
    this.#fieldsBegun = true
    switch (field.kind) {
      case PLAIN:
        this.lines += field.line
        break
      case DROP:
        break
      case HOST:
        if (this.#host !== '') this.fault = 'two Hosts'
        this.#host = value
        break
      case CONTENT_LENGTH:
        if (this.contentLength !== -1) this.fault = 'two Content-Lengths'
        this.contentLength = Number(value)
        this.lines += field.line
        break
      case COOKIE:
        // RFC 9113 section 8.2.3: crumbs become one field again.
        this.#cookie = this.#cookie === '' ? value : `${this.#cookie}; ${value}`
        break
      case ACCEPT_TRAILERS:
        this.acceptsTrailers = true
        break
      case VIA:
        this.via = joined(this.via, value)
        break
      case EXPECT:
        this.expectsContinue = true
        break
      case PRIORITY:
        this.priority = joined(this.priority, value)
        this.lines += field.line
        break
      case FORWARDED:
        this.#forwarded = joined(this.#forwarded, value)
        break
      case FORWARDED_FOR:
        this.#forwardedFor = joined(this.#forwardedFor, value)
        break
      case FORWARDED_PROTO:
        this.#forwardedProto = joined(this.#forwardedProto, value)
        break
      case FORWARDED_HOST:
        this.#forwardedHost = joined(this.#forwardedHost, value)
        break
      case REQUEST_ID:
        this.requestId = joined(this.requestId, value)
        break
      case FORWARDING:
        if (this.trusted) this.lines += field.line
        break
      default:
        this.fault = `the field ${field.name} is invalid`
    }
  }

  #takeTrailer(field: HpackField): void {
    if (field.kind === INVALID || field.name.startsWith(':')) this.fault = 'a trailer is invalid'
    else if (!NOT_IN_TRAILERS.has(field.name)) this.lines += `${field.name}: ${field.value}\r\n`
  }
}

const COLON = 0x3a

function joined(list: string, value: string): string {
  return list === '' ? value : `${list}, ${value}`
}

/** Of the fields that are sent on as they came. */
const WITH_LINE: ReadonlySet<number> = new Set([PLAIN, CONTENT_LENGTH, FORWARDING, PRIORITY])

/** Works out what a field means, by itself; sections 8.2 and 8.3. */
function classify(field: HpackField): void {
  field.kind = kindOf(field)
  if (WITH_LINE.has(field.kind)) {
    field.line = `${field.name}: ${field.value}\r\n`
  }
}

function kindOf({ name, value }: HpackField): number {
  if (!consistsOf(VALUE, value) || /^[ \t]|[ \t]$/.test(value)) return INVALID
  const kind = KINDS.get(name)
  switch (kind) {
    case METHOD:
      return isMethod(value) ? kind : INVALID
    case PROTOCOL:
      return value !== '' && value.length <= 32 && consistsOf(TOKEN, value) ? kind : INVALID
    case PATH:
      return (value.startsWith('/') || value === '*') && consistsOf(TARGET, value) ? kind : INVALID
    case SCHEME:
      return value === 'https' || value === 'http' ? kind : INVALID
    case AUTHORITY:
    case HOST: {
      const bytes = Buffer.from(value, 'latin1')
      return isAuthority(bytes, 0, bytes.length) ? kind : INVALID
    }
    case CONTENT_LENGTH:
      return /^(0|[1-9]\d{0,14})$/.test(value) ? kind : INVALID
    case TE:
      return value === 'trailers' ? ACCEPT_TRAILERS : INVALID
    case EXPECT:
      return value.toLowerCase() === '100-continue' ? kind : INVALID
    case undefined:
      break
    default:
      return kind
  }
  if (name === '' || !consistsOf(TOKEN, name) || name !== name.toLowerCase()) return INVALID
  if (name === 'proxy-authorization' || name === 'proxy-authenticate' || name === 'http2-settings')
    return DROP
  // Section 8.2.2: fields of a connection have no place here.
  if (HOP_BY_HOP.has(name)) return INVALID
  if (name === 'trailer' || REQUEST_ONLY_HERE.has(name)) return DROP
  return isForwardingField(name) ? FORWARDING : PLAIN
}

function consistsOf(table: Uint8Array, text: string): boolean {
  for (let i = 0; i < text.length; i++) if (table[text.charCodeAt(i)] !== 1) return false
  return true
}
