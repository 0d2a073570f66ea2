/**
 * A CA as it would be in an outage: stands before a real issuer and fails in a chosen way, so that breaker, ledger,
 * hedging and everything else above it run for real. `authorities.ts` puts it in the CA's place for the time of a
 * drill; no order reaches the real CA through it, so it costs none of the CA's quota.
 */
import { Certificate } from '../cert/certificate.ts'
import { verifyChain } from '../cert/verify.ts'
import { generateKeyPem } from '../cert/x509.ts'
import { CertificateError, type IssueError, messageOf } from '../errors.ts'
import { type Clock, DAY, HOUR, SECOND, sleep } from '../time.ts'
import { failure, refusal } from './acme-problem.ts'
import type { IssueRequest, Issuer, RenewalInfo } from './issuer.ts'

/**
 * `503`: answers each request so. `refuse`: no connection. `hang`: takes requests and never answers. `rate-limit`: is
 * well but takes no order (429). `untrusted`: issues certificates whose chain does not verify.
 */
export const OUTAGES = ['503', 'refuse', 'hang', 'rate-limit', 'untrusted'] as const
export type Outage = (typeof OUTAGES)[number]

export interface RehearsalOptions {
  /** The real one. */
  readonly issuer: Issuer
  readonly outage: Outage
  readonly clock: Clock
  /** Aborts when the rehearsal is over: what hangs then fails at once. */
  readonly over: AbortSignal
}

/** How long a real exchange waits for an answer (`acme.ts`). */
const EXCHANGE_LIMIT_MS = 8 * SECOND
const RATE_LIMITED = 'urn:ietf:params:acme:error:rateLimited'

/** Revocation and renewal information pass: nothing that protects a host waits for a rehearsal. */
export class RehearsedIssuer implements Issuer {
  readonly id: string
  /** Where the real one has it: a CA that revokes nothing seems to do no more in a drill. */
  readonly revoke?: NonNullable<Issuer['revoke']>
  readonly #options: RehearsalOptions

  constructor(options: RehearsalOptions) {
    const { issuer } = options
    this.id = issuer.id
    this.#options = options
    if (issuer.revoke !== undefined) this.revoke = issuer.revoke.bind(issuer)
  }

  /** Always rejects. */
  async issue(request: IssueRequest, signal: AbortSignal): Promise<Certificate> {
    const doing = 'order (a drill)'
    switch (this.#options.outage) {
      case 'rate-limit':
        throw refusal({
          ca: this.id,
          doing,
          refused: 'order',
          status: 429,
          problem: { type: RATE_LIMITED, detail: 'too many orders' },
          retryAfterMs: HOUR,
        })
      case 'untrusted':
        return this.#refuseForged(request, doing)
      default:
        throw await this.#unanswered(this.#options.outage, doing, signal)
    }
  }

  async probe(signal: AbortSignal): Promise<void> {
    const { issuer, outage } = this.#options
    if (outage === 'rate-limit' || outage === 'untrusted') return issuer.probe(signal)
    throw await this.#unanswered(outage, 'probe (a drill)', signal)
  }

  async renewalInfo(certificate: Certificate, signal: AbortSignal): Promise<RenewalInfo | undefined> {
    return this.#options.issuer.renewalInfo?.(certificate, signal)
  }

  /** What comes of a request that gets no answer, or none of use. */
  async #unanswered(
    outage: Extract<Outage, '503' | 'refuse' | 'hang'>,
    doing: string,
    signal: AbortSignal,
  ): Promise<IssueError> {
    const ca = this.id
    const { clock, over } = this.#options
    if (outage === '503') return refusal({ ca, doing, refused: 'anonymous', status: 503, problem: undefined })
    if (outage === 'refuse') return failure({ code: 'CA_UNREACHABLE', ca, doing, what: 'connection refused' })
    try {
      await sleep(clock, EXCHANGE_LIMIT_MS, AbortSignal.any([signal, over]))
      return failure({ code: 'CA_TIMEOUT', ca, doing, what: 'did not answer within 8s' })
    } catch (cause) {
      // Orders go on to the next CA: they were waiting for nothing.
      if (over.aborted) return failure({ code: 'CA_REJECTED', ca, doing, what: 'the drill is over', cause })
      return failure({ code: 'LOCAL_FAILURE', ca, doing, what: `abandoned: ${messageOf(cause)}`, cause })
    }
  }

  /** The preflight that every certificate goes through, over one whose issuer did not sign it. */
  async #refuseForged({ keyType, names }: IssueRequest, doing: string): Promise<never> {
    const ca = this.id
    const now = this.#options.clock.now()
    const validity = { notBefore: now - HOUR, notAfter: now + DAY }
    const [keyPem, issuerKey, strangersKey] = await Promise.all([
      generateKeyPem(keyType),
      generateKeyPem('ecdsa-p256'),
      generateKeyPem('ecdsa-p256'),
    ])
    const commonName = 'Holdfast drill'
    const { createAuthority, createLeaf } = await import('../cert/signing.ts')
    const certificatePem = await createAuthority({
      ...validity,
      commonName,
      keyPem: issuerKey,
      pathLength: 0,
    })
    const issuer = { certificatePem, keyPem: strangersKey }
    const leafPem = await createLeaf({ ...validity, names, keyPem, issuer })
    const certificate = new Certificate(leafPem + certificatePem, keyPem, ca, `certificate from ${ca}`)
    try {
      verifyChain(certificate, { names, roots: 'any', now })
    } catch (cause) {
      if (!(cause instanceof CertificateError)) throw cause
      throw failure({ code: 'CA_BAD_CERTIFICATE', ca, doing, what: messageOf(cause), cause })
    }
    throw new Error('a forged certificate has passed the preflight: please report this')
  }
}
