/**
 * What to do next for one host, and when: pure, so that it can be tabled, property-tested and simulated.
 *
 * It thinks in deadlines: how urgent a duty is, and which CA to ask, follows from the time left to `notAfter`, never
 * from a count of attempts. The one exception is the pace of retries after failures, which each further one slows
 * (`retryDelayMs`).
 */
import { IMPORTED } from '../cert/certificate.ts'
import type { Role } from '../cert/inventory.ts'
import { DAY, HOUR, MINUTE } from '../time.ts'

/** The roles that a CA fills; `interim` is no duty. */
export const DUTIES = ['live', 'standby'] as const satisfies readonly Role[]
export type Duty = (typeof DUTIES)[number]

export function isDuty(text: string): text is Duty {
  return DUTIES.some((duty) => duty === text)
}

/** A certificate that is held, as far as planning cares. Times are milliseconds since the epoch. */
export interface Held {
  /** The CA that issued it. */
  readonly source: string
  readonly notBefore: number
  readonly notAfter: number
  /** SHA-256, hex: seeds the jitter, so that a restart plans the same times. */
  readonly fingerprint: string
  /** RFC 9773: when its CA wishes it to be renewed. */
  readonly window?: { readonly start: number; readonly end: number }
  /** Revoked, distrusted or compromised: it must go whatever its dates say. */
  readonly condemned?: boolean
}

/** Backoff of one duty; survives restarts. */
export interface Backoff {
  readonly failures: number
  readonly lastAt: number
  readonly delayMs: number
  /** The CAs that have failed it: others are asked as soon as they are open. Absent: all are left alone. */
  readonly failed?: readonly string[]
}

export interface Policy {
  /** In order of preference. */
  readonly cas: readonly string[]
  /** Who runs each of them; absent, or not named there: each CA is its own. */
  readonly operators?: ReadonlyMap<string, string>
  readonly standby: 'always' | 'on-degraded' | 'off'
}

/** A CA as it looks to this host now. */
export interface Candidate {
  readonly id: string
  /** When an order for this host may be placed there, by breaker and rate limits; 0 means at once. */
  readonly openAt: number
  readonly degraded: boolean
}

export interface Situation {
  readonly now: number
  readonly policy: Policy
  readonly live: Held | undefined
  readonly standby: Held | undefined
  readonly backoff: Readonly<Partial<Record<Duty, Backoff>>>
  /** The policy's CAs in the order in which to ask them. */
  readonly candidates: readonly Candidate[]
}

export interface Order {
  readonly duty: Duty
  /** CAs to ask, in order; each is open now. */
  readonly cas: readonly string[]
  /** CAs of the policy that are not open now. */
  readonly skipped: readonly string[]
  /** Ask a second CA when the first takes longer than usual. */
  readonly hedge: boolean
  /** Milliseconds until the host is without a valid certificate for this duty; 0 or less when it is already. */
  readonly timeLeftMs: number
}

export interface Plan {
  /** To be placed now. */
  readonly order: Order | undefined
  /** When to plan again if nothing changes before, milliseconds since the epoch. */
  readonly wakeAt: number
}

/** Nobody sleeps longer than this, whatever the dates say. */
const LONGEST_SLEEP_MS = 7 * DAY
const SHORT_LIFETIME_MS = 10 * DAY
/** A CA in trouble is left alone for up to this part of the time that a host has left. */
const PATIENCE = 100
/** After so many failures in a row, a day and more of them, nobody is waiting for the next one. */
export const HOPELESS_AFTER = 100
/** From then on the time between two tries doubles with each further such number. */
const HOPELESS_STEP = 24
/** With the jitter of three quarters: a day. */
const LONGEST_HOPELESS_DELAY_MS = (4 / 3) * DAY
/** Part of the lifetime over which renewals of equal age are spread. */
const JITTER = 0.05

export function plan(situation: Situation): Plan {
  const { now } = situation
  const live = planDuty(situation, 'live')
  if (live.order !== undefined) return live
  const standby = planDuty(situation, 'standby')
  return { order: standby.order, wakeAt: Math.min(live.wakeAt, standby.wakeAt, now + LONGEST_SLEEP_MS) }
}

function planDuty(situation: Situation, duty: Duty): Plan {
  const { now } = situation
  const held = situation[duty]
  const candidates = candidatesFor(situation, duty).map((candidate) => rested(candidate, situation, duty))
  if (candidates.length === 0) return { order: undefined, wakeAt: now + LONGEST_SLEEP_MS }

  const notBefore = dueAt(situation, duty, candidates)
  if (notBefore > now) return { order: undefined, wakeAt: notBefore }

  const open = candidates.filter((candidate) => candidate.openAt <= now)
  if (open.length === 0) {
    const patienceMs = patienceOf(situation)
    const wakeAts = candidates.map(({ openAt, degraded }) => openAt + (degraded ? patienceMs : 0))
    return { order: undefined, wakeAt: Math.min(...wakeAts) }
  }
  const timeLeftMs = usableUntil(held) - now
  const lifetimeMs = held === undefined ? 0 : held.notAfter - held.notBefore
  const order = {
    duty,
    cas: open.map((candidate) => candidate.id),
    skipped: candidates.filter((candidate) => !open.includes(candidate)).map((candidate) => candidate.id),
    hedge: duty === 'live' && timeLeftMs <= lifetimeMs / 10,
    timeLeftMs,
  }
  return { order, wakeAt: now + LONGEST_SLEEP_MS }
}

/**
 * How long after a CA in trouble may be tried again this host lets others go first: one is enough to find out, and
 * everybody is planned anew once it is well. None for a host without a certificate.
 */
