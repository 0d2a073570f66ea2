/** What of a host's duties survives a restart: the backoff of each, and why it last failed. */
import { type Backoff, DUTIES, type Duty } from './plan.ts'

export interface Failure extends Backoff {
  readonly lastError: string
}

export type Job = Readonly<Partial<Record<Duty, Failure>>>

/** A stored job; whatever is not one counts as absent, so that a damaged job only loses its backoff. */
export function readJob(value: unknown): Job {
  if (!isRecord(value)) return {}
  const job: Partial<Record<Duty, Failure>> = {}
  for (const duty of DUTIES) {
    const stored = value[duty]
    if (isFailure(stored)) job[duty] = stored
  }
  return job
}

function isFailure(value: unknown): value is Failure {
  return (
    isRecord(value) &&
    typeof value.failures === 'number' &&
    typeof value.lastAt === 'number' &&
    typeof value.delayMs === 'number' &&
    typeof value.lastError === 'string' &&
    (value.failed === undefined || Array.isArray(value.failed))
  )
}

function isRecord(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null && !Array.isArray(value)
}
