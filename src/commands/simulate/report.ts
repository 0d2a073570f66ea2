/** What a played fleet went through, in figures. Pure. */
import { DAY, HOUR } from '../../time.ts'
import type { Played, Scenario, Span } from './fleet.ts'

export interface Report {
  /** Hosts that had no valid certificate at some time. */
  readonly expiredHosts: number
  /** The longest time that a host was without a valid certificate; 0 when none was. */
  readonly longestGapMs: number
  /** The least time that a host's best certificate had left when its successor came; negative when it came too late. */
  readonly closestCallMs: number
  readonly cas: readonly CaReport[]
}

export interface CaReport {
  readonly id: string
  readonly orders: number
  /** Orders placed while it was out. */
  readonly inVain: number
  readonly peakPerHour: number
}

export function reportOf(played: Played, scenario: Scenario): Report {
  const end = scenario.start + scenario.days * DAY
  let expiredHosts = 0
  let longestGapMs = 0
  let closestCallMs = Number.POSITIVE_INFINITY
  for (const spans of played.spans) {
    const { gapMs, leastLeftMs } = coverageOf(spans, scenario.start, end)
    if (gapMs > 0) expiredHosts++
    longestGapMs = Math.max(longestGapMs, gapMs)
    closestCallMs = Math.min(closestCallMs, leastLeftMs)
  }
  return {
    expiredHosts,
    longestGapMs,
    closestCallMs,
    cas: scenario.cas.map((id) => caReport(id, played, scenario)),
  }
}

/** Walks the certificates in the order in which they came, and looks at how long the best one before had left. */
function coverageOf(
  spans: readonly Span[],
  start: number,
  end: number,
): { gapMs: number; leastLeftMs: number } {
  const ordered = [...spans].sort((a, b) => a.from - b.from)
  let coveredUntil = start
  let gapMs = 0
  let leastLeftMs = Number.POSITIVE_INFINITY
  for (const { from, to } of ordered) {
    if (from > start) leastLeftMs = Math.min(leastLeftMs, coveredUntil - from)
    gapMs = Math.max(gapMs, from - coveredUntil)
    coveredUntil = Math.max(coveredUntil, to)
  }
  return { gapMs: Math.max(gapMs, end - coveredUntil, 0), leastLeftMs }
}

function caReport(id: string, { orders }: Played, { outages, start }: Scenario): CaReport {
  const placed = orders[id] ?? []
  const inVain = placed.filter((at) =>
    (outages[id] ?? []).some((outage) => outage.start <= at && at < outage.end),
  ).length
  return { id, orders: placed.length, inVain, peakPerHour: Math.max(0, ...perHour(placed, start).values()) }
}

/** Orders by hour since `start`. */
export function perHour(times: readonly number[], start: number): Map<number, number> {
  const counts = new Map<number, number>()
  for (const time of times) {
    const hour = Math.floor((time - start) / HOUR)
    counts.set(hour, (counts.get(hour) ?? 0) + 1)
  }
  return counts
}

/** Hosts without a valid certificate, at each hour since `start`. */
export function uncoveredPerHour({ spans }: Played, { start, days }: Scenario): number[] {
  const hours = Array.from({ length: days * 24 }, () => 0)
  for (const held of spans) {
    let coveredUntil = start
    for (const { from, to } of [...held, { from: start + days * DAY, to: 0 }].sort(
      (a, b) => a.from - b.from,
    )) {
      for (let hour = Math.ceil((coveredUntil - start) / HOUR); hour < (from - start) / HOUR; hour++) {
        if (hour >= 0 && hour < hours.length) hours[hour] = (hours[hour] ?? 0) + 1
      }
      coveredUntil = Math.max(coveredUntil, to)
    }
  }
  return hours
}
