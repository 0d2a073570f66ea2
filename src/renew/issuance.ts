/**
 * One certificate from the first CA that gives it: asks the CAs in order, or a second one beside the first when the
 * matter is urgent and the first is slower than usual. Reports every outcome to the CAs' health and ledgers.
 */
import type { CaAccess } from '../ca/authorities.ts'
import type { CaHealth } from '../ca/health.ts'
import type { IssueRequest } from '../ca/issuer.ts'
import type { Certificate } from '../cert/certificate.ts'
import { IssueError, messageOf } from '../errors.ts'
import type { Cancel, Clock } from '../time.ts'

/** Why one CA did not issue. */
export interface Refusal {
  readonly ca: string
  readonly error: IssueError
}

export interface Issuance {
  readonly certificate: Certificate
  readonly ca: string
  readonly tookMs: number
  /** The CAs that were asked before, or skipped. */
  readonly refusals: readonly Refusal[]
}

/** No CA issued. */
export class NoIssuanceError extends Error {
  readonly refusals: readonly Refusal[]

  constructor(refusals: readonly Refusal[]) {
    super(describeRefusals(refusals))
    this.name = 'NoIssuanceError'
    this.refusals = refusals
  }
}

/** `letsencrypt: answered 503; zerossl: is down until 14:03:20Z`. */
export function describeRefusals(refusals: readonly Refusal[]): string {
  return refusals.map(({ ca, error }) => withName(ca, error.message)).join('; ')
}

export interface IssuanceOptions {
  readonly clock: Clock
  readonly health: CaHealth
  readonly access: (ca: string) => CaAccess | undefined
}

export interface IssuanceOrder {
  /** CAs to ask, in order. */
  readonly cas: readonly string[]
  /** CAs that are not asked, but named among the refusals. */
  readonly skipped: readonly string[]
  /** What to ask a CA for: `replaces` differs by CA. */
  readonly request: (ca: string) => IssueRequest
  /** Ask a second CA when the first takes longer than usual? */
  readonly hedge: boolean
}

/** How much longer than usual an urgent order may take before a second CA is asked. */
const HEDGE_FACTOR = 2

/**
 * Resolves with the first certificate; orders that then still run elsewhere are aborted.
 * @throws NoIssuanceError when every CA refused; the signal's reason when it aborts
 */
export function issueFromFirst(
  order: IssuanceOrder,
  options: IssuanceOptions,
  signal: AbortSignal,
): Promise<Issuance> {
  const { clock, health } = options
  const { promise, resolve, reject } = Promise.withResolvers<Issuance>()
  const losers = new AbortController()
  const asked = AbortSignal.any([signal, losers.signal])
  const refusals: Refusal[] = order.skipped.map((ca) => ({ ca, error: skipped(ca, health) }))
  const queue = [...order.cas]
  let running = 0

  const askNext = (): void => {
    const ca = queue.shift()
    if (ca === undefined) {
      if (running === 0) reject(signal.aborted ? signal.reason : new NoIssuanceError(refusals))
      return
    }
    running++
    const cancelHedge: Cancel = order.hedge
      ? clock.after(HEDGE_FACTOR * health.usualMs(ca), askNext)
      : () => {}
    askOne(ca, order.request(ca), options, asked)
      .then(
        ({ certificate, tookMs }) => {
          resolve({ certificate, ca, tookMs, refusals: [...refusals] })
          losers.abort(new Error('another CA was faster'))
        },
        (error: unknown) => {
          const refusal = { ca, error: asIssueError(ca, error) }
          refusals.push(refusal)
          if (refusal.error.blame === 'local') queue.length = 0
          running--
          cancelHedge()
          if (!losers.signal.aborted) askNext()
        },
      )
      .finally(cancelHedge)
  }
  askNext()
  return promise
}

/** Asks one CA, and tells its health and its ledger what came of it. */
async function askOne(
  ca: string,
  request: IssueRequest,
  { clock, health, access }: IssuanceOptions,
  signal: AbortSignal,
): Promise<{ certificate: Certificate; tookMs: number }> {
  const found = access(ca)
  const admission = await health.admit(ca, signal)
  if (found === undefined || admission === undefined) throw skipped(ca, health)
  const { issuer, ledger, exemptsRenewals } = found
  const exempt = exemptsRenewals && request.replaces !== undefined
  if (ledger.openAt(request.names, exempt) > 0) {
    admission.abandoned()
    throw skipped(ca, health)
  }
  ledger.ordered(request.names, exempt)
  const startedAt = clock.monotonic()
  try {
    const certificate = await issuer.issue(request, signal)
    const tookMs = clock.monotonic() - startedAt
    admission.succeeded(tookMs)
    return { certificate, tookMs }
  } catch (cause) {
    const error = asIssueError(ca, cause)
    if (error.code === 'CA_RATE_LIMITED') ledger.refused(request.names, error.retryAfterMs)
    if (error.code === 'DOMAIN_UNVALIDATED') ledger.unvalidated(request.names)
    if (signal.aborted) admission.abandoned()
    else admission.failed(error)
    throw error
  }
}

/** Nobody's fault that is not counted already: the next CA is asked at once. */
function skipped(ca: string, health: CaHealth): IssueError {
  const snapshot = health.snapshot(ca)
  const why =
    snapshot?.state === 'down' && snapshot.lastFailure !== undefined
      ? `it is down: ${snapshot.lastFailure.message}`
      : 'it is busy with a trial, or its rate limit is used up'
  return new IssueError('CA_SKIPPED', `${ca}: skipped, ${why}`, { blame: 'account', retry: 'now' })
}

function asIssueError(ca: string, error: unknown): IssueError {
  if (error instanceof IssueError) return error
  return new IssueError('LOCAL_FAILURE', `${ca}: ${messageOf(error)}`, {
    blame: 'local',
    retry: 'later',
    cause: error,
  })
}

function withName(ca: string, message: string): string {
  return message.startsWith(ca) ? message : `${ca}: ${message}`
}
