/** SEAM: proving control of a name to a CA (RFC 8555 section 8). Adapters: `http-01.ts`, `tls-alpn-01.ts`, `dns-01.ts`. */

export type ChallengeType = 'http-01' | 'tls-alpn-01' | 'dns-01'

export interface Challenge {
  readonly type: ChallengeType
  /** The identifier: an A-label DNS name without `*.`, or an IP address in canonical text form. */
  readonly name: string
  readonly token: string
  /** RFC 8555 section 8.1: token, a dot, and the thumbprint of the account key. */
  readonly keyAuthorization: string
}

/** Each adapter owns both sides of its secret: presenting it here and answering the CA's question on the hot path. */
export interface Solver {
  readonly type: ChallengeType
  /** Makes the answer available. Two challenges of one name may be presented at once. */
  present(challenge: Challenge): Promise<void>
  /** Resolves when the CA can be told to look (DNS propagation). */
  ready?(challenge: Challenge, signal: AbortSignal): Promise<void>
  /** Takes the answer away. Idempotent, and safe after a `present` that failed. */
  cleanUp(challenge: Challenge): Promise<void>
}
