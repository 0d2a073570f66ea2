/**
 * Makes what is signed: CSRs, CA certificates, leaves, the tls-alpn-01 certificate (RFC 5280). Hides ASN.1 and WebCrypto.
 * Serves the issuers in `ca/` and `challenge/`. The only user of @peculiar/x509, which needs reflect-metadata before it.
 *
 * Imported by those who sign, when they do: its libraries take 5 MB in each process that holds them.
 */
import 'reflect-metadata'
import {
  createHash,
  createPrivateKey,
  createPublicKey,
  webcrypto as crypto,
  type KeyObject,
  randomBytes,
  X509Certificate,
} from 'node:crypto'
import { isIP } from 'node:net'
import * as x509 from '@peculiar/x509'
import { DAY } from '../time.ts'
import { profileOf } from './profile.ts'
import { keyIdOf } from './x509.ts'

/** A CA that signs: its certificate and the key to it. */
export interface Signer {
  readonly certificatePem: string
  readonly keyPem: string
}

/** Milliseconds since the epoch; X.509 knows whole seconds, so fractions are dropped. */
interface Validity {
  readonly notBefore: number
  readonly notAfter: number
}

export interface AuthorityOptions extends Validity {
  readonly commonName: string
  readonly keyPem: string
  /** How many CA certificates may follow below it. */
  readonly pathLength: number
  /** Absent: it signs itself, as a root does. */
  readonly issuer?: Signer
}

export interface LeafOptions extends Validity {
  /** DNS names, wildcards and IP addresses; the first is the subject where it fits. */
  readonly names: readonly string[]
  readonly keyPem: string
  readonly issuer: Signer
}

/** RFC 5280 appendix A.1: ub-common-name. */
const LONGEST_COMMON_NAME = 64
/** RFC 8737 section 6.1. */
const ID_PE_ACME_IDENTIFIER = '1.3.6.1.5.5.7.1.31'

/** PKCS#10 in DER. The names stand in the subjectAltName; the common name is set only where a CA may accept it. */
export async function createCsr(names: readonly string[], keyPem: string): Promise<Buffer> {
  const subject = subjectFor(names)
  const publicKey = createPublicKey(keyPem)
  const privateKey = signingKeyOf(keyPem)
  const request = await x509.Pkcs10CertificateRequestGenerator.create(
    {
      ...(subject === undefined ? {} : { name: subject }),
      keys: { privateKey, publicKey: publicKey.toCryptoKey(algorithmOf(publicKey), true, ['verify']) },
      signingAlgorithm: signingAlgorithmOf(privateKey),
      extensions: [subjectAltNames(names, false)],
    },
    crypto,
  )
  return Buffer.from(request.rawData)
}

/** RFC 8737 section 3 and RFC 8738 section 6: the self-signed certificate that answers tls-alpn-01 for one name. */
export async function createAlpnCertificate(
  name: string,
  keyAuthorization: string,
  keyPem: string,
  now: number,
): Promise<string> {
  const digest = createHash('sha256').update(keyAuthorization).digest()
  const octetString = Buffer.concat([Buffer.of(0x04, digest.length), digest])
  return sign({
    subject: commonName('ACME challenge'),
    keyPem,
    notBefore: now - DAY,
    notAfter: now + 7 * DAY,
    extensions: [
      subjectAltNames([name], false),
      new x509.Extension(ID_PE_ACME_IDENTIFIER, true, octetString),
    ],
  })
}

/** A CA certificate as PEM: a root, or below `issuer` an intermediate for servers only. */
export async function createAuthority(options: AuthorityOptions): Promise<string> {
  const usage = x509.KeyUsageFlags.keyCertSign | x509.KeyUsageFlags.cRLSign
  return sign({
    ...options,
    subject: commonName(options.commonName),
    extensions: [
      new x509.BasicConstraintsExtension(true, options.pathLength, true),
      new x509.KeyUsagesExtension(usage, true),
      ...(options.issuer === undefined ? [] : [serverAuth()]),
    ],
  })
}

/** A server certificate as PEM (RFC 5280 section 4.2), without its chain. */
export async function createLeaf(options: LeafOptions): Promise<string> {
  const subject = subjectFor(options.names)
  return sign({
    ...options,
    subject,
    extensions: [
      new x509.BasicConstraintsExtension(false, undefined, true),
      new x509.KeyUsagesExtension(x509.KeyUsageFlags.digitalSignature, true),
      serverAuth(),
      // RFC 5280 section 4.2.1.6: critical where the subject is empty.
      subjectAltNames(options.names, subject === undefined),
    ],
  })
}

