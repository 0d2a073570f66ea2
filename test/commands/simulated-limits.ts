/**
 * Plays a fleet as `holdfast simulate` does and counts, apart from the ledgers, what it asked of the CAs. A worker thread
 * of `simulate.test.ts`, where tap's hooks do not follow each promise of the months: posts a `Verdict`.
 */
import { parentPort, workerData } from 'node:worker_threads'
import { type Played, playHoldfast, type Scenario } from '../../src/commands/simulate/fleet.ts'
import { simulatedLimits } from '../../src/commands/simulate/world.ts'

export interface Verdict {
  /** By CA, in all. */
  readonly orders: Readonly<Record<string, number>>
  /** By CA and scope: the most within one window, of which none may be more than the limit. */
  readonly peaks: readonly { readonly of: string; readonly most: number; readonly limit: number }[]
}

/** The times of the virtual clock are no whole numbers. */
const ROUNDING_MS = 1

function verdictOn({ orders, spans }: Played, cas: readonly string[]): Verdict {
  // Each host has a domain of its own. Which CA a certificate is from does not matter: both together keep to the limits of one.
  const issuedByHost = spans.map((held) => held.map(({ from }) => from))
  const counted = {
    account: (ca: string) => [orders[ca] ?? []],
    domain: () => issuedByHost,
    names: () => issuedByHost,
  }
  const peaks = cas.flatMap((ca) =>
    simulatedLimits(ca).limits.flatMap(({ scope, limit, windowMs }) => {
      // Simulated validations do not fail.
      if (scope === 'failures') return []
      const most = Math.max(...counted[scope](ca).map((times) => mostWithin(windowMs, times)))
      return [{ of: `${ca} by ${scope}`, most, limit }]
    }),
  )
  const totals = Object.fromEntries(cas.map((ca) => [ca, orders[ca]?.length ?? 0]))
  return { orders: totals, peaks }
}

function mostWithin(windowMs: number, times: readonly number[]): number {
  const sorted = times.toSorted((a, b) => a - b)
  let most = 0
  let first = 0
  for (const [last, time] of sorted.entries()) {
    while ((sorted[first] ?? time) <= time - windowMs + ROUNDING_MS) first++
    most = Math.max(most, last - first + 1)
  }
  return most
}

if (parentPort !== null) {
  const scenario = workerData as Scenario
  parentPort.postMessage(verdictOn(await playHoldfast(scenario), scenario.cas))
}
