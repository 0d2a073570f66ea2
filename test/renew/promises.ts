/**
 * What the planner, health and ledgers promise together, whatever the CAs, the machine's clock and the process do, in
 * any order that fast-check thinks of. A worker thread of `promises.test.ts`, where tap's hooks do not follow each of
 * the millions of promises of some virtual months: posts why a promise does not hold, with the case made small.
 */
import { parentPort, workerData } from 'node:worker_threads'
import fc from 'fast-check'
import type { Outage } from '../../src/commands/simulate/world.ts'
import { DAY, HOUR, SECOND } from '../../src/time.ts'
import { MortalFleet, type MortalFleetOptions } from '../support/mortal-fleet.ts'

const SEED = 20_261_124
const CAS = ['letsencrypt', 'zerossl', 'google']
/** For so long, once in each window, one CA answers: less than the longest pause between two tries of a CA is of no use. */
const ANSWERING_MS = HOUR

interface Failing {
  readonly kind: Outage['kind']
  readonly from: number
  readonly to: number
}

/** What happens in half a window; times are parts of it. */
interface Span {
  /** By CA: how it fails, if it does. */
  readonly failing: readonly (Failing | null)[]
  /** The CA that answers come what may, and when. */
  readonly answering: number
  readonly at: number
}

/** Something that happens to the machine, so many seconds after a part of the whole time. */
interface Mishap {
  readonly at: number
  readonly plusSeconds: number
  readonly what: 'stop' | 'die' | WrongClock
}

/** The machine's clock, until it is set right. */
interface WrongClock {
  readonly aheadMs: number
  readonly forHours: number
  /** Does the process die as it goes wrong, so that the next one begins with it? */
  readonly isFromStart: boolean
}

interface Case {
  /** By CA. */
  readonly outages: Readonly<Record<string, readonly Outage[]>>
  readonly mishaps: readonly Mishap[]
  readonly standby: MortalFleetOptions['standby']
  readonly seed: number
}

const part = fc.integer({ min: 0, max: 20 }).map((twentieths) => twentieths / 20)
const failing = fc.record({
  kind: fc.constantFrom<Outage['kind'][]>('503', 'hang', '429'),
  from: part,
  to: part,
})
const stop = fc.constant<Mishap['what']>('stop')
const die = fc.constant<Mishap['what']>('die')
const wrongClock = (isFromStart: fc.Arbitrary<boolean>, ...jumpsMs: number[]): fc.Arbitrary<WrongClock> =>
  fc.record({
    aheadMs: fc.constantFrom(...jumpsMs.flatMap((ms) => [ms, -ms])),
    forHours: fc.integer({ min: 1, max: 200 }),
    isFromStart,
  })
const mishapsOf = (...what: fc.Arbitrary<Mishap['what']>[]): fc.Arbitrary<Mishap[]> =>
  fc.array(
    fc.record({
      at: fc.oneof(fc.constant(0), part),
      plusSeconds: fc.nat({ max: 90 }),
      what: fc.oneof(...what),
    }),
    {
      maxLength: 3,
    },
  )

const standby = fc.constantFrom<MortalFleetOptions['standby'][]>('always', 'off', 'on-degraded')
const seed = fc.integer({ min: 1, max: 1_000_000 })

/** In each window of that length, wherever it begins, one CA answers. @param spans half windows */
function answersInWindows(
  windowMs: number,
  spans: number,
  mishaps: fc.Arbitrary<Mishap[]>,
): fc.Arbitrary<Case> {
  const span = fc.record({
    failing: fc.array(fc.option(failing), { minLength: CAS.length, maxLength: CAS.length }),
    answering: fc.nat({ max: CAS.length - 1 }),
    at: part,
  })
  const outages = fc
    .record({
      cas: fc.integer({ min: 2, max: CAS.length }),
      spans: fc.array(span, { minLength: spans, maxLength: spans }),
    })
    .map((drawn) => outagesOf(drawn.cas, drawn.spans, windowMs))
  return fc.record({ outages, mishaps, standby, seed })
}

/** Two or three CAs, of which one stops at some time and never comes back. */
function oneStopsForEver(wholeMs: number, mishaps: fc.Arbitrary<Mishap[]>): fc.Arbitrary<Case> {
  const outages = fc
    .record({
      cas: fc.integer({ min: 2, max: CAS.length }),
      lost: fc.nat({ max: CAS.length - 1 }),
      kind: fc.constantFrom<Outage['kind'][]>('503', 'hang', '429'),
      from: part,
    })
    .map(({ cas, lost, kind, from }) => {
      const outage = { start: (from * wholeMs) / 4, end: 2 * wholeMs, kind }
      return Object.fromEntries(
        CAS.slice(0, cas).map((id, index) => [id, lost % cas === index ? [outage] : []]),
      )
    })
  return fc.record({ outages, mishaps, standby, seed })
}

