/**
 * A CA that speaks ACME (RFC 8555), as an `Issuer`. Hides the protocol from `renew/`; this file is its table of contents:
 *
 *     acme-endpoint.ts   whom to trust for the CA's own endpoint
 *     acme-http.ts       one bounded HTTPS exchange
 *     acme-problem.ts    what went wrong, and whose fault it is
 *     acme-directory.ts  what the CA tells anybody: directory, nonce, renewal information
 *     acme-wire.ts       the signed requests, by acme-client
 *     acme-account.ts    the account, kept in the store
 *     acme-order.ts      one certificate from order to download
 */
import type { X509Certificate } from 'node:crypto'
import { isWithin, type Span } from '../attested-clock.ts'
import { Certificate } from '../cert/certificate.ts'
import { verifyChain } from '../cert/verify.ts'
import type { Solver } from '../challenge/solver.ts'
import { CertificateError, IssueError, messageOf } from '../errors.ts'
import type { Log } from '../log.ts'
import {
  type Clock,
  DAY,
  DeadlineError,
  formatDuration,
  HOUR,
  MINUTE,
  SECOND,
  withDeadline,
} from '../time.ts'
import { type AccountRecords, AcmeAccount } from './acme-account.ts'
import { type Directory, fetchDirectory, fetchNonce, fetchRenewalInfo } from './acme-directory.ts'
import { EndpointTrust } from './acme-endpoint.ts'
import { CaHttp } from './acme-http.ts'
import { type Issued, orderCertificate } from './acme-order.ts'
import { failure, isAlreadyRevoked } from './acme-problem.ts'
import { AcmeWire, type Endpoint, type ExternalAccountBinding } from './acme-wire.ts'
import type { IssueRequest, Issuer, RenewalInfo } from './issuer.ts'

export interface AcmeIssuerOptions {
  /** The CA's name in the config. */
  readonly id: string
  /** https URL of the ACME directory. */
  readonly directory: string
  /** `mailto:` URLs. */
  readonly contact: readonly string[]
  readonly eab?: ExternalAccountBinding | undefined
  readonly profile?: string | undefined
  /** Common name of the root that chains are to end in, where the CA offers several (RFC 8555 section 7.4.2). */
  readonly preferredRoot?: string | undefined
  /** PEM of roots to trust for the CA's HTTPS endpoint, beside the runtime's. */
  readonly endpointRoots?: string | undefined
  /** Where the chains that it issues must end, now. */
  readonly trust: () => 'any' | readonly X509Certificate[]
  /** What ends in one of them is held to the rules of browsers. */
  readonly browserRoots?: readonly X509Certificate[]
  /** At most one of a type. */
  readonly solvers: readonly Solver[]
  readonly records: AccountRecords
  /** The CA has told the time, milliseconds since the epoch. */
  readonly onTime?: (time: number) => void
  /** It has issued a certificate in this span, by the time that it told, and not by `clock`, which may be put right then. */
  readonly onVouched?: (issued: Span) => void
  /** Something is asked of it as the account of this URL. */
  readonly onAccount?: (url: string) => void
  readonly clock: Clock
  readonly log: Log
  /** For one request, from connecting to the last byte of the answer. Default 8 s. */
  readonly exchangeLimitMs?: number
  /** For a certificate, whatever it takes. Default 60 s. */
  readonly orderLimitMs?: number
}

const EXCHANGE_LIMIT_MS = 8 * SECOND
const ORDER_LIMIT_MS = MINUTE
/** An order fetches the directory anew; questions about renewal make do with one of this age. */
const DIRECTORY_AGE_MS = HOUR
/** CAs date what they issue back, by an hour or to the day's begin. */
const LONGEST_BACKDATE_MS = 2 * DAY
/** Of this machine's clock behind the CA's. */
const LARGEST_LAG_MS = DAY

export class AcmeIssuer implements Issuer {
  readonly id: string
  readonly #options: AcmeIssuerOptions
  readonly #account: AcmeAccount
  /** For the CA's endpoint; made when it is first asked. */
  #endpointTrust: EndpointTrust | undefined
  #directory: { readonly value: Directory; readonly fetchedAt: number } | undefined

