/**
 * What a certificate states and allows beyond what node:crypto tells: the fields and extensions of RFC 5280 that
 * `verify.ts` judges a chain by, and the key identifiers that chains and ARI are built on. Reads, and decides nothing.
 */
import type { X509Certificate } from 'node:crypto'
import { elementsIn, numberOf, TAG, unwrap } from './der.ts'
import { type Extensions, extensionsIn, isTrue, sequenceIn } from './extensions.ts'
import { type NameConstraints, nameConstraintsIn } from './name-constraints.ts'

export interface Profile {
  /** The octets of the INTEGER: the same number always has the same. */
  readonly serial: Buffer
  /** DER of the name. */
  readonly subject: Buffer
  /** DER of the name. */
  readonly issuer: Buffer
  readonly signatureAlgorithm: SignatureAlgorithm
  readonly isAuthority: boolean
  /** The most intermediates that may stand between this authority and the leaf. */
  readonly pathLength: number | undefined
  /** Undefined: the extension is absent, so any use is allowed. */
  readonly keyUsage: KeyUsage | undefined
  /** Undefined: the extension is absent, so any purpose is allowed. */
  readonly mayServe: boolean | undefined
  readonly nameConstraints: NameConstraints | undefined
  readonly subjectKeyId: Buffer | undefined
  readonly authorityKeyId: Buffer | undefined
  /** Is there a critical extension that we do not know? Then nobody may rely on the certificate. */
  readonly hasUnknownCritical: boolean
  /** All of them, for what is not told above. */
  readonly extensions: Extensions
}

export interface KeyUsage {
  readonly digitalSignature: boolean
  readonly keyCertSign: boolean
  readonly cRLSign: boolean
}

/** The algorithms that browsers accept, and what the rest is called in an error. */
export type SignatureAlgorithm = 'strong' | 'SHA-1' | 'MD5' | 'unknown'

/** Object identifiers are compared as the hex of their DER content. */
const ID = {
  basicConstraints: '551d13',
  keyUsage: '551d0f',
  subjectKeyIdentifier: '551d0e',
  subjectAltName: '551d11',
  nameConstraints: '551d1e',
  certificatePolicies: '551d20',
  policyMappings: '551d21',
  authorityKeyIdentifier: '551d23',
  policyConstraints: '551d24',
  extendedKeyUsage: '551d25',
  inhibitAnyPolicy: '551d36',
  anyExtendedKeyUsage: '551d2500',
  serverAuth: '2b06010505070301',
  rsaPss: '2a864886f70d01010a',
} as const

/** Processed here or by OpenSSL, or (policies) without a say in what a server certificate is good for. */
const KNOWN_CRITICAL: ReadonlySet<string> = new Set([
  ID.basicConstraints,
  ID.keyUsage,
  ID.subjectAltName,
  ID.nameConstraints,
  ID.certificatePolicies,
  ID.policyMappings,
  ID.policyConstraints,
  ID.extendedKeyUsage,
  ID.inhibitAnyPolicy,
])

const SIGNATURES: Readonly<Record<string, SignatureAlgorithm>> = {
  '2a864886f70d010104': 'MD5',
  '2a864886f70d010105': 'SHA-1',
  '2a864886f70d01010b': 'strong', // sha256WithRSAEncryption
  '2a864886f70d01010c': 'strong', // sha384WithRSAEncryption
  '2a864886f70d01010d': 'strong', // sha512WithRSAEncryption
  '2a8648ce3d0401': 'SHA-1',
  '2a8648ce3d040302': 'strong', // ecdsa-with-SHA256
  '2a8648ce3d040303': 'strong', // ecdsa-with-SHA384
  '2a8648ce3d040304': 'strong', // ecdsa-with-SHA512
}

/** SHA-256, SHA-384 and SHA-512 as the hash of RSASSA-PSS. */
const STRONG_HASHES: ReadonlySet<string> = new Set([
  '608648016503040201',
  '608648016503040202',
  '608648016503040203',
])

