/**
 * One order, carried out: lock → issue → persist → publish, and what comes of it told to the log, the job and the
 * listeners. Receives tasks and orders from `renewer.ts`.
 */
import type { CaAccess } from '../ca/authorities.ts'
import type { CaHealth } from '../ca/health.ts'
import type { Certificate } from '../cert/certificate.ts'
import type { Holding, Inventory } from '../cert/inventory.ts'
import type { Verdicts } from '../cert/verdicts.ts'
import { keyTypeOf } from '../cert/x509.ts'
import type { ChallengeType } from '../challenge/solver.ts'
import { INTERNAL } from '../config/cas.ts'
import { messageOf } from '../errors.ts'
import type { CertificateFailed, CertificateObtained, RefusedBy } from '../events.ts'
import type { Log } from '../log.ts'
import type { Records } from '../store/records.ts'
import { type Clock, formatDuration, MINUTE, SECOND, withDeadline } from '../time.ts'
import { describeRefusals, type Issuance, issueFromFirst, NoIssuanceError, type Refusal } from './issuance.ts'
import { type Duty, HOPELESS_AFTER, type Order, renewalDueAt, retryDelayMs } from './plan.ts'
import type { Task } from './task.ts'

/** What came of an order. */
export type RenewalEvent = CertificateObtained | CertificateFailed

export interface FulfilmentOptions {
  readonly clock: Clock
  readonly random: () => number
  readonly log: Log
  readonly records: Pick<
    Records,
    'loadCertificate' | 'saveCertificate' | 'saveState' | 'removeState' | 'lock'
  >
  readonly inventory: Inventory
  readonly verdicts: Verdicts
  readonly health: CaHealth
  readonly access: (ca: string) => CaAccess | undefined
  /** Until when a certificate may be relied upon: its chain may end before it. */
  readonly endOf: (certificate: Certificate) => number
  /** Builds what the first handshake would have to build. */
  readonly warm: (certificate: Certificate) => void
  readonly onEvent: (event: RenewalEvent) => void
}

/** How far an order has come. */
export interface Progress {
  /** The lock is held, and the CAs are asked next. */
  readonly onAsking: (task: Task) => void
  /** A CA has been asked, and what came of it is known. */
  readonly onOutcome: (ca: string) => void
}

/** Every CA was busy with a trial, or full: one of them may soon be open. */
const PASSED_OVER_MS = 5 * SECOND
/** Another process that shares the store may be at work on the same host. */
const LOCK_WAIT_MS = 5 * MINUTE

export class Fulfilment {
  /** Off while an outage is rehearsed: a failure of then must not outlive it. */
  keepsFailures = true
  readonly #options: FulfilmentOptions
  readonly #progress: Progress

  constructor(options: FulfilmentOptions, progress: Progress) {
    this.#options = options
    this.#progress = progress
  }

