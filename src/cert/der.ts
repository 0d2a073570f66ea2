/**
 * Reads DER (ITU-T X.690), the encoding below X.509, as much of it as certificates, CRLs and OCSP need, in
 * microseconds; and writes what an OCSP request is made of. Strict: definite lengths and one-byte tags only, and nothing may reach past its parent.
 */

/** X.690 section 8.1.2, and the context-specific tags that X.509 uses. */
export const TAG = {
  boolean: 0x01,
  integer: 0x02,
  bitString: 0x03,
  octetString: 0x04,
  null: 0x05,
  oid: 0x06,
  enumerated: 0x0a,
  utcTime: 0x17,
  generalizedTime: 0x18,
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

/**
 * Milliseconds since the epoch that a UTCTime or GeneralizedTime holds, in the one form that RFC 5280 section 4.1.2.5
 * allows. Throws where it does not.
 */
export function timeOf({ tag, content }: Element): number {
  const text = content.toString('latin1')
  const isShort = tag === TAG.utcTime
  const digits = isShort ? `${text < '5' ? '20' : '19'}${text}` : text
  const [, year, month, day, hour, minute, second] =
    /^(\d{4})(\d\d)(\d\d)(\d\d)(\d\d)(\d\d)Z$/.exec(digits) ?? []
  const time = Date.parse(`${year}-${month}-${day}T${hour}:${minute}:${second}Z`)
  if (!(isShort || tag === TAG.generalizedTime) || Number.isNaN(time))
    throw new RangeError('DER: expected a time')
  return time
}

/** Where an element lies. */
export interface Span {
  readonly tag: number
  /** Of its content. */
  readonly from: number
  readonly end: number
}

/** The span of the element that starts at `start`: to walk thousands without a view of each. Throws past `limit`. */
export function spanAt(bytes: Buffer, start: number, limit: number): Span {
  if (start + 2 > limit) throw new RangeError('DER: ends within a header')
  const tag = bytes.readUInt8(start)
  if ((tag & 0x1f) === 0x1f) throw new RangeError('DER: tags of several bytes are not supported')
  const first = bytes.readUInt8(start + 1)
  let from = start + 2
  let length = first
  if (first > 0x7f) {
    const lengthBytes = first & 0x7f
    if (lengthBytes < 1 || lengthBytes > 4 || from + lengthBytes > limit)
      throw new RangeError('DER: unusable length')
    length = bytes.readUIntBE(from, lengthBytes)
    from += lengthBytes
  }
  const end = from + length
  if (end > limit) throw new RangeError('DER: an element reaches past its parent')
  return { tag, from, end }
}

/** One element. Its content, all together, is shorter than 64 KB. */
export function encode(tag: number, ...contents: readonly Buffer[]): Buffer {
  const content = Buffer.concat(contents)
  const { length } = content
  if (length < 0x80) return Buffer.concat([Buffer.of(tag, length), content])
  const header = length < 0x100 ? [0x81, length] : [0x82, length >> 8, length & 0xff]
  return Buffer.concat([Buffer.of(tag, ...header), content])
}

function elementAt(bytes: Buffer, start: number): Element {
  const { tag, from, end } = spanAt(bytes, start, bytes.length)
  return { tag, content: bytes.subarray(from, end), raw: bytes.subarray(start, end) }
}