/** Throws a RangeError when an extension is malformed: OpenSSL reads a certificate without looking into all of them. */
export function profileOf(certificate: X509Certificate): Profile {
  const [tbs, signature] = elementsIn(unwrap(certificate.raw, TAG.sequence))
  const fields = elementsIn(tbs?.content ?? Buffer.alloc(0))
  // RFC 5280 section 4.1: version [0] is left out in version 1 certificates.
  const first = fields[0]?.tag === 0xa0 ? 1 : 0
  const extensions = extensionsIn(fields.find((field) => field.tag === 0xa3)?.content)
  const constraints = sequenceIn(extensions, ID.nameConstraints)
  return {
    serial: fields[first]?.content ?? Buffer.alloc(0),
    issuer: fields[first + 2]?.raw ?? Buffer.alloc(0),
    subject: fields[first + 4]?.raw ?? Buffer.alloc(0),
    signatureAlgorithm: signatureAlgorithmIn(signature?.content ?? Buffer.alloc(0)),
    ...basicConstraintsIn(extensions),
    keyUsage: keyUsageIn(extensions),
    mayServe: mayServe(extensions),
    nameConstraints: constraints && nameConstraintsIn(constraints),
    subjectKeyId: subjectKeyIdIn(extensions),
    authorityKeyId: authorityKeyIdIn(extensions),
    hasUnknownCritical: [...extensions].some(([id, { critical }]) => critical && !KNOWN_CRITICAL.has(id)),
    extensions,
  }
}

/** `SEQUENCE { algorithm OID, parameters }`. */
function signatureAlgorithmIn(content: Buffer): SignatureAlgorithm {
  const [algorithm, parameters] = elementsIn(content)
  const id = algorithm?.content.toString('hex') ?? ''
  return id === ID.rsaPss ? pssAlgorithmIn(parameters?.content) : (SIGNATURES[id] ?? 'unknown')
}

/** RFC 4055 section 3.1: the hash is `[0]`, and SHA-1 where it is left out. */
function pssAlgorithmIn(parameters: Buffer | undefined): SignatureAlgorithm {
  const hash = elementsIn(parameters ?? Buffer.alloc(0)).find(({ tag }) => tag === 0xa0)
  if (hash === undefined) return 'SHA-1'
  const [id] = elementsIn(unwrap(hash.content, TAG.sequence))
  return STRONG_HASHES.has(id?.content.toString('hex') ?? '') ? 'strong' : 'unknown'
}

function basicConstraintsIn(extensions: Extensions): Pick<Profile, 'isAuthority' | 'pathLength'> {
  const fields = sequenceIn(extensions, ID.basicConstraints) ?? []
  const pathLength = fields.find(({ tag }) => tag === TAG.integer)
  return { isAuthority: isTrue(fields[0]), pathLength: pathLength && numberOf(pathLength.content) }
}

/** RFC 5280 section 4.2.1.3: bit 0 is the highest of the first octet, after the count of unused bits. */
function keyUsageIn(extensions: Extensions): KeyUsage | undefined {
  const extension = extensions.get(ID.keyUsage)
  if (extension === undefined) return undefined
  const bits = unwrap(extension.value, TAG.bitString)[1] ?? 0
  return {
    digitalSignature: (bits & 0x80) !== 0,
    keyCertSign: (bits & 0x04) !== 0,
    cRLSign: (bits & 0x02) !== 0,
  }
}

function mayServe(extensions: Extensions): boolean | undefined {
  const purposes = sequenceIn(extensions, ID.extendedKeyUsage)?.map(({ content }) => content.toString('hex'))
  return purposes?.some((purpose) => purpose === ID.serverAuth || purpose === ID.anyExtendedKeyUsage)
}

/** RFC 5280 section 4.2.1.2. */
function subjectKeyIdIn(extensions: Extensions): Buffer | undefined {
  const extension = extensions.get(ID.subjectKeyIdentifier)
  return extension && unwrap(extension.value, TAG.octetString)
}

/** RFC 5280 section 4.2.1.1: the key identifier is `[0]`. */
function authorityKeyIdIn(extensions: Extensions): Buffer | undefined {
  return sequenceIn(extensions, ID.authorityKeyIdentifier)?.find(({ tag }) => tag === 0x80)?.content
}
