/**
 * The lexer of HTTP/1.1 message heads (RFC 9112 sections 2 to 6): request lines and status lines, then fields.
 *
 * It reads a head once, octet by octet, checks it, and at the same time copies what may be forwarded into `out`.
 * Facts that steer the proxy end up in a flat `Head` that its owner reuses.
 *
 * This is a security boundary: what is read here in one way must not be readable by an upstream in another way. So
 * whatever is doubtful is refused, also where RFC 9112 would let a recipient be lenient.
 *
 * Receives bytes from `client-http1.ts` and `upstream.ts`; hands them `Head` and the kept lines.
 */
import { MAX_METHOD_BYTES } from '../headers.ts'
import {
  CONTENT_LENGTH_LINES,
  dropLines,
  isAuthority,
  KnownFields,
  lexFields,
  REQUEST_FIELDS,
  RESPONSE_FIELDS,
  TRAILER_LINES,
} from './fields.ts'
import type { Head, Verdict } from './head.ts'
import { CR, copyWhile, LF, METHOD, SP, TARGET, VALUE, writeAscii } from './octets.ts'

/** Longest head, start line included; and so the least room that `out` needs is twice this. */
export const MAX_HEAD_BYTES = 16 * 1024

/**
 * Lexes the request head at `bytes[start, end)`. On `complete`, `out` begins with `METHOD target HTTP/1.1`, and holds
 * every field but: hop-by-hop ones and whatever `Connection` names (RFC 9110 section 7.6.1), `Expect`,
 * `Transfer-Encoding`, `Forwarded` and `X-Forwarded-*`; those are facts of `head` now. On anything else, `head` and `out` mean nothing.
 */
export function lexRequestHead(head: Head, bytes: Buffer, start: number, end: number, out: Buffer): Verdict {
  head.reset()
  const limit = Math.min(end, start + MAX_HEAD_BYTES)
  const verdict = lexRequestLine(head, bytes, start, limit, out)
  if (verdict === 'complete') return finishRequest(head, out)
  return verdict === 'incomplete' && limit < end ? 'head-too-large' : verdict
}

/**
 * Lexes the response head at `bytes[start, end)`. On `complete`, `out` begins with `HTTP/1.1 status reason`, and
 * hop-by-hop fields, whatever `Connection` names, and `Transfer-Encoding` are gone; `Content-Length` too where
 * RFC 9110 section 8.6 forbids it (1xx and 204).
 */
export function lexResponseHead(head: Head, bytes: Buffer, start: number, end: number, out: Buffer): Verdict {
  head.reset()
  const limit = Math.min(end, start + MAX_HEAD_BYTES)
  const verdict = lexStatusLine(head, bytes, start, limit, out)
  if (verdict === 'complete') return finishResponse(head, out)
  return verdict === 'incomplete' && limit < end ? 'head-too-large' : verdict
}

/** RFC 9112 section 3: method SP request-target SP HTTP-version CRLF. */
function lexRequestLine(head: Head, bytes: Buffer, start: number, end: number, out: Buffer): Verdict {
  let p = start
  // RFC 9112 section 2.2: one empty line before a request line is overlooked.
  if (end - p >= 2 && bytes[p] === CR && bytes[p + 1] === LF) p += 2
  else if (end - p === 1 && bytes[p] === CR) return 'incomplete'

  const methodStart = p
  p = copyWhile(METHOD, bytes, p, end, out, 0)
  let o = p - methodStart
  if (o > MAX_METHOD_BYTES) return 'method-invalid'
  if (p === end) return 'incomplete'
  if (bytes[p] !== SP || o === 0) return 'method-invalid'
  head.method = methodName(bytes, methodStart, p)
  if (head.method === 'CONNECT') return 'method-unsupported'
  out[o++] = SP
  p++

  const targetStart = p
  const outTarget = o
  p = copyWhile(TARGET, bytes, p, end, out, o)
  o += p - targetStart
  if (p === end) return 'incomplete'
  if (bytes[p] !== SP || p === targetStart) return 'target-invalid'
  if (out[outTarget] !== SLASH) {
    o = originForm(head, out, outTarget, o)
    if (o === -1) return 'target-invalid'
  }
  head.target = out.toString('latin1', outTarget, o)
  p++

  const version = lexVersion(head, bytes, p, end)
  if (version !== 'complete') return version
  if (end - p < 10) return 'incomplete'
  if (bytes[p + 8] !== CR || bytes[p + 9] !== LF) return 'line-ending-invalid'
  o = writeAscii(out, ' HTTP/1.1\r\n', o)
  return lexFields(head, bytes, p + 10, end, out, o, REQUEST_FIELDS)
}

const SLASH = 0x2f

