/**
 * The composition root: the one place where adapters are chosen and joined. Reads as the table of contents.
 *
 *     Handshake  listener → inventory.find → contexts
 *     Request    wire → gateway → balancer → upstream
 *     Renewal    renewer → authorities → solvers; → records → inventory.publish
 *
 * A reload prepares what can fail, then commits; when it fails the old state stays.
 */
import { isDeepStrictEqual } from 'node:util'
import { Admin } from './admin/api.ts'
import { Events } from './admin/events.ts'
import { exposeGauges } from './admin/gauges.ts'
import { adminState } from './admin/state.ts'
import { Authorities } from './ca/authorities.ts'
import type { CaSnapshot, CaState } from './ca/health.ts'
import { Issuers } from './ca/issuers.ts'
import { Revocations } from './ca/revocation.ts'
import { feedsOf, StatusFeeds } from './ca/status-feed.ts'
import { CertificateFiles } from './cert/files.ts'
import { Inventory } from './cert/inventory.ts'
import { Verdicts } from './cert/verdicts.ts'
import { Http01Solver } from './challenge/http-01.ts'
import { TlsAlpn01Solver } from './challenge/tls-alpn-01.ts'
import type { Delivery } from './config/deliver.ts'
import type { LoadedConfig } from './config/load.ts'
import type { Config } from './config/schema.ts'
import { type FilePolicy, resolveCas, resolveSites, type Site } from './config/sites.ts'
import { Deliveries } from './deliver/deliveries.ts'
import { AccessLog } from './http/access-log.ts'
import { CompatWire } from './http/compat/wire.ts'
import { FastWire } from './http/fast/wire.ts'
import { Gateway, type Policy } from './http/gateway.ts'
import { RequestIds } from './http/request-id.ts'
import type { Wire } from './http/wire.ts'
import type { Log } from './log.ts'
import { Metrics } from './metrics.ts'
import { News } from './notify/news.ts'
import { Outlook } from './notify/outlook.ts'
import { Judge } from './renew/judge.ts'
import { Renewer } from './renew/renewer.ts'
import { targetsOf } from './renew/task.ts'
import { openStore } from './store/open.ts'
import { Records } from './store/records.ts'
import { type Clock, SystemClock, sleep, withDeadline } from './time.ts'
import { Contexts } from './tls/contexts.ts'
import { Listener, type ListenerPolicy } from './tls/listener.ts'

/** How often a start looks whether the first certificates are there. */
const SUPPLY_POLL_MS = 20

export class Server {
  readonly #clock: Clock = new SystemClock()
  readonly #metrics = new Metrics()
  readonly #verdicts = new Verdicts()
  readonly #inventory = new Inventory(this.#clock, this.#verdicts)
  readonly #contexts: Contexts
  readonly #http01 = new Http01Solver()
  readonly #tlsAlpn01 = new TlsAlpn01Solver(this.#clock)
  readonly #events = new Events()
  readonly #log: Log
  readonly #records: Records
  readonly #issuers: Issuers
  readonly #authorities: Authorities
  readonly #feeds: StatusFeeds
  readonly #outlook: Outlook
  readonly #news: News
  readonly #renewer: Renewer
  readonly #deliveries: Deliveries
  readonly #judge: Judge
  readonly #gateway: Gateway
  readonly #wire: Wire
  readonly #listener: Listener
  readonly #admin: Admin | undefined
  #config: Config
  #files: CertificateFiles<FileSource>
  #ready = false
  #stopped: Promise<void> | undefined

  /** Opens the store and builds everything; nothing listens yet. @throws ConfigError, StoreError */
  static async create(loaded: LoadedConfig, log: Log): Promise<Server> {
    const store = await openStore(loaded.config.store, loaded.baseDir, log)
    return new Server(loaded.config, new Records(store, log), log)
  }

