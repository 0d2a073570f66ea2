/** Which adapter stands for a CA of the config, and where the chains that it issues must end. */
import type { X509Certificate } from 'node:crypto'
import { readFileSync } from 'node:fs'
import type { Span } from '../attested-clock.ts'
import type { Certificate } from '../cert/certificate.ts'
import { endOfChain, parseRoots, publicRoots, type VerifyOptions, verifyChain } from '../cert/verify.ts'
import type { Solver } from '../challenge/solver.ts'
import type { AcmeCa, Ca } from '../config/cas.ts'
import type { Log } from '../log.ts'
import type { Records } from '../store/records.ts'
import type { Clock } from '../time.ts'
import { AcmeIssuer } from './acme.ts'
import { InternalIssuer } from './internal.ts'
import type { Issuer } from './issuer.ts'
import { registeredDomain } from './ledger.ts'

export interface IssuersOptions {
  readonly records: Records
  readonly clock: Clock
  readonly log: Log
  readonly solvers: readonly Solver[]
  /** A CA has told the time. @param witness stands for its clock @param time milliseconds since the epoch */
  readonly onTime?: (ca: string, witness: string, time: number) => void
  /** A CA has issued a certificate in this span, by the time that it told, and not by `clock`. */
  readonly onVouched?: (ca: string, witness: string, issued: Span) => void
  /** Something is asked of a CA as the account of this URL. */
  readonly onAccount?: (ca: string, url: string) => void
  /** The runtime's bundle when absent. */
  readonly browserRoots?: readonly X509Certificate[]
}

/** Where chains must end. */
export type Anchors = 'any' | readonly X509Certificate[]

export class Issuers {
  readonly #options: IssuersOptions
  /** Those that browsers ship. */
  readonly #publicRoots: readonly X509Certificate[]
  /** Roots that the operator has pinned, by CA. */
  #pins: ReadonlyMap<string, readonly X509Certificate[]> = new Map()
  /** Until when each is to be relied upon, by the roots of now. */
  #ends = new WeakMap<Certificate, number>()
  /** What the config says, by CA; `isPublic`: pinned roots count too. */
  readonly #configured = new Map<string, { readonly anchors: Anchors; readonly isPublic: boolean }>()

  constructor(options: IssuersOptions) {
    this.#options = options
    this.#publicRoots = options.browserRoots ?? publicRoots()
  }

  /** Reads the pinned roots, for the issuers that were made before as well. */
  async load(): Promise<void> {
    const pinned = await this.#options.records.loadPinnedRoots()
    this.#pins = new Map([...pinned].map(([ca, pem]) => [ca, parseRoots(pem, `the pinned roots of ${ca}`)]))
    this.#ends = new WeakMap()
  }

  /** Reads the PEM files that the CA names (blocking). @throws CertificateError, or the file's own error */
  create(ca: Ca): Issuer {
    const { solvers, onAccount, onTime, onVouched, ...shared } = this.#options
    const browserRoots = this.#publicRoots
    const { name: id } = ca
    if (ca.type === 'internal') return new InternalIssuer({ ...shared, id, lifetimeMs: ca.lifetimeMs })
    const endpointRoots = ca.roots === undefined ? undefined : readFileSync(ca.roots, 'utf8')
    this.#configured.set(id, {
      anchors: this.#anchorsIn(ca, endpointRoots),
      isPublic: ca.trust === 'public',
    })
    this.#ends = new WeakMap()
    const trust = (): Anchors => this.anchors(id) ?? this.#publicRoots
    const witness = clockOf(ca.directory)
    return new AcmeIssuer({
      ...ca,
      ...shared,
      id,
      endpointRoots,
      trust,
      browserRoots,
      solvers,
      onAccount: (url) => onAccount?.(id, url),
      onTime: (time) => onTime?.(id, witness, time),
      onVouched: (issued) => onVouched?.(id, witness, issued),
    })
  }

  /** Where the chains of an ACME CA that was created must end; undefined for every other source. */
  anchors(source: string): Anchors | undefined {
    const configured = this.#configured.get(source)
    if (configured === undefined || configured.anchors === 'any' || !configured.isPublic)
      return configured?.anchors
    return [...configured.anchors, ...(this.#pins.get(source) ?? [])]
  }

  /**
   * Does the chain still end where those of its CA must? Where those of another source must end is not known: it fails
   * once it no longer leads to a public root, and did before.
   *
   * @returns the root that it ends in, where it must end in one @throws CertificateError
   */
  verify(certificate: Certificate): X509Certificate | undefined {
    const now = this.#options.clock.now()
    const end = this.endOf(certificate)
    const hasEnded = end < certificate.notAfter && now >= end
    if (this.anchors(certificate.source) === undefined && !hasEnded) return undefined
    return verifyChain(certificate, { ...this.#rulesFor(certificate), now })
  }

  /**
   * Until when `verify` passes, by its dates: to the end of the certificate, or of an intermediate that it needs. Of what
   * does not pass at any time, its own end.
   */
  endOf(certificate: Certificate): number {
    const known = this.#ends.get(certificate)
    if (known !== undefined) return known
    const isPlain = certificate.chain.every(({ validTo }) => Date.parse(validTo) >= certificate.notAfter)
    const end = isPlain ? undefined : endOfChain(certificate, this.#rulesFor(certificate))
    this.#ends.set(certificate, end ?? certificate.notAfter)
    return end ?? certificate.notAfter
  }

  #rulesFor({ names, source }: Certificate): Omit<VerifyOptions, 'now'> {
    const roots = this.anchors(source)
    if (roots === undefined) return { names, roots: this.#publicRoots }
    return { names, roots, browserRoots: this.#publicRoots }
  }

  #anchorsIn({ trust }: AcmeCa, endpointRoots: string | undefined): Anchors {
    if (trust === 'any') return 'any'
    if (trust !== 'public') return parseRoots(readFileSync(trust, 'utf8'), trust)
    return [...this.#publicRoots, ...(endpointRoots === undefined ? [] : parseRoots(endpointRoots, 'roots'))]
  }
}

/** Names the clock by which the CA of this directory goes: one operator's CAs, as staging and production, share one. */
export function clockOf(directory: string): string {
  const { hostname, port } = new URL(directory)
  return `${registeredDomain(hostname)}:${port}`
}
