/**
 * The Huffman code of HPACK (RFC 7541 section 5.2 and appendix B), both ways.
 *
 * The code is canonical: codes of one length count upwards in the order of their symbols, and lengths follow one
 * another. So the code is told by its lengths alone, and decoding is a state machine that takes four bits a step; no
 * code is shorter than five, so that a step yields one octet at most.
 *
 * `hpack.ts` is the only caller.
 */

/** Length in bits of the code of each octet, and of EOS (256): appendix B. */
const LENGTHS = [
  13, 23, 28, 28, 28, 28, 28, 28, 28, 24, 30, 28, 28, 30, 28, 28, 28, 28, 28, 28, 28, 28, 30, 28, 28, 28, 28,
  28, 28, 28, 28, 28, 6, 10, 10, 12, 13, 6, 8, 11, 10, 10, 8, 11, 8, 6, 6, 6, 5, 5, 5, 6, 6, 6, 6, 6, 6, 6, 7,
  8, 15, 6, 12, 10, 13, 6, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 8, 7, 8, 13, 19,
  13, 14, 6, 15, 5, 6, 5, 6, 5, 6, 6, 6, 5, 7, 7, 6, 6, 6, 5, 6, 7, 6, 5, 5, 6, 7, 7, 7, 7, 7, 15, 11, 14, 13,
  28, 20, 22, 20, 20, 22, 22, 22, 23, 22, 23, 23, 23, 23, 23, 24, 23, 24, 24, 22, 23, 24, 23, 23, 23, 23, 21,
  22, 23, 22, 23, 23, 24, 22, 21, 20, 22, 22, 23, 23, 21, 23, 22, 22, 24, 21, 22, 23, 23, 21, 21, 22, 21, 23,
  22, 23, 23, 20, 22, 22, 22, 23, 22, 22, 23, 26, 26, 20, 19, 22, 23, 22, 25, 26, 26, 26, 27, 27, 26, 24, 25,
  19, 21, 26, 27, 27, 26, 27, 24, 21, 21, 26, 26, 28, 27, 27, 27, 20, 24, 20, 21, 22, 21, 21, 23, 22, 22, 25,
  25, 24, 24, 26, 23, 26, 27, 26, 26, 27, 27, 27, 27, 27, 28, 27, 27, 27, 27, 27, 26, 30,
]

const EOS = 256
const LONGEST = 30

/** Codes by symbol. */
const CODES = canonicalCodes()

function canonicalCodes(): Uint32Array {
  const codes = new Uint32Array(LENGTHS.length)
  let code = 0
  for (let length = 5; length <= LONGEST; length++) {
    for (let symbol = 0; symbol < LENGTHS.length; symbol++) {
      if (LENGTHS[symbol] === length) codes[symbol] = code++
    }
    code *= 2
  }
  return codes
}

/* The decoder's tables: index is state * 16 + the next four bits. */
const DEAD = -1
const { NEXT, EMITS, ACCEPTS } = stateMachine()

/** States are the inner nodes of the code's tree; state 0 is its root. */
function stateMachine(): { NEXT: Int16Array; EMITS: Int16Array; ACCEPTS: Uint8Array } {
  const children: [number, number][] = [[DEAD, DEAD]]
  const leaf = (symbol: number): number => -2 - symbol
  for (let symbol = 0; symbol < LENGTHS.length; symbol++) {
    const code = CODES[symbol] as number
    let node = 0
    for (let bit = (LENGTHS[symbol] as number) - 1; bit >= 0; bit--) {
      const side = ((code >>> bit) & 1) as 0 | 1
      const pair = children[node] as [number, number]
      if (bit === 0) pair[side] = leaf(symbol)
      else if (pair[side] === DEAD) pair[side] = children.push([DEAD, DEAD]) - 1
      node = pair[side]
    }
  }

  const next = new Int16Array(children.length * 16).fill(DEAD)
  const emits = new Int16Array(children.length * 16).fill(DEAD)
  children.forEach((_, state) => {
    for (let bits = 0; bits < 16; bits++) {
      let node = state
      for (let bit = 3; bit >= 0 && node !== DEAD; bit--) {
        node = (children[node] as [number, number])[((bits >> bit) & 1) as 0 | 1]
        if (node === leaf(EOS)) node = DEAD
        if (node <= leaf(0)) {
          emits[state * 16 + bits] = -2 - node
          node = 0
        }
      }
      next[state * 16 + bits] = node
    }
  })

  // Section 5.2: padding is less than an octet, and made of EOS' first bits, which are ones.
  const accepts = new Uint8Array(children.length)
  let node = 0
  for (let ones = 0; ones < 8; ones++) {
    accepts[node] = 1
    node = (children[node] as [number, number])[1]
  }
  return { NEXT: next, EMITS: emits, ACCEPTS: accepts }
}

/** Decodes `bytes[start, end)` into `out`, which needs room for 8/5 of it; returns the length, or -1 when it is no valid code. */
export function decodeHuffman(bytes: Uint8Array, start: number, end: number, out: Uint8Array): number {
  let state = 0
  let length = 0
  for (let p = start; p < end; p++) {
    const octet = bytes[p] as number
    for (let shift = 4; shift >= 0; shift -= 4) {
      const step = state * 16 + ((octet >> shift) & 15)
      state = NEXT[step] as number
      if (state === DEAD) return -1
      const symbol = EMITS[step] as number
      if (symbol !== DEAD) out[length++] = symbol
    }
  }
  return ACCEPTS[state] === 1 ? length : -1
}

/** Octets that `encodeHuffman` will write. */
export function huffmanLength(bytes: Uint8Array, start: number, end: number): number {
  let bits = 0
  for (let p = start; p < end; p++) bits += LENGTHS[bytes[p] as number] as number
  return (bits + 7) >> 3
}

/** Encodes `bytes[start, end)` at `out[offset]`; returns the offset after it. */
export function encodeHuffman(
  bytes: Uint8Array,
  start: number,
  end: number,
  out: Uint8Array,
  offset: number,
): number {
  let o = offset
  let pending = 0
  let pendingBits = 0
  const push = (value: number, bits: number): void => {
    pending = (pending << bits) | value
    pendingBits += bits
    while (pendingBits >= 8) {
      pendingBits -= 8
      out[o++] = pending >>> pendingBits
      pending &= (1 << pendingBits) - 1
    }
  }
  for (let p = start; p < end; p++) {
    const octet = bytes[p] as number
    const code = CODES[octet] as number
    const length = LENGTHS[octet] as number
    // Bitwise operators hold 32 bits, and up to seven are pending.
    if (length > 16) push(code >>> 16, length - 16)
    push(length > 16 ? code & 0xffff : code, Math.min(16, length))
  }
  if (pendingBits > 0) push((1 << (8 - pendingBits)) - 1, 8 - pendingBits)
  return o
}
