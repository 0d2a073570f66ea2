/**
 * Is this the endpoint of the CA? Whom to trust for it, and by which time: OpenSSL knows the machine's clock alone, and by
 * one that is a month off the good certificate of an endpoint has expired, or is not valid yet.
 */
import type { X509Certificate } from 'node:crypto'
import { Agent, type AgentOptions, type RequestOptions } from 'node:https'
import type { Duplex } from 'node:stream'
import {
  type ConnectionOptions,
  connect,
  createSecureContext,
  getCACertificates,
  type SecureContext,
  type TLSSocket,
} from 'node:tls'
import { coversName } from '../cert/certificate.ts'
import { parseRoots, verifyChain } from '../cert/verify.ts'
import { canonicalAddress, subjectNamesOf } from '../cert/x509.ts'
import type { Clock } from '../time.ts'

/**
 * The runtime's roots, and these (PEM). To be made once a CA: an `Agent` that is given the roots themselves reads them for
 * each connection, and joins them all to name the connection at each request.
 */
export class EndpointTrust {
  readonly #rootsPem: string | undefined
  #context: SecureContext | undefined
  #roots: readonly X509Certificate[] | undefined

  constructor(rootsPem?: string) {
    this.#rootsPem = rootsPem
  }

  /** What an `Agent` needs to know of it. Takes many milliseconds the first time. */
  agentOptions(): AgentOptions {
    if (this.#rootsPem === undefined) return { keepAlive: true }
    this.#context ??= createSecureContext({ ca: [...getCACertificates('default'), this.#rootsPem] })
    return { keepAlive: true, secureContext: this.#context }
  }

  /** Takes many milliseconds the first time. */
  roots(): readonly X509Certificate[] {
    this.#roots ??= [
      ...parseRoots(getCACertificates('default').join('\n'), "the runtime's roots"),
      ...(this.#rootsPem === undefined ? [] : parseRoots(this.#rootsPem, '`roots`')),
    ]
    return this.#roots
  }
}

/** Did the endpoint's certificate fail by its dates? Then it may be the machine's clock that is wrong. */
export function isFaultOfTime(error: unknown): boolean {
  const code = (error as NodeJS.ErrnoException).code
  return code === 'CERT_HAS_EXPIRED' || code === 'CERT_NOT_YET_VALID'
}

/** Connects where the endpoint's chain verifies by the time of `clock`, whatever OpenSSL holds of its dates. */
export class TimelyAgent extends Agent {
  readonly #trust: EndpointTrust
  readonly #clock: Clock
  /** Those that the base class does not know of yet. */
  readonly #connecting = new Set<TLSSocket>()

  constructor(trust: EndpointTrust, clock: Clock) {
    super(trust.agentOptions())
    this.#trust = trust
    this.#clock = clock
  }

  override createConnection(
    options: RequestOptions,
    callback: (error: Error | null, stream: Duplex) => void = () => {},
  ): undefined {
    // Nothing is sent before the chain was verified, below.
    const socket = connect({ ...(options as ConnectionOptions), rejectUnauthorized: false })
    this.#connecting.add(socket)
    const fail = (error: Error): void => callback(error, socket)
    socket.once('close', () => this.#connecting.delete(socket))
    socket.once('error', fail)
    socket.once('secureConnect', () => {
      this.#connecting.delete(socket)
      socket.off('error', fail)
      try {
        this.#verify(socket, options.host ?? '')
        callback(null, socket)
      } catch (error) {
        socket.destroy()
        fail(error as Error)
      }
    })
  }

  override destroy(): void {
    for (const socket of this.#connecting) socket.destroy()
    super.destroy()
  }

  /** @throws CertificateError */
  #verify(socket: TLSSocket, host: string): void {
    const chain: X509Certificate[] = []
    for (let next = socket.getPeerX509Certificate(); next !== undefined; next = next.issuerCertificate) {
      if (chain.some(({ fingerprint256 }) => fingerprint256 === next?.fingerprint256)) break
      chain.push(next)
    }
    const [leaf] = chain
    if (leaf === undefined) throw new Error('it shows no certificate')
    const names = subjectNamesOf(leaf)
    const covers = (name: string): boolean => coversName(names, name)
    verifyChain(
      { chain, leaf, names, covers, source: host },
      {
        names: [canonicalAddress(host.toLowerCase())],
        roots: this.#trust.roots(),
        now: this.#clock.now(),
      },
    )
  }
}