  /**
   * Carries the order out. Never rejects: a failure ends in the task's job, which the planner reads.
   * @param isWanted asked once the lock is held: what was planned before may be done by then
   */
  async carryOut(task: Task, order: Order, isWanted: () => boolean, signal: AbortSignal): Promise<void> {
    const { clock, records } = this.#options
    const { host } = task.target
    try {
      const lease = await withDeadline(clock, LOCK_WAIT_MS, `the lock of ${host}`, signal, (inner) =>
        records.lock(host, inner),
      )
      try {
        if ((await this.#adopt(task, order.duty)) || !isWanted()) return
        this.#progress.onAsking(task)
        const issuance = await this.#issue(task, order, AbortSignal.any([signal, lease.lost]))
        const replaced = this.#options.inventory.holding(host)[order.duty]
        const failures = task.job[order.duty]?.failures ?? 0
        await records.saveCertificate(host, order.duty, issuance.certificate)
        await this.#publish(task, order.duty, issuance.certificate)
        this.#report(task, order.duty, issuance, replaced)
        await this.#pauseIfDue(task, order.duty, issuance, failures)
      } finally {
        await lease.release()
      }
    } catch (error) {
      if (!signal.aborted) await this.#postpone(task, order, error, signal)
    }
  }

  /** A host that has nothing valid to serve, and may, is served by the internal CA meanwhile. Never rejects. */
  async fillIn({ target: { host, interim, keyType } }: Task, signal: AbortSignal): Promise<void> {
    const { access, clock, inventory, log } = this.#options
    const internal = access(INTERNAL)?.issuer
    if (!interim || internal === undefined || inventory.find(host)?.isValidAt(clock.now())) return
    try {
      const certificate = await internal.issue({ names: [host], keyType, challenges: [] }, signal)
      inventory.publish(host, 'interim', certificate)
    } catch (error) {
      log.warn({ host, err: error }, `no interim certificate for ${host}: ${messageOf(error)}`)
    }
  }

  /** Takes over what another process that shares the store has obtained meanwhile. */
  async #adopt(task: Task, duty: Duty): Promise<boolean> {
    const { clock, inventory, log, records } = this.#options
    const { host, cas } = task.target
    const stored = await records.loadCertificate(host, duty)
    if (stored === undefined || stored.fingerprint === inventory.holding(host)[duty]?.fingerprint)
      return false
    if (!cas.includes(stored.source) || this.#dueAt(stored, duty) <= clock.now()) return false
    await this.#publish(task, duty, stored)
    log.info({ host, role: duty, ca: stored.source }, `took over the certificate for ${host} from the store`)
    return true
  }

  #dueAt(certificate: Certificate, duty: Duty): number {
    const { source, notBefore, fingerprint } = certificate
    const notAfter = this.#options.endOf(certificate)
    return renewalDueAt({ source, notBefore, notAfter, fingerprint }, duty)
  }

  #issue(task: Task, order: Order, signal: AbortSignal): Promise<Issuance> {
    const { inventory, verdicts } = this.#options
    const { host, keyType } = task.target
    const holding = inventory.holding(host)
    const replaced = holding[order.duty]
    const challenges = this.#challengesFor(task, order.duty, holding)
    const keyPem = replaced && this.#reusableKey(task, replaced)
    const request = { names: [host], keyType, challenges, ...(keyPem === undefined ? {} : { keyPem }) }
    return issueFromFirst(
      {
        cas: order.cas,
        // Whom the operator distrusts he does not miss.
        skipped: order.skipped.filter((ca) => !verdicts.isDistrusted(ca)),
        hedge: order.hedge,
        request: (ca) =>
          replaced?.source === ca && replaced.ariId !== undefined
            ? { ...request, replaces: { ariId: replaced.ariId, account: replaced.account } }
            : request,
      },
      { ...this.#options, onOutcome: this.#progress.onOutcome },
      signal,
    )
  }

  /**
   * What proved the host before comes first, whichever CA it was shown to: a failed validation costs an order, and counts
   * against limits. One that never validates gets one try at a time, each with the next type.
   */
  #challengesFor({ job, target }: Task, duty: Duty, held: Holding): readonly ChallengeType[] {
    const { challenges } = target
    const failures = job[duty]?.failures ?? 0
    if (failures > HOPELESS_AFTER)
      return challenges.filter((_, index) => index === failures % challenges.length)
    const proven = held[duty]?.provedBy ?? held.live?.provedBy ?? held.standby?.provedBy
    return [...challenges].sort((a, b) => Number(b === proven) - Number(a === proven))
  }

