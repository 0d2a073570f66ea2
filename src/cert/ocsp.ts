/**
 * OCSP (RFC 6960): the question about one certificate, and what a responder's answer proves. Without a nonce, which
 * most responders ignore (RFC 9654): an answer is bound to its time by thisUpdate and nextUpdate. Asks nobody:
 * `ca/revocation.ts` does.
 */
import { createHash, X509Certificate } from 'node:crypto'
import { DAY } from '../time.ts'
import { type Element, elementsIn, encode, numberOf, TAG, timeOf, unwrap } from './der.ts'
import { extensionsIn, sequenceIn } from './extensions.ts'
import { type Profile, profileOf } from './profile.ts'
import { isSignedBy, type Signed, signedIn } from './signed.ts'
import { keyIdOf } from './x509.ts'

/** Which certificate is asked about: DER of the names and octets of the numbers that make up a CertID. */
export interface CertificateId {
  readonly issuerNameHash: Buffer
  readonly issuerKeyHash: Buffer
  readonly serial: Buffer
}

export interface OcspAnswer {
  /** Undefined: the responder does not know the certificate. */
  readonly revoked: boolean | undefined
  /** Milliseconds since the epoch. */
  readonly thisUpdate: number
  readonly nextUpdate: number
}

/** Object identifiers as the hex of their DER content. */
const ID = {
  sha1: '2b0e03021a',
  authorityInfoAccess: '2b06010505070101',
  ocsp: '2b06010505073001',
  basicResponse: '2b0601050507300101',
  ocspSigning: '2b06010505070309',
  extendedKeyUsage: '551d25',
} as const

/** RFC 6960 section 4.2.1. */
const SUCCESSFUL = 0
const GOOD = 0x80
const REVOKED = 0xa1
const UNKNOWN = 0x82

/** RFC 6960 section 2.4: without nextUpdate newer information is always there, so old answers are not believed. */
const USUAL_LIFETIME_MS = DAY

/** The responders that a certificate names (RFC 5280 section 4.2.2.1). Throws a RangeError when malformed. */
export function ocspUrlsOf(profile: Profile): string[] {
  const descriptions = sequenceIn(profile.extensions, ID.authorityInfoAccess) ?? []
  return descriptions.flatMap(({ content }) => {
    const [method, location] = elementsIn(content)
    const isUrl = method?.content.toString('hex') === ID.ocsp && location?.tag === 0x86
    return isUrl ? [location.content.toString('latin1')] : []
  })
}

/** SHA-1 names the issuer here, as every responder knows it, and protects nothing. */
export function certificateIdOf({ serial }: Profile, issuer: X509Certificate): CertificateId {
  return {
    issuerNameHash: createHash('sha1').update(profileOf(issuer).subject).digest(),
    issuerKeyHash: keyHashOf(issuer),
    serial,
  }
}

/** RFC 6960 section 4.1.1, DER. */
export function createOcspRequest({ issuerNameHash, issuerKeyHash, serial }: CertificateId): Buffer {
  const certId = encode(
    TAG.sequence,
    encode(TAG.sequence, encode(TAG.oid, Buffer.from(ID.sha1, 'hex')), encode(TAG.null)),
    encode(TAG.octetString, issuerNameHash),
    encode(TAG.octetString, issuerKeyHash),
    encode(TAG.integer, serial),
  )
  const requestList = encode(TAG.sequence, encode(TAG.sequence, certId))
  return encode(TAG.sequence, encode(TAG.sequence, requestList))
}

/**
 * Reads an answer about `id`, signed by `issuer` or by a responder that it has appointed.
 *
 * @param now the appointment must hold then; whether the answer is of this time is for the caller to judge
 * @throws Error when nothing can be believed of it; the message says why
 */
export async function readOcspAnswer(
  bytes: Buffer,
  id: CertificateId,
  issuer: X509Certificate,
  now: number,
): Promise<OcspAnswer> {
  const signed = signedIn(basicResponseIn(bytes))
  const fields = elementsIn(signed.content.content)
  // The version `[0]` is 1 and left out.
  const [responder, , responses, extensions] = fields
  if (responder === undefined || responses?.tag !== TAG.sequence)
    throw new RangeError('OCSP: fields are missing')
  requireNoCritical(extensions)
  const signer = signerOf(signed, responder, issuer, now)
  if (signer === undefined) throw new RangeError('OCSP: the issuer has not appointed the responder')
  if (!(await isSignedBy(signer.publicKey, signed)))
    throw new RangeError('OCSP: its signature is not by the responder')
  for (const { content } of elementsIn(responses.content)) {
    const [certId, ...rest] = elementsIn(content)
    if (certId !== undefined && isAbout(certId, id)) return answerIn(rest)
  }
  throw new RangeError('OCSP: it is about another certificate')
}

