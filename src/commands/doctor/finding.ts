/** What every check of `doctor` gives: a verdict, what was seen, and the exact fix. */
import { messageOf } from '../../errors.ts'
import { type Clock, DeadlineError, SECOND, withDeadline } from '../../time.ts'

/** `warn`: worth a look, or not to be told from here. `fail`: failover will not work like this. */
export type Verdict = 'ok' | 'warn' | 'fail'

export interface Finding {
  /** What was looked at: `directory`, `CAA`, `standby`. */
  readonly check: string
  readonly verdict: Verdict
  readonly says: string
  /** What to do; for `warn` and `fail`. */
  readonly fix?: string
}

/** The longest that a check may take, unless it says otherwise. */
const CHECK_LIMIT_MS = 10 * SECOND

export function ok(check: string, says: string): Finding {
  return { check, verdict: 'ok', says }
}

export function warn(check: string, says: string, fix: string): Finding {
  return { check, verdict: 'warn', says, fix }
}

export function fail(check: string, says: string, fix: string): Finding {
  return { check, verdict: 'fail', says, fix }
}

export function failed(findings: readonly Finding[]): boolean {
  return findings.some(({ verdict }) => verdict === 'fail')
}

/** Runs `work` within a limit; what goes wrong is for `explain` to put into words. */
export async function bounded<T>(
  clock: Clock,
  work: (signal: AbortSignal) => Promise<T>,
  explain: (why: string, error: unknown) => T,
  limitMs = CHECK_LIMIT_MS,
): Promise<T> {
  try {
    return await withDeadline(clock, limitMs, 'it', undefined, work)
  } catch (error) {
    return explain(error instanceof DeadlineError ? 'no answer in time' : messageOf(error), error)
  }
}
