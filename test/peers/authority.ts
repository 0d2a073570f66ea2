/**
 * A small CA of the tests' own, apart from the code under test: it signs the endpoints of the peers, and with a
 * CA's key in hand it forges the certificates that a lying CA would send.
 */
import 'reflect-metadata'
import { createPrivateKey, type KeyObject, randomBytes, type webcrypto, X509Certificate } from 'node:crypto'
import { isIP } from 'node:net'
import * as x509 from '@peculiar/x509'

const ECDSA = { name: 'ECDSA', namedCurve: 'P-256', hash: 'SHA-256' } as const
const RSA = { name: 'RSASSA-PKCS1-v1_5', hash: 'SHA-256' } as const
const DAY_MS = 86_400_000

/** A certificate and its private key, PEM (PKCS#8). */
export interface Credentials {
  readonly certificatePem: string
  readonly keyPem: string
}

/** What differs from an ordinary leaf: valid from yesterday, for 30 days, for a fresh ECDSA key. */
export interface LeafOptions {
  readonly notBefore?: Date
  readonly notAfter?: Date
  /** For this key (SPKI, DER) instead of a fresh one. */
  readonly publicKey?: Buffer
}

export class Authority {
  readonly certificatePem: string
  readonly #issuer: x509.X509Certificate
  readonly #key: webcrypto.CryptoKey

  private constructor(issuer: x509.X509Certificate, key: webcrypto.CryptoKey) {
    this.certificatePem = pemOf(issuer)
    this.#issuer = issuer
    this.#key = key
  }

  /** A new self-signed root. */
  static async create(commonName: string): Promise<Authority> {
    const keys = await crypto.subtle.generateKey(ECDSA, true, ['sign', 'verify'])
    const root = await x509.X509CertificateGenerator.createSelfSigned({
      serialNumber: serial(),
      name: `CN=${commonName}`,
      notBefore: fromNow(-DAY_MS),
      notAfter: fromNow(365 * DAY_MS),
      keys,
      signingAlgorithm: ECDSA,
      extensions: [
        new x509.BasicConstraintsExtension(true, undefined, true),
        new x509.KeyUsagesExtension(x509.KeyUsageFlags.keyCertSign | x509.KeyUsageFlags.cRLSign, true),
        await x509.SubjectKeyIdentifierExtension.create(keys.publicKey),
      ],
    })
    return new Authority(root, keys.privateKey)
  }

  /** For a peer that signs by itself. Not of a CA that was loaded. */
  async keyPem(): Promise<string> {
    const key = Buffer.from(await crypto.subtle.exportKey('pkcs8', this.#key))
    return `-----BEGIN PRIVATE KEY-----\n${key.toString('base64')}\n-----END PRIVATE KEY-----\n`
  }

  /** An existing CA whose key is known, RSA or ECDSA P-256 (PKCS#1, SEC1 or PKCS#8 PEM). */
  static async load(credentials: Credentials): Promise<Authority> {
    const key = createPrivateKey(credentials.keyPem)
    return new Authority(new x509.X509Certificate(credentials.certificatePem), await importKey(key))
  }

  /** A TLS server certificate. `keyPem` is empty when it was made for a public key. */
  async issue(names: readonly string[], options: LeafOptions = {}): Promise<Credentials> {
    const keys = await crypto.subtle.generateKey(ECDSA, true, ['sign', 'verify'])
    const publicKey = new x509.PublicKey(
      options.publicKey ?? (await crypto.subtle.exportKey('spki', keys.publicKey)),
    )
    const leaf = await x509.X509CertificateGenerator.create({
      serialNumber: serial(),
      subject: '',
      issuer: this.#issuer.subject,
      notBefore: options.notBefore ?? fromNow(-DAY_MS),
      notAfter: options.notAfter ?? fromNow(30 * DAY_MS),
      publicKey,
      signingKey: this.#key,
      signingAlgorithm: this.#key.algorithm.name === 'ECDSA' ? ECDSA : RSA,
      extensions: [
        new x509.KeyUsagesExtension(x509.KeyUsageFlags.digitalSignature, true),
        new x509.ExtendedKeyUsageExtension([x509.ExtendedKeyUsage.serverAuth]),
        new x509.SubjectAlternativeNameExtension(
          names.map((value) => ({ type: isIP(value) === 0 ? 'dns' : 'ip', value })),
          true,
        ),
        await x509.AuthorityKeyIdentifierExtension.create(this.#issuer.publicKey),
      ],
    })
    return { certificatePem: pemOf(leaf), keyPem: options.publicKey ? '' : await exportKey(keys.privateKey) }
  }
}

/** DNS names and IP addresses of a certificate. */
export function namesOf(certificate: X509Certificate): string[] {
  return (certificate.subjectAltName ?? '')
    .split(', ')
    .map((entry) => entry.replace(/^(DNS|IP Address):/, ''))
}

function pemOf(certificate: x509.X509Certificate): string {
  return new X509Certificate(Buffer.from(certificate.rawData)).toString()
}

function importKey(key: KeyObject): Promise<webcrypto.CryptoKey> {
  const der = key.export({ type: 'pkcs8', format: 'der' })
  const algorithm = key.asymmetricKeyType === 'rsa' ? RSA : ECDSA
  return crypto.subtle.importKey('pkcs8', der, algorithm, false, ['sign'])
}

async function exportKey(key: webcrypto.CryptoKey): Promise<string> {
  const der = Buffer.from(await crypto.subtle.exportKey('pkcs8', key)).toString('base64')
  return `-----BEGIN PRIVATE KEY-----\n${der.replace(/.{1,64}/g, '$&\n')}-----END PRIVATE KEY-----\n`
}

function serial(): string {
  return `00${randomBytes(15).toString('hex')}`
}

function fromNow(ms: number): Date {
  return new Date(Date.now() + ms)
}
