/**
 * PKCS#12 files (RFC 7292): reads what operators bring and writes what other programs import. The only user of
 * node-forge, which decrypts and encodes here and decides nothing. Forge knows no ECDSA: it hands such keys and
 * certificates over as raw ASN.1, and what is written is assembled from DER.
 *
 * Not read: PBMAC1 (RFC 9579), and passphrases beyond ASCII where the file is encrypted by PBES2.
 */
import { createHmac, createPrivateKey, randomBytes, X509Certificate } from 'node:crypto'
import forge from 'node-forge'
import { CertificateError, messageOf } from '../errors.ts'
import type { Certificate } from './certificate.ts'

const { asn1, pki, pkcs12 } = forge

/** As `openssl pkcs12 -export` has it. */
const MAC_ITERATIONS = 2048
const MAC_BYTES = 32
/** RFC 7292 appendix B.3: what a derived key is for. */
const MAC_KEY = 3

/**
 * The certificates, in the order of the file, and the private key as PKCS#8 PEM. Blocks for some 50 ms.
 *
 * @param passphrase undefined: the file has an empty one
 * @param what names the file in errors
 * @throws CertificateError CERTIFICATE_UNREADABLE
 */
export function readPkcs12(
  der: Buffer,
  passphrase: string | undefined,
  what: string,
): { chainPem: string; keyPem: string } {
  const bags = open(der, passphrase, what).safeContents.flatMap(({ safeBags }) => safeBags)
  const certificates = bags.filter(({ type }) => type === pki.oids.certBag)
  const keys = bags.filter(({ type }) => type !== pki.oids.certBag)
  const [key] = keys
  if (certificates.length === 0) throw unreadable(what, 'holds no certificate')
  if (key === undefined) throw unreadable(what, 'holds no private key')
  if (keys.length > 1)
    throw unreadable(what, `holds ${keys.length} private keys: export the one that is meant`)
  try {
    const pem = createPrivateKey({ key: keyDerIn(key), type: 'pkcs8', format: 'der' })
    return {
      chainPem: certificates.map((bag) => new X509Certificate(certificateDerIn(bag)).toString()).join(''),
      keyPem: pem.export({ type: 'pkcs8', format: 'pem' }).toString(),
    }
  } catch {
    // The cause is left out on purpose: OpenSSL's messages may quote the input.
    throw unreadable(what, 'holds a damaged certificate or key')
  }
}

/**
 * The chain and the key: the key encrypted with AES-256 (PBES2), everything authenticated by HMAC-SHA256. The
 * certificates, which are public, stand in it in plain. Blocks for some 10 ms.
 *
 * @param passphrase not empty
 */
export function writePkcs12(certificate: Certificate, passphrase: string): Buffer {
  const attributes = bagAttributes(certificate)
  const certificateBags = certificate.chain.map(({ raw }, index) =>
    sequence(oid('certBag'), explicit(certificateBag(raw)), ...(index === 0 ? [attributes] : [])),
  )
  const key = createPrivateKey(certificate.keyPem)
  const encryptedKey = key.export({ type: 'pkcs8', format: 'der', cipher: 'aes-256-cbc', passphrase })
  const keyBag = sequence(oid('pkcs8ShroudedKeyBag'), explicit(fromDer(encryptedKey)), attributes)
  const safe = toDer(sequence(dataOf(toDer(sequence(...certificateBags))), dataOf(toDer(sequence(keyBag)))))
  return toDer(sequence(integer(3), dataOf(safe), macOf(safe, passphrase)))
}

function open(der: Buffer, passphrase: string | undefined, what: string): forge.pkcs12.Pkcs12Pfx {
  let pfx: forge.asn1.Asn1
  try {
    pfx = fromDer(der)
  } catch (cause) {
    throw unreadable(what, 'is neither PEM nor PKCS#12, or is cut short', cause)
  }
  try {
    return pkcs12.pkcs12FromAsn1(pfx, true, passphrase ?? '')
  } catch (cause) {
    throw unreadable(what, reasonOf(messageOf(cause), passphrase), cause)
  }
}

