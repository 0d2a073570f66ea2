/**
 * Everything that is told, in one place: takes what the engines say, makes dated events of it, counts them, keeps them
 * for `/api/events` and sends them to the targets of `notify`. `server.ts` wires the engines' callbacks to it.
 */
import type { CaHealth, CaSnapshot } from '../ca/health.ts'
import type { Certificate } from '../cert/certificate.ts'
import type { Inventory } from '../cert/inventory.ts'
import type { Fault, Verdicts } from '../cert/verdicts.ts'
import type { CertificateFailed, CertificateObtained, DatedEvent } from '../events.ts'
import type { Log } from '../log.ts'
import type { Metrics } from '../metrics.ts'
import type { Clock } from '../time.ts'
import { Notifier, type Target } from './notifier.ts'
import type { Outlook } from './outlook.ts'
import { Reporter } from './reporter.ts'
import { CertificateWatch } from './watch.ts'

export interface NewsOptions {
  readonly clock: Clock
  readonly random: () => number
  readonly log: Log
  readonly metrics: Metrics
  readonly inventory: Inventory
  readonly verdicts: Verdicts
  readonly health: CaHealth
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

  constructor(options: NewsOptions) {
    const { clock, health, inventory, outlook, verdicts } = options
    this.#options = options
    this.#notifier = new Notifier(options)
    this.#reporter = new Reporter({
      clock,
      isDown: (ca) => health.snapshot(ca)?.state !== 'up',
      exposure: (ca) => outlook.describe(ca),
      emit: (event) => this.#emit(event),
    })
    this.#watch = new CertificateWatch({
      clock,
      inventory,
      verdicts,
      onEvent: (event) => this.#reporter.report(event),
    })
  }

  /** To be called once what the store holds is published. */
  start(): void {
    this.#watch.start()
  }

  /** Takes the targets of another config over. */
  update(targets: readonly Target[]): Promise<void> {
    return this.#notifier.update(targets)
  }

  async stop(): Promise<void> {
    this.#watch.stop()
    await this.#notifier.stop()
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

  #emit(event: DatedEvent): void {
    this.#options.metrics.eventHappened(event.type)
    this.#options.keep(event)
    this.#notifier.tell(event)
  }
}
