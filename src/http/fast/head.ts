/**
 * What the lexers find in a message head, and every reason for which they refuse one.
 *
 * `lexer.ts` and `fields.ts` fill a `Head`; `client-http1.ts` and `upstream.ts` own and read it.
 */

/** Why a head or a body is refused, and the status that a client gets for it. */
export const FAULT_STATUS = {
  'method-invalid': 400,
  'method-unsupported': 501,
  'target-invalid': 400,
  'version-invalid': 400,
  'status-line-invalid': 400,
  'line-ending-invalid': 400,
  'name-invalid': 400,
  'space-before-colon': 400,
  'line-folded': 400,
  'control-in-value': 400,
  'too-many-fields': 431,
  'head-too-large': 431,
  'host-absent': 400,
  'host-repeated': 400,
  'host-invalid': 400,
  'host-disagrees': 400,
  'content-length-invalid': 400,
  'content-length-repeated': 400,
  'transfer-encoding-invalid': 400,
  'transfer-encoding-with-content-length': 400,
  'transfer-encoding-before-http-1.1': 400,
  'connection-invalid': 400,
  'upgrade-invalid': 400,
  'expectation-unknown': 417,
  'chunk-size-invalid': 400,
  'chunk-line-too-long': 400,
  'chunk-ending-invalid': 400,
  'trailer-too-large': 431,
  'trailer-frames-message': 400,
} as const

export type HttpVersion = '1.0' | '1.1' | '2.0'
export type Fault = keyof typeof FAULT_STATUS
export type Verdict = 'complete' | 'incomplete' | Fault

/** Longer ones are read anew each time. */
export const RECENT_HOST_BYTES = 64

/** The facts of one head. Valid until the next lexing; `out` holds the kept lines up to `length`. */
export class Head {
  /** Index in the input after the head's empty line. */
  end = 0
  /** How many octets of `out` are used: start line and kept lines, each with CRLF, without the empty line. */
  length = 0
  /** Where in `out` the first field begins. */
  fieldsStart = 0
  /** Is the sender believed about other hops? Set by the owner; `reset` leaves it. */
  trusted = false

  method = ''
  /** Origin-form (or `*`), also where the client sent absolute-form. */
  target = ''
  /** `Host`, as it came. */
  host = ''
  status = 0
  /** 0 or 1: of the sender's HTTP/1.x. */
  minorVersion = 1
  /** Did the message come over HTTP/2? Set by who has written it as HTTP/1.1. */
  http2 = false

  /** -1 when there is no Content-Length. */
  contentLength = -1
  chunked = false
  /** `Connection: close`, or an HTTP/1.0 sender that did not ask for keep-alive. */
  close = false
  /** The protocol to upgrade to; empty when there is none that can be tunnelled. */
  upgrade = ''
  expectContinue = false
  /** `TE: trailers`: the client can take trailer fields. */
  acceptsTrailers = false
  /** Does the message announce a `Trailer` field? */
  announcesTrailers = false
  /** `timeout` of an upstream's Keep-Alive, in seconds; -1 when it does not say. */
  keepAliveSeconds = -1
  /** `Via` of the hops before us. */
  via = ''
  hasDate = false
  /** Did a Strict-Transport-Security field come? */
  hasHsts = false

  /** What a proxy in front of us claims; each is `, `-joined over its lines, and empty when absent. */
  forwarded = ''
  forwardedFor = ''
  forwardedProto = ''
  forwardedHost = ''
  requestId = ''

  /** Fields that `Connection` names beside those that are dropped anyway, in lower case. */
  nominated: string[] | undefined
  connectionUpgrade = false
  connectionKeepAlive = false
  connectionClose = false
  hostSeen = false
  /** Authority of an absolute-form target. */
  authority = ''

  /** The host of an earlier message, which most repeat: kept by `reset`, so that they share one string. */
  readonly recentHost = Buffer.alloc(RECENT_HOST_BYTES)
  recentHostText = ''

  /** That of the message received, for Via. */
  get version(): HttpVersion {
    if (this.http2) return '2.0'
    return this.minorVersion === 0 ? '1.0' : '1.1'
  }

  reset(): void {
    this.end = 0
    this.length = 0
    this.fieldsStart = 0
    this.method = ''
    this.target = ''
    this.host = ''
    this.status = 0
    this.minorVersion = 1
    this.http2 = false
    this.contentLength = -1
    this.chunked = false
    this.close = false
    this.upgrade = ''
    this.expectContinue = false
    this.acceptsTrailers = false
    this.announcesTrailers = false
    this.keepAliveSeconds = -1
    this.via = ''
    this.hasDate = false
    this.hasHsts = false
    this.forwarded = ''
    this.forwardedFor = ''
    this.forwardedProto = ''
    this.forwardedHost = ''
    this.requestId = ''
    this.nominated = undefined
    this.connectionUpgrade = false
    this.connectionKeepAlive = false
    this.connectionClose = false
    this.hostSeen = false
    this.authority = ''
  }
}
