/**
 * A certificate with its key: immutable, checked when made. Whatever holds one may serve it.
 * Hides X.509 from the rest of the tree; made by `ca/`, by `cert/files.ts` and from the store.
 */
import { createHash, createPrivateKey, type KeyObject, X509Certificate } from 'node:crypto'
import { isIP } from 'node:net'
import { CertificateError } from '../errors.ts'
import { ariIdOf, subjectNamesOf } from './x509.ts'

const PEM_CERTIFICATE = /-----BEGIN CERTIFICATE-----[\s\S]+?-----END CERTIFICATE-----/g

/** The source of what an operator has put into the store by hand: served until it falls due, whatever CAs are named. */
export const IMPORTED = 'import'

/** The ACME order that a certificate comes from. */
export type IssuedBy = Partial<Pick<Certificate, 'account' | 'provedBy'>>

export class Certificate {
  /** Leaf first, then the intermediates; normalized PEM. */
  readonly chainPem: string
  /** PKCS#8 PEM. Secret: never log it. */
  readonly keyPem: string
  /** Parsed chain, leaf first. */
  readonly chain: readonly X509Certificate[]
  /** Lower-case DNS names (A-labels, wildcards) and canonical IP addresses from the subjectAltName. */
  readonly names: readonly string[]
  /** Milliseconds since the epoch. */
  readonly notBefore: number
  /** Milliseconds since the epoch. */
  readonly notAfter: number
  /** SHA-256 of the leaf, lower-case hex. */
  readonly fingerprint: string
  /** SHA-256 of all that a client is shown: the same leaf below other intermediates has another. Lower-case hex. */
  readonly chainFingerprint: string
  /** Who signed it, for people: the issuer's common name, or its organization. */
  readonly issuer: string
  /** Lower-case hex. */
  readonly serial: string
  /** The config's name of the CA that issued it, or `file`, or `import`. */
  readonly source: string
  /** URL of the ACME account that it was issued to; undefined where there is none, or it is not known. */
  readonly account: string | undefined
  /** The type of the ACME challenge by which the CA was shown whose name it is; undefined as for `account`. */
  readonly provedBy: string | undefined

  /**
   * @param chainPem leaf first; text around the PEM blocks is dropped
   * @param keyPem unencrypted private key of the leaf
   * @param what names the origin in errors: a path, a CA, a store key
   * @throws CertificateError CERTIFICATE_UNREADABLE, KEY_MISMATCH
   */
  constructor(chainPem: string, keyPem: string, source: string, what: string, order: IssuedBy = {}) {
    this.chain = parseCertificates(chainPem, what)
    const leaf = this.chain[0] as X509Certificate
    const key = parseKey(keyPem, what)
    if (!leaf.checkPrivateKey(key)) {
      throw new CertificateError(
        'KEY_MISMATCH',
        `${what}: the private key does not belong to the certificate`,
      )
    }
    this.names = subjectNamesOf(leaf)
    if (this.names.length === 0) {
      throw new CertificateError(
        'CERTIFICATE_UNREADABLE',
        `${what}: the certificate names no host (it has no subjectAltName)`,
      )
    }
    this.chainPem = this.chain.map((certificate) => certificate.toString()).join('')
    this.keyPem = key.export({ type: 'pkcs8', format: 'pem' }).toString()
    this.notBefore = Date.parse(leaf.validFrom)
    this.notAfter = Date.parse(leaf.validTo)
    this.fingerprint = leaf.fingerprint256.replaceAll(':', '').toLowerCase()
    this.chainFingerprint = createHash('sha256').update(this.chainPem).digest('hex')
    this.issuer = commonNameOf(leaf.issuer)
    this.serial = leaf.serialNumber.toLowerCase()
    this.source = source
    this.account = order.account
    this.provedBy = order.provedBy
  }

  get leaf(): X509Certificate {
    return this.chain[0] as X509Certificate
  }

  /** SHA-256 of the public key (SubjectPublicKeyInfo), lower-case hex: certificates that share a key share it. */
  get keyFingerprint(): string {
    const publicKey = this.leaf.publicKey.export({ type: 'spki', format: 'der' })
    const value = createHash('sha256').update(publicKey).digest('hex')
    // It is seldom asked for, and then at handshakes: found once, it stays.
    Object.defineProperty(this, 'keyFingerprint', { value })
    return value
  }

  /** RFC 9773 section 4.1; undefined when the leaf has no authority key identifier. */
  get ariId(): string | undefined {
    return ariIdOf(this.leaf)
  }

  isValidAt(time: number): boolean {
    return time >= this.notBefore && time < this.notAfter
  }

  /** Does it speak for this name, lower-case? Exact, or by a wildcard of one label (RFC 9525 section 6.3). */
  covers(name: string): boolean {
    return coversName(this.names, name)
  }
}

/** Do these names of a leaf speak for this one? As `Certificate.covers`. */
export function coversName(names: readonly string[], name: string): boolean {
  return names.includes(name) || (isIP(name) === 0 && names.includes(wildcardOf(name)))
}

/** `a.example.com` → `*.example.com`. A wildcard, and a name without a first label and a dot, stay what they are. */
export function wildcardOf(name: string): string {
  const dot = name.indexOf('.')
  return dot < 1 || name.startsWith('*.') ? name : `*${name.slice(dot)}`
}

/** Every PEM certificate of a text, at least one. Throws CertificateError CERTIFICATE_UNREADABLE. */
export function parseCertificates(pem: string, what: string): X509Certificate[] {
  const blocks = pem.match(PEM_CERTIFICATE)
  if (blocks === null)
    throw new CertificateError('CERTIFICATE_UNREADABLE', `${what}: holds no PEM certificate`)
  return blocks.map((block, index) => parseCertificate(block, index, what))
}

/** Node's text of a distinguished name, undefined for an empty one → its common name, organization, or all of it. */
export function commonNameOf(distinguishedName: string | undefined): string {
  if (distinguishedName === undefined) return '(no name)'
  const fields = new Map(
    distinguishedName.split('\n').map((line) => line.split(/=(.*)/s, 2) as [string, string]),
  )
  return fields.get('CN') ?? fields.get('O') ?? distinguishedName.replaceAll('\n', ', ')
}

/** A moment of a certificate for an error: `2026-11-24T14:05:01Z`. X.509 knows whole seconds. */
export function formatMoment(time: number): string {
  return new Date(time).toISOString().replace('.000Z', 'Z')
}

function parseCertificate(pem: string, index: number, what: string): X509Certificate {
  try {
    return new X509Certificate(pem)
  } catch (cause) {
    throw new CertificateError('CERTIFICATE_UNREADABLE', `${what}: certificate ${index + 1} is damaged`, {
      cause,
    })
  }
}

function parseKey(pem: string, what: string): KeyObject {
  if (!pem.includes('PRIVATE KEY-----'))
    throw new CertificateError('CERTIFICATE_UNREADABLE', `${what}: holds no PEM private key`)
  try {
    return createPrivateKey(pem)
  } catch {
    // The cause is left out on purpose: OpenSSL's messages may quote the input.
    const encrypted = /ENCRYPTED/.test(pem)
    const why = encrypted
      ? 'the private key is encrypted: give its `passphrase`'
      : 'the private key is damaged'
    throw new CertificateError('CERTIFICATE_UNREADABLE', `${what}: ${why}`)
  }
}
