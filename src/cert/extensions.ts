/**
 * The extensions of certificates, CRLs, their entries and OCSP answers (RFC 5280 section 4.2): one shape for all.
 * Knows the shape and no extension; serves `profile.ts`, `crl.ts` and `ocsp.ts`.
 */
import { type Element, elementsIn, TAG, unwrap } from './der.ts'

export interface Extension {
  readonly critical: boolean
  /** DER. */
  readonly value: Buffer
}

/** By the hex of the object identifier's DER content. */
export type Extensions = ReadonlyMap<string, Extension>

/** @param sequence DER of `SEQUENCE OF Extension`; undefined: there are none. Throws a RangeError when malformed. */
export function extensionsIn(sequence: Buffer | undefined): Extensions {
  const extensions = new Map<string, Extension>()
  if (sequence === undefined) return extensions
  for (const { content } of elementsIn(unwrap(sequence, TAG.sequence))) {
    const [id, ...rest] = elementsIn(content)
    const value = rest.at(-1)
    if (id?.tag !== TAG.oid || value?.tag !== TAG.octetString)
      throw new RangeError('X.509: malformed extension')
    const name = id.content.toString('hex')
    // RFC 5280 section 4.2: one of a kind; with two, readers would differ on which counts.
    if (extensions.has(name)) throw new RangeError('X.509: an extension stands there twice')
    extensions.set(name, { critical: isTrue(rest[0]), value: value.content })
  }
  return extensions
}

/** The elements of an extension whose value is a SEQUENCE; undefined: it is absent. Throws a RangeError when malformed. */
export function sequenceIn(extensions: Extensions, id: string): Element[] | undefined {
  const extension = extensions.get(id)
  return extension && elementsIn(unwrap(extension.value, TAG.sequence))
}

/** Is it the BOOLEAN true? */
export function isTrue(element: Element | undefined): boolean {
  return element?.tag === TAG.boolean && element.content[0] !== 0
}