  /** The key of before, where that is wanted. Not one of another type, nor one for whose sake the certificate may have to go. */
  #reusableKey({ target }: Task, replaced: Certificate): string | undefined {
    const fault = this.#options.verdicts.faultOf(replaced)
    const isTainted = fault === 'compromised' || fault === 'revoked' || fault === 'recalled'
    const { reuseKey, keyType } = target
    return reuseKey && !isTainted && keyTypeOf(replaced.keyPem) === keyType ? replaced.keyPem : undefined
  }

  /** The duty is done: the certificate is served from the next handshake on, and the backoff goes. */
  async #publish(task: Task, duty: Duty, certificate: Certificate): Promise<void> {
    const { inventory, warm } = this.#options
    const { host } = task.target
    warm(certificate)
    inventory.publish(host, duty, certificate)
    if (duty === 'live') inventory.withdraw(host, 'interim')
    task.forced.delete(duty)
    if (task.job[duty] === undefined) return
    const { [duty]: _, ...rest } = task.job
    task.job = rest
    await this.#saveJob(task)
  }

  /** One that is due on arrival, as where our clock or the CA's is wrong, would else be followed by the next at once. */
  async #pauseIfDue(task: Task, duty: Duty, { ca, certificate }: Issuance, failures: number): Promise<void> {
    const { clock, endOf, log, random } = this.#options
    const { host } = task.target
    const lastAt = clock.now()
    if (this.#dueAt(certificate, duty) > lastAt) return
    const delayMs = retryDelayMs(failures + 1, endOf(certificate) - lastAt, random)
    const lastError = `${ca} issued a certificate that is due for renewal already: is the clock of this machine right?`
    task.job = { ...task.job, [duty]: { failures: failures + 1, lastAt, delayMs, lastError } }
    await this.#saveJob(task)
    log.warn({ host, role: duty, ca, retryIn: formatDuration(delayMs) }, `${host}: ${lastError}`)
  }

  /** Leaves the duty alone for a while. */
  async #postpone(task: Task, order: Order, error: unknown, signal: AbortSignal): Promise<void> {
    const { clock, log, onEvent, random } = this.#options
    const { host } = task.target
    const role = order.duty
    const before = task.job[role]
    const refusals = error instanceof NoIssuanceError ? error.refusals : []
    const failed = refusals.filter(({ error: { code } }) => code !== 'CA_SKIPPED').map(({ ca }) => ca)
    const isOurs = refusals.length === 0 || refusals.some(({ error: { blame } }) => blame === 'local')
    // Where no CA was asked nothing has failed: the next look comes soon, and only the first is told.
    const isPassedOver = !isOurs && failed.length === 0
    const counted = (before?.failures ?? 0) + (isPassedOver && before !== undefined ? 0 : 1)
    // An outage may be over at any time, however long it was: only a host that fails by its own fault is hopeless.
    const isHosts = refusals.some(({ error: { blame } }) => blame === 'domain')
    const failures = isHosts ? counted : Math.min(counted, HOPELESS_AFTER)
    const delayMs = isPassedOver ? PASSED_OVER_MS : retryDelayMs(failures, order.timeLeftMs, random)
    const lastAt = clock.now()
    const failure = { failures, lastAt, delayMs, lastError: messageOf(error) }
    task.forced.delete(role)
    task.job = { ...task.job, [role]: isOurs || isPassedOver ? failure : { ...failure, failed } }
    await this.#saveJob(task)
    if (isPassedOver && before !== undefined) return
    const refused = refusals.map(reasonOf)
    const reason = refused.at(-1)?.reason ?? 'LOCAL_FAILURE'
    const message = messageOf(error)
    const retryAt = new Date(lastAt + delayMs).toISOString()
    log.error(
      { host, role, reason, failures, retryIn: formatDuration(delayMs) },
      `no certificate for ${host}: ${message}`,
    )
    onEvent({ type: 'certificate.failed', host, role, reason, message, retryAt, refused })
    await this.fillIn(task, signal)
  }

  async #saveJob({ target: { host }, job }: Task): Promise<void> {
    const { log, records } = this.#options
    try {
      if (Object.keys(job).length === 0) await records.removeState('jobs', host)
      else if (this.keepsFailures) await records.saveState('jobs', host, job)
    } catch (error) {
      log.warn({ host, err: error }, `the job of ${host} could not be kept: ${messageOf(error)}`)
    }
  }

  #report(
    { target: { cas, host } }: Task,
    role: Duty,
    { certificate, ca, tookMs, refusals: all }: Issuance,
    replaced: Certificate | undefined,
  ): void {
    const { log, onEvent } = this.#options
    const notAfter = new Date(certificate.notAfter).toISOString()
    const fields = { host, role, ca, notAfter, tookMs: Math.round(tookMs) }
    // It would not have been asked in any case.
    const isBehind = (other: string): boolean => cas.indexOf(other) > cas.indexOf(ca)
    const refusals = all.filter((each) => each.error.code !== 'CA_SKIPPED' || !isBehind(each.ca))
    if (refusals.length === 0) log.info(fields, `${host}: certificate issued by ${ca}`)
    else log.warn(fields, `${host}: certificate issued by ${ca} instead: ${describeRefusals(refusals)}`)
    const type = replaced === undefined ? 'certificate.issued' : 'certificate.renewed'
    onEvent({ type, host, role, ca, notAfter, refused: refusals.map(reasonOf) })
  }
}

function reasonOf({ ca, error }: Refusal): RefusedBy {
  return { ca, reason: error.code }
}
