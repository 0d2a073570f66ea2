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
  /** A CA could have been asked or has been, and what came of it is known to its health. */
  readonly onOutcome: (ca: string) => void
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

/**
 * Resolves with the first certificate; orders that then still run elsewhere are aborted, and count as failures of a CA
 * that was slower than usual.
 * @throws NoIssuanceError when every CA refused; the signal's reason when it aborts
 */
export function issueFromFirst(
  order: IssuanceOrder,
  options: IssuanceOptions,
  signal: AbortSignal,
): Promise<Issuance> {
  const { clock, health } = options
  const { promise, resolve, reject } = Promise.withResolvers<Issuance>()
  const refusals: Refusal[] = order.skipped.map((ca) => ({ ca, error: skipped(ca, health) }))
  const queue = [...order.cas]
  const running = new Map<string, AbortController>()

  const askNext = (): void => {
    const ca = queue.shift()
    if (ca === undefined) {
      if (running.size === 0) reject(signal.aborted ? signal.reason : new NoIssuanceError(refusals))
      return
    }
    const controller = new AbortController()
    running.set(ca, controller)
    const cancelHedge: Cancel = order.hedge ? clock.after(health.usualMs(ca), askNext) : () => {}
    const asked = { ca, request: order.request(ca), isLast: queue.length === 0 }
    askOne(asked, options, AbortSignal.any([signal, controller.signal])).then(
      ({ certificate, tookMs }) => {
        cancelHedge()
        running.delete(ca)
        const losers = [...running]
        running.clear()
        for (const [loser, order] of losers) {
          const error = slow(loser, ca)
          refusals.push({ ca: loser, error })
          order.abort(error)
        }
        resolve({ certificate, ca, tookMs, refusals })
      },
      (cause: unknown) => {
        cancelHedge()
        // Already counted as a loser?
        if (!running.delete(ca)) return
        const error = asIssueError(ca, cause)
        refusals.push({ ca, error })
        if (error.blame === 'local') queue.length = 0
        askNext()
      },
    )
  }
  askNext()
  return promise
}

/** Asks one CA, and tells its health and its ledger what came of it. */
async function askOne(
  { ca, request, isLast }: { ca: string; request: IssueRequest; isLast: boolean },
  { clock, health, access, onOutcome }: IssuanceOptions,
  signal: AbortSignal,
): Promise<{ certificate: Certificate; tookMs: number }> {
  const found = access(ca)
  const admission = await health.admit(ca, signal, isLast)
  if (found === undefined || admission === undefined) throw skipped(ca, health)
  const { issuer, ledger, exemptsRenewals } = found
  const { names, replaces } = request
  const exempt = exemptsRenewals && replaces !== undefined && ledger.renewsFor(replaces.account)
  if (ledger.openAt(names, exempt) > 0) {
    admission.abandoned()
    onOutcome(ca)
    throw skipped(ca, health)
  }
  /** Tells, once, that no certificate came of the order that is under way. */
  let unissued = ledger.ordered(names, exempt)
  let counted: IssueError | undefined
  const count = (failure: IssueError): void => {
    if (failure.code !== 'CA_BAD_CERTIFICATE') unissued()
    unissued = () => {}
    if (failure.code === 'DOMAIN_UNVALIDATED' && failure !== counted) ledger.unvalidated(names)
    counted = failure
  }
  const onOrderedAnew = (): void => {
    if (exempt) unissued = ledger.ordered(names, false)
  }
  const mayOrderAgain = (failure: IssueError): boolean => {
    count(failure)
    const isOpen = ledger.openAt(names, exempt) === 0
    if (isOpen) unissued = ledger.ordered(names, exempt)
    return isOpen
  }
  const startedAt = clock.monotonic()
  try {
    const certificate = await issuer.issue({ ...request, onOrderedAnew, mayOrderAgain }, signal)
    const tookMs = clock.monotonic() - startedAt
    admission.succeeded(tookMs)
    return { certificate, tookMs }
  } catch (cause) {
    // Aborted, the order has come to what the reason says: a lost race, or our own stop.
    const error = asIssueError(ca, signal.aborted ? signal.reason : cause)
    if (!signal.aborted) count(error)
    if (error.code === 'CA_RATE_LIMITED') ledger.refused(names, error.retryAfterMs)
    if (error.blame === 'local') admission.abandoned()
    else admission.failed(error)
    throw error
  } finally {
    onOutcome(ca)
  }
}

function slow(ca: string, winner: string): IssueError {
  return new IssueError('CA_TIMEOUT', `${ca}: had not issued by its usual time, and ${winner} was faster`, {
    blame: 'ca',
    retry: 'now',
  })
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
