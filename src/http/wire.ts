/**
 * SEAM: an engine that speaks HTTP on connections that a listener has accepted. Adapters: `compat/` (node:http,
 * node:http2, http-proxy) and `fast/` (our own lexers). `test/http/contract.ts` holds every adapter to one behaviour.
 */
import type { Socket } from 'node:net'
import type { Clock } from '../time.ts'
import type { AccessLog } from './access-log.ts'
import type { Client } from './client-fields.ts'
import type { Gateway } from './gateway.ts'
import type { RequestIds } from './request-id.ts'

/** What is known of a connection before its first request. */
export interface Connection {
  /** Was it TLS? */
  readonly secure: boolean
  /** SNI in lower case; undefined when the client sent none. */
  readonly serverName: string | undefined
  /** Chosen by ALPN; `http/1.1` where the client offered none, and on plain connections. */
  readonly protocol: 'h2' | 'http/1.1'
  readonly clientAddress: string
  readonly localPort: number
  /** Absent where the client was not asked for a certificate. */
  readonly client?: Client | undefined
}

/** What every wire is made of; the rest of its behaviour comes from the gateway's policy. */
export interface WireOptions {
  readonly gateway: Gateway
  readonly accessLog: AccessLog
  readonly requestIds: RequestIds
  readonly clock: Clock
}

export interface Wire {
  /** Takes the socket over: a TLSSocket or a plain one, with nothing read from it yet. Never throws. */
  accept(socket: Socket, connection: Connection): void
  /** Ends these connections as `drain` does, at its leisure: a request that is not begun is asked again on a new one. */
  retire(isStale: (connection: Pick<Connection, 'client' | 'serverName'>) => boolean): void
  /**
   * Answers what is in flight, says `Connection: close` or GOAWAY, closes what is idle, and resolves when no
   * connection is left. What is still open when the signal aborts is destroyed.
   */
  drain(signal: AbortSignal): Promise<void>
}