type Subject = x509.JsonName

interface SignOptions extends Validity {
  /** Undefined: an empty subject. */
  readonly subject: Subject | undefined
  readonly keyPem: string
  readonly extensions: readonly x509.Extension[]
  readonly issuer?: Signer
}

/** Signs with the issuer's key, or with its own; adds the serial number and the key identifiers. */
async function sign(options: SignOptions): Promise<string> {
  const publicKey = createPublicKey(options.keyPem).export({ type: 'spki', format: 'der' })
  const keyId = keyIdOf(publicKey)
  const issuer = options.issuer && issuerOf(options.issuer.certificatePem)
  const signingKey = signingKeyOf(options.issuer?.keyPem ?? options.keyPem)
  const certificate = await x509.X509CertificateGenerator.create(
    {
      serialNumber: randomSerial(),
      subject: options.subject ?? [],
      issuer: issuer?.name ?? options.subject ?? [],
      notBefore: wholeSecond(options.notBefore),
      notAfter: wholeSecond(options.notAfter),
      publicKey,
      signingKey,
      signingAlgorithm: signingAlgorithmOf(signingKey),
      extensions: [
        ...options.extensions,
        new x509.SubjectKeyIdentifierExtension(keyId),
        new x509.AuthorityKeyIdentifierExtension(issuer?.keyId ?? keyId),
      ],
    },
    crypto,
  )
  return `${certificate.toString('pem')}\n`
}

/** Its name and key identifier as it states them, so that chains link whatever scheme it uses. */
function issuerOf(certificatePem: string): { name: x509.Name; keyId: string } {
  const certificate = new X509Certificate(certificatePem)
  const { subject, subjectKeyId } = profileOf(certificate)
  const spki = certificate.publicKey.export({ type: 'spki', format: 'der' })
  return { name: new x509.Name(subject), keyId: subjectKeyId?.toString('hex') ?? keyIdOf(spki) }
}

function subjectFor(names: readonly string[]): Subject | undefined {
  const name = names.find((each) => isIP(each) === 0 && each.length <= LONGEST_COMMON_NAME)
  return name === undefined ? undefined : commonName(name)
}

function commonName(name: string): Subject {
  return [{ CN: [name] }]
}

function subjectAltNames(names: readonly string[], critical: boolean): x509.Extension {
  const general = names.map((name) => ({
    type: isIP(name) === 0 ? ('dns' as const) : ('ip' as const),
    value: name,
  }))
  return new x509.SubjectAlternativeNameExtension(general, critical)
}

function serverAuth(): x509.Extension {
  return new x509.ExtendedKeyUsageExtension([x509.ExtendedKeyUsage.serverAuth])
}

/** RFC 5280 section 4.1.2.2: positive, and without a leading zero octet. */
function randomSerial(): string {
  const bytes = randomBytes(16)
  bytes.writeUInt8((bytes.readUInt8(0) & 0x7f) | 0x40, 0)
  return bytes.toString('hex')
}

function wholeSecond(time: number): Date {
  return new Date(Math.floor(time / 1000) * 1000)
}

function signingKeyOf(keyPem: string): crypto.CryptoKey {
  const key = createPrivateKey(keyPem)
  return key.toCryptoKey(algorithmOf(key), false, ['sign'])
}

function algorithmOf(key: KeyObject): crypto.EcKeyImportParams | crypto.RsaHashedImportParams {
  if (key.asymmetricKeyType === 'rsa') return { name: 'RSASSA-PKCS1-v1_5', hash: 'SHA-256' }
  const namedCurve = key.asymmetricKeyDetails?.namedCurve === 'secp384r1' ? 'P-384' : 'P-256'
  return { name: 'ECDSA', namedCurve }
}

/** The digest that matches the strength of the key. */
function signingAlgorithmOf(key: crypto.CryptoKey): { name: string; hash: string } {
  const isP384 = (key.algorithm as crypto.EcKeyAlgorithm).namedCurve === 'P-384'
  return { name: key.algorithm.name, hash: isP384 ? 'SHA-384' : 'SHA-256' }
}