  constructor(options: AcmeIssuerOptions) {
    const { id: ca, contact, eab, records, log, onAccount } = options
    this.id = ca
    this.#options = options
    this.#account = new AcmeAccount({ ca, contact, eab, records, log, onUse: onAccount })
  }

  /** Leaves nothing presented and no authorization pending where it can help it, also when it is aborted. */
  issue(request: IssueRequest, signal: AbortSignal): Promise<Certificate> {
    return this.#converse('order', signal, async (http, limited) => {
      const { id: ca, profile, preferredRoot, solvers, clock, log } = this.#options
      const issued = await this.#asAccount(http, limited, (wire) =>
        orderCertificate(request, wire, { ca, profile, preferredRoot, solvers, clock, log }, limited),
      )
      return this.#verified(issued, request)
    })
  }

  /** The directory, not from a cache, and a nonce. */
  async probe(signal: AbortSignal): Promise<void> {
    await this.survey(signal)
  }

  /** As `probe`, and gives what the directory says. */
  survey(signal: AbortSignal): Promise<Directory> {
    return this.#converse('probe', signal, async (http, limited) => {
      const directory = await this.#fetchDirectory(http, limited)
      await fetchNonce(http, directory, limited)
      return directory
    })
  }

  /**
   * URL of the account in the store, which the CA knows and holds valid; undefined: the next order makes one. Changes
   * nothing, neither here nor there. Rejects where the CA does not take the account.
   */
  confirmAccount(signal: AbortSignal): Promise<string | undefined> {
    return this.#converse('account', signal, async (http, limited) =>
      this.#account.confirm(await this.#endpoint(http, limited), limited),
    )
  }

  /** URL of the account that orders use; where there is none yet it is made and stored, as by the first order. */
  ensureAccount(signal: AbortSignal): Promise<string> {
    return this.#converse('account', signal, async (http, limited) =>
      this.#account.ensure(await this.#endpoint(http, limited), limited),
    )
  }

  /** RFC 9773 section 4; undefined: the CA or the certificate has none. */
  renewalInfo(certificate: Certificate, signal: AbortSignal): Promise<RenewalInfo | undefined> {
    return this.#converse('renewal information', signal, async (http, limited) => {
      const { renewalInfo } = this.#recentDirectory() ?? (await this.#fetchDirectory(http, limited))
      const { ariId } = certificate
      if (renewalInfo === undefined || ariId === undefined) return undefined
      return fetchRenewalInfo(http, renewalInfo, ariId, limited)
    })
  }

  /** RFC 8555 section 7.6, by the account that ordered it, or by the certificate's key where that is gone. Idempotent. */
  revoke(certificate: Certificate, reason: number): Promise<void> {
    return this.#converse('revocation', undefined, async (http, limited) => {
      try {
        await this.#revokeByAny(certificate, reason, http, limited)
      } catch (error) {
        if (!isAlreadyRevoked(error)) throw error
      }
    })
  }

  /** RFC 8555 section 7.3.5. Orders that are under way go on with the new key. */
  changeAccountKey(): Promise<void> {
    return this.#converse('change of the account key', undefined, async (http, limited) =>
      this.#account.changeKey(await this.#endpoint(http, limited), limited),
    )
  }

  /** RFC 8555 section 7.3.6. Idempotent until the next order, which makes another account. */
  deactivateAccount(): Promise<void> {
    return this.#converse('deactivation of the account', undefined, async (http, limited) =>
      this.#account.deactivate(await this.#endpoint(http, limited), limited),
    )
  }

  /** Bounds what `work` takes, on connections of its own, and makes an `IssueError` of whatever goes wrong. */
  async #converse<T>(
    doing: string,
    signal: AbortSignal | undefined,
    work: (http: CaHttp, limited: AbortSignal) => Promise<T>,
  ): Promise<T> {
    const { id: ca, endpointRoots, clock } = this.#options
    const { exchangeLimitMs = EXCHANGE_LIMIT_MS, orderLimitMs = ORDER_LIMIT_MS } = this.#options
    this.#endpointTrust ??= new EndpointTrust(endpointRoots)
    const http = new CaHttp({ ca, trust: this.#endpointTrust, exchangeLimitMs, clock })
    try {
      return await withDeadline(clock, orderLimitMs, 'it', signal, (limited) =>
        // Not before `work` has ended: it tidies up when it is aborted.
        work(http, limited).finally(() => http.close()),
      )
    } catch (cause) {
      if (signal?.aborted) {
        const what = `abandoned: ${messageOf(signal.reason)}`
        throw failure({ code: 'LOCAL_FAILURE', ca, doing, what, cause })
      }
      if (cause instanceof IssueError) throw cause
      const code = cause instanceof DeadlineError ? 'CA_TIMEOUT' : 'LOCAL_FAILURE'
      throw failure({ code, ca, doing, what: messageOf(cause), cause })
    }
  }

  async #asAccount<T>(http: CaHttp, signal: AbortSignal, work: (wire: AcmeWire) => Promise<T>): Promise<T> {
    return this.#account.use(await this.#endpoint(http, signal), signal, work)
  }

  async #endpoint(http: CaHttp, signal: AbortSignal): Promise<Endpoint> {
    const directory = await this.#fetchDirectory(http, signal)
    return { http, directoryUrl: this.#options.directory, directory }
  }

  async #fetchDirectory(http: CaHttp, signal: AbortSignal): Promise<Directory> {
    const { directory: url, clock, onTime } = this.#options
    const value = await fetchDirectory(http, url, signal)
    if (value.date !== undefined) onTime?.(value.date)
    this.#directory = { value, fetchedAt: clock.monotonic() }
    return value
  }

  #recentDirectory(): Directory | undefined {
    if (this.#directory === undefined) return undefined
    const { value, fetchedAt } = this.#directory
    return this.#options.clock.monotonic() - fetchedAt < DIRECTORY_AGE_MS ? value : undefined
  }

  async #revokeByAny(
    { keyPem, leaf }: Certificate,
    reason: number,
    http: CaHttp,
    signal: AbortSignal,
  ): Promise<void> {
    const pem = leaf.toString()
    try {
      await this.#asAccount(http, signal, (wire) => wire.revoke(pem, reason, signal))
    } catch (error) {
      if (!(error instanceof IssueError) || error.code !== 'ACCOUNT_REJECTED') throw error
      const wire = await AcmeWire.open(await this.#endpoint(http, signal), keyPem)
      await wire.revokeByItsKey(pem, reason, signal)
    }
  }

  /** By the directory that it gave last; NaN: it did not say. */
  #timeOfCa(): number {
    const { value: { date = Number.NaN } = {}, fetchedAt = 0 } = this.#directory ?? {}
    // It tells whole seconds, and may have issued later in the same one.
    return date + SECOND + this.#options.clock.monotonic() - fetchedAt
  }

  /** When to verify it. A clock that is somewhat behind is no reason to order one after the other: few are to be had a week. */
  #timeFor({ notBefore }: Certificate): number {
    const { id: ca, clock, log } = this.#options
    const now = clock.now()
    if (notBefore <= now || notBefore > now + LARGEST_LAG_MS) return now
    log.warn(
      { ca },
      `${ca} issued a certificate that is not valid for another ${formatDuration(notBefore - now)} by this machine's clock: is the clock right?`,
    )
    return notBefore
  }

  #verified({ chainPem, keyPem, ...order }: Issued, { names }: IssueRequest): Certificate {
    const { id: ca, trust, browserRoots = [], clock, onVouched } = this.#options
    try {
      const certificate = new Certificate(chainPem, keyPem, ca, `certificate from ${ca}`, order)
      const verifyAt = (now: number): void => {
        verifyChain(certificate, { names, roots: trust(), browserRoots, now })
      }
      const timeOfCa = this.#timeOfCa()
      const issued = spanOfIssue(certificate)
      if (isWithin(issued, timeOfCa) && !isWithin(issued, clock.now())) {
        verifyAt(timeOfCa)
        onVouched?.(issued)
      }
      verifyAt(this.#timeFor(certificate))
      return certificate
    } catch (cause) {
      if (!(cause instanceof CertificateError)) throw cause
      const what = messageOf(cause)
      throw failure({ code: 'CA_BAD_CERTIFICATE', ca, doing: 'issued certificate', what, cause })
    }
  }
}

/** When this one, which has just come, may have been issued. */
function spanOfIssue({ notBefore, notAfter }: Certificate): Span {
  return { from: notBefore, until: Math.min(notAfter, notBefore + LONGEST_BACKDATE_MS) }
}
