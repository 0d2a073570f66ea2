/**
 * A fleet whose process stops, dies and starts again over one store, and whose machine's clock jumps, while the CAs and
 * the clients keep the true time: the real renewer, planner, health and ledgers, over CAs that write down whatever no CA
 * may be asked for.
 */
import { AttestedClock } from '../../src/attested-clock.ts'
import { Authorities } from '../../src/ca/authorities.ts'
import type { IssueRequest } from '../../src/ca/issuer.ts'
import { registeredDomain } from '../../src/ca/ledger.ts'
import type { Certificate } from '../../src/cert/certificate.ts'
import { Inventory } from '../../src/cert/inventory.ts'
import { Verdicts } from '../../src/cert/verdicts.ts'
import type { ChallengeType } from '../../src/challenge/solver.ts'
import { seededRandom } from '../../src/commands/simulate/fleet.ts'
import { settledPromises, VirtualClock } from '../../src/commands/simulate/virtual-clock.ts'
import {
  datesOnly,
  memoryRecords,
  type Outage,
  SimulatedCa,
  type SimulatedCaOptions,
  simulatedLimits,
  simulatedTargets,
} from '../../src/commands/simulate/world.ts'
import { type Ca, resolveCa } from '../../src/config/cas.ts'
import { IssueError } from '../../src/errors.ts'
import { silentLog } from '../../src/log.ts'
import { DUTIES } from '../../src/renew/plan.ts'
import { Renewer, type RenewerRecords } from '../../src/renew/renewer.ts'
import type { Target } from '../../src/renew/task.ts'
import { type Clock, DAY, HOUR, SECOND } from '../../src/time.ts'

export interface MortalFleetOptions {
  readonly hosts: readonly string[]
  /** Of public CAs that Holdfast knows, in order of preference; outages in milliseconds since the fleet began. */
  readonly outages: Readonly<Record<string, readonly Outage[]>>
  readonly standby: Target['standby']
  readonly lifetimeMs: number
  /** Can the host prove its name so? Absent: each can, by the first type. */
  readonly canProve?: (host: string, type: ChallengeType) => boolean
  /** Begin with certificates of every age before their renewal, instead of none? */
  readonly supplied: boolean
  readonly seed: number
}

/** A ledger is kept within so long of an order: a process that dies may take so much of it along. */
const LEDGER_DELAY_MS = SECOND

const CHALLENGES: readonly ChallengeType[] = ['http-01', 'tls-alpn-01']

/** The times of the virtual clock are no whole numbers. */
const ROUNDING_MS = 1

export class MortalFleet {
  readonly clock = new VirtualClock(0, settledPromises)
  /** What should never have happened; empty when all is well. */
  readonly offences: string[] = []
  readonly #options: MortalFleetOptions
  readonly #random: () => number
  readonly #records = memoryRecords()
  readonly #issuers: ReadonlyMap<string, WatchfulCa>
  /** By host: until when its clients are shown something valid, by the true time. */
  readonly #coveredUntil = new Map<string, number>()
  readonly #truth: Clock
  #aheadMs = 0
  #inventory: Inventory
  /** What the process takes for the time. */
  #known: Clock = this.clock
  #end: (how: 'stop' | 'die') => Promise<void> = async () => {}