/** Forge's errors have no code. */
function reasonOf(message: string, passphrase: string | undefined): string {
  if (!/MAC could not be verified|decrypt|password/.test(message))
    return `is PKCS#12 of a kind that cannot be read`
  if (passphrase === undefined) return 'is encrypted: give its `passphrase`'
  return /^[ -~]*$/.test(passphrase)
    ? 'the passphrase is wrong'
    : 'the passphrase is wrong, or cannot be used because it is not plain ASCII: export the file with another one'
}

function unreadable(what: string, why: string, cause?: unknown): CertificateError {
  return new CertificateError('CERTIFICATE_UNREADABLE', `${what}: ${why}`, { cause })
}

function keyDerIn({ key, asn1: raw }: forge.pkcs12.Bag): Buffer {
  return toDer(key ? pki.wrapRsaPrivateKey(pki.privateKeyToAsn1(key)) : raw)
}

function certificateDerIn({ cert, asn1: raw }: forge.pkcs12.Bag): Buffer {
  return toDer(cert ? pki.certificateToAsn1(cert) : raw)
}

/** RFC 7292 section 4.2.3. */
function certificateBag(der: Buffer): forge.asn1.Asn1 {
  return sequence(oid('x509Certificate'), explicit(octetString(der)))
}

/** `localKeyId` pairs the leaf with its key; importers show `friendlyName`. */
function bagAttributes({ fingerprint, names }: Certificate): forge.asn1.Asn1 {
  const label = asn1.create(asn1.Class.UNIVERSAL, asn1.Type.BMPSTRING, false, names[0] ?? '')
  return set(
    sequence(oid('localKeyId'), set(octetString(Buffer.from(fingerprint, 'hex')))),
    sequence(oid('friendlyName'), set(label)),
  )
}

/** RFC 7292 section 4, MacData. */
function macOf(content: Buffer, passphrase: string): forge.asn1.Asn1 {
  const salt = randomBytes(16)
  const saltBytes = forge.util.createBuffer(salt.toString('binary'))
  const digest = forge.md.sha256.create()
  const key = pkcs12.generateKey(passphrase, saltBytes, MAC_KEY, MAC_ITERATIONS, MAC_BYTES, digest)
  const mac = createHmac('sha256', Buffer.from(key.getBytes(), 'binary')).update(content).digest()
  const algorithm = sequence(oid('sha256'), asn1.create(asn1.Class.UNIVERSAL, asn1.Type.NULL, false, ''))
  return sequence(sequence(algorithm, octetString(mac)), octetString(salt), integer(MAC_ITERATIONS))
}

/** ContentInfo of type `data`. */
function dataOf(content: Buffer): forge.asn1.Asn1 {
  return sequence(oid('data'), explicit(octetString(content)))
}

function sequence(...value: forge.asn1.Asn1[]): forge.asn1.Asn1 {
  return asn1.create(asn1.Class.UNIVERSAL, asn1.Type.SEQUENCE, true, value)
}

function set(...value: forge.asn1.Asn1[]): forge.asn1.Asn1 {
  return asn1.create(asn1.Class.UNIVERSAL, asn1.Type.SET, true, value)
}

/** `[0] EXPLICIT`. */
function explicit(value: forge.asn1.Asn1): forge.asn1.Asn1 {
  return asn1.create(asn1.Class.CONTEXT_SPECIFIC, 0, true, [value])
}

function octetString(value: Buffer): forge.asn1.Asn1 {
  return asn1.create(asn1.Class.UNIVERSAL, asn1.Type.OCTETSTRING, false, value.toString('binary'))
}

function integer(value: number): forge.asn1.Asn1 {
  return asn1.create(asn1.Class.UNIVERSAL, asn1.Type.INTEGER, false, asn1.integerToDer(value).getBytes())
}

function oid(name: string): forge.asn1.Asn1 {
  const der = asn1.oidToDer(pki.oids[name] ?? '').getBytes()
  return asn1.create(asn1.Class.UNIVERSAL, asn1.Type.OID, false, der)
}

function fromDer(der: Buffer): forge.asn1.Asn1 {
  return asn1.fromDer(der.toString('binary'))
}

function toDer(value: forge.asn1.Asn1): Buffer {
  return Buffer.from(asn1.toDer(value).getBytes(), 'binary')
}