  private constructor(config: Config, records: Records, log: Log) {
    this.#config = config
    this.#records = records
    this.#log = log
    const clock = this.#clock
    const random = Math.random
    const solvers = [this.#http01, this.#tlsAlpn01]
    this.#issuers = new Issuers({ clock, log, records, solvers })
    const revocations = new Revocations({ clock, log })
    this.#contexts = new Contexts()
    this.#authorities = new Authorities({
      clock,
      random,
      log,
      records,
      createIssuer: (ca) => this.#issuers.create(ca),
      onChange: (snapshot, previous) => this.#onCaChange(snapshot, previous),
    })
    const { health } = this.#authorities
    const setTroubled = (ca: string, troubled: boolean): void => health.setTroubled(ca, troubled)
    this.#feeds = new StatusFeeds({ clock, random, log, setTroubled })
    const holdings = { inventory: this.#inventory, verdicts: this.#verdicts, health }
    this.#outlook = new Outlook({ clock, ...holdings, hosts: () => targetsOf(resolveSites(this.#config)) })
    this.#news = new News({
      clock,
      random,
      log,
      metrics: this.#metrics,
      ...holdings,
      outlook: this.#outlook,
      environment: process.env,
      keep: (event) => this.#events.add(event),
    })
    this.#renewer = new Renewer({
      clock,
      random,
      log,
      records,
      inventory: this.#inventory,
      verdicts: this.#verdicts,
      health: this.#authorities.health,
      access: (ca) => this.#authorities.access(ca),
      warm: (certificate) => this.#contexts.warm(certificate),
      onEvent: (event) => this.#news.renewal(event),
    })
    this.#judge = new Judge({
      clock,
      log,
      records,
      inventory: this.#inventory,
      verdicts: this.#verdicts,
      verify: (certificate) => this.#issuers.verify(certificate),
      isRevoked: (certificate, signal) => revocations.isRevoked(certificate, signal),
      onVerdict: (certificate, fault) => {
        this.#news.verdict(certificate, fault)
        this.#renewer.wake()
        this.#deliveries.look()
      },
    })
    this.#deliveries = new Deliveries({
      clock,
      random,
      log,
      environment: process.env,
      find: (host) => this.#inventory.find(host),
    })
    this.#inventory.onChange(() => this.#deliveries.look())
    this.#files = this.#createFiles(resolveSites(config))
    this.#gateway = new Gateway(policyOf(config), {
      clock,
      challenge: (path) => this.#http01.answer(path),
      httpsPort: config.listen.https[0]?.port ?? 443,
    })
    const accessLog = new AccessLog({ log, metrics: this.#metrics, access: config.log.access, random })
    const wireOptions = { gateway: this.#gateway, accessLog, requestIds: new RequestIds(), clock }
    this.#wire = config.forwarder === 'fast' ? new FastWire(wireOptions) : new CompatWire(wireOptions)
    this.#listener = new Listener({
      policy: listenerPolicyOf(config),
      log,
      metrics: this.#metrics,
      contexts: this.#contexts,
      inventory: this.#inventory,
      challenge: (serverName, keyType) => this.#tlsAlpn01.find(serverName, keyType),
      onConnection: (socket, connection) => this.#wire.accept(socket, connection),
    })
    this.#admin = config.listen.admin === false ? undefined : this.#createAdmin(config.listen.admin)
  }

  /** Serves what the store holds at once; certificates that are missing follow. @throws ConfigError and changes nothing */
  async start(): Promise<void> {
    await this.#issuers.load()
    await this.#authorities.update(resolveCas(this.#config))
    await this.#files.load()
    await this.#judge.load()
    await this.#renewer.load(targetsOf(resolveSites(this.#config)))
    await this.#admin?.start()
    await this.#listener.start()
    this.#files.start()
    await this.#news.update(this.#config.notify)
    this.#news.start()
    this.#authorities.start()
    this.#feeds.update(feedsOf(resolveCas(this.#config)))
    this.#renewer.start()
    this.#judge.start()
    this.#deliveries.update(deliveriesOf(resolveSites(this.#config)))
    this.#deliveries.start()
    this.#ready = true
  }

  /** Takes over another config without dropping a connection. @throws ConfigError and keeps the old one */
  async reload(loaded: LoadedConfig): Promise<void> {
    const [before, after] = [this.#config, loaded.config]
    const sites = resolveSites(after)
    const files = this.#createFiles(sites)
    await files.load()
    this.#gateway.replace(policyOf(after))
    try {
      await this.#listener.update(listenerPolicyOf(after))
      await this.#authorities.update(resolveCas(after))
    } catch (error) {
      this.#gateway.replace(policyOf(before))
      await this.#listener.update(listenerPolicyOf(before))
      files.stop()
      throw error
    }
    this.#config = after
    this.#files.stop()
    this.#files = files
    files.start()
    this.#feeds.update(feedsOf(resolveCas(after)))
    await this.#news.update(after.notify)
    await this.#renewer.update(targetsOf(sites))
    this.#deliveries.update(deliveriesOf(sites))
    this.#warnOfRestarts(before, after)
  }

  /**
   * Takes no more connections, lets what is in flight finish within the drain limit, then lets go of everything.
   * Idempotent; also after a start that failed.
   */
  stop(): Promise<void> {
    this.#stopped ??= this.#shutDown()
    return this.#stopped
  }

  async #shutDown(): Promise<void> {
    this.#ready = false
    this.#files.stop()
    this.#listener.stopAccepting()
    const renewals = this.#renewer.stop()
    this.#feeds.stop()
    const limitMs = this.#config.timeouts.drain
    await withDeadline(this.#clock, limitMs, 'draining', undefined, (signal) =>
      this.#wire.drain(signal),
    ).catch(() => {
      this.#log.warn('the drain limit is over: closed what was still open')
    })
    await this.#listener.stop()
    await renewals
    await this.#judge.stop()
    await this.#deliveries.stop()
    await this.#authorities.stop()
    await this.#news.stop()
    await this.#admin?.stop()
    await this.#records.close()
  }

  /** Resolves once every host that internal CAs alone supply can be served, or after `limitMs`: they need moments. */
  async whenSupplied(limitMs: number): Promise<void> {
    const cas = resolveCas(this.#config)
    const hosts = targetsOf(resolveSites(this.#config))
      .filter((target) => target.cas.every((ca) => cas.get(ca)?.type === 'internal'))
      .map(({ host }) => host)
    const isSupplied = (): boolean => hosts.every((host) => this.#inventory.find(host) !== undefined)
    const endAt = this.#clock.monotonic() + limitMs
    while (!isSupplied() && this.#clock.monotonic() < endAt) await sleep(this.#clock, SUPPLY_POLL_MS)
  }

  /** Where it listens, for the banner and for tests. */
  addresses(): ReturnType<Listener['addresses']> {
    return this.#listener.addresses()
  }

  /** Some keys shape what is built once: they wait for the next start. */
  #warnOfRestarts(before: Config, after: Config): void {
    for (const key of ['store', 'workers', 'forwarder', 'log'] as const) {
      if (isDeepStrictEqual(before[key], after[key])) continue
      this.#log.warn({ key }, `\`${key}\` has changed: it takes effect at the next start`)
    }
  }

  #createFiles(sites: readonly Site[]): CertificateFiles<FileSource> {
    const sources = sites.flatMap(({ hosts, tls }) => (tls.kind === 'file' ? [{ ...tls, hosts }] : []))
    return new CertificateFiles(sources, this.#clock, this.#log, ({ hosts }, certificate) => {
      for (const host of hosts) this.#inventory.publish(host, 'live', certificate)
    })
  }

  #createAdmin(address: Exclude<Config['listen']['admin'], false>): Admin {
    const state = adminState({
      clock: this.#clock,
      inventory: this.#inventory,
      health: this.#authorities.health,
      renewer: this.#renewer,
      judge: this.#judge,
      issuer: (ca) => this.#authorities.access(ca)?.issuer,
      gateway: this.#gateway,
      events: this.#events,
      outlook: this.#outlook,
      sites: () => resolveSites(this.#config),
      isReady: () => this.#ready,
    })
    exposeGauges(this.#metrics, state)
    return new Admin({ address, metrics: this.#metrics, log: this.#log, state })
  }

  #onCaChange(snapshot: CaSnapshot, previous: CaState): void {
    const { id: ca, state, lastFailure } = snapshot
    if (state === 'up') this.#log.info({ ca }, `${ca} issues again`)
    else this.#log.warn({ ca, reason: lastFailure?.reason }, `${ca} is down: ${lastFailure?.message}`)
    if (state === previous) return
    this.#news.caChanged(snapshot)
    this.#renewer.wake()
  }
}

interface FileSource extends FilePolicy {
  readonly hosts: readonly string[]
}

function policyOf(config: Config): Policy {
  return { sites: resolveSites(config), timeouts: config.timeouts, trustedProxies: config.trustedProxies }
}

function deliveriesOf(sites: readonly Site[]): Delivery[] {
  return sites.flatMap(({ deliver }) => deliver)
}

function listenerPolicyOf({ listen, timeouts, tls }: Config): ListenerPolicy {
  const { https, http } = listen
  const { defaultHost, minVersion } = tls
  return { https, http, minVersion, defaultHost, handshakeTimeoutMs: timeouts.head }
}