  constructor(options: MortalFleetOptions) {
    this.#options = options
    this.#random = seededRandom(options.seed)
    this.#inventory = new Inventory(this.clock)
    const truth = {
      now: () => this.clock.monotonic(),
      monotonic: () => this.clock.monotonic(),
      after: this.clock.after.bind(this.clock),
    }
    this.#truth = truth
    const { canProve = () => true, lifetimeMs } = options
    this.#issuers = new Map(
      Object.entries(options.outages).map(([id, outages]) => {
        const ca = { id, lifetimeMs, clock: truth, random: this.#random, outages }
        return [id, new WatchfulCa({ ...ca, canProve }, this, (host) => this.#lacks(host))]
      }),
    )
  }

  offend(offence: string): void {
    this.offences.push(`after ${(this.#truth.now() / DAY).toFixed(3)} days: ${offence}`)
  }

  /** A process starts on what the last one left in the store. */
  async start(): Promise<void> {
    if (this.#options.supplied && this.#coveredUntil.size === 0) await this.#supply()
    const clock = new AttestedClock(this.clock)
    this.#known = clock
    for (const issuer of this.#issuers.values()) issuer.heardBy = clock
    const { hosts, outages, standby } = this.#options
    const random = this.#random
    const log = silentLog()
    const verdicts = new Verdicts()
    const inventory = new Inventory(clock, verdicts)
    this.#inventory = inventory
    let isAlive = true
    const records = mortal(this.#records, () => isAlive)
    const authorities: Authorities = new Authorities({
      clock,
      random,
      log,
      records,
      createIssuer: ({ name }) => this.#issuers.get(name) as WatchfulCa,
      onChange: ({ state }, previous) => {
        if (state !== previous) renewer.wake()
      },
    })
    const cas = Object.keys(outages)
    await authorities.update(new Map(cas.map((id) => [id, resolveCa(id, undefined) as Ca])))
    const renewer: Renewer = new Renewer({
      clock,
      random,
      log,
      records,
      inventory,
      verdicts,
      health: authorities.health,
      access: (id) => authorities.access(id),
      endOf: ({ notAfter }) => notAfter,
      warm: () => {},
      onEvent: () => {},
      onWish: () => {},
    })
    const targets = simulatedTargets(hosts, cas, standby)
    await renewer.load(targets.map((target) => ({ ...target, challenges: CHALLENGES })))
    for (const host of hosts) this.#expectLoaded(host)
    inventory.onChange(({ host }) => this.#look(host))
    authorities.start()
    renewer.start()
    this.#end = async (how) => {
      isAlive = how === 'stop'
      await renewer.stop()
      await authorities.stop()
    }
  }

  isAtStake(ca: string): boolean {
    const isGoodOfAnother = (each: Certificate | undefined): boolean =>
      each !== undefined && each.source !== ca && each.isValidAt(this.clock.now())
    return this.#options.hosts.some((host) => {
      const { live, standby } = this.#inventory.holding(host)
      return isGoodOfAnother(live) || isGoodOfAnother(standby)
    })
  }

  async stop(): Promise<void> {
    await this.#end('stop')
    for (const host of this.#options.hosts) this.#look(host)
  }

  /** As `kill -9` does: nothing more of it reaches the store. */
  async die(): Promise<void> {
    for (const issuer of this.#issuers.values()) issuer.forget(this.#truth.now() - LEDGER_DELAY_MS)
    await this.#end('die')
  }

  /** Sets the machine's clock to so much ahead of the true time, or behind it. */
  setAhead(ms: number): void {
    this.clock.jump(ms - this.#aheadMs)
    this.#aheadMs = ms
  }

  async #supply(): Promise<void> {
    const { hosts, lifetimeMs, outages, standby } = this.#options
    const cas = Object.keys(outages)
    for (const host of hosts) {
      const ageMs = this.#random() * freshMs(lifetimeMs)
      for (const [index, role] of DUTIES.entries()) {
        const source = cas[index]
        if (source === undefined || (role === 'standby' && standby !== 'always')) continue
        const certificate = datesOnly(source, [host], -ageMs, lifetimeMs, this.#random)
        await this.#records.saveCertificate(host, role, certificate)
        this.#coveredUntil.set(host, certificate.notAfter)
      }
    }
  }

  /** Nothing that was served may be gone from the store. */
  #expectLoaded(host: string): void {
    const until = this.#coveredUntil.get(host)
    if (until !== undefined && this.#endOf(host) !== until) this.offend(`${host}: a certificate was lost`)
  }

  #look(host: string): void {
    const until = this.#coveredUntil.get(host)
    if (until !== undefined && until < this.#truth.now()) this.offend(`${host}: its certificate expired`)
    const end = this.#endOf(host)
    if (end > 0) this.#coveredUntil.set(host, end)
  }

  #endOf(host: string): number {
    const { live, standby } = this.#inventory.holding(host)
    return Math.max(live?.notAfter ?? 0, standby?.notAfter ?? 0)
  }

  /** Told from what it holds alone, apart from the planner. With a clock that nobody has set right yet it cannot be told. */
  #lacks(host: string): boolean {
    if (Math.abs(this.#known.now() - this.#truth.now()) > HOUR / 2) return true
    const { live, standby } = this.#inventory.holding(host)
    const now = this.#truth.now()
    const isFresh = (held: Certificate | undefined): boolean =>
      held !== undefined && now < held.notBefore + freshMs(held.notAfter - held.notBefore)
    if (!isFresh(live)) return true
    return this.#options.standby !== 'off' && (!isFresh(standby) || standby?.source === live?.source)
  }
}

/** At this age no certificate is due: standbys are by half of the life, or two thirds, less a twelfth and the jitter. */
function freshMs(lifetimeMs: number): number {
  return lifetimeMs * ((lifetimeMs < 10 * DAY ? 1 / 2 : 2 / 3) - 1 / 12 - 1 / 20)
}

/** What a process that has died writes never arrives. */
function mortal(records: RenewerRecords, isAlive: () => boolean): RenewerRecords {
  return {
    ...records,
    saveCertificate: async (...args) => {
      if (isAlive()) await records.saveCertificate(...args)
    },
    saveState: async (...args) => {
      if (isAlive()) await records.saveState(...args)
    },
    removeState: async (...args) => {
      if (isAlive()) await records.removeState(...args)
    },
  }
}

interface Watch {
  offend(offence: string): void
  /** Is anything held from another than this CA that is good by the machine's clock? */
  isAtStake(ca: string): boolean
}

interface PlacedOrder {
  readonly at: number
  readonly name: string
  /** Did no certificate come of it? */
  failed: boolean
  /** Has the CA looked in vain? */
  unvalidated: boolean
}

interface WatchfulCaOptions extends SimulatedCaOptions {
  readonly canProve: (host: string, type: ChallengeType) => boolean
}

/** Keeps the true time, counts over all processes, and takes notice of what it should not have been asked for. */
class WatchfulCa extends SimulatedCa {
  readonly #truth: Clock
  readonly #watch: Watch
  readonly #lacks: (host: string) => boolean
  readonly #canProve: WatchfulCaOptions['canProve']
  readonly #inFlight = new Set<string>()
  /** Of the process that runs: told the time whenever the CA answers. */
  heardBy: AttestedClock | undefined
  #orders: PlacedOrder[] = []

  constructor(options: WatchfulCaOptions, watch: Watch, lacks: (host: string) => boolean) {
    super(options)
    this.#truth = options.clock
    this.#watch = watch
    this.#lacks = lacks
    this.#canProve = options.canProve
  }

  override async issue(request: IssueRequest, signal: AbortSignal): Promise<Certificate> {
    const [name = ''] = request.names
    const offend = (what: string): void => this.#watch.offend(`${name} at ${this.id}: ${what}`)
    if (this.#inFlight.has(name)) offend('ordered while an order for it was in flight')
    if (!this.#lacks(name)) offend('ordered though it lacked nothing')
    this.#inFlight.add(name)
    try {
      const certificate = await this.#order(request, signal, offend)
      this.heardBy?.hear(this.id, this.#truth.now())
      const { notBefore: from } = certificate
      if (!this.#watch.isAtStake(this.id)) this.heardBy?.vouch(this.id, { from, until: from + 2 * DAY })
      if (isAccepted(certificate, this.heardBy?.now() ?? 0)) return certificate
      throw new IssueError('CA_BAD_CERTIFICATE', `${this.id}: is the clock right?`, {
        blame: 'ca',
        retry: 'now',
      })
    } finally {
      this.#inFlight.delete(name)
    }
  }

  /** Orders once for each way to prove the name, as `ca/acme-order.ts` does. */
  async #order(
    request: IssueRequest,
    signal: AbortSignal,
    offend: (what: string) => void,
  ): Promise<Certificate> {
    const [name = ''] = request.names
    const [type, ...others] = request.challenges
    const order = { at: this.#truth.now(), name, failed: false, unvalidated: false }
    this.#orders.push(order)
    this.#count(name, offend)
    try {
      const certificate = await super.issue(request, signal)
      if (type !== undefined && this.#canProve(name, type)) return certificate
      order.unvalidated = true
      this.#count(name, offend)
      throw new IssueError('DOMAIN_UNVALIDATED', `${this.id}: ${type} failed`, {
        blame: 'domain',
        retry: 'later',
      })
    } catch (error) {
      order.failed = !signal.aborted
      if (!(error instanceof IssueError) || error.code !== 'DOMAIN_UNVALIDATED') throw error
      if (others.length === 0 || request.mayOrderAgain?.(error) === false) throw error
      return this.#order({ ...request, challenges: others }, signal, offend)
    }
  }

  override async probe(signal: AbortSignal): Promise<void> {
    await super.probe(signal)
    this.heardBy?.hear(this.id, this.#truth.now())
  }

  /** Orders since then are not counted: nobody can know of them any more. */
  forget(since: number): void {
    this.#orders = this.#orders.filter(({ at }) => at <= since)
  }

  #count(name: string, offend: (what: string) => void): void {
    const counts = {
      account: () => true,
      domain: (order: PlacedOrder) =>
        !order.failed && registeredDomain(order.name) === registeredDomain(name),
      names: (order: PlacedOrder) => !order.failed && order.name === name,
      failures: (order: PlacedOrder) => order.unvalidated && order.name === name,
    }
    for (const { scope, limit, windowMs } of simulatedLimits(this.id).limits) {
      const since = this.#truth.now() - windowMs + ROUNDING_MS
      const count = this.#orders.filter((order) => order.at > since && counts[scope](order)).length
      if (count > limit) offend(`${count} orders by ${scope}, the limit is ${limit}`)
    }
  }
}

/** As `ca/acme.ts` does: by a clock that is up to a day behind a certificate may come from the future. */
function isAccepted({ notBefore, notAfter }: Certificate, now: number): boolean {
  return notBefore <= now + DAY && now < notAfter
}
