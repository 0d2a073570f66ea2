/**
 * What a CA signs beside certificates, CRLs and OCSP answers, in the frame that they share:
 * `SEQUENCE { content, AlgorithmIdentifier, BIT STRING, … }`. Serves `crl.ts` and `ocsp.ts`.
 */
import { type KeyObject, verify } from 'node:crypto'
import { promisify } from 'node:util'
import { type Element, elementsIn, TAG, unwrap } from './der.ts'

export interface Signed {
  /** Not to be believed before `isSignedBy`. */
  readonly content: Element
  /** DER of the AlgorithmIdentifier. */
  readonly algorithm: Buffer
  readonly signature: Buffer
  /** What follows the signature. */
  readonly rest: readonly Element[]
}

/** The strong ones, as `profile.ts` judges certificates, of the keys that CAs have. */
const ALGORITHMS: Readonly<Record<string, { readonly keyType: 'rsa' | 'ec'; readonly digest: string }>> = {
  '2a864886f70d01010b': { keyType: 'rsa', digest: 'sha256' },
  '2a864886f70d01010c': { keyType: 'rsa', digest: 'sha384' },
  '2a864886f70d01010d': { keyType: 'rsa', digest: 'sha512' },
  '2a8648ce3d040302': { keyType: 'ec', digest: 'sha256' },
  '2a8648ce3d040303': { keyType: 'ec', digest: 'sha384' },
  '2a8648ce3d040304': { keyType: 'ec', digest: 'sha512' },
}

const verifyOffThread = promisify(verify)

/** Throws a RangeError when it is malformed. */
export function signedIn(der: Buffer): Signed {
  const [content, algorithm, signature, ...rest] = elementsIn(unwrap(der, TAG.sequence))
  if (content?.tag !== TAG.sequence || algorithm?.tag !== TAG.sequence || signature?.tag !== TAG.bitString)
    throw new RangeError('X.509: not a signed structure')
  // The first octet counts the unused bits.
  if (signature.content[0] !== 0) throw new RangeError('X.509: a signature of broken octets')
  return { content, algorithm: algorithm.raw, signature: signature.content.subarray(1), rest }
}

/** Hashes off the event loop: a CRL has megabytes. False as well for an algorithm that is weak or unknown. */
export async function isSignedBy(key: KeyObject, signed: Signed): Promise<boolean> {
  const [id] = elementsIn(unwrap(signed.algorithm, TAG.sequence))
  const algorithm = ALGORITHMS[id?.content.toString('hex') ?? '']
  if (algorithm === undefined || algorithm.keyType !== key.asymmetricKeyType) return false
  return verifyOffThread(algorithm.digest, signed.content.raw, key, signed.signature)
}