/** The halves of each window each have a time when one answers. */
function outagesOf(cas: number, spans: readonly Span[], windowMs: number): Record<string, Outage[]> {
  const spanMs = windowMs / 2
  return Object.fromEntries(
    CAS.slice(0, cas).map((id, index) => {
      const outages = spans.flatMap((span, number) => {
        const fault = span.failing[index] ?? null
        if (fault === null) return []
        const begin = number * spanMs
        const outage = {
          start: begin + Math.min(fault.from, fault.to) * spanMs,
          end: begin + Math.max(fault.from, fault.to) * spanMs,
          kind: fault.kind,
        }
        if (span.answering % cas !== index) return [outage]
        const answersAt = begin + span.at * (spanMs - ANSWERING_MS)
        return [
          { ...outage, end: Math.min(outage.end, answersAt) },
          { ...outage, start: Math.max(outage.start, answersAt + ANSWERING_MS) },
        ].filter(({ start, end }) => start < end)
      })
      return [id, outages]
    }),
  )
}

async function play(fleet: MortalFleet, mishaps: readonly Mishap[], wholeMs: number): Promise<string[]> {
  await fleet.start()
  const timed = mishaps.map(({ at, plusSeconds, what }) => ({
    atMs: at * wholeMs + plusSeconds * SECOND,
    what,
  }))
  for (const { atMs, what } of timed.sort((a, b) => a.atMs - b.atMs)) {
    await fleet.clock.advance(Math.max(0, atMs - fleet.clock.monotonic()))
    if (typeof what === 'string') {
      await fleet[what]()
      await fleet.start()
    } else {
      if (what.isFromStart) await fleet.die()
      fleet.setAhead(what.aheadMs)
      if (what.isFromStart) await fleet.start()
      await fleet.clock.advance(what.forHours * HOUR)
      fleet.setAhead(0)
    }
  }
  await fleet.clock.advance(Math.max(0, wholeMs - fleet.clock.monotonic()))
  await fleet.stop()
  return fleet.offences
}

export interface Promised {
  readonly name: string
  readonly hosts: readonly string[]
  readonly supplied: boolean
  readonly lifetimeMs: number
  readonly cases: fc.Arbitrary<Case>
  readonly wholeMs: number
  readonly runs: number
  readonly canProve?: NonNullable<MortalFleetOptions['canProve']>
}

/** Of several domains, so that no rate limit stands in the way of what the outages allow. */
const FEW = Array.from({ length: 12 }, (_, index) => `host${index}.example${index % 6}.com`)
/** More than a week's certificates for one domain. */
const CROWD = Array.from({ length: 60 }, (_, index) => `host${index}.example.com`)
const SUPPLIED = { hosts: FEW, supplied: true }

export const PROMISES: readonly Promised[] = [
  {
    ...SUPPLIED,
    name: 'of 160 hours none expires and none is ordered twice while one CA answers in each 3 days',
    cases: answersInWindows(3 * DAY, 5, mishapsOf(stop, die, wrongClock(fc.boolean(), HOUR, 30 * DAY))),
    lifetimeMs: 160 * HOUR,
    wholeMs: 7.5 * DAY,
    runs: 20,
  },
  {
    ...SUPPLIED,
    name: 'of 45 days none expires and none is ordered twice while one CA answers in each 10 days',
    cases: answersInWindows(10 * DAY, 3, mishapsOf(stop, die, wrongClock(fc.boolean(), HOUR, 30 * DAY))),
    lifetimeMs: 45 * DAY,
    wholeMs: 15 * DAY,
    runs: 10,
  },
  {
    ...SUPPLIED,
    name: 'of 45 days none expires and none is ordered twice when one CA stops for ever',
    cases: oneStopsForEver(150 * DAY, mishapsOf(stop, die, wrongClock(fc.boolean(), HOUR, 30 * DAY))),
    lifetimeMs: 45 * DAY,
    wholeMs: 150 * DAY,
    runs: 10,
  },
  {
    name: 'no rate limit is broken by a crowd of new hosts',
    hosts: CROWD,
    supplied: false,
    // What a process that dies had counted since its last write is gone, and a clock that jumps meanwhile hides the rest.
    cases: answersInWindows(
      8 * DAY,
      2,
      fc.oneof(mishapsOf(stop, die), mishapsOf(stop, wrongClock(fc.constant(false), HOUR, 30 * DAY))),
    ),
    lifetimeMs: 45 * DAY,
    wholeMs: 8 * DAY,
    runs: 10,
  },
  {
    name: 'no rate limit is broken by hosts that prove their names one way only, or none',
    hosts: CROWD,
    supplied: false,
    canProve: (host, type) => (type === 'http-01' ? /[24680]\./ : /[1357]\./).test(host),
    cases: answersInWindows(4 * DAY, 1, fc.constant([])),
    lifetimeMs: 45 * DAY,
    wholeMs: 2 * DAY,
    runs: 5,
  },
]

/** @throws what fast-check says of a case in which it does not hold */
async function hold({ cases, runs, wholeMs, ...options }: Promised): Promise<void> {
  const property = fc.asyncProperty(cases, async ({ mishaps, ...each }) => {
    const offences = await play(new MortalFleet({ ...options, ...each }), mishaps, wholeMs)
    if (offences.length > 0) throw new Error(offences.slice(0, 20).join('\n'))
  })
  await fc.assert(property, { seed: SEED, numRuns: runs, includeErrorInReport: true })
}

if (parentPort !== null) {
  // Failing CAs throw by the thousand.
  Error.stackTraceLimit = 0
  const promise = PROMISES.find(({ name }) => name === workerData)
  if (promise === undefined) throw new Error(`nothing is promised by "${workerData}"`)
  const failure = await hold(promise).then(
    () => '',
    (error: Error) => error.message,
  )
  parentPort.postMessage(failure)
}
