/**
 * Plays a fleet of hosts through outages with Holdfast's own renewer, planner, health and ledgers on a virtual clock.
 */
import type { CaAccess } from '../../ca/authorities.ts'
import { CaHealth } from '../../ca/health.ts'
import { Ledger } from '../../ca/ledger.ts'
import { Inventory } from '../../cert/inventory.ts'
import { Verdicts } from '../../cert/verdicts.ts'
import { silentLog } from '../../log.ts'
import { DUTIES, renewalDueAt } from '../../renew/plan.ts'
import { Renewer } from '../../renew/renewer.ts'
import { DAY } from '../../time.ts'
import { settledPromises, VirtualClock } from './virtual-clock.ts'
import {
  datesOnly,
  memoryRecords,
  type Outage,
  SimulatedCa,
  simulatedLimits,
  simulatedTargets,
} from './world.ts'

export interface Scenario {
  readonly hosts: number
  readonly lifetimeMs: number
  /** In order of preference. */
  readonly cas: readonly string[]
  /** By CA; milliseconds since the epoch. */
  readonly outages: Readonly<Record<string, readonly Outage[]>>
  readonly standby: 'always' | 'on-degraded' | 'off'
  readonly start: number
  readonly days: number
  readonly seed: number
}

/** One certificate's span, milliseconds since the epoch. */
export interface Span {
  readonly from: number
  readonly to: number
}

export interface Played {
  /** By host: when it had a certificate. */
  readonly spans: readonly (readonly Span[])[]
  /** By CA: when each order was placed there. */
  readonly orders: Readonly<Record<string, readonly number[]>>
}

/** The same numbers for the same seed (mulberry32). */
export function seededRandom(seed: number): () => number {
  let state = seed >>> 0
  return () => {
    state = (state + 0x6d2b79f5) >>> 0
    let mixed = Math.imul(state ^ (state >>> 15), state | 1)
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61)
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32
  }
}

/** How far through its life each host's certificate is at the start, 0 to 1 of the time until it is renewed. */
export function startingAges({ hosts, seed }: Scenario): number[] {
  const random = seededRandom(seed)
  return Array.from({ length: hosts }, random)
}

export function hostName(index: number): string {
  return `host${index}.example${index}.com`
}

export async function playHoldfast(scenario: Scenario): Promise<Played> {
  const { cas, days, hosts, lifetimeMs, outages, seed, standby, start } = scenario
  const clock = new VirtualClock(start, settledPromises)
  const random = seededRandom(seed)
  const log = silentLog()
  const health = new CaHealth({ clock, random, log, onChange: () => renewer.wake() })
  const inventory = new Inventory(clock)
  const issuers = cas.map(
    (id) => new SimulatedCa({ id, lifetimeMs, clock, random, outages: outages[id] ?? [] }),
  )
  const access = new Map<string, CaAccess>()
  for (const issuer of issuers) {
    health.add(issuer)
    const { limits, exemptsRenewals } = simulatedLimits(issuer.id)
    access.set(issuer.id, { issuer, ledger: new Ledger(limits, clock), exemptsRenewals })
  }

  const records = memoryRecords()
  const spans: Span[][] = []
  const names = Array.from({ length: hosts }, (_, index) => hostName(index))
  const ages = startingAges(scenario)
  for (const [index, host] of names.entries()) {
    const held: Span[] = []
    for (const [place, role] of DUTIES.entries()) {
      const source = cas[place]
      if (source === undefined || (role === 'standby' && standby !== 'always')) continue
      const fresh = datesOnly(source, [host], start, lifetimeMs, random)
      const ageMs = (ages[index] ?? 0) * (renewalDueAt(fresh, role) - start)
      const certificate = datesOnly(source, [host], start - ageMs, lifetimeMs, random)
      await records.saveCertificate(host, role, certificate)
      held.push({ from: certificate.notBefore, to: certificate.notAfter })
    }
    spans.push(held)
  }
  const indexOf = new Map(names.map((host, index) => [host, index]))
  inventory.onChange(({ host, certificate }) => {
    if (certificate !== undefined && certificate.notBefore >= start) {
      spans[indexOf.get(host) ?? 0]?.push({ from: clock.now(), to: certificate.notAfter })
    }
  })

  const renewer = new Renewer({
    clock,
    random,
    log,
    records,
    inventory,
    verdicts: new Verdicts(),
    health,
    access: (ca) => access.get(ca),
    endOf: ({ notAfter }) => notAfter,
    warm: () => {},
    onEvent: () => {},
    onWish: () => {},
  })
  await renewer.load(simulatedTargets(names, cas, standby))
  health.start()
  renewer.start()
  await clock.advance(days * DAY)
  health.stop()
  await renewer.stop()
  return { spans, orders: Object.fromEntries(issuers.map((issuer) => [issuer.id, issuer.orderedAt])) }
}
