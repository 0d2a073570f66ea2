/**
 * Would a browser accept this chain? Builds a path from the leaf to a trusted root (RFC 5280 section 6) and judges
 * every link, and the leaf by what browsers ask for beyond that (`browser-rules.ts`).
 * The issuers in `ca/` ask before anything that a CA sent is kept. No trust decision is made elsewhere.
 */
import type { KeyObject, X509Certificate } from 'node:crypto'
import { getCACertificates } from 'node:tls'
import { CertificateError } from '../errors.ts'
import { faultInBrowsers } from './browser-rules.ts'
import { type Certificate, commonNameOf, formatMoment, parseCertificates } from './certificate.ts'
import { permits } from './name-constraints.ts'
import { type Profile, profileOf } from './profile.ts'

export interface VerifyOptions {
  /** What the certificate was ordered for: it must cover each. */
  readonly names: readonly string[]
  /** Where the chain must end. `any`: everything is checked but that. */
  readonly roots: readonly X509Certificate[] | 'any'
  /** Roots that browsers ship: a chain that ends in one of them is held to their rules as well. None when absent. */
  readonly browserRoots?: readonly X509Certificate[]
  readonly now: number
}

/** What a client is shown. */
export type Shown = Pick<Certificate, 'chain' | 'leaf' | 'names' | 'covers' | 'source'>

/** Mozilla's set, as the runtime bundles it. Blocks for some 10 ms: ask once and keep them. */
export function publicRoots(): readonly X509Certificate[] {
  return parseRoots(getCACertificates('bundled').join('\n'), "the runtime's bundled roots")
}

/**
 * Roots from a PEM text.
 *
 * @throws CertificateError CERTIFICATE_UNREADABLE
 */
export function parseRoots(pem: string, what: string): readonly X509Certificate[] {
  return parseCertificates(pem, what)
}

/**
 * Returns when a client that trusts `roots` accepts the chain for every one of `names`. Certificates that are not
 * needed, and their order, do not matter, as they do not to browsers.
 *
 * @returns the trusted root that it ends in; undefined with `any`
 * @throws CertificateError CERTIFICATE_EXPIRED when a link has expired, else CHAIN_INVALID; the message says which
 * link and why
 */
export function verifyChain(certificate: Shown, options: VerifyOptions): X509Certificate | undefined {
  const path = new PathBuilder(certificate, options)
  const fault = path.fault()
  if (fault !== undefined) {
    const where = `chain of ${certificate.names[0]} from ${certificate.source}`
    throw new CertificateError(fault.code, `${where}: ${fault.message}`)
  }
  return path.anchor
}

/**
 * Until when the chain passes: to the end of the leaf, or of another link that every path to a root needs. That a path
 * without it leads to another root, as past a cross-signed certificate, is found as a client finds it.
 *
 * @returns milliseconds since the epoch; undefined: the chain never passes
 */
export function endOfChain(certificate: Shown, options: Omit<VerifyOptions, 'now'>): number | undefined {
  const endOfLeaf = Date.parse(certificate.leaf.validTo)
  const ends = certificate.chain.map(({ validTo }) => Date.parse(validTo)).filter((end) => end <= endOfLeaf)
  return ends
    .sort((a, b) => b - a)
    .find((end) => new PathBuilder(certificate, { ...options, now: end - 1 }).fault() === undefined)
}

interface Fault {
  readonly code: 'CERTIFICATE_EXPIRED' | 'CHAIN_INVALID'
  readonly message: string
}

/** One certificate of a path. */
interface Link {
  readonly certificate: X509Certificate
  readonly profile: Profile
  /** For messages: `the leaf`, or a quoted name. */
  readonly title: string
  readonly isAnchor: boolean
}

/** A path that leads no further, for `fault`. */
interface DeadEnd {
  readonly fault: Fault
  readonly length: number
}

/** As many as OpenSSL's clients read, and few enough to try every path. */
const LONGEST_CHAIN = 10
/** A hostile chain of CAs that all signed one another has millions of paths. */
const MOST_SIGNATURES = 100
/** A path that was not tried may be good, so what another met says nothing. */
const TOO_MANY_PATHS: Fault = { code: 'CHAIN_INVALID', message: 'it has more paths than can be tried' }
const SMALLEST_RSA_BITS = 2048
const CURVES: ReadonlySet<string | undefined> = new Set(['prime256v1', 'secp384r1', 'secp521r1'])

