/**
 * The composition root: builds, starts, reloads, drains. Reads as the table of contents.
 *
 *     Handshake  listener → inventory.find → contexts                        front.ts
 *     Request    wire → gateway → balancer → upstream                        front.ts
 *     Renewal    renewer → authorities → solvers; → records → inventory     supply.ts
 *
 * A reload prepares what can fail, then commits; when it fails the old state stays.
 */
import { randomBytes } from 'node:crypto'
import { isDeepStrictEqual } from 'node:util'
import { Admin } from './admin/api.ts'
import { Drills } from './admin/drill.ts'
import { Events } from './admin/events.ts'
import { exposeGauges } from './admin/gauges.ts'
import { adminState } from './admin/state.ts'
import { AttestedClock } from './attested-clock.ts'
import { Inventory } from './cert/inventory.ts'
import { Verdicts } from './cert/verdicts.ts'
import type { LoadedConfig } from './config/load.ts'
import type { Config } from './config/schema.ts'
import { hostsOfOneCa, resolveSites } from './config/sites.ts'
import { type Addresses, type Front, type FrontParts, LocalFront } from './front.ts'
import type { Log } from './log.ts'
import { Metrics } from './metrics.ts'
import { targetsOf } from './renew/task.ts'
import { openStore } from './store/open.ts'
import { Records } from './store/records.ts'
import { Supply } from './supply.ts'
import { type Cancel, type Clock, formatClockError, HOUR, SystemClock } from './time.ts'

/** Whoever steals the keys can read tickets of this time; a session is resumed for 2 hours at the most. */
const TICKET_KEYS_MS = 12 * HOUR

export interface ServerOptions {
  /** Serves connections; in this process when absent. */
  readonly createFront?: (parts: FrontParts) => Front
  /** The machine's own; the system's when absent. */
  readonly clock?: Clock
}

export class Server {
  readonly #clock: AttestedClock
  readonly #metrics = new Metrics()
  readonly #verdicts = new Verdicts()
  readonly #events = new Events()
  readonly #log: Log
  /** For `doctor`. Random, so that it can be nobody's key authorization. */
  readonly #reachProof = { token: randomName(), answer: randomName() }
  readonly #records: Records
  readonly #inventory: Inventory
  readonly #front: Front
  readonly #supply: Supply
  readonly #drills: Drills
  readonly #admin: Admin | undefined
  #config: Config
  #ready = false
  #clockIsWrong = false
  #cancelRotation: Cancel = () => {}
  #stopped: Promise<void> | undefined

  /** Opens the store and builds everything; nothing listens yet. @throws ConfigError, StoreError */
  static async create(loaded: LoadedConfig, log: Log, options: ServerOptions = {}): Promise<Server> {
    const store = await openStore(loaded.config.store, loaded.baseDir, log)
    const records = new Records(store, log)
    return new Server(loaded.config, records, await records.secret('sticky'), log, options)
  }