/** RFC 9112 section 4: HTTP-version SP status-code [SP reason] CRLF. The version in `out` becomes ours. */
function lexStatusLine(head: Head, bytes: Buffer, start: number, end: number, out: Buffer): Verdict {
  const version = lexVersion(head, bytes, start, end)
  if (version !== 'complete') return version
  let p = start + 8
  if (end - p < 5) return 'incomplete'
  const hundreds = (bytes[p + 1] as number) - 48
  const tens = (bytes[p + 2] as number) - 48
  const ones = (bytes[p + 3] as number) - 48
  const digits = tens >= 0 && tens <= 9 && ones >= 0 && ones <= 9
  if (bytes[p] !== SP || hundreds < 1 || hundreds > 5 || !digits) return 'status-line-invalid'
  head.status = hundreds * 100 + tens * 10 + ones
  if (bytes[p + 4] !== SP && bytes[p + 4] !== CR) return 'status-line-invalid'

  let o = writeAscii(out, 'HTTP/1.1', 0)
  const rest = p
  p = copyWhile(VALUE, bytes, rest, end, out, o)
  o += p - rest
  if (p === end) return 'incomplete'
  if (bytes[p] !== CR) return 'line-ending-invalid'
  if (p + 1 === end) return 'incomplete'
  if (bytes[p + 1] !== LF) return 'line-ending-invalid'
  if (bytes[start + 12] === CR) out[o++] = SP
  out[o++] = CR
  out[o++] = LF
  return lexFields(head, bytes, p + 2, end, out, o, RESPONSE_FIELDS)
}

const HTTP_1 = Buffer.from('HTTP/1.')

/** RFC 9112 section 2.3. */
function lexVersion(head: Head, bytes: Buffer, start: number, end: number): Verdict {
  const length = Math.min(HTTP_1.length, end - start)
  for (let i = 0; i < length; i++) {
    if (bytes[start + i] === HTTP_1[i]) continue
    return 'version-invalid'
  }
  if (end - start < 8) return 'incomplete'
  const minor = (bytes[start + 7] as number) - 48
  if (minor !== 0 && minor !== 1) return 'version-invalid'
  head.minorVersion = minor
  return 'complete'
}

function finishRequest(head: Head, out: Buffer): Verdict {
  if (!head.hostSeen) return 'host-absent'
  if (head.authority !== '' && head.authority.toLowerCase() !== head.host.toLowerCase())
    return 'host-disagrees'
  if (head.minorVersion === 0) head.expectContinue = false
  return finishHead(head, out)
}

function finishResponse(head: Head, out: Buffer): Verdict {
  const verdict = finishHead(head, out)
  if (verdict === 'complete' && (head.status < 200 || head.status === 204) && head.contentLength !== -1) {
    head.contentLength = -1
    dropLines(head, out, CONTENT_LENGTH_LINES)
  }
  return verdict
}

/** What only all fields together can tell. RFC 9112 sections 6.1, 6.3 and 9.3. */
function finishHead(head: Head, out: Buffer): Verdict {
  if (head.chunked && head.contentLength !== -1) return 'transfer-encoding-with-content-length'
  if (head.chunked && head.minorVersion === 0) return 'transfer-encoding-before-http-1.1'
  head.close = head.connectionClose || (head.minorVersion === 0 && !head.connectionKeepAlive)
  if (head.upgrade !== '' && !isUpgrade(head)) head.upgrade = ''
  if (head.announcesTrailers && !head.chunked) dropLines(head, out, TRAILER_LINES)
  if (head.nominated !== undefined) dropLines(head, out, KnownFields.dropping(head.nominated))
  return 'complete'
}

/**
 * RFC 9110 section 7.8: one protocol, which Connection names too. HTTP itself and TLS are none to tunnel: behind them the
 * upstream would see requests that we have not.
 */
function isUpgrade(head: Head): boolean {
  const { upgrade } = head
  if (!head.connectionUpgrade || head.minorVersion === 0) return false
  return /^[\w.+-]+(?:\/[\w.+-]+)?$/.test(upgrade) && !/^(?:h2c?|https?|tls)(?:\/|$)/i.test(upgrade)
}

/** The name of a method, without making a string for those that make up nearly all traffic. */
function methodName(bytes: Buffer, start: number, end: number): string {
  const first = bytes[start]
  const length = end - start
  if (length === 3 && first === 0x47 && bytes[start + 1] === 0x45 && bytes[start + 2] === 0x54) return 'GET'
  return bytes.toString('latin1', start, end)
}

/**
 * RFC 9112 section 3.2: turns an absolute-form target at `out[start, end)` into origin-form in place and remembers its
 * authority. Returns the target's new end, or -1 when it is something else; `*` too, since it names no route.
 */
function originForm(head: Head, out: Buffer, start: number, end: number): number {
  const target = out.toString('latin1', start, end)
  const match = /^https?:\/\/([^/?]+)([/?].*)?$/i.exec(target)
  if (match === null) return -1
  const [, authority = '', rest = ''] = match
  const authorityStart = start + target.indexOf('//') + 2
  if (!isAuthority(out, authorityStart, authorityStart + authority.length)) return -1
  head.authority = authority
  const path = rest.startsWith('/') ? rest : `/${rest}`
  return start + out.write(path, start, 'latin1')
}
