/**
 * Keeps every host supplied, in the background, for ever: decides with `plan.ts` what is due, the most urgent first, and
 * has it carried out by `fulfilment.ts`. Receives targets from `server.ts`. Nothing here is on the path of a handshake.
 */
import type { Certificate } from '../cert/certificate.ts'
import { PriorityQueue } from '../priority-queue.ts'
import type { Records } from '../store/records.ts'
import { type Cancel, MINUTE, SECOND } from '../time.ts'
import { Fulfilment, type FulfilmentOptions } from './fulfilment.ts'
import { type Job, readJob } from './job.ts'
import { DUTIES, type Duty, type Held, isRecalled, type Order, plan, type Situation } from './plan.ts'
import { RenewalWindows } from './renewal-windows.ts'
import { Scouts } from './scouts.ts'
import type { Target, Task } from './task.ts'

/** One host, for `/api/certificates` and `status`. Times are milliseconds since the epoch. */
export interface HostStatus {
  readonly host: string
  readonly live: Certificate | undefined
  readonly standby: Certificate | undefined
  readonly interim: Certificate | undefined
  /** When something is next to be done for it. */
  readonly nextAt: number
  readonly lastError: string | undefined
}

/** What the renewer needs of the store. */
export type RenewerRecords = FulfilmentOptions['records'] &
  Pick<Records, 'loadCertificates' | 'loadReadableCertificate' | 'loadStates' | 'loadState'>

export interface RenewerOptions extends FulfilmentOptions {
  /** Its CA has said when it wishes the certificate renewed: does it demand it back? Must not throw. */
  readonly onWish: (certificate: Certificate, recalled: boolean) => void
  readonly records: RenewerRecords
}

/** Orders under way at once. */
const CONCURRENCY = 16
/** How often the wall clock is looked at, however far the next due time is: it may jump. */
const TICK_MS = MINUTE
/** Contexts that are built before the first handshake; the rest are built as they are asked for. */
const WARM_AT_START = 1000

