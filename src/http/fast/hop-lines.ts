/**
 * The lines that this proxy adds to every request it sends on: who the client is, its own Via, and the request's id.
 * All but the id are the same for most requests of a connection, so they are made once for each host it asks for.
 */
import { type ForwardedFields, forwardingFields } from '../forwarded.ts'
import type { Connection } from '../wire.ts'
import type { Head } from './head.ts'
import { CR, LF, NOTHING, writeAscii } from './octets.ts'

const ID_NAME = Buffer.from('X-Request-Id: ')

export class HopLines {
  readonly #connection: Connection
  readonly #clientAddress: string
  #host: string | undefined
  #via: Buffer | undefined
  #lines: Buffer = NOTHING

  /** `clientAddress`: see `plainAddress`. */
  constructor(connection: Connection, clientAddress: string) {
    this.#connection = connection
    this.#clientAddress = clientAddress
  }

  /** Writes the lines for a request at `out[offset]`; returns the offset after them. `via`: see `Engine.viaLine`. */
  write(
    out: Buffer,
    offset: number,
    host: string,
    via: Buffer,
    requestId: string,
    received: ForwardedFields | undefined,
  ): number {
    let lines = this.#lines
    if (received !== undefined) lines = this.#compose(host, via, received)
    else if (host !== this.#host || via !== this.#via) {
      lines = this.#compose(host, via, undefined)
      this.#lines = lines
      this.#host = host
      this.#via = via
    }
    const o = writeAscii(out, requestId, offset + lines.copy(out, offset))
    out[o] = CR
    out[o + 1] = LF
    return o + 2
  }

  /** All lines, and the last one's name. */
  #compose(host: string, via: Buffer, received: ForwardedFields | undefined): Buffer {
    const hop = { clientAddress: this.#clientAddress, secure: this.#connection.secure, host }
    const fields = forwardingFields(hop, received)
    const text = fields.map(([name, value]) => `${name}: ${value}\r\n`).join('')
    return Buffer.concat([Buffer.from(text, 'latin1'), via, ID_NAME])
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
