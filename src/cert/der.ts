/**
 * Reads DER (ITU-T X.690), the encoding below X.509: as much of it as `profile.ts` needs, in microseconds.
 * Strict: definite lengths and one-byte tags only, and nothing may reach past its parent.
 */

/** X.690 section 8.1.2, and the context-specific tags that X.509 uses. */
export const TAG = {
  boolean: 0x01,
  integer: 0x02,
  bitString: 0x03,
  octetString: 0x04,
  oid: 0x06,
  sequence: 0x30,
} as const

export interface Element {
  readonly tag: number
  readonly content: Buffer
  /** Tag, length and content. */
  readonly raw: Buffer
}

/** The elements that fill `bytes`. Throws where they do not. */
export function elementsIn(bytes: Buffer): Element[] {
  const elements: Element[] = []
  for (let offset = 0; offset < bytes.length; ) {
    const element = elementAt(bytes, offset)
    elements.push(element)
    offset += element.raw.length
  }
  return elements
}

/** The content of the one element that fills `bytes`. Throws when it has another tag or does not fill them. */
export function unwrap(bytes: Buffer, tag: number): Buffer {
  const element = elementAt(bytes, 0)
  if (element.tag !== tag || element.raw.length !== bytes.length)
    throw new RangeError(`DER: expected one element with tag ${tag}`)
  return element.content
}

/** The number that an INTEGER's content holds. Throws when it is negative or past 2^31, where nothing sensible is. */
export function numberOf(content: Buffer): number {
  const isSmall = content.length >= 1 && content.length <= 4
  const value = isSmall ? content.readIntBE(0, content.length) : -1
  if (value < 0) throw new RangeError('DER: expected a small integer')
  return value
}

function elementAt(bytes: Buffer, start: number): Element {
  if (start + 2 > bytes.length) throw new RangeError('DER: ends within a header')
  const tag = bytes.readUInt8(start)
  if ((tag & 0x1f) === 0x1f) throw new RangeError('DER: tags of several bytes are not supported')
  const first = bytes.readUInt8(start + 1)
  let from = start + 2
  let length = first
  if (first > 0x7f) {
    const lengthBytes = first & 0x7f
    if (lengthBytes < 1 || lengthBytes > 4 || from + lengthBytes > bytes.length)
      throw new RangeError('DER: unusable length')
    length = bytes.readUIntBE(from, lengthBytes)
    from += lengthBytes
  }
  const end = from + length
  if (end > bytes.length) throw new RangeError('DER: an element reaches past its parent')
  return { tag, content: bytes.subarray(from, end), raw: bytes.subarray(start, end) }
}