  private constructor(config: Config, records: Records, stickyKey: Buffer, log: Log, options: ServerOptions) {
    this.#config = config
    this.#records = records
    this.#log = log
    this.#clock = new AttestedClock(options.clock ?? new SystemClock())
    const clock = this.#clock
    clock.onAttested(() => this.#tellOfClock())
    const metrics = this.#metrics
    const verdicts = this.#verdicts
    this.#inventory = new Inventory(clock, verdicts)
    const createFront = options.createFront ?? ((parts) => new LocalFront(parts))
    this.#front = createFront({
      config,
      clock,
      log,
      metrics,
      inventory: this.#inventory,
      verdicts,
      ticketKeys: newTicketKeys(),
      stickyKey,
    })
    this.#supply = new Supply({
      config,
      clock,
      log,
      metrics,
      records,
      inventory: this.#inventory,
      verdicts,
      solvers: this.#front.solvers,
      warm: (certificate) => this.#front.warm(certificate),
      keep: (event) => this.#events.add(event),
    })
    this.#drills = new Drills({
      clock,
      log,
      inventory: this.#inventory,
      events: this.#events,
      renewer: this.#supply.renewer,
      authorities: this.#supply.authorities,
      outlook: this.#supply.outlook,
      targets: () => targetsOf(resolveSites(this.#config)),
    })
    this.#admin = config.listen.admin === false ? undefined : this.#createAdmin(config.listen.admin)
  }

  /** Serves what the store holds at once; certificates that are missing follow. @throws ConfigError and changes nothing */
  async start(): Promise<void> {
    this.#warnOfOneCa()
    await this.#supply.load()
    await this.#admin?.start()
    await this.#front.start()
    await this.#presentReachProof()
    await this.#supply.start()
    this.#rotateTicketKeys()
    this.#ready = true
  }

  /** Takes over another config without dropping a connection. @throws ConfigError and keeps the old one */
  async reload(loaded: LoadedConfig): Promise<void> {
    const [before, after] = [this.#config, loaded.config]
    const commit = await this.#supply.prepare(after)
    this.#drills.end('the config was reloaded')
    await this.#front.update(after)
    try {
      await commit()
    } catch (error) {
      await this.#front.update(before)
      throw error
    }
    this.#config = after
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
    this.#cancelRotation()
    this.#front.stopAccepting()
    this.#drills.end('Holdfast is stopping')
    await Promise.all([this.#front.stop(), this.#supply.stop()])
    await this.#admin?.stop()
    await this.#records.close()
  }

  /** Resolves once every host that internal CAs alone supply can be served, or after `limitMs`: they need moments. */
  async whenSupplied(limitMs: number): Promise<void> {
    await this.#supply.whenSupplied(limitMs)
    await this.#front.settled()
  }

  /** Where it listens, for the banner and for tests. */
  addresses(): Addresses {
    return this.#front.addresses()
  }

  /** Where the admin endpoint listens, with the real port for port 0; undefined where it is off. */
  get adminPort(): number | undefined {
    return this.#admin?.port
  }

  async #presentReachProof(): Promise<void> {
    const { token, answer: keyAuthorization } = this.#reachProof
    const http01 = this.#front.solvers.find(({ type }) => type === 'http-01')
    await http01?.present({ type: 'http-01', name: 'localhost', token, keyAuthorization })
  }

  #tellOfClock(): void {
    const { errorMs } = this.#clock
    const isWrong = errorMs !== 0
    if (isWrong === this.#clockIsWrong) return
    this.#clockIsWrong = isWrong
    if (!isWrong) {
      this.#log.info('the clock of this machine is right again')
      return
    }
    this.#log.warn(
      { errorMs: Math.round(errorMs) },
      `the clock of this machine is ${formatClockError(errorMs)}, by what the CAs say: Holdfast goes by theirs; set it right, and keep it so by NTP`,
    )
  }

  #rotateTicketKeys(): void {
    this.#cancelRotation = this.#clock.after(TICKET_KEYS_MS, () => {
      this.#front.setTicketKeys(newTicketKeys())
      this.#rotateTicketKeys()
    })
  }

  /** Such a host is what this proxy is there to prevent. */
  #warnOfOneCa(): void {
    for (const [ca, [first, ...others]] of hostsOfOneCa(this.#config)) {
      const hosts = others.length === 0 ? first : `${first} and ${others.length} more`
      this.#log.warn(
        { ca },
        `nobody but ${ca} can issue for ${hosts}: name a second CA in \`cas\` (and in \`tls.cas\` where that is there), or in HOLDFAST_CAS; \`holdfast doctor\` says whether it is ready`,
      )
    }
  }

  /** Some keys shape what is built once: they wait for the next start. */
  #warnOfRestarts(before: Config, after: Config): void {
    const [was, is] = [lasting(before), lasting(after)]
    for (const key of Object.keys(is)) {
      if (isDeepStrictEqual(was[key], is[key])) continue
      this.#log.warn({ key }, `\`${key}\` has changed: it takes effect at the next start`)
    }
  }

  #createAdmin(address: Exclude<Config['listen']['admin'], false>): Admin {
    const { health, judge, outlook, renewer } = this.#supply
    const state = adminState({
      clock: this.#clock,
      inventory: this.#inventory,
      verdicts: this.#verdicts,
      health,
      renewer,
      judge,
      outlook,
      issuer: (ca) => this.#supply.issuer(ca),
      reachProof: this.#reachProof,
      reloadRoots: () => this.#supply.reloadRoots(),
      upstreams: () => this.#front.upstreams(),
      events: this.#events,
      sites: () => resolveSites(this.#config),
      isReady: () => this.#ready,
    })
    exposeGauges(this.#metrics, state)
    const expose = async () => this.#metrics.expose(await this.#front.metrics())
    return new Admin({ address, expose, clock: this.#clock, log: this.#log, drills: this.#drills, state })
  }
}

/** What no reload changes, by its path in the config. */
function lasting({ forwarder, listen, log, store, workers }: Config): Readonly<Record<string, unknown>> {
  // Whether there are access lines, a reload does change.
  return { store, workers, forwarder, log: { ...log, access: true }, 'listen.admin': listen.admin }
}

function randomName(): string {
  return randomBytes(16).toString('base64url')
}

function newTicketKeys(): Buffer {
  return randomBytes(48)
}
