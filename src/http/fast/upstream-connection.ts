/**
 * What an exchange and the connection that carries it ask of one another, whichever HTTP version the upstream speaks.
 *
 * `exchange.ts` is the user; `upstream.ts` has the connections of HTTP/1.1, `upstream-http2-stream.ts` those of HTTP/2.
 */
import type { ContentSink } from './body.ts'
import type { Head } from './head.ts'

/** Whose request a connection carries. */
export interface UpstreamUser extends ContentSink {
  readonly isHead: boolean
  /** Value of Upgrade that was sent; empty for none. */
  readonly upgrade: string
  /** Does nothing follow the request's head? */
  readonly headOnly: boolean
  /** Has the request been written whole? */
  readonly requestDone: boolean
  /** Is the body sent in chunks over HTTP/1.1? */
  readonly chunked: boolean
  onConnected(): void
  /** Never called after `onConnected`. */
  onConnectFailed(error: Error, timedOut: boolean): void
  /** `lines` holds the kept lines up to `head.length`. Interim responses come first; 101 is final. */
  onResponseHead(head: Head, lines: Buffer): void
  onResponseEnd(trailers: Buffer | undefined): void
  /** What one read brought has been told. */
  onReadEnd(): void
  onDrain(): void
  /** The response ended before its time; `started` when a part of its head had come. */
  onLost(fault: UpstreamFault, detail: string, started: boolean): void
}

/**
 * `closed`: the connection ended. `reset`: the upstream gave up this exchange only. `refused`: it has not
 * processed the request, as it says, or for want of having got it. `unsupported`: it cannot be asked for this; it is not at fault.
 */
export type UpstreamFault = 'closed' | 'reset' | 'invalid' | 'timeout' | 'refused' | 'unsupported'

/** What carries one exchange: a connection of HTTP/1.1, or a stream of HTTP/2. */
export interface UpstreamConnection {
  /** Was it open already? Then the upstream may have closed it in the meantime. */
  readonly reused: boolean
  /** An HTTP/1.1 head. */
  sendHead(head: Buffer): void
  /** Takes content over, not framed; false: wait for `onDrain`. Once connected only. */
  writeBody(bytes: Buffer): boolean
  endBody(trailers: Buffer | undefined): void
  /** Of a tunnel: the client has said all. */
  end(): void
  pause(): void
  resume(): void
  /** Nobody waits for the response any more. Idempotent. */
  destroy(): void
}
