/**
 * The slow world in one piece: whatever keeps hosts supplied with certificates, tells people, and hands copies to other
 * programs. It writes the inventory; `front.ts` reads it. `server.ts` makes one and joins it to the front.
 */
import type { AttestedClock } from './attested-clock.ts'
import { Authorities } from './ca/authorities.ts'
import type { CaHealth, CaSnapshot, CaState } from './ca/health.ts'
import type { Issuer } from './ca/issuer.ts'
import { Issuers } from './ca/issuers.ts'
import { Revocations } from './ca/revocation.ts'
import { feedsOf, StatusFeeds } from './ca/status-feed.ts'
import type { Certificate } from './cert/certificate.ts'
import { CertificateFiles } from './cert/files.ts'
import type { Inventory } from './cert/inventory.ts'
import type { Verdicts } from './cert/verdicts.ts'
import type { Solver } from './challenge/solver.ts'
import { distrustedOf } from './config/cas.ts'
import type { Config } from './config/schema.ts'
import { type FilePolicy, resolveCas, resolveSites } from './config/sites.ts'
import { Deliveries } from './deliver/deliveries.ts'
import type { DatedEvent } from './events.ts'
import type { Log } from './log.ts'
import type { Metrics } from './metrics.ts'
import { News } from './notify/news.ts'
import { Outlook } from './notify/outlook.ts'
import { Judge } from './renew/judge.ts'
import { Renewer } from './renew/renewer.ts'
import { targetsOf } from './renew/task.ts'
import type { Records } from './store/records.ts'
import { sleep } from './time.ts'

export interface SupplyOptions {
  readonly config: Config
  readonly clock: AttestedClock
  readonly log: Log
  readonly metrics: Metrics
  readonly records: Records
  readonly inventory: Inventory
  readonly verdicts: Verdicts
  readonly solvers: readonly Solver[]
  /** Throws CertificateError when the certificate cannot be served. */
  readonly warm: (certificate: Certificate) => void
  /** What has happened, for `/api/events`. */
  readonly keep: (event: DatedEvent) => void
}

/** How often a start looks whether the first certificates are there. */
const SUPPLY_POLL_MS = 20

export class Supply {
  readonly renewer: Renewer
  readonly judge: Judge
  readonly outlook: Outlook
  readonly authorities: Authorities
  readonly #options: SupplyOptions
  readonly #issuers: Issuers
  readonly #feeds: StatusFeeds
  readonly #news: News
  readonly #deliveries: Deliveries
  #config: Config
  #files: CertificateFiles<FileSource>

