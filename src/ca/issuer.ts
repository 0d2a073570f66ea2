/** SEAM: something that issues certificates. Adapters: `acme.ts`, `internal.ts`. */
import type { Certificate } from '../cert/certificate.ts'
import type { KeyType } from '../cert/x509.ts'
import type { ChallengeType } from '../challenge/solver.ts'
import type { IssueError } from '../errors.ts'
import { MINUTE } from '../time.ts'

/** No order takes longer: the adapters see to that. */
export const LONGEST_ORDER_MS = 2 * MINUTE

export interface IssueRequest {
  /** A-label DNS names, `*.` wildcards, or IP addresses; the first is the subject. At least one. */
  readonly names: readonly string[]
  readonly keyType: KeyType
  /** The key to certify, PKCS#8 PEM; absent: a fresh one of `keyType`. Secret. */
  readonly keyPem?: string
  /** In order of preference. */
  readonly challenges: readonly ChallengeType[]
  /** RFC 9773 section 5: the certificate that this one replaces; only to the CA that issued it. */
  readonly replaces?: Replaced
  /** Called where it is ordered without `replaces` all the same: to the CA's rate limits it is no renewal, then. */
  readonly onOrderedAnew?: () => void
  /** Asked after a failed validation, before it is ordered once more to prove the names another way. Absent: it may be. */
  readonly mayOrderAgain?: (failure: IssueError) => boolean
}

export interface Replaced {
  readonly ariId: string
  /** URL of the account that it was issued to, the only one that may say so; undefined: it is not known. */
  readonly account: string | undefined
}

/** RFC 9773 section 4.2: when the CA wishes the certificate to be renewed. Milliseconds since the epoch. */
export interface RenewalInfo {
  readonly windowStart: number
  readonly windowEnd: number
  readonly explanationUrl?: string
  /** When to ask again. */
  readonly pollAgainMs: number
}

/** RFC 5280 section 5.3.1: those that CAs accept from subscribers, with their codes. */
export const REVOCATION_REASONS = {
  unspecified: 0,
  keyCompromise: 1,
  superseded: 4,
  cessationOfOperation: 5,
} as const
export type RevocationReason = keyof typeof REVOCATION_REASONS

/**
 * Contract (`test/ca/contract.ts`): every failure is an `IssueError` with an honest `blame`; `issue` never outlives
 * its own deadline nor its signal; the certificate it gives has the requested names and key, is valid now, and its
 * chain was verified as the CA's `trust` demands.
 */
export interface Issuer {
  /** The CA's name in the config. */
  readonly id: string
  /** Does it date what it issues by our own clock? */
  readonly datesByOurClock?: boolean
  issue(request: IssueRequest, signal: AbortSignal): Promise<Certificate>
  /** Is the CA ready to take an order? Cheap: no order, no account. Rejects with an `IssueError`. */
  probe(signal: AbortSignal): Promise<void>
  renewalInfo?(certificate: Certificate, signal: AbortSignal): Promise<RenewalInfo | undefined>
  /** @param reason a code of `REVOCATION_REASONS` */
  revoke?(certificate: Certificate, reason: number): Promise<void>
  /** Gives the account at the CA a new key. */
  changeAccountKey?(): Promise<void>
  /** Ends the account at the CA; the next order makes another one. */
  deactivateAccount?(): Promise<void>
}
