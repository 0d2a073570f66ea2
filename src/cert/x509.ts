/**
 * Makes keys, and reads what else than a `Certificate` needs of X.509 (RFC 5280). Serves `certificate.ts`, `verify.ts`
 * and the issuers in `ca/`.
 */
import { createHash, createPrivateKey, generateKeyPair, type X509Certificate } from 'node:crypto'
import { isIP } from 'node:net'
import { promisify } from 'node:util'
import { elementsIn, TAG, unwrap } from './der.ts'
import { profileOf } from './profile.ts'

export type KeyType = 'ecdsa-p256' | 'ecdsa-p384' | 'rsa-2048' | 'rsa-3072' | 'rsa-4096'

const makeKeyPair = promisify(generateKeyPair)

const CURVES: Readonly<Record<string, KeyType>> = { prime256v1: 'ecdsa-p256', secp384r1: 'ecdsa-p384' }
const RSA_SIZES: Readonly<Record<number, KeyType>> = { 2048: 'rsa-2048', 3072: 'rsa-3072', 4096: 'rsa-4096' }

/** A new private key as PKCS#8 PEM. RSA takes up to seconds, off the event loop. */
export async function generateKeyPem(type: KeyType): Promise<string> {
  const { privateKey } = type.startsWith('rsa-')
    ? await makeKeyPair('rsa', { modulusLength: Number(type.slice('rsa-'.length)) })
    : await makeKeyPair('ec', { namedCurve: type === 'ecdsa-p384' ? 'P-384' : 'P-256' })
  return privateKey.export({ type: 'pkcs8', format: 'pem' }).toString()
}

/** Undefined: a key of a type or size that we never make. Throws when it is no private key. */
export function keyTypeOf(keyPem: string): KeyType | undefined {
  const { asymmetricKeyType, asymmetricKeyDetails } = createPrivateKey(keyPem)
  if (asymmetricKeyType === 'ec') return CURVES[asymmetricKeyDetails?.namedCurve ?? '']
  if (asymmetricKeyType === 'rsa') return RSA_SIZES[asymmetricKeyDetails?.modulusLength ?? 0]
  return undefined
}

/** `DNS:a.example, IP Address:192.0.2.1, othername:"…"`: values that could confuse are quoted as JSON by Node. */
const ALT_NAME = /([\w ]+):("(?:[^"\\]|\\.)*"|[^,"]*)(?:, |$)/gy

/**
 * Lower-case DNS names and canonical IP addresses of the subjectAltName, each once, in its order; other kinds are left
 * out. Reads Node's text of it, without parsing the certificate again: 10,000 certificates are loaded at a start.
 */
export function subjectNamesOf(leaf: X509Certificate): string[] {
  const text = leaf.subjectAltName ?? ''
  const names = new Set<string>()
  for (const [, kind, value = ''] of text.matchAll(ALT_NAME)) {
    // A quoted value holds what no host name may hold.
    if (value.startsWith('"')) continue
    if (kind === 'DNS') names.add(value.toLowerCase())
    else if (kind === 'IP Address' && isIP(value) !== 0) names.add(canonicalAddress(value))
  }
  return [...names]
}

/** RFC 9773 section 4.1; undefined where the leaf has no authority key identifier. */
export function ariIdOf(leaf: X509Certificate): string | undefined {
  const keyId = profileOf(leaf).authorityKeyId
  if (keyId === undefined) return undefined
  // The DER content octets of an INTEGER: a zero goes before a high bit.
  const serial = /^[89A-F]/.test(leaf.serialNumber) ? `00${leaf.serialNumber}` : leaf.serialNumber
  return `${keyId.toString('base64url')}.${Buffer.from(serial, 'hex').toString('base64url')}`
}

/** RFC 5280 section 4.2.1.2, method 1: SHA-1 over the bits of the public key. @param spki DER. @returns hex */
export function keyIdOf(spki: Buffer): string {
  const bits = elementsIn(unwrap(spki, TAG.sequence))[1]?.content.subarray(1) ?? spki
  return createHash('sha1').update(bits).digest('hex')
}

/** RFC 5952, as `normalizeHost` in the config writes it. */
export function canonicalAddress(address: string): string {
  return isIP(address) === 6 ? new URL(`http://[${address}]/`).hostname.slice(1, -1) : address
}