class PathBuilder {
  readonly #certificate: Shown
  readonly #options: VerifyOptions
  #signaturesLeft = MOST_SIGNATURES
  /** Where the path that was found ends. */
  anchor: X509Certificate | undefined

  constructor(certificate: Shown, options: VerifyOptions) {
    this.#certificate = certificate
    this.#options = options
  }

  fault(): Fault | undefined {
    const { chain, leaf, names } = this.#certificate
    const missing = this.#options.names.find((name) => !this.#certificate.covers(name))
    if (missing !== undefined) return invalid(`the leaf is for ${names.join(', ')}, not for ${missing}`)
    if (chain.length > LONGEST_CHAIN)
      return invalid(
        `it holds ${chain.length} certificates, more than the ${LONGEST_CHAIN} that clients read`,
      )
    try {
      const link = { certificate: leaf, profile: profileOf(leaf), title: 'the leaf', isAnchor: false }
      const fault =
        faultOfLeaf(link) ??
        this.#faultOfLink(link) ??
        this.#deadEndAbove(link, [])?.fault ??
        this.#faultInBrowsers(link)
      return this.#signaturesLeft < 0 ? fault && TOO_MANY_PATHS : fault
    } catch (error) {
      if (error instanceof RangeError) return invalid(`it holds a malformed certificate (${error.message})`)
      throw error
    }
  }

  /** Of a leaf from which a path leads to the anchor. */
  #faultInBrowsers({ certificate, profile }: Link): Fault | undefined {
    const { anchor } = this
    const { browserRoots = [] } = this.#options
    if (!browserRoots.some(({ fingerprint256 }) => fingerprint256 === anchor?.fingerprint256))
      return undefined
    const message = faultInBrowsers(certificate, profile)
    return message === undefined ? undefined : invalid(message)
  }

  /**
   * Tries every issuer of `link`, which stands above `below`, until one leads to an anchor. When none does, the path
   * that got furthest tells most about what is wrong.
   */
  #deadEndAbove(link: Link, below: readonly Link[]): DeadEnd | undefined {
    const path = [...below, link]
    let furthest: DeadEnd | undefined
    for (const issuer of this.#issuersOf(link, path)) {
      const fault = this.#faultOfIssuer(issuer, link, below)
      if (fault === undefined && issuer.isAnchor) {
        this.anchor = issuer.certificate
        return undefined
      }
      const deadEnd = fault === undefined ? this.#deadEndAbove(issuer, path) : { fault, length: path.length }
      if (deadEnd === undefined) return undefined
      if (furthest === undefined || deadEnd.length > furthest.length) furthest = deadEnd
    }
    if (furthest !== undefined) return furthest
    const fault = this.#faultOfEnd(link, path)
    return fault && { fault, length: path.length }
  }

  /** Trusted roots first: a chain may carry a cross-signed certificate that leads to an older root. */
  #issuersOf(link: Link, path: readonly Link[]): Link[] {
    const { roots } = this.#options
    const sent = this.#certificate.chain.filter((each) =>
      path.every(({ certificate }) => certificate !== each),
    )
    return [
      ...(roots === 'any' ? [] : roots).map((certificate) => ({ certificate, isAnchor: true })),
      ...sent.map((certificate) => ({ certificate, isAnchor: false })),
    ]
      .filter(({ certificate }) => certificate.subject === link.certificate.issuer)
      .map((each) => ({ ...each, profile: profileOf(each.certificate), title: titleOf(each.certificate) }))
      .filter(({ profile }) => profile.subject.equals(link.profile.issuer))
  }

  /** Nothing that could have issued `link` is at hand. */
  #faultOfEnd(link: Link, path: readonly Link[]): Fault | undefined {
    if (this.#options.roots === 'any') {
      const isForeign = path.length === 1 && this.#certificate.chain.length > 1
      return isForeign
        ? invalid(`none of its certificates is ${issuerOf(link)}, which issued the leaf`)
        : undefined
    }
    if (isSelfIssued(link)) return invalid(`it ends in ${link.title}, which is not a trusted root`)
    return invalid(
      `${issuerOf(link)}, which issued ${link.title}, is neither in the chain nor a trusted root`,
    )
  }

  /** May `issuer` stand above `link`, which stands above `below`? */
  #faultOfIssuer(issuer: Link, link: Link, below: readonly Link[]): Fault | undefined {
    const { profile, title } = issuer
    if (!profile.isAuthority)
      return invalid(`${title}, which issued ${link.title}, is not a CA (basicConstraints)`)
    if (profile.keyUsage?.keyCertSign === false)
      return invalid(`${title}, which issued ${link.title}, may not sign certificates (keyUsage)`)
    if (profile.mayServe === false) return invalid(`${title} may not issue for TLS servers (extKeyUsage)`)
    const intermediates = [...below, link].slice(1).filter((each) => !isSelfIssued(each)).length
    if (profile.pathLength !== undefined && intermediates > profile.pathLength) {
      return invalid(
        `${title} allows ${profile.pathLength} CAs below itself (pathLenConstraint), not ${intermediates}`,
      )
    }
    const { nameConstraints } = profile
    const forbidden =
      nameConstraints && this.#certificate.names.find((name) => !permits(nameConstraints, name))
    if (forbidden !== undefined) return invalid(`${title} may not issue for ${forbidden} (nameConstraints)`)
    const fault = this.#faultOfLink(issuer)
    if (fault !== undefined) return fault
    if (--this.#signaturesLeft < 0) return TOO_MANY_PATHS
    if (!link.certificate.verify(issuer.certificate.publicKey))
      return invalid(
        `the signature of ${link.title} is not by ${issuer.isAnchor ? 'the trusted root ' : ''}${title}`,
      )
    return undefined
  }

  /** What every certificate of a path must satisfy. */
  #faultOfLink({ certificate, profile, title, isAnchor }: Link): Fault | undefined {
    const { now } = this.#options
    if (now >= Date.parse(certificate.validTo)) {
      return {
        code: 'CERTIFICATE_EXPIRED',
        message: `${title} expired on ${formatMoment(Date.parse(certificate.validTo))}`,
      }
    }
    if (now < Date.parse(certificate.validFrom))
      return invalid(
        `${title} is not valid before ${formatMoment(Date.parse(certificate.validFrom))}; is the clock right?`,
      )
    if (profile.hasUnknownCritical)
      return invalid(`${title} has a critical extension that clients do not know`)
    // What a trusted or self-signed certificate says of itself proves nothing, so its own signature is not read.
    const isWeak =
      profile.signatureAlgorithm !== 'strong' && !isAnchor && !profile.issuer.equals(profile.subject)
    if (isWeak) return invalid(`${title} is signed with ${profile.signatureAlgorithm}, which clients refuse`)
    return faultOfKey(certificate, title)
  }
}

