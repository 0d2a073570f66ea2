/**
 * The alphabet of store keys, and how names of the outside world (hosts, IP addresses, CA ids) are written in it.
 * Hides the encoding; serves `records.ts` and the adapters.
 */
import { StoreError } from '../errors.ts'

const KEY = /^[A-Za-z0-9._~%@+-]+(\/[A-Za-z0-9._~%@+-]+)*$/
const DOTS = /(^|\/)\.\.?(\/|$)/

/** Is it a key as `store.ts` defines it? Never a path that leads out of the store. */
export function isKey(text: string): boolean {
  return KEY.test(text) && !DOTS.test(text)
}

/** @throws StoreError STORE_DENIED when it is no key */
export function assertKey(text: string): void {
  if (!isKey(text)) {
    throw new StoreError(
      'STORE_DENIED',
      `${JSON.stringify(text)} is no key of the store: write segments of A-Z a-z 0-9 . _ ~ % @ + - with "/" between them`,
    )
  }
}

/**
 * Any text as one segment of a key, and no two texts as the same: `*.example.com` → `+.example.com`, `2001:db8::1` →
 * `2001~db8~~1`, what is left outside of host names percent-encoded. A host never grows, so that the longest still
 * fits into a file name (255 bytes).
 */
export function encodeSegment(text: string): string {
  const encoded = Array.from(Buffer.from(text), encodeByte).join('')
  return /^\.\.?$/.test(encoded) ? encoded.replaceAll('.', '%2E') : encoded
}

/** Undoes `encodeSegment`; undefined for what that never made. */
export function decodeSegment(segment: string): string | undefined {
  try {
    const text = decodeURIComponent(segment.replaceAll('+', '*').replaceAll('~', ':'))
    return text !== '' && encodeSegment(text) === segment ? text : undefined
  } catch {
    return undefined
  }
}

function encodeByte(byte: number): string {
  const character = String.fromCharCode(byte)
  if (character === '*') return '+'
  if (character === ':') return '~'
  if (/[A-Za-z0-9._-]/.test(character)) return character
  return `%${byte.toString(16).toUpperCase().padStart(2, '0')}`
}