function basicResponseIn(bytes: Buffer): Buffer {
  const [status, response] = elementsIn(unwrap(bytes, TAG.sequence))
  const code = status?.tag === TAG.enumerated ? numberOf(status.content) : undefined
  if (code !== SUCCESSFUL) throw new RangeError(`OCSP: the responder refuses, with status ${code}`)
  const [type, value] = elementsIn(unwrap(response?.content ?? Buffer.alloc(0), TAG.sequence))
  if (type?.content.toString('hex') !== ID.basicResponse || value?.tag !== TAG.octetString)
    throw new RangeError('OCSP: not a basic response')
  return value.content
}

/** RFC 6960 section 4.2.2.2: the issuer, or one that it has appointed and whose certificate comes with the answer. */
function signerOf(
  { rest }: Signed,
  responder: Element,
  issuer: X509Certificate,
  now: number,
): X509Certificate | undefined {
  if (isNamedBy(responder, issuer)) return issuer
  const sent = rest[0]?.tag === 0xa0 ? elementsIn(unwrap(rest[0].content, TAG.sequence)) : []
  return sent
    .map(({ raw }) => new X509Certificate(raw))
    .find((certificate) => isNamedBy(responder, certificate) && isAppointed(certificate, issuer, now))
}

/** ResponderID: its name is `[1]`, the hash of its key `[2]`. */
function isNamedBy(responder: Element, certificate: X509Certificate): boolean {
  if (responder.tag === 0xa1) return responder.content.equals(profileOf(certificate).subject)
  return responder.tag === 0xa2 && unwrap(responder.content, TAG.octetString).equals(keyHashOf(certificate))
}

function isAppointed(certificate: X509Certificate, issuer: X509Certificate, now: number): boolean {
  const profile = profileOf(certificate)
  const purposes = sequenceIn(profile.extensions, ID.extendedKeyUsage) ?? []
  return (
    purposes.some(({ content }) => content.toString('hex') === ID.ocspSigning) &&
    profile.keyUsage?.digitalSignature !== false &&
    !profile.hasUnknownCritical &&
    profile.signatureAlgorithm === 'strong' &&
    profile.issuer.equals(profileOf(issuer).subject) &&
    now >= Date.parse(certificate.validFrom) &&
    now < Date.parse(certificate.validTo) &&
    certificate.verify(issuer.publicKey)
  )
}

function isAbout(certId: Element, { issuerNameHash, issuerKeyHash, serial }: CertificateId): boolean {
  const [algorithm, name, key, number] = elementsIn(certId.content)
  const [hash] = elementsIn(algorithm?.content ?? Buffer.alloc(0))
  return (
    hash?.content.toString('hex') === ID.sha1 &&
    name?.content.equals(issuerNameHash) === true &&
    key?.content.equals(issuerKeyHash) === true &&
    number?.content.equals(serial) === true
  )
}

/** What follows the CertID in a SingleResponse: status, thisUpdate, nextUpdate `[0]`, extensions `[1]`. */
function answerIn([status, from, ...optional]: readonly Element[]): OcspAnswer {
  if (status === undefined || from === undefined) throw new RangeError('OCSP: fields are missing')
  requireNoCritical(optional.find(({ tag }) => tag === 0xa1))
  const thisUpdate = timeOf(from)
  const next = optional.find(({ tag }) => tag === 0xa0)
  const [until] = next === undefined ? [] : elementsIn(next.content)
  const nextUpdate = until === undefined ? thisUpdate + USUAL_LIFETIME_MS : timeOf(until)
  return { revoked: revokedIn(status), thisUpdate, nextUpdate }
}

function revokedIn({ tag }: Element): boolean | undefined {
  if (tag === GOOD) return false
  if (tag === REVOKED) return true
  if (tag === UNKNOWN) return undefined
  throw new RangeError('OCSP: a status that RFC 6960 does not know')
}

/** Of extensions, EXPLICIT, none is known here. */
function requireNoCritical(explicit: Element | undefined): void {
  for (const [id, { critical }] of extensionsIn(explicit?.content))
    if (critical) throw new RangeError(`OCSP: unknown critical extension ${id}`)
}

function keyHashOf(certificate: X509Certificate): Buffer {
  return Buffer.from(keyIdOf(certificate.publicKey.export({ type: 'spki', format: 'der' })), 'hex')
}