function faultOfLeaf({ profile }: Link): Fault | undefined {
  if (profile.isAuthority) return invalid('the leaf is a CA (basicConstraints)')
  if (profile.keyUsage?.digitalSignature === false)
    return invalid('the leaf may not sign handshakes (keyUsage)')
  if (profile.mayServe !== true)
    return invalid('the leaf is not for TLS servers (extKeyUsage lacks serverAuth)')
  return undefined
}

function faultOfKey(certificate: X509Certificate, title: string): Fault | undefined {
  const key = publicKeyOf(certificate)
  if (key === undefined) return invalid(`${title} has a key that cannot be read`)
  const { asymmetricKeyType: type, asymmetricKeyDetails: details } = key
  if (type === 'ec' && CURVES.has(details?.namedCurve)) return undefined
  if (type !== 'rsa')
    return invalid(`${title} has a key of type ${details?.namedCurve ?? type}, which browsers refuse`)
  const bits = details?.modulusLength ?? 0
  if (bits >= SMALLEST_RSA_BITS) return undefined
  return invalid(`${title} has an RSA key of ${bits} bits; clients want ${SMALLEST_RSA_BITS}`)
}

/** OpenSSL parses a certificate without its key, which it decodes here and may find to be nonsense. */
function publicKeyOf(certificate: X509Certificate): KeyObject | undefined {
  try {
    return certificate.publicKey
  } catch {
    return undefined
  }
}

function invalid(message: string): Fault {
  return { code: 'CHAIN_INVALID', message }
}

function isSelfIssued({ profile }: Link): boolean {
  return profile.issuer.equals(profile.subject)
}

function titleOf(certificate: X509Certificate): string {
  return `"${commonNameOf(certificate.subject)}"`
}

function issuerOf({ certificate }: Link): string {
  return `"${commonNameOf(certificate.issuer)}"`
}
