import type { X509Certificate } from 'node:crypto'
import type { ClientPolicy } from '../cert/client-policy.ts'
import type { Stream } from '../config/sites.ts'

/** What the listener hands on together with a socket: `http/` takes the same shape by the name of `Connection` too. */
export interface Connection {
  /** Was it TLS? */
  readonly secure: boolean
  /** SNI in lower case; undefined when the client sent none, or resumes a TLS 1.2 session, of which Node does not tell it. */
  readonly serverName: string | undefined
  /** Chosen by ALPN; `http/1.1` where the client offered none, and on plain connections. */
  readonly protocol: 'h2' | 'http/1.1'
  readonly clientAddress: string
  readonly clientPort: number
  /** Where the client has connected to: as the proxy says that is in front, else this machine's. */
  readonly localAddress: string
  readonly localPort: number
  /** Where it goes as it is; undefined: it speaks HTTP. Where that passes TLS through, none of it was spoken. */
  readonly stream: Stream | undefined
  /** Absent where the client was not asked for a certificate. */
  readonly client?: Client
}

/** A client that was asked who it is. */
export interface Client {
  /** The `id` of the policy that it was let in by. */
  readonly policy: string
  /** Verified; undefined: it gave none, and the policy takes that. */
  readonly certificate: X509Certificate | undefined
}

/** What is known of a connection before its handshake. */
export interface Origin
  extends Pick<Connection, 'clientAddress' | 'clientPort' | 'localAddress' | 'localPort' | 'stream'> {
  /** As the ClientHello says, where it was read ahead. */
  readonly serverName: string | undefined
  /** How to ask the client for a certificate; undefined: not at all. */
  readonly clientPolicy?: ClientPolicy | undefined
}
