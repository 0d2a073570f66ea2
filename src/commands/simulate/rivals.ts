/**
 * The published retry rules of other clients, played over the same fleet: what they ask of whom, and when they ask
 * again. Only their scheduling is played; validation, locks and rate limits are left out, in their favour.
 */
import { DAY, HOUR, MINUTE, SECOND } from '../../time.ts'
import { type Played, type Scenario, type Span, seededRandom, startingAges } from './fleet.ts'

export interface Rival {
  readonly name: string
  /** Where the rule is published. */
  readonly source: string
  /** Part of the lifetime after which it renews. */
  readonly renewAt: number
  /** The CAs that its `attempt`-th try (from 0) asks, in order. */
  readonly cas: (attempt: number, all: readonly string[]) => readonly string[]
  /** How long it waits after its `attempt`-th try has failed. */
  readonly retryMs: (attempt: number) => number
}

const CERTMAGIC_WAITS_MINUTES = [
  1, 2, 2, 5, 10, 10, 10, 20, 20, 20, 20, 30, 30, 30, 30, 30, 30, 60, 60, 60, 60, 60, 120, 120, 120, 180, 180,
  180, 360,
]

export const RIVALS: readonly Rival[] = [
  {
    name: 'single-CA client',
    source: 'certbot: one CA, a timer twice a day, renewal at two thirds of the lifetime',
    renewAt: 2 / 3,
    cas: (_, all) => all.slice(0, 1),
    retryMs: () => 12 * HOUR,
  },
  {
    name: 'certmagic',
    source: 'certmagic async.go: every try asks every CA in order, and remembers nothing of the last',
    renewAt: 2 / 3,
    cas: (_, all) => all,
    retryMs: (attempt) => (CERTMAGIC_WAITS_MINUTES[attempt] ?? 360) * MINUTE,
  },
  {
    name: 'mod_md',
    source: 'mod_md: MDRetryDelay 30 s, doubled up to a day; MDRetryFailover 13 errors before the next CA',
    renewAt: 2 / 3,
    cas: (attempt, all) => [all[Math.floor(attempt / 13) % all.length] ?? ''],
    retryMs: (attempt) => Math.min(DAY, 30 * SECOND * 2 ** (attempt % 13)),
  },
]

export function playRival(rival: Rival, scenario: Scenario): Played {
  const { cas, days, hosts, lifetimeMs, outages, seed, start } = scenario
  const end = start + days * DAY
  const random = seededRandom(seed)
  const ages = startingAges(scenario)
  const orders: Record<string, number[]> = Object.fromEntries(cas.map((id) => [id, []]))
  const isOut = (id: string, time: number): boolean =>
    (outages[id] ?? []).some((outage) => outage.start <= time && time < outage.end)

  const spans = Array.from({ length: hosts }, (_, index): Span[] => {
    const first = start - (ages[index] ?? 0) * lifetimeMs * rival.renewAt
    const held = [{ from: first, to: first + lifetimeMs }]
    let attempt = 0
    let time = first + lifetimeMs * (rival.renewAt - 0.01 * random())
    while (time < end) {
      const at = time
      const answered = rival.cas(attempt, cas).find((id) => {
        orders[id]?.push(at)
        return !isOut(id, at)
      })
      if (answered === undefined) {
        time += rival.retryMs(attempt++)
        continue
      }
      held.push({ from: at, to: at + lifetimeMs })
      attempt = 0
      time = at + lifetimeMs * (rival.renewAt - 0.01 * random())
    }
    return held
  })
  return { spans, orders }
}
