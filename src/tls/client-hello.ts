/**
 * The server name in a ClientHello (RFC 8446 section 4.1.2, RFC 6066 section 3), read before anyone speaks TLS: for
 * sites that are passed through, or that ask clients for a certificate. Pure and bounded. Of Encrypted ClientHello it sees the outer name, as everyone does.
 */

/** What is known of a client that has not been answered yet. */
export interface ClientHello {
  /** In lower case; undefined when it sends none. */
  readonly serverName: string | undefined
  /** Does it offer acme-tls/1 and nothing else, as a CA does that validates (RFC 8737 section 3)? */
  readonly isValidation: boolean
}

/** Post-quantum key shares and padding take some 2 KB. */
const MAX_HELLO_BYTES = 16 * 1024

const HANDSHAKE_RECORD = 22
const CLIENT_HELLO = 1
const SERVER_NAME = 0
const HOST_NAME = 0
const PROTOCOLS = 16

/** RFC 8737 section 6.2. */
export const ACME_PROTOCOL = 'acme-tls/1'

/** It is spread over as many records and segments as the client likes. Never throws. */
export function readClientHello(bytes: Buffer): ClientHello | 'invalid' | undefined {
  const fragments: Buffer[] = []
  let gathered = 0
  for (let at = 0; at + 5 <= bytes.length; ) {
    const length = bytes.readUInt16BE(at + 3)
    if (bytes[at] !== HANDSHAKE_RECORD || bytes[at + 1] !== 3 || length === 0) return 'invalid'
    const fragment = bytes.subarray(at + 5, at + 5 + length)
    fragments.push(fragment)
    gathered += fragment.length
    at += 5 + length
  }
  if (fragments.length === 0) return bytes.length > 0 && bytes[0] !== HANDSHAKE_RECORD ? 'invalid' : undefined
  if (gathered < 4) return bytes.length > MAX_HELLO_BYTES ? 'invalid' : undefined
  const message = Buffer.concat(fragments, gathered)
  const size = 4 + message.readUIntBE(1, 3)
  if (message[0] !== CLIENT_HELLO || size > MAX_HELLO_BYTES) return 'invalid'
  if (gathered < size) return bytes.length > 2 * MAX_HELLO_BYTES ? 'invalid' : undefined
  try {
    return factsIn(new Reader(message.subarray(4, size)))
  } catch {
    return 'invalid'
  }
}

/** @throws RangeError when a length points past the end */
function factsIn(hello: Reader): ClientHello {
  hello.take(2 + 32)
  hello.vector(1)
  hello.vector(2)
  hello.vector(1)
  let serverName: string | undefined
  let isValidation = false
  const extensions = hello.isEmpty ? hello : hello.vector(2)
  while (!extensions.isEmpty) {
    const type = extensions.number(2)
    const content = extensions.vector(2)
    if (type === SERVER_NAME) serverName = hostNameIn(content.vector(2))
    else if (type === PROTOCOLS) isValidation = isOnlyAcme(content.vector(2))
  }
  return { serverName, isValidation }
}

function hostNameIn(names: Reader): string | undefined {
  if (names.number(1) !== HOST_NAME) return undefined
  return names.vector(2).rest().toString('latin1').toLowerCase()
}

/** RFC 7301 section 3.1. */
function isOnlyAcme(protocols: Reader): boolean {
  return protocols.vector(1).rest().toString('latin1') === ACME_PROTOCOL && protocols.isEmpty
}

/** RFC 8446 section 3.4: vectors with their length in front. Everything throws a RangeError at the end. */
class Reader {
  readonly #bytes: Buffer
  #at = 0

  constructor(bytes: Buffer) {
    this.#bytes = bytes
  }

  get isEmpty(): boolean {
    return this.#at === this.#bytes.length
  }

  take(length: number): Buffer {
    const end = this.#at + length
    if (end > this.#bytes.length) throw new RangeError('a length points past the end')
    const taken = this.#bytes.subarray(this.#at, end)
    this.#at = end
    return taken
  }

  number(width: number): number {
    return this.take(width).readUIntBE(0, width)
  }

  vector(lengthWidth: number): Reader {
    return new Reader(this.take(this.number(lengthWidth)))
  }

  rest(): Buffer {
    return this.take(this.#bytes.length - this.#at)
  }
}
