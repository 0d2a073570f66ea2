/**
 * Tables that classify octets, and comparisons on raw bytes, for every lexer in this folder.
 * A table costs one load an octet, where a chain of comparisons costs several branches.
 */

import { isMethod } from '../headers.ts'

export const HT = 0x09
export const LF = 0x0a
export const CR = 0x0d
export const SP = 0x20
export const COMMA = 0x2c
export const COLON = 0x3a
export const SEMICOLON = 0x3b

export const NOTHING: Buffer = Buffer.alloc(0)

/** 1 for each octet that `matches`. */
function tableOf(matches: (octet: number) => boolean): Uint8Array {
  return Uint8Array.from({ length: 256 }, (_, octet) => (matches(octet) ? 1 : 0))
}

function isAlphanumeric(octet: number): boolean {
  return /[0-9A-Za-z]/.test(String.fromCharCode(octet))
}

/** Of which methods are made. */
export const METHOD = tableOf((o) => isMethod(String.fromCharCode(o)))

/** RFC 9110 section 5.6.2: `tchar`, of which field names are made. */
export const TOKEN = tableOf((o) => isAlphanumeric(o) || "!#$%&'*+-.^_`|~".includes(String.fromCharCode(o)))

/** RFC 9110 section 5.5: what a field value may hold: HTAB, SP, VCHAR and obs-text; no other control. */
export const VALUE = tableOf((o) => o === HT || (o >= SP && o !== 0x7f))

/** A request target: visible ASCII without the fragment's `#`; wider than RFC 3986, because browsers send `|` and `{` raw. */
export const TARGET = tableOf((o) => o > SP && o < 0x7f && o !== 0x23)

/** A DNS name or an IPv4 address in an authority. Percent-encoding and sub-delims name no host that we could serve. */
export const HOST_NAME = tableOf((o) => isAlphanumeric(o) || o === 0x2d || o === 0x2e || o === 0x5f)

/** Between the brackets of an IPv6 literal. */
export const IPV6 = tableOf((o) => /[0-9A-Fa-f:.]/.test(String.fromCharCode(o)))

/** ASCII upper case to lower case; every other octet to itself. */
export const LOWER = Uint8Array.from({ length: 256 }, (_, o) => (o >= 0x41 && o <= 0x5a ? o + 0x20 : o))

/** Value of a hexadecimal digit; 255 for every other octet. */
export const HEX = Uint8Array.from({ length: 256 }, (_, o) => {
  const digit = '0123456789abcdef'.indexOf(String.fromCharCode(LOWER[o] as number))
  return digit === -1 ? 255 : digit
})

/** Do the octets from `start` spell `lowerCase`, in whatever case? The caller knows that the lengths agree. */
export function spells(bytes: Uint8Array, start: number, lowerCase: Uint8Array): boolean {
  for (let i = 0; i < lowerCase.length; i++) {
    if (LOWER[bytes[start + i] as number] !== lowerCase[i]) return false
  }
  return true
}

/** Writes ASCII or Latin-1 text at `offset`; returns the offset after it. */
export function writeText(out: Buffer, text: string, offset: number): number {
  return offset + out.write(text, offset, 'latin1')
}

/** As `writeText`, for a few octets of ASCII: a loop costs less than a call into the runtime. */
export function writeAscii(out: Uint8Array, text: string, offset: number): number {
  for (let i = 0; i < text.length; i++) out[offset + i] = text.charCodeAt(i)
  return offset + text.length
}

export function isDigit(octet: number): boolean {
  return octet >= 0x30 && octet <= 0x39
}

/** The first `length` octets, in a buffer of their own. */
export function copyOf(bytes: Buffer, length: number): Buffer {
  const copy = Buffer.allocUnsafe(length)
  bytes.copy(copy, 0, 0, length)
  return copy
}

/** Copies octets of a class from `bytes[start, end)` to `out`; returns the index of the first that is of another class. */
export function copyWhile(
  table: Uint8Array,
  bytes: Uint8Array,
  start: number,
  end: number,
  out: Uint8Array,
  outStart: number,
): number {
  let p = start
  let o = outStart
  while (p < end) {
    const octet = bytes[p] as number
    if (table[octet] !== 1) break
    out[o++] = octet
    p++
  }
  return p
}

/** RFC 9110 section 5.6.3: skips optional whitespace. */
export function skipSpaces(bytes: Uint8Array, start: number, end: number): number {
  let p = start
  while (p < end && (bytes[p] === SP || bytes[p] === HT)) p++
  return p
}
