/**
 * The client's side of one exchange, alike for HTTP/1.1, HTTP/2 and upgrades, so that `exchange.ts` tells one story.
 * Implemented by `http1.ts`, `upgrade.ts` and `http2.ts` over Node's servers.
 */
import type { Socket } from 'node:net'
import type { Readable, Writable } from 'node:stream'
import type { ProxyError } from '../../errors.ts'
import type { Client } from '../client-fields.ts'

/** A field line: the name as it was sent, and the value. */
export type Field = [name: string, value: string]

/** Who is at the other end of a connection. */
export interface Peer {
  readonly secure: boolean
  readonly serverName: string | undefined
  /** Absent where it was not asked for a certificate. */
  readonly client: Client | undefined
  /** IPv4 addresses in their own form, also on dual-stack sockets. */
  readonly clientAddress: string
  /** A trusted proxy, whose word on the client counts. */
  readonly trusted: boolean
}

export interface ResponseHead {
  readonly status: number
  readonly reason: string
  readonly fields: readonly Field[]
  /** May trailers follow the body? */
  readonly trailers: boolean
  /** Is nothing more to be read from an HTTP/1.1 connection, because it is not sure what the client meant? */
  readonly last: boolean
}

export interface Downstream {
  readonly peer: Peer
  readonly version: '1.0' | '1.1' | '2.0'
  readonly method: string
  /** As sent; empty for CONNECT. */
  readonly target: string
  /** The pseudo-header of HTTP/2; undefined in HTTP/1.1 and where it is absent. */
  readonly authority: string | undefined
  readonly fields: readonly Field[]
  /** Paused; undefined when the request has no content. */
  readonly body: Readable | undefined
  /** Where the response's content is written; its `close` is the end of the exchange, its other events are a stream's. */
  readonly sink: Writable
  /** The protocol that the client wants to change to, and how to agree. */
  readonly upgrade: Upgrade | undefined
  /** Called when the client's bytes after the head break the protocol. */
  onFault: (error: ProxyError) => void

  /** Those that followed the body, after its `end`. */
  receivedTrailers(): Field[]
  /** 1xx; does nothing where the client cannot take it. */
  sendInformation(status: number, fields: readonly Field[]): void
  /** Once, before any content. Throws on fields that cannot be sent. */
  sendHead(head: ResponseHead): void
  /** Ends the response; drops what is left of the request. */
  end(trailers: readonly Field[]): void
  /** Cuts the response off so that the client cannot take it for a complete one. */
  abort(): void
}

export interface Upgrade {
  readonly protocol: string
  /** Sends 101 and hands the connection over, with what the client has sent already still to be read. */
  accept(fields: readonly Field[]): Socket
}

/** Node's flat list of names and values as fields. */
export function pairs(raw: readonly string[]): Field[] {
  const fields: Field[] = []
  for (let i = 0; i + 1 < raw.length; i += 2) fields.push([raw[i] ?? '', raw[i + 1] ?? ''])
  return fields
}

/** Fields as Node's flat list. */
export function flat(fields: readonly Field[]): string[] {
  return fields.flat()
}
