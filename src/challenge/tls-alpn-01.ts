/**
 * TLS-ALPN-01 (RFC 8737; RFC 8738 for IP addresses): `ca/` presents, and the TLS listener asks here when a client offers
 * nothing but `acme-tls/1`. Hides the challenge certificates and the server names by which CAs ask for IP addresses.
 */

import { isIP } from 'node:net'
import { generateKeyPem } from '../cert/x509.ts'
import { groupsOf } from '../config/addresses.ts'
import type { Clock } from '../time.ts'
import type { Challenge, Solver } from './solver.ts'

/** What the handshake is answered with: a self-signed certificate that proves control, and its key. */
export interface AlpnAnswer {
  readonly keyPem: string
  readonly certificatePem: string
}

export type AlpnKeyType = 'ec' | 'rsa'

type Answers = Readonly<Record<AlpnKeyType, AlpnAnswer>>

interface Presented {
  readonly keyAuthorization: string
  /** Absent until the certificates are made. */
  answers?: Answers
}

export class TlsAlpn01Solver implements Solver {
  readonly type = 'tls-alpn-01'
  readonly #clock: Clock
  /** By server name, oldest first: one for each `present` that was not cleaned up. */
  readonly #presented = new Map<string, Presented[]>()
  /** Shared by all challenges: these keys prove nothing, the digest in the certificate does. */
  #keys: Promise<Readonly<Record<AlpnKeyType, string>>> | undefined

  constructor(clock: Clock) {
    this.#clock = clock
  }

  async present({ name, keyAuthorization }: Challenge): Promise<void> {
    const serverName = serverNameOf(name)
    const presented: Presented = { keyAuthorization }
    const all = this.#presented.get(serverName)
    if (all === undefined) this.#presented.set(serverName, [presented])
    else all.push(presented)
    presented.answers = await this.#certify(name, keyAuthorization)
  }

  async cleanUp({ name, keyAuthorization }: Challenge): Promise<void> {
    const serverName = serverNameOf(name)
    const all = this.#presented.get(serverName) ?? []
    const index = all.findIndex((each) => each.keyAuthorization === keyAuthorization)
    if (index >= 0) all.splice(index, 1)
    if (all.length === 0) this.#presented.delete(serverName)
  }

  /**
   * What to answer a client with that sends this server name (lower case). Of two challenges for one name the newer is
   * answered, for a handshake does not tell which CA asks, and whoever ordered first has given up or soon will.
   * Synchronous, one map lookup.
   *
   * @param keyType of the key of the live certificate: under TLS 1.2 OpenSSL has chosen the cipher suite before the
   *   ALPN callback runs, so a key of another type would fail; under TLS 1.3 either serves
   */
  find(serverName: string, keyType: AlpnKeyType = 'ec'): AlpnAnswer | undefined {
    return this.#presented.get(serverName)?.findLast((each) => each.answers !== undefined)?.answers?.[keyType]
  }

  async #certify(name: string, keyAuthorization: string): Promise<Answers> {
    this.#keys ??= makeKeys()
    const [keys, { createAlpnCertificate }] = await Promise.all([this.#keys, import('../cert/signing.ts')])
    const certify = async (keyPem: string): Promise<AlpnAnswer> => ({
      keyPem,
      certificatePem: await createAlpnCertificate(name, keyAuthorization, keyPem, this.#clock.now()),
    })
    const [ec, rsa] = await Promise.all([certify(keys.ec), certify(keys.rsa)])
    return { ec, rsa }
  }
}

async function makeKeys(): Promise<Readonly<Record<AlpnKeyType, string>>> {
  const [ec, rsa] = await Promise.all([generateKeyPem('ecdsa-p256'), generateKeyPem('rsa-2048')])
  return { ec, rsa }
}

/** RFC 8738 section 6: SNI carries no IP addresses, so the CA sends the name of the address's reverse lookup. */
function serverNameOf(name: string): string {
  const family = isIP(name)
  if (family === 4) return `${name.split('.').reverse().join('.')}.in-addr.arpa`
  if (family === 6) {
    const digits = groupsOf(name).flatMap((group) => [...group.padStart(4, '0')])
    return `${digits.reverse().join('.')}.ip6.arpa`
  }
  return name
}