function patienceOf({ now, live, standby }: Situation): number {
  const leftMs = Math.max(0, usableUntil(live) - now, usableUntil(standby) - now)
  const luck = fractionOf(live?.fingerprint ?? standby?.fingerprint ?? '0')
  return (leftMs / PATIENCE) * luck
}

/** A standby comes from another CA than the live certificate, or it would fail with it. */
function candidatesFor(
  { policy, live, standby, candidates, now }: Situation,
  duty: Duty,
): readonly Candidate[] {
  if (duty === 'live') return candidates
  if (live === undefined || policy.standby === 'off') return []
  const degraded = candidates.some((candidate) => candidate.id === live.source && candidate.degraded)
  const wanted = policy.standby === 'always' || degraded || (standby !== undefined && standby.notAfter > now)
  return wanted ? independentOf(live.source, policy, candidates) : []
}

/** The CAs of other operators; where none of these will ever take an order, those that merely have another name. */
function independentOf(
  source: string,
  { operators }: Policy,
  candidates: readonly Candidate[],
): readonly Candidate[] {
  const operatorOf = (ca: string): string => operators?.get(ca) ?? ca
  const others = candidates.filter(({ id }) => id !== source)
  const foreign = others.filter(({ id }) => operatorOf(id) !== operatorOf(source))
  // Asks for no `openAt` where nothing hangs on it: that is work.
  if (foreign.length === others.length) return others
  return foreign.some(({ openAt }) => openAt < Number.POSITIVE_INFINITY) ? foreign : others
}

/** When the duty wants a new certificate: now where it has none that serves it, as one of a CA that would not be asked for it. */
function dueAt(situation: Situation, duty: Duty, candidates: readonly Candidate[]): number {
  const { now, live } = situation
  const held = situation[duty]
  if (held === undefined || held.condemned) return now
  const isFitting =
    held.source === IMPORTED
      ? duty === 'live' || live?.source !== IMPORTED
      : candidates.some(({ id }) => id === held.source)
  return isFitting ? renewalDueAt(held, duty) : now
}

/**
 * When to renew: the CA's window where it gave one (RFC 9773 section 4.2: a time in it at random), else at two thirds
 * of the lifetime, at one half below 10 days. So that the two do not fall due together, a standby is renewed in the first
 * half of its window and the live certificate in the second, or the standby a twelfth of the lifetime earlier.
 * A window that would leave too little time for an outage, or is past the end, counts for nothing then.
 */
export function renewalDueAt(held: Omit<Held, 'condemned'>, duty: Duty): number {
  const luck = fractionOf(held.fingerprint)
  const lifetimeMs = held.notAfter - held.notBefore
  if (held.window !== undefined) {
    const latest = held.notAfter - lifetimeMs * (lifetimeMs < SHORT_LIFETIME_MS ? 1 / 3 : 1 / 6)
    const part = (duty === 'standby' ? luck : 1 + luck) / 2
    return Math.min(latest, held.window.start + part * (held.window.end - held.window.start))
  }
  const share = renewalShare(lifetimeMs) - (duty === 'standby' ? 1 / 12 : 0)
  return held.notBefore + lifetimeMs * (share - JITTER * luck)
}

/**
 * Does its CA demand it back? Its window (RFC 9773 section 4.2) is over before the certificate's own time has come, which
 * is what CAs tell when they are about to revoke.
 */
export function isRecalled({ notBefore, notAfter, window }: Omit<Held, 'condemned'>, now: number): boolean {
  if (window === undefined || window.end > now) return false
  const lifetimeMs = notAfter - notBefore
  return window.end < notBefore + lifetimeMs * (renewalShare(lifetimeMs) - JITTER)
}

/**
 * How long to leave a duty alone after a failure that no other CA could mend: shorter as the end comes nearer. A host that
 * never validates is tried once a day in the end: Let's Encrypt pauses a name, until a person unpauses it, after 1,152
 * failures in a row, of which it forgives one a day.
 */
export function retryDelayMs(failures: number, timeLeftMs: number, random: () => number): number {
  const hopelessness = 2 ** (Math.max(0, failures - HOPELESS_AFTER) / HOPELESS_STEP)
  const hopelessMs = Math.min(LONGEST_HOPELESS_DELAY_MS, 15 * MINUTE * hopelessness)
  const capMs = Math.max(hopelessMs, Math.min(12 * HOUR, timeLeftMs / 12))
  const delayMs = Math.min(capMs, MINUTE * 2 ** Math.min(20, Math.max(0, failures - 1)))
  return Math.round(delayMs * (0.75 + 0.5 * random()))
}

/** The part of a lifetime after which a certificate is due. */
function renewalShare(lifetimeMs: number): number {
  return lifetimeMs < SHORT_LIFETIME_MS ? 1 / 2 : 2 / 3
}

/** The candidate as it is open to this duty, which may have to leave it alone for a while. */
function rested(candidate: Candidate, { backoff, now }: Situation, duty: Duty): Candidate {
  const { failed, lastAt, delayMs } = backoff[duty] ?? { lastAt: 0, delayMs: 0 }
  const endsAt = lastAt + delayMs
  // By a clock that was set back since, nobody can tell how long ago it was.
  const isOver = endsAt <= now || lastAt > now
  if (isOver || failed?.includes(candidate.id) === false) return candidate
  const { id, degraded } = candidate
  return {
    id,
    degraded,
    get openAt() {
      return Math.max(candidate.openAt, endsAt)
    },
  }
}

function usableUntil(held: Held | undefined): number {
  return held === undefined || held.condemned ? Number.NEGATIVE_INFINITY : held.notAfter
}

/** A number in [0, 1) that is the same for the same certificate. */
function fractionOf(fingerprint: string): number {
  return Number.parseInt(fingerprint.slice(0, 8), 16) / 2 ** 32
}