export class Renewer {
  readonly #options: RenewerOptions
  readonly #fulfilment: Fulfilment
  readonly #windows: RenewalWindows
  readonly #scouts: Scouts
  #tasks = new Map<string, Task>()
  /** When each host is to be planned again; an entry counts while its time is the task's own. */
  readonly #due = new PriorityQueue<{ task: Task; at: number }>((a, b) => a.at < b.at)
  /** Hosts with an order to place, most urgent first. */
  readonly #queue = new PriorityQueue<{ task: Task; timeLeftMs: number }>(
    (a, b) => a.timeLeftMs < b.timeLeftMs,
  )
  #lastTickAt = 0
  #wakesAll = false
  /** Negative infinity before the start and during a tick. */
  #nextTickAt = Number.NEGATIVE_INFINITY
  #running = 0
  #cancelTick: Cancel = () => {}
  readonly #stop = new AbortController()
  readonly #inFlight = new Set<Promise<void>>()

  constructor(options: RenewerOptions) {
    this.#options = options
    this.#fulfilment = new Fulfilment(options, {
      onAsking: (task) => this.#scouts.left(task),
      onOutcome: (ca) => this.#scouts.settled(ca),
    })
    this.#windows = new RenewalWindows(options)
    this.#scouts = new Scouts({ ...options, release: (tasks) => this.#release(tasks) })
  }

  /** Publishes what the store holds and reads the jobs' state, so that serving can start; asks no CA. */
  async load(targets: readonly Target[]): Promise<void> {
    const { records, inventory, warm } = this.#options
    const [stored, jobs] = await Promise.all([records.loadCertificates(), records.loadStates('jobs')])
    for (const target of targets) this.#add(target, readJob(jobs.get(target.host)))
    for (const { host, role, certificate } of stored) {
      if (this.#tasks.has(host)) inventory.publish(host, role, certificate)
    }
    for (const host of [...this.#tasks.keys()].slice(0, WARM_AT_START)) {
      const certificate = inventory.find(host)
      if (certificate !== undefined) warm(certificate)
    }
    await this.#fillIn()
  }

  /** Replaces the targets after a reload: what is known of hosts that stay is kept. */
  async update(targets: readonly Target[]): Promise<void> {
    const { inventory, records } = this.#options
    const before = this.#tasks
    const jobs = new Map<string, Job>()
    for (const { host } of targets) {
      const known = before.get(host)
      if (known === undefined) await this.#publishStored(host, (duty) => records.loadCertificate(host, duty))
      jobs.set(host, known?.job ?? readJob(await records.loadState('jobs', host)))
    }
    this.#tasks = new Map()
    for (const target of targets) this.#add(target, jobs.get(target.host) ?? {})
    for (const host of before.keys()) {
      if (!this.#tasks.has(host)) inventory.withdraw(host)
    }
    await this.#fillIn()
    this.#schedule(0)
  }

  start(): void {
    this.#tick()
  }

  /** Aborts what is under way and waits for it to let go of its locks. */
  async stop(): Promise<void> {
    this.#stop.abort(new Error('Holdfast is stopping'))
    this.#cancelTick()
    await Promise.allSettled(this.#inFlight)
  }

  /** Plans every host again soon: a CA came back, or the targets changed. */
  wake(): void {
    this.#wakesAll = true
    this.#schedule(0)
  }

  /** Orders a new certificate for a host now, by hand. @returns false for a host that has no such duty */
  renewNow(host: string, duty: Duty): boolean {
    const task = this.#tasks.get(host)
    if (task === undefined) return false
    const { cas, standby } = task.target
    if (duty === 'standby' && (standby === 'off' || cas.length < 2)) return false
    task.forced.add(duty)
    task.job = {}
    this.#wakeAt(task, this.#options.clock.now())
    this.#schedule(0)
    return true
  }

  /**
   * From now on, until it is called off, failures are of a rehearsed outage: none is kept, and afterwards it is as if
   * they had not been. @returns how to call it off
   */
  rehearse(): () => void {
    const before = new Map([...this.#tasks.values()].map((task) => [task, task.job]))
    this.#fulfilment.keepsFailures = false
    return () => {
      this.#fulfilment.keepsFailures = true
      for (const [task, job] of before) task.job = withoutFailuresSince(task.job, job)
      this.wake()
    }
  }

  /**
   * Orders a standby for a host now, from the first of `cas` that issues, whether one is due or not. Resolves once it
   * has been tried. @returns false for a host that is not kept, or has an order under way
   */
  async renewStandby(host: string, cas: readonly string[]): Promise<boolean> {
    const task = this.#tasks.get(host)
    if (task === undefined || task.busy) return false
    const { clock, inventory } = this.#options
    const timeLeftMs = (inventory.holding(host).standby?.notAfter ?? 0) - clock.now()
    await this.#carryOut(task, { duty: 'standby', cas, skipped: [], hedge: false, timeLeftMs }, () => true)
    return true
  }

  /**
   * Publishes what the store holds for a host, after somebody has changed it. Rejects with `StoreError` when it cannot
   * be read. @returns false for an unknown host
   */
  async reload(host: string): Promise<boolean> {
    const task = this.#tasks.get(host)
    if (task === undefined) return false
    const { records } = this.#options
    await this.#publishStored(host, (duty) => records.loadReadableCertificate(host, duty))
    this.#wakeAt(task, this.#options.clock.now())
    this.#schedule(0)
    return true
  }

  statuses(): HostStatus[] {
    return [...this.#tasks.values()].map((task) => {
      const holding = this.#options.inventory.holding(task.target.host)
      return {
        host: task.target.host,
        live: holding.live,
        standby: holding.standby,
        interim: holding.interim,
        nextAt: task.nextAt,
        lastError: task.job.live?.lastError ?? task.job.standby?.lastError,
      }
    })
  }

  #add(target: Target, job: Job): void {
    const now = this.#options.clock.now()
    const task: Task = { target, job, wakeAt: now, nextAt: now, busy: false, forced: new Set() }
    this.#tasks.set(target.host, task)
    this.#wakeAt(task, now)
  }

  async #publishStored(host: string, load: (duty: Duty) => Promise<Certificate | undefined>): Promise<void> {
    for (const duty of DUTIES) {
      const certificate = await load(duty)
      if (certificate !== undefined) this.#options.inventory.publish(host, duty, certificate)
    }
  }

  #schedule(delayMs: number): void {
    this.#cancelTick()
    if (this.#stop.signal.aborted) return
    this.#nextTickAt = this.#options.clock.now() + delayMs
    this.#cancelTick = this.#options.clock.after(delayMs, () => this.#tick())
  }

  /** Plans what is due, starts what there is room for, and sleeps until the next is due. */
  #tick(): void {
    const now = this.#options.clock.now()
    // Until the next tick is set at the end of this one, none need be brought forward.
    this.#nextTickAt = Number.NEGATIVE_INFINITY
    // Set back, the clock would let every host sleep through the difference.
    if (this.#wakesAll || now < this.#lastTickAt)
      for (const task of this.#tasks.values()) this.#wakeAt(task, now)
    this.#wakesAll = false
    this.#lastTickAt = now
    for (let next = this.#due.peek(); next !== undefined && next.at <= now; next = this.#due.peek()) {
      this.#due.pop()
      if (next.task.wakeAt === next.at && this.#isIdle(next.task)) this.#consider(next.task)
    }
    this.#startOrders()
    const nextAt = this.#due.peek()?.at ?? Number.POSITIVE_INFINITY
    this.#schedule(Math.min(TICK_MS, Math.max(SECOND, nextAt - now)))
  }

  /** Plans one host: its order goes into the queue, or it sleeps until something is due. */
  #consider(task: Task): void {
    const { order, wakeAt } = this.#plan(task)
    if (order === undefined) {
      this.#sleep(task, wakeAt)
      return
    }
    task.nextAt = this.#options.clock.now()
    task.wakeAt = Number.POSITIVE_INFINITY
    this.#queue.push({ task, timeLeftMs: order.timeLeftMs })
  }

  /** Until something is due for it, or its CA is to be asked for its wishes. */
  #sleep(task: Task, wakeAt: number): void {
    task.nextAt = wakeAt
    this.#wakeAt(task, Math.min(wakeAt, this.#pollWindows(task)))
  }

  #startOrders(): void {
    while (this.#running < CONCURRENCY && !this.#stop.signal.aborted) {
      const task = this.#queue.pop()?.task
      if (task === undefined) return
      if (!this.#isIdle(task)) continue
      // Planned anew: since it was queued its CA may have gone down, or its rate limit may be used up.
      const { order, wakeAt } = this.#plan(task)
      if (order === undefined) {
        this.#sleep(task, wakeAt)
        continue
      }
      const admitted = this.#scouts.admit(task, order)
      if (admitted === undefined) continue
      void this.#carryOut(task, admitted, () => this.#plan(task).order?.duty === order.duty)
    }
  }

  /** They have waited for a CA to be tried. */
  #release(tasks: Iterable<Task>): void {
    if (this.#stop.signal.aborted) return
    for (const task of tasks) if (this.#isIdle(task)) this.#consider(task)
    this.#startOrders()
  }

  /** Never rejects. */
  #carryOut(task: Task, order: Order, isWanted: () => boolean): Promise<void> {
    task.busy = true
    this.#running++
    const done = (): void => {
      task.busy = false
      this.#running--
      this.#scouts.ended(task)
      if (this.#isIdle(task)) this.#consider(task)
      this.#startOrders()
    }
    const work = this.#fulfilment.carryOut(task, order, isWanted, this.#stop.signal).finally(done)
    this.#track(work)
    return work
  }

  #wakeAt(task: Task, at: number): void {
    task.wakeAt = at
    this.#due.push({ task, at })
    if (at < this.#nextTickAt) this.#schedule(Math.max(SECOND, at - this.#options.clock.now()))
  }

  /** Still a host of ours, with no order under way? */
  #isIdle(task: Task): boolean {
    return !task.busy && this.#tasks.get(task.target.host) === task
  }

  #plan(task: Task): ReturnType<typeof plan> {
    const { clock, health, inventory, verdicts } = this.#options
    const { target } = task
    const holding = inventory.holding(target.host)
    const held = (duty: Duty): Held | undefined => {
      const certificate = holding[duty]
      if (certificate === undefined) return undefined
      return task.forced.has(duty) ? { ...this.#held(certificate), condemned: true } : this.#held(certificate)
    }
    const live = held('live')
    const ledgerOpenAt = (ca: string): number => this.#ledgerOpenAt(ca, target.host, holding.live)
    const situation: Situation = {
      now: clock.now(),
      policy: target,
      live,
      standby: held('standby'),
      backoff: task.job,
      candidates: health.order(target.cas).map((id) => ({
        id,
        // Looked up only for a host that has something due: most plans never ask.
        get openAt() {
          if (verdicts.isDistrusted(id)) return Number.POSITIVE_INFINITY
          return Math.max(health.openAt(id), ledgerOpenAt(id))
        },
        degraded: health.isDegraded(id) || verdicts.isDistrusted(id),
      })),
    }
    return plan(situation)
  }

  #ledgerOpenAt(ca: string, host: string, replaced: Certificate | undefined): number {
    const access = this.#options.access(ca)
    if (access === undefined) return 0
    const { exemptsRenewals, ledger } = access
    const isRenewal = replaced?.source === ca && ledger.renewsFor(replaced.account)
    return ledger.openAt([host], exemptsRenewals && isRenewal)
  }

  #held(certificate: Certificate): Held {
    const info = this.#windows.find(certificate)
    const { source, notBefore, fingerprint } = certificate
    return {
      source,
      notBefore,
      notAfter: this.#options.endOf(certificate),
      fingerprint,
      condemned:
        this.#options.verdicts.faultOf(certificate) !== undefined || this.#isFromTheFuture(certificate),
      ...(info === undefined ? {} : { window: { start: info.windowStart, end: info.windowEnd } }),
    }
  }

  /** One of an internal CA, made while our clock was ahead: nobody accepts it for as long as it was. */
  #isFromTheFuture({ notBefore, source }: Certificate): boolean {
    const { access, clock } = this.#options
    return notBefore > clock.now() && access(source)?.issuer.datesByOurClock === true
  }

  /** Asks, where it is time, when the CAs of its certificates wish them renewed. @returns when to come here again */
  #pollWindows(task: Task): number {
    const { clock, inventory } = this.#options
    const { live, standby } = inventory.holding(task.target.host)
    const askInMs = (certificate: Certificate): number => this.#windows.askInMs(certificate, this.#tasks.size)
    let againInMs = Number.POSITIVE_INFINITY
    for (const certificate of [live, standby]) {
      if (certificate === undefined) continue
      if (askInMs(certificate) === 0) this.#track(this.#askWish(task, certificate))
      againInMs = Math.min(againInMs, askInMs(certificate))
    }
    return clock.now() + againInMs
  }

  async #askWish(task: Task, certificate: Certificate): Promise<void> {
    const { clock, onWish } = this.#options
    await this.#windows.ask(certificate, this.#stop.signal)
    if (this.#windows.find(certificate) !== undefined)
      onWish(certificate, isRecalled(this.#held(certificate), clock.now()))
    if (!this.#isIdle(task)) return
    this.#consider(task)
    this.#startOrders()
  }

  async #fillIn(): Promise<void> {
    for (const task of this.#tasks.values()) await this.#fulfilment.fillIn(task, this.#stop.signal)
  }

  #track(work: Promise<void>): void {
    this.#inFlight.add(work)
    work.finally(() => this.#inFlight.delete(work))
  }
}

/** A job without the failures that are not in `before`. */
function withoutFailuresSince(job: Job, before: Job): Job {
  const [live, standby] = [job.live && before.live, job.standby && before.standby]
  return { ...(live === undefined ? {} : { live }), ...(standby === undefined ? {} : { standby }) }
}
