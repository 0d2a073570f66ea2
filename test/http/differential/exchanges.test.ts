/**
 * The fast engine beside the conservative one (node:http's parser, http-proxy) on the same generated exchanges: what the
 * upstream sees and what the client sees agree, but for the differences that are listed with their reasons.
 */
import fc from 'fast-check'
import t from 'tap'
import { CompatWire } from '../../../src/http/compat/wire.ts'
import { FastWire } from '../../../src/http/fast/wire.ts'
import { MessageReader } from '../fast/reading.ts'
import { ALIKE, alone, cutOff, explain, STRICTER, smuggles, WIDER } from './differences.ts'
import { type Exchange, exchanges } from './exchanges.ts'
import { type Cuts, LAST, type Observation, Observer } from './observer.ts'

/** Another seed is another corpus: `SEED=2 npm test -- test/http/differential/`. */
const SEED = Number(process.env.SEED ?? 1)
const DIFFERENCES = [...STRICTER, ...WIDER, ...ALIKE]
const corpus = [
  ...DIFFERENCES.map(({ example }) => example),
  ...fc.sample(exchanges, { numRuns: 500, seed: SEED }),
]

/** Where to cut, the same for the same exchange: in the middle of everything, and at every octet of a few. */
function cutsOf(exchange: Exchange, index: number): (readonly [Cuts, Cuts])[] {
  const places = fc.sample(fc.array(fc.nat({ max: 400 }), { minLength: 1, maxLength: 3 }), {
    numRuns: 4,
    seed: index,
  })
  const [a = [], b = [], c = [], d = []] = places.map((cuts) => cuts.toSorted((x, y) => x - y))
  const everywhere = (length: number): number[] => Array.from({ length }, (_, cut) => cut)
  const everyOctet = [everywhere(exchange.request.length), everywhere(exchange.response.length)] as const
  return [[a, b], [c, d], ...(index % 25 === 0 ? [everyOctet] : [])]
}

/**
 * Octets after a response’s end spoil the connection when they come at once, and what is asked next over it when they come
 * late; and how much of a response is sent on before it turns out to be broken depends on the cuts.
 */
function essence({ closes }: Exchange, seen: Observation): string {
  return JSON.stringify(closes ? cutOff(alone(seen)) : seen)
}

function shown(...parts: unknown[]): string {
  return parts.map((part) => JSON.stringify(part, undefined, 1)).join('\n')
}

t.test('both engines let upstream and client see the same', { timeout: 110_000 }, async (t) => {
  const fast = await Observer.start(t, (options) => new FastWire(options))
  // Node stops reading in one case, and the connection is over when it is idle.
  const compat = await Observer.start(t, (options) => new CompatWire(options), { keepAlive: 200 })
  let through = 0
  for (const [index, exchange] of corpus.entries()) {
    const ours = await fast.observe(exchange)
    const theirs = await compat.observe(exchange)
    const explained = explain(exchange, ours, theirs)
    if (explained === undefined) t.fail(`not explained: ${shown(exchange, ours, theirs)}`)
    if (smuggles(ours)) t.fail(`smuggled: ${shown(exchange, ours)}`)
    const example = DIFFERENCES[index]?.what
    if (example !== undefined) t.ok(explained?.includes(example), `there is: ${example}`)
    if (ours.client[0]?.start.startsWith('own') === false) through++
    for (const cuts of cutsOf(exchange, index)) {
      const cut = await fast.observe(exchange, cuts)
      if (essence(exchange, cut) !== essence(exchange, ours))
        t.fail(`another meaning when cut: ${shown(exchange, cuts, ours, cut)}`)
    }
  }
  t.ok(through > 150 && through < 350, `${through} of ${corpus.length} went through`)
})

for (const kind of ['request', 'response'] as const) {
  t.test(`a ${kind} means the same wherever it is cut in two`, async (t) => {
    const reader = new MessageReader(kind)
    const verdicts = new Set<string>()
    for (const exchange of corpus) {
      const bytes = Buffer.from(kind === 'request' ? exchange.request + LAST : exchange.response, 'latin1')
      const whole = JSON.stringify(reader.read([bytes]))
      verdicts.add(reader.read([bytes]).verdict)
      for (let cut = 1; cut < bytes.length; cut++) {
        const halves = JSON.stringify(reader.read([bytes.subarray(0, cut), bytes.subarray(cut)]))
        if (halves !== whole) t.fail(`cut at ${cut}: ${shown(bytes.toString('latin1'), whole, halves)}`)
      }
    }
    t.ok(verdicts.size > 10, [...verdicts].join(', '))
  })
}
