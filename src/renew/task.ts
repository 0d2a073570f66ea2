/** One host that is kept supplied, as the parts of the renewer share it. */
import type { KeyType } from '../cert/x509.ts'
import type { ChallengeType } from '../challenge/solver.ts'
import type { Site } from '../config/sites.ts'
import type { Job } from './job.ts'
import type { Duty, Policy } from './plan.ts'

/** A host to keep supplied. */
export interface Target extends Policy {
  readonly host: string
  readonly challenges: readonly ChallengeType[]
  readonly keyType: KeyType
  /** Keep the key when a certificate is renewed? */
  readonly reuseKey: boolean
  /** Serve a certificate of the internal CA until a real one is there? */
  readonly interim: boolean
}

export interface Task {
  readonly target: Target
  job: Job
  /** When it is planned again, milliseconds since the epoch; infinite while it is queued or busy. */
  wakeAt: number
  /** When something is due for it, as told to people. */
  nextAt: number
  /** Is an order of it under way? */
  busy: boolean
  /** What is to be renewed whatever the plan says: asked for by hand. */
  readonly forced: Set<Duty>
}

/** Every host that CAs supply. */
export function targetsOf(sites: readonly Site[]): Target[] {
  return sites.flatMap(({ hosts, tls }) =>
    tls.kind === 'issued' ? hosts.map((host) => ({ ...tls, host })) : [],
  )
}
