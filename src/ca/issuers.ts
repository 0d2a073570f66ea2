/** Which adapter stands for a CA of the config, and where the chains that it issues must end. */
import type { X509Certificate } from 'node:crypto'
import { readFileSync } from 'node:fs'
import type { Certificate } from '../cert/certificate.ts'
import { parseRoots, publicRoots, verifyChain } from '../cert/verify.ts'
import type { Solver } from '../challenge/solver.ts'
import type { AcmeCa, Ca } from '../config/cas.ts'
import type { Log } from '../log.ts'
import type { Records } from '../store/records.ts'
import type { Clock } from '../time.ts'
import { AcmeIssuer } from './acme.ts'
import { InternalIssuer } from './internal.ts'
import type { Issuer } from './issuer.ts'

export interface IssuersOptions {
  readonly records: Records
  readonly clock: Clock
  readonly log: Log
  readonly solvers: readonly Solver[]
}

export class Issuers {
  readonly #options: IssuersOptions
  readonly #publicRoots = publicRoots()
  /** Roots that the operator has pinned, PEM by CA. */
  #pins: ReadonlyMap<string, string> = new Map()
  /** By CA. */
  readonly #anchors = new Map<string, 'any' | readonly X509Certificate[]>()

  constructor(options: IssuersOptions) {
    this.#options = options
  }

  /** Reads the pinned roots; those made of before stay as they are. */
  async load(): Promise<void> {
    this.#pins = await this.#options.records.loadPinnedRoots()
  }

  /** Reads the PEM files that the CA names (blocking). @throws CertificateError, or the file's own error */
  create(ca: Ca): Issuer {
    const { solvers, ...shared } = this.#options
    if (ca.type === 'internal')
      return new InternalIssuer({ ...shared, id: ca.name, lifetimeMs: ca.lifetimeMs })
    const endpointRoots = ca.roots === undefined ? undefined : readFileSync(ca.roots, 'utf8')
    const trust = this.#anchorsOf(ca, endpointRoots)
    this.#anchors.set(ca.name, trust)
    return new AcmeIssuer({ ...ca, ...shared, id: ca.name, endpointRoots, trust, solvers })
  }

  /**
   * Does the chain still end where those of its CA must? Certificates without an ACME CA are not judged.
   *
   * @returns the root that it ends in, where it must end in one @throws CertificateError
   */
  verify(certificate: Certificate): X509Certificate | undefined {
    const roots = this.#anchors.get(certificate.source)
    if (roots === undefined) return undefined
    return verifyChain(certificate, { names: certificate.names, roots, now: this.#options.clock.now() })
  }

  #anchorsOf({ name, trust }: AcmeCa, endpointRoots: string | undefined): 'any' | readonly X509Certificate[] {
    if (trust === 'any') return 'any'
    if (trust !== 'public') return parseRoots(readFileSync(trust, 'utf8'), trust)
    const pinned = this.#pins.get(name)
    return [
      ...this.#publicRoots,
      ...(endpointRoots === undefined ? [] : parseRoots(endpointRoots, 'roots')),
      ...(pinned === undefined ? [] : parseRoots(pinned, `the pinned roots of ${name}`)),
    ]
  }
}