  constructor(options: SupplyOptions) {
    this.#options = options
    this.#config = options.config
    const { clock, inventory, log, metrics, records, solvers, verdicts, warm } = options
    const random = Math.random
    const environment = process.env
    this.#issuers = new Issuers({
      clock,
      log,
      records,
      solvers,
      onAccount: (ca, url) => this.authorities.access(ca)?.ledger.useAccount(url),
      onTime: (ca, witness, time) => {
        if (verdicts.isDistrusted(ca)) return
        clock.hear(witness, time)
        if (!clock.isAttested) this.#vouchByHeld(ca, witness)
      },
      onVouched: (ca, witness, issued) => {
        if (clock.isAttested) return
        if (!this.#isAtStake(ca)) clock.vouch(witness, issued)
        else
          log.warn(
            { ca },
            `${ca} dates what it issues by another time than this machine's, and is not believed while what others have issued is good: is the clock right?`,
          )
      },
    })
    this.authorities = new Authorities({
      clock,
      random,
      log,
      records,
      createIssuer: (ca) => this.#issuers.create(ca),
      onChange: (snapshot, previous) => this.#onCaChange(snapshot, previous),
      onProbeFailed: (ca, reason) => metrics.caFailed(ca, reason),
    })
    const { health } = this.authorities
    const setTroubled = (ca: string, troubled: boolean): void => health.setTroubled(ca, troubled)
    this.#feeds = new StatusFeeds({ clock, random, log, setTroubled })
    const holdings = { inventory, verdicts, health }
    this.outlook = new Outlook({
      clock,
      ...holdings,
      access: (ca) => this.authorities.access(ca),
      hosts: () => targetsOf(resolveSites(this.#config)),
    })
    this.#news = new News({
      clock,
      random,
      log,
      metrics,
      environment,
      records,
      isRehearsed: (ca) => this.authorities.isRehearsed(ca),
      ...holdings,
      outlook: this.outlook,
      keep: options.keep,
    })
    this.renewer = new Renewer({
      clock,
      random,
      log,
      records,
      ...holdings,
      access: (ca) => this.authorities.access(ca),
      endOf: (certificate) => this.#issuers.endOf(certificate),
      warm,
      onEvent: (event) => this.#news.renewal(event),
      onWish: (certificate, recalled) => void this.judge.setRecalled(certificate, recalled),
    })
    const revocations = new Revocations({ clock, log })
    this.judge = new Judge({
      clock,
      log,
      records,
      inventory,
      verdicts,
      verify: (certificate) => this.#issuers.verify(certificate),
      endOf: (certificate) => this.#issuers.endOf(certificate),
      isRevoked: (certificate, signal) => revocations.isRevoked(certificate, signal),
      onVerdict: (certificate, fault) => {
        this.#news.verdict(certificate, fault)
        this.renewer.wake()
        this.#deliveries.look()
      },
    })
    this.#deliveries = new Deliveries({
      clock,
      random,
      log,
      environment,
      find: (host) => inventory.find(host),
    })
    inventory.onChange(() => this.#deliveries.look())
    this.#files = this.#createFiles(this.#config, publisher(inventory))
  }

  get health(): CaHealth {
    return this.authorities.health
  }

  issuer(ca: string): Issuer | undefined {
    return this.authorities.access(ca)?.issuer
  }

  /** Publishes what the store and the certificate files hold. @throws ConfigError, StoreError */
  async load(): Promise<void> {
    await this.#issuers.load()
    const cas = resolveCas(this.#config)
    await this.authorities.update(cas)
    await this.#files.load()
    await this.judge.load()
    this.judge.distrustOnly(distrustedOf(cas))
    await this.renewer.load(targetsOf(resolveSites(this.#config)))
  }

  /** Takes over the roots that are pinned in the store, and judges anew what they speak for. @throws StoreError */
  async reloadRoots(): Promise<void> {
    await this.#issuers.load()
    await this.judge.review()
    this.renewer.wake()
  }

  /** From now on certificates that are missing follow, and those that fall due are renewed. */
  async start(): Promise<void> {
    this.#files.start()
    await this.#news.update(this.#config.notify)
    await this.#news.start()
    this.authorities.start()
    this.#feeds.update(feedsOf(resolveCas(this.#config)))
    this.renewer.start()
    this.judge.start()
    this.#deliveries.update(resolveSites(this.#config).flatMap(({ deliver }) => deliver))
    this.#deliveries.start()
  }

  /**
   * Reads what another config needs, and changes nothing. What it resolves with takes the config over, or rejects as
   * this does, and all is as it was. @throws ConfigError
   */
  async prepare(config: Config): Promise<() => Promise<void>> {
    const { inventory } = this.#options
    const read: [FileSource, Certificate][] = []
    let publish: Publish = (source, certificate) => read.push([source, certificate])
    const files = this.#createFiles(config, (source, certificate) => publish(source, certificate))
    await files.load()
    return async () => {
      await this.authorities.update(resolveCas(config))
      publish = publisher(inventory)
      for (const [source, certificate] of read) publish(source, certificate)
      await this.#takeOver(config, files)
    }
  }

  async #takeOver(config: Config, files: CertificateFiles<FileSource>): Promise<void> {
    const [cas, sites] = [resolveCas(config), resolveSites(config)]
    this.#config = config
    this.#files.stop()
    this.#files = files
    files.start()
    this.#feeds.update(feedsOf(cas))
    await this.#news.update(config.notify)
    this.judge.distrustOnly(distrustedOf(cas))
    await this.renewer.update(targetsOf(sites))
    // What the config's roots no longer speak for gives way at once, not at the next look.
    void this.judge.review()
    this.#deliveries.update(sites.flatMap(({ deliver }) => deliver))
  }

  /** Begins nothing more; resolves once what was being done is done or given up. Also after a start that failed. */
  async stop(): Promise<void> {
    this.#files.stop()
    this.#feeds.stop()
    await this.renewer.stop()
    await this.judge.stop()
    await this.#deliveries.stop()
    await this.authorities.stop()
    await this.#news.stop()
  }

  /** Resolves once every host that internal CAs alone supply can be served, or after `limitMs`: they need moments. */
  async whenSupplied(limitMs: number): Promise<void> {
    const { clock, inventory } = this.#options
    const cas = resolveCas(this.#config)
    const hosts = targetsOf(resolveSites(this.#config))
      .filter((target) => target.cas.every((ca) => cas.get(ca)?.type === 'internal'))
      .map(({ host }) => host)
    const isSupplied = (): boolean => hosts.every((host) => inventory.find(host) !== undefined)
    const endAt = clock.monotonic() + limitMs
    while (!isSupplied() && clock.monotonic() < endAt) await sleep(clock, SUPPLY_POLL_MS)
  }

  /** What the CA has issued before is of the future, by a machine whose clock was further then. */
  #vouchByHeld(ca: string, witness: string): void {
    const machineTime = this.#machineTime()
    const ofTheFuture = this.#held().find(({ source, notBefore }) => source === ca && notBefore > machineTime)
    if (ofTheFuture === undefined || this.#isAtStake(ca)) return
    const { notBefore: from, notAfter: until } = ofTheFuture
    this.#options.clock.vouch(witness, { from, until })
  }

  /**
   * Does any host hold from another than this CA what is good by the machine's clock? By the word of one CA, which may
   * be wrong, it could look expired, or be replaced by what is good by that CA's clock alone. Internal CAs have none of their own.
   */
  #isAtStake(ca: string): boolean {
    const machineTime = this.#machineTime()
    return this.#held().some(
      (each) =>
        each.source !== ca &&
        each.isValidAt(machineTime) &&
        this.issuer(each.source)?.datesByOurClock !== true,
    )
  }

  #machineTime(): number {
    const { clock } = this.#options
    return clock.now() + clock.errorMs
  }

  #held(): Certificate[] {
    const all = this.renewer.statuses().flatMap(({ live, standby }) => [live, standby])
    return all.filter((each) => each !== undefined)
  }

  #createFiles(config: Config, publish: Publish): CertificateFiles<FileSource> {
    const { clock, log } = this.#options
    const sources = resolveSites(config).flatMap(({ hosts, tls }) =>
      tls.kind === 'file' ? [{ ...tls, hosts }] : [],
    )
    return new CertificateFiles(sources, clock, log, publish)
  }

  #onCaChange(snapshot: CaSnapshot, previous: CaState): void {
    const { id: ca, state, lastFailure } = snapshot
    const { log } = this.#options
    if (state === 'up') log.info({ ca }, `${ca} issues again`)
    else log.warn({ ca, reason: lastFailure?.reason }, `${ca} is down: ${lastFailure?.message}`)
    if (state === previous) return
    this.#news.caChanged(snapshot)
    this.renewer.wake()
  }
}

interface FileSource extends FilePolicy {
  readonly hosts: readonly string[]
}

type Publish = (source: FileSource, certificate: Certificate) => void

function publisher(inventory: Inventory): Publish {
  return ({ hosts }, certificate) => {
    for (const host of hosts) inventory.publish(host, 'live', certificate)
  }
}
