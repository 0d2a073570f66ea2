/**
 * Everything that is told, in one place: takes what the engines say, makes dated events of it, counts them, keeps them
 * for `/api/events` and sends them to the targets of `notify`. `server.ts` wires the engines' callbacks to it.
 */
import type { CaHealth, CaSnapshot } from '../ca/health.ts'
import type { Certificate } from '../cert/certificate.ts'
import type { Inventory } from '../cert/inventory.ts'
import type { Fault, Verdicts } from '../cert/verdicts.ts'
import { messageOf } from '../errors.ts'
import type { CertificateFailed, CertificateObtained, DatedEvent } from '../events.ts'
import { LatestWrite } from '../latest-write.ts'
import type { Log } from '../log.ts'
import type { Metrics } from '../metrics.ts'
import { type Records, SOLE_RECORD } from '../store/records.ts'
import type { Clock } from '../time.ts'
import { Notifier, type Target } from './notifier.ts'
import type { Outlook } from './outlook.ts'
import { type Failovers, Reporter } from './reporter.ts'
import { CertificateWatch } from './watch.ts'

export interface NewsOptions {
  readonly clock: Clock
  readonly random: () => number
  readonly log: Log
  readonly metrics: Metrics
  readonly inventory: Inventory
  readonly verdicts: Verdicts
  readonly health: CaHealth
  readonly records: Pick<Records, 'loadState' | 'saveState' | 'removeState'>
  /** Is an outage of this CA rehearsed at present? */
  readonly isRehearsed: (ca: string) => boolean
  readonly outlook: Outlook
  /** What commands may inherit from. */
  readonly environment: NodeJS.ProcessEnv
  /** Must not throw. */
  readonly keep: (event: DatedEvent) => void
}

export class News {
  readonly #options: NewsOptions
  readonly #notifier: Notifier
  readonly #reporter: Reporter
  readonly #watch: CertificateWatch
  /** Each certificate of a failover changes it. */
  readonly #kept = new LatestWrite(() => this.#write())

  constructor(options: NewsOptions) {
    const { clock, health, inventory, outlook, verdicts } = options
    this.#options = options
    this.#notifier = new Notifier(options)
    this.#reporter = new Reporter({
      clock,
      stateOf: (ca) => health.snapshot(ca)?.state,
      exposure: (ca) => outlook.describe(ca),
      emit: (event) => this.#emit(event),
      onFailovers: () => void this.#kept.request(),
    })
    this.#watch = new CertificateWatch({
      clock,
      inventory,
      verdicts,
      onEvent: (event) => this.#reporter.report(event),
    })
  }

  /** To be called once what the store holds is published, and what is known of the CAs is loaded. @throws StoreError */
  async start(): Promise<void> {
    this.#reporter.restore(readFailovers(await this.#options.records.loadState('failovers', SOLE_RECORD)))
    this.#watch.start()
  }

  /** Takes the targets of another config over. */
  update(targets: readonly Target[]): Promise<void> {
    return this.#notifier.update(targets)
  }

  async stop(): Promise<void> {
    this.#watch.stop()
    await this.#notifier.stop()
    await this.#kept.settled()
  }

  /** A CA's breaker opened or closed. */
  caChanged(snapshot: CaSnapshot): void {
    this.#reporter.caChanged(snapshot)
  }

  /** An order came to its end. */
  renewal(event: CertificateObtained | CertificateFailed): void {
    const { metrics } = this.#options
    for (const { ca, reason } of event.refused) if (reason !== 'CA_SKIPPED') metrics.caFailed(ca, reason)
    if (event.type !== 'certificate.failed') metrics.certificateIssued(event.ca)
    this.#reporter.renewal(event)
  }

  /** A certificate that is held must not be relied upon any more. */
  verdict(certificate: Certificate, fault: Fault): void {
    this.#reporter.verdict(certificate, this.#hostsOf(certificate), fault)
    this.#watch.lookSoon()
  }

  /** Mostly it is held under its own names; only one of the operator's own makes a look at every host necessary. */
  #hostsOf({ fingerprint, names }: Certificate): readonly string[] {
    const { inventory } = this.#options
    const isHolder = (host: string): boolean => {
      const { live, standby } = inventory.holding(host)
      return live?.fingerprint === fingerprint || standby?.fingerprint === fingerprint
    }
    const holders = names.filter(isHolder)
    return holders.length > 0 ? holders : inventory.hosts().filter(isHolder)
  }

  /** Nothing of a drill is kept: it ends with the process. Never rejects. */
  async #write(): Promise<void> {
    const { isRehearsed, log, records } = this.#options
    const real = Object.entries(this.#reporter.failovers).filter(([ca]) => !isRehearsed(ca))
    try {
      if (real.length === 0) await records.removeState('failovers', SOLE_RECORD)
      else await records.saveState('failovers', SOLE_RECORD, Object.fromEntries(real))
    } catch (error) {
      log.warn({ err: error }, `the failovers that go on could not be kept: ${messageOf(error)}`)
    }
  }

  #emit(event: DatedEvent): void {
    this.#options.metrics.eventHappened(event.type)
    this.#options.keep(event)
    this.#notifier.tell(event)
  }
}

/** A stored record; one that is not of our making counts as absent. */
function readFailovers(value: unknown): Failovers {
  if (typeof value !== 'object' || value === null) return {}
  const isFailover = (each: Partial<Failovers[string]> | null): boolean =>
    Array.isArray(each?.instead) && typeof each.certificates === 'number'
  return Object.values(value).every(isFailover) ? (value as Failovers) : {}
}
