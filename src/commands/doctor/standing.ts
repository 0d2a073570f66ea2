/**
 * The cells of doctor's table: how a CA stands with a host, and the host with the loss of a CA, in a word or two each.
 * What they amount to in full, and what to do, the findings say. Pure.
 */
import type { AuthorityReport } from './authority.ts'
import { type Finding, failed } from './finding.ts'

/** `warn`: it can issue, for all that is known, and its findings are worth a look. */
export type Standing =
  | 'ok'
  | 'warn'
  | 'distrusted'
  | 'unreachable'
  | 'account fails'
  | 'untrusted'
  | 'cannot issue'
  | 'CAA forbids'
  | 'cannot validate'

/** `live fails`, `standby fails`: two CAs can issue, and yet a certificate does not do what a failover needs of it. */
export type Failover =
  | 'ready'
  | 'live fails'
  | 'standby fails'
  | 'one CA alone'
  | 'one company'
  | 'no CA'
  | 'needs nobody'
  | '-'

/** By the check that fails. Where several do, the first of these is told: mending the others alone would not help. */
const WORDS: readonly (readonly [check: string, word: Standing])[] = [
  ['directory', 'unreachable'],
  ['account', 'account fails'],
  ['trust', 'untrusted'],
  ['name', 'cannot issue'],
  ['CAA', 'CAA forbids'],
]

/** @param isReached whether the CA's challenges may lead to this instance */
export function standingOf(
  { findings, isDistrusted }: AuthorityReport,
  ofHost: readonly Finding[],
  isReached: boolean,
): Standing {
  if (isDistrusted) return 'distrusted'
  const all = [...findings, ...ofHost]
  const failing = new Set(all.filter(({ verdict }) => verdict === 'fail').map(({ check }) => check))
  if (failing.size > 0) return WORDS.find(([check]) => failing.has(check))?.[1] ?? 'cannot issue'
  if (!isReached) return 'cannot validate'
  return all.some(({ verdict }) => verdict === 'warn') ? 'warn' : 'ok'
}

/** @param held what was found of the host's certificates */
export function failoverOf(usable: number, operators: number, held: readonly Finding[]): Failover {
  if (usable === 0) return 'no CA'
  if (operators < 2) return usable === 1 ? 'one CA alone' : 'one company'
  for (const role of ['live', 'standby'] as const)
    if (failed(held.filter(({ check }) => check === role))) return `${role} fails`
  return 'ready'
}
