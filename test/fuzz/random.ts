/** Chance that can be had again: the same seed gives the same inputs. */

export class Random {
  #state: number

  constructor(seed: number) {
    this.#state = seed >>> 0
  }

  /** A whole number from 0 up to `limit`, without it. */
  below(limit: number): number {
    // Mulberry32.
    this.#state = (this.#state + 0x6d2b79f5) >>> 0
    let mixed = Math.imul(this.#state ^ (this.#state >>> 15), this.#state | 1)
    mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61)) ^ mixed
    return Math.floor((((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32) * limit)
  }

  pick<T>(values: readonly T[]): T {
    return values[this.below(values.length)] as T
  }

  /** Of an input, so that what is done with it is the same whenever it is run. */
  static of(input: Buffer): Random {
    return new Random(input.reduce((hash, octet) => Math.imul(hash ^ octet, 0x01000193), input.length))
  }

  /** Cut at up to three places. */
  cut(input: Buffer): Buffer[] {
    const cuts = Array.from({ length: 1 + this.below(3) }, () => this.below(input.length + 1))
    const places = [0, ...cuts.sort((a, b) => a - b), input.length]
    return places.slice(1).map((end, i) => input.subarray(places[i], end))
  }
}

const MAX_INPUT_BYTES = 4096
const EDGES = [0, 1, 9, 10, 13, 32, 58, 127, 128, 254, 255]

type Change = (random: Random, input: Buffer, other: Buffer, words: readonly Buffer[]) => Buffer

/** Replaces `[start, end)`. */
function replace(input: Buffer, start: number, end: number, by: Uint8Array): Buffer {
  return Buffer.concat([input.subarray(0, start), by, input.subarray(end)])
}

function range(random: Random, input: Buffer): [start: number, end: number] {
  const start = random.below(input.length + 1)
  return [start, Math.min(input.length, start + 1 + random.below(random.pick([4, 16, 128])))]
}

const CHANGES: readonly Change[] = [
  // One bit.
  (random, input) => {
    const copy = Buffer.from(input)
    if (copy.length > 0) copy[random.below(copy.length)]! ^= 1 << random.below(8)
    return copy
  },
  // One octet, to one that is an edge of something.
  (random, input) => {
    const copy = Buffer.from(input)
    if (copy.length > 0) copy[random.below(copy.length)] = random.pick(EDGES)
    return copy
  },
  // One octet, a little more or less: lengths, indices.
  (random, input) => {
    const copy = Buffer.from(input)
    if (copy.length > 0) copy[random.below(copy.length)]! += random.below(9) - 4
    return copy
  },
  (random, input) => replace(input, ...range(random, input), Buffer.alloc(0)),
  (random, input) => {
    const [start, end] = range(random, input)
    return replace(input, start, start, input.subarray(start, end))
  },
  (random, input, _, words) => {
    const at = random.below(input.length + 1)
    return replace(input, at, at, random.pick(words))
  },
  (random, input, _, words) => replace(input, ...range(random, input), random.pick(words)),
  (random, input, other) => replace(input, ...range(random, input), other.subarray(...range(random, other))),
  (random, input, other) =>
    Buffer.concat([
      input.subarray(0, random.below(input.length + 1)),
      other.subarray(random.below(other.length + 1)),
    ]),
]

/** Another input, made of one from the corpus, a second one, and the target's words. */
export function mutate(random: Random, corpus: readonly Buffer[], words: readonly Buffer[]): Buffer {
  let input = random.pick(corpus)
  for (let changes = 1 + random.below(5); changes > 0; changes--) {
    input = random.pick(CHANGES)(random, input, random.pick(corpus), words)
  }
  return input.subarray(0, MAX_INPUT_BYTES)
}
