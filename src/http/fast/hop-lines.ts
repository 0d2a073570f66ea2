/**
 * The lines that this proxy adds to every request it sends on: who the client is, and the request's id.
 * All but the id are the same for most requests of a connection, so they are made once for each host it asks for.
 */

import { type ForwardedFields, forwardingFields } from '../forwarded.ts'
import type { Connection } from '../wire.ts'
import type { Head } from './head.ts'

export class HopLines {
  readonly #connection: Connection
  readonly #clientAddress: string
  #host: string | undefined
  #lines: Buffer = Buffer.alloc(0)

  /** `clientAddress`: see `plainAddress`. */
  constructor(connection: Connection, clientAddress: string) {
    this.#connection = connection
    this.#clientAddress = clientAddress
  }

  /** Writes the lines for a request at `out[offset]`; returns the offset after them. */
  write(
    out: Buffer,
    offset: number,
    host: string,
    requestId: string,
    received: ForwardedFields | undefined,
  ): number {
    let lines = this.#lines
    if (received !== undefined) lines = this.#compose(host, received)
    else if (host !== this.#host) {
      lines = this.#compose(host, undefined)
      this.#lines = lines
      this.#host = host
    }
    const o = offset + lines.copy(out, offset)
    return o + out.write(`X-Request-Id: ${requestId}\r\n`, o, 'latin1')
  }

  #compose(host: string, received: ForwardedFields | undefined): Buffer {
    const hop = { clientAddress: this.#clientAddress, secure: this.#connection.secure, host }
    const fields = forwardingFields(hop, received)
    const text = fields.map(([name, value]) => `${name}: ${value}\r\n`).join('')
    return Buffer.from(text, 'latin1')
  }
}

/** What a trusted proxy said in this head, for `write`. */
export function receivedOf(head: Head): ForwardedFields {
  return {
    for: head.forwardedFor || undefined,
    proto: head.forwardedProto || undefined,
    host: head.forwardedHost || undefined,
    forwarded: head.forwarded || undefined,
  }
}
