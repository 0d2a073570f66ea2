/**
 * Keeps every host supplied: lock → issue → persist → publish, in the background, for ever.
 *
 * Receives targets from `server.ts`; plans with `plan.ts`; orders with `issuance.ts`; publishes to the inventory.
 * Nothing here is on the path of a handshake.
 */
import type { CaAccess } from '../ca/authorities.ts'
import type { CaHealth } from '../ca/health.ts'
import type { Issuer, RenewalInfo } from '../ca/issuer.ts'
import type { Certificate } from '../cert/certificate.ts'
import type { Inventory, Role } from '../cert/inventory.ts'
import type { KeyType } from '../cert/x509.ts'
import type { ChallengeType } from '../challenge/solver.ts'
import { messageOf } from '../errors.ts'
import type { Log } from '../log.ts'
import { PriorityQueue } from '../priority-queue.ts'
import type { Records } from '../store/records.ts'
import { type Cancel, type Clock, formatDuration, HOUR, MINUTE, SECOND, withDeadline } from '../time.ts'
import { describeRefusals, type Issuance, issueFromFirst, NoIssuanceError } from './issuance.ts'
import { type Job, readJob } from './job.ts'
import {
  type Duty,
  type Held,
  type Order,
  type Policy,
  plan,
  renewalDueAt,
  retryDelayMs,
  type Situation,
} from './plan.ts'

/** A host to keep supplied. */
export interface Target extends Policy {
  readonly host: string
  readonly challenges: readonly ChallengeType[]
  readonly keyType: KeyType
  /** Serve a certificate of the internal CA until a real one is there? */
  readonly interim: boolean
}

export type RenewalEvent =
  | {
      readonly type: 'certificate.issued'
      readonly host: string
      readonly role: Duty
      readonly ca: string
      readonly notAfter: number
    }
  | {
      readonly type: 'certificate.failed'
      readonly host: string
      readonly role: Duty
      readonly reason: string
      readonly retryAt: number
    }

/** One host, for `/api/certificates` and `status`. Times are milliseconds since the epoch. */
export interface HostStatus {
  readonly host: string
  readonly live: Certificate | undefined
  readonly standby: Certificate | undefined
  readonly interim: Certificate | undefined
  /** When something is next to be done for it. */
  readonly nextAt: number
  readonly lastError: string | undefined
  readonly busy: boolean
}

/** What the renewer needs of the store. */
export type RenewerRecords = Pick<
  Records,
  | 'loadCertificates'
  | 'loadCertificate'
  | 'saveCertificate'
  | 'loadStates'
  | 'loadState'
  | 'saveState'
  | 'removeState'
  | 'lock'
>

export interface RenewerOptions {
  readonly clock: Clock
  readonly random: () => number
  readonly log: Log
  readonly records: RenewerRecords
  readonly inventory: Inventory
  readonly health: CaHealth
  readonly access: (ca: string) => CaAccess | undefined
  /** Issues interim certificates. */
  readonly internal: Issuer
  /** Builds what the first handshake would have to build. */
  readonly warm: (certificate: Certificate) => void
  readonly onEvent: (event: RenewalEvent) => void
}

/** Orders under way at once. */
const CONCURRENCY = 16
/** How often the wall clock is looked at, however far the next due time is: it may jump. */
const TICK_MS = MINUTE
const LOCK_WAIT_MS = 5 * MINUTE
/** How often a CA is asked for its renewal window when it does not say. */
const POLL_INTERVAL_MS = 6 * HOUR

interface Poll {
  readonly info: RenewalInfo | undefined
  readonly askAt: number
}

interface Task {
  readonly target: Target
  job: Job
  /** RFC 9773 windows by certificate fingerprint, and when to ask again. */
  readonly polls: Map<string, Poll>
  /** When it is planned again, milliseconds since the epoch; infinite while it is queued or busy. */
  wakeAt: number
  /** When something is due for it, as told to people. */
  nextAt: number
  busy: boolean
  /** Renew whatever the plan says: asked for by hand. */
  forced: boolean
}

export class Renewer {
  readonly #options: RenewerOptions
  #tasks = new Map<string, Task>()
  /** When each host is to be planned again; an entry counts while its time is the task's own. */
  readonly #due = new PriorityQueue<{ task: Task; at: number }>((a, b) => a.at < b.at)
  /** Hosts with an order to place, most urgent first. */
  readonly #queue = new PriorityQueue<{ task: Task; timeLeftMs: number }>(
    (a, b) => a.timeLeftMs < b.timeLeftMs,
  )
  #lastTickAt = 0
  #running = 0
  #cancelTick: Cancel = () => {}
  readonly #stop = new AbortController()
  readonly #inFlight = new Set<Promise<void>>()

  constructor(options: RenewerOptions) {
    this.#options = options
  }

  /** Publishes what the store holds and reads the jobs' state, so that serving can start; asks no CA. */
  async load(targets: readonly Target[]): Promise<void> {
    const { records, inventory, warm } = this.#options
    const [stored, jobs] = await Promise.all([records.loadCertificates(), records.loadStates('jobs')])
    for (const target of targets) this.#add(target, readJob(jobs.get(target.host)))
    for (const { host, role, certificate } of stored) {
      if (this.#tasks.has(host)) inventory.publish(host, role, certificate)
    }
    for (const host of [...this.#tasks.keys()].slice(0, 1000)) {
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
      if (known === undefined) await this.#publishStored(host)
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
    const now = this.#options.clock.now()
    for (const task of this.#tasks.values()) this.#wakeAt(task, now)
    this.#schedule(0)
  }

  /** Orders a new live certificate for a host now, by hand. @returns false for a host that is not kept. */
  renewNow(host: string): boolean {
    const task = this.#tasks.get(host)
    if (task === undefined) return false
    task.forced = true
    task.job = {}
    this.#wakeAt(task, this.#options.clock.now())
    this.#schedule(0)
    return true
  }

  /** Publishes what the store holds for a host, after somebody has changed it. @returns false for an unknown host */
  async reload(host: string): Promise<boolean> {
    const task = this.#tasks.get(host)
    if (task === undefined) return false
    await this.#publishStored(host)
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
        busy: task.busy,
      }
    })
  }

  #add(target: Target, job: Job): void {
    const now = this.#options.clock.now()
    const task: Task = { target, job, polls: new Map(), wakeAt: now, nextAt: now, busy: false, forced: false }
    this.#tasks.set(target.host, task)
    this.#wakeAt(task, now)
  }

  async #publishStored(host: string): Promise<void> {
    const { inventory, records } = this.#options
    for (const duty of ['live', 'standby'] as const) {
      const certificate = await records.loadCertificate(host, duty)
      if (certificate !== undefined) inventory.publish(host, duty, certificate)
    }
  }

  #schedule(delayMs: number): void {
    this.#cancelTick()
    if (this.#stop.signal.aborted) return
    this.#cancelTick = this.#options.clock.after(delayMs, () => this.#tick())
  }

  /** Plans what is due, starts what there is room for, and sleeps until the next is due. */
  #tick(): void {
    const now = this.#options.clock.now()
    // Set back, the clock would let every host sleep through the difference.
    if (now < this.#lastTickAt) for (const task of this.#tasks.values()) this.#wakeAt(task, now)
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
      task.nextAt = wakeAt
      this.#wakeAt(task, Math.min(wakeAt, this.#pollRenewalInfo(task)))
      return
    }
    task.nextAt = this.#options.clock.now()
    task.wakeAt = Number.POSITIVE_INFINITY
    this.#queue.push({ task, timeLeftMs: order.timeLeftMs })
  }

  #startOrders(): void {
    while (this.#running < CONCURRENCY && !this.#stop.signal.aborted) {
      const task = this.#queue.pop()?.task
      if (task === undefined) return
      if (!this.#isIdle(task)) continue
      // Planned anew: since it was queued its CA may have gone down, or its rate limit may be used up.
      const { order, wakeAt } = this.#plan(task)
      if (order === undefined) {
        this.#wakeAt(task, wakeAt)
        continue
      }
      task.busy = true
      this.#running++
      const done = (): void => {
        task.busy = false
        this.#running--
        if (this.#isIdle(task)) this.#consider(task)
        this.#startOrders()
      }
      this.#track(this.#fulfil(task, order).finally(done))
    }
  }

  #wakeAt(task: Task, at: number): void {
    task.wakeAt = at
    this.#due.push({ task, at })
  }

  /** Still a host of ours, with no order under way? */
  #isIdle(task: Task): boolean {
    return !task.busy && this.#tasks.get(task.target.host) === task
  }

  #plan(task: Task): ReturnType<typeof plan> {
    const { clock, health, inventory } = this.#options
    const { target } = task
    const holding = inventory.holding(target.host)
    const live = this.#held(task, holding.live)
    const ledgerOpenAt = (ca: string): number => this.#ledgerOpenAt(ca, target.host, live?.source === ca)
    const situation: Situation = {
      now: clock.now(),
      policy: target,
      live: live !== undefined && task.forced ? { ...live, condemned: true } : live,
      standby: this.#held(task, holding.standby),
      backoff: task.job,
      candidates: health.order(target.cas).map((id) => ({
        id,
        // Looked up only for a host that has something due: most plans never ask.
        get openAt() {
          return Math.max(health.openAt(id), ledgerOpenAt(id))
        },
        degraded: health.isDegraded(id),
      })),
    }
    return plan(situation)
  }

  #ledgerOpenAt(ca: string, host: string, renewal: boolean): number {
    const access = this.#options.access(ca)
    return access === undefined ? 0 : access.ledger.openAt([host], renewal && access.exemptsRenewals)
  }

  #held(task: Task, certificate: Certificate | undefined): Held | undefined {
    if (certificate === undefined) return undefined
    const info = task.polls.get(certificate.fingerprint)?.info
    const { source, notBefore, notAfter, fingerprint } = certificate
    return {
      source,
      notBefore,
      notAfter,
      fingerprint,
      ...(info === undefined ? {} : { window: { start: info.windowStart, end: info.windowEnd } }),
    }
  }

  /** One order to its end; never rejects. */
  async #fulfil(task: Task, order: Order): Promise<void> {
    const { clock, log, records, onEvent } = this.#options
    const { host } = task.target
    const signal = this.#stop.signal
    try {
      const lease = await withDeadline(clock, LOCK_WAIT_MS, `the lock of ${host}`, signal, (inner) =>
        records.lock(host, inner),
      )
      try {
        if (await this.#adopt(task, order.duty)) return
        // What was planned before the lock was had may be done by now.
        if (this.#plan(task).order?.duty !== order.duty) return
        const issuance = await this.#issue(task, order, AbortSignal.any([signal, lease.lost]))
        await this.#install(task, order.duty, issuance.certificate)
        this.#report(task, order.duty, issuance)
      } finally {
        await lease.release()
      }
    } catch (error) {
      if (signal.aborted) return
      const refusals = error instanceof NoIssuanceError ? error.refusals : []
      const failures = (task.job[order.duty]?.failures ?? 0) + 1
      const delayMs = retryDelayMs(failures, order.timeLeftMs, this.#options.random)
      const lastAt = clock.now()
      task.job = { ...task.job, [order.duty]: { failures, lastAt, delayMs, lastError: messageOf(error) } }
      task.forced = false
      await this.#saveJob(task)
      const reason = refusals.at(-1)?.error.code ?? 'LOCAL_FAILURE'
      log.error(
        { host, role: order.duty, reason, failures, retryIn: formatDuration(delayMs) },
        `no certificate for ${host}: ${messageOf(error)}`,
      )
      onEvent({ type: 'certificate.failed', host, role: order.duty, reason, retryAt: lastAt + delayMs })
    }
  }

  /** Takes over what another process that shares the store has obtained meanwhile. */
  async #adopt(task: Task, duty: Duty): Promise<boolean> {
    const { clock, inventory, log, records, warm } = this.#options
    const { host } = task.target
    const stored = await records.loadCertificate(host, duty)
    if (stored === undefined || stored.fingerprint === inventory.holding(host)[duty]?.fingerprint)
      return false
    const held = this.#held(task, stored)
    if (held === undefined || !task.target.cas.includes(stored.source)) return false
    if (renewalDueAt(held, duty) <= clock.now()) return false
    warm(stored)
    inventory.publish(host, duty, stored)
    await this.#settle(task, duty)
    log.info({ host, role: duty, ca: stored.source }, `took over the certificate for ${host} from the store`)
    return true
  }

  #issue(task: Task, order: Order, signal: AbortSignal): Promise<Issuance> {
    const { host, keyType, challenges } = task.target
    const replaced = this.#options.inventory.holding(host)[order.duty]
    return issueFromFirst(
      {
        cas: order.cas,
        hedge: order.hedge,
        request: (ca) => ({
          names: [host],
          keyType,
          challenges,
          ...(replaced?.source === ca && replaced.ariId !== undefined ? { replaces: replaced.ariId } : {}),
        }),
      },
      this.#options,
      signal,
    )
  }

  async #install(task: Task, duty: Duty, certificate: Certificate): Promise<void> {
    const { inventory, records, warm } = this.#options
    const { host } = task.target
    await records.saveCertificate(host, duty, certificate)
    warm(certificate)
    inventory.publish(host, duty, certificate)
    if (duty === 'live') inventory.withdraw(host, 'interim')
    task.polls.clear()
    await this.#settle(task, duty)
  }

  /** The duty is done: its backoff goes. */
  async #settle(task: Task, duty: Duty): Promise<void> {
    if (duty === 'live') task.forced = false
    if (task.job[duty] === undefined) return
    const { [duty]: _, ...rest } = task.job
    task.job = rest
    await this.#saveJob(task)
  }

  async #saveJob(task: Task): Promise<void> {
    const { log, records } = this.#options
    const { host } = task.target
    try {
      if (Object.keys(task.job).length === 0) await records.removeState('jobs', host)
      else await records.saveState('jobs', host, task.job)
    } catch (error) {
      log.warn({ host, err: error }, `the job of ${host} could not be kept: ${messageOf(error)}`)
    }
  }

  #report(task: Task, duty: Duty, { certificate, ca, tookMs, refusals }: Issuance): void {
    const { log, onEvent } = this.#options
    const { host } = task.target
    const { notAfter } = certificate
    const fields = {
      host,
      role: duty,
      ca,
      notAfter: new Date(notAfter).toISOString(),
      tookMs: Math.round(tookMs),
    }
    if (refusals.length === 0) log.info(fields, `${host}: certificate issued by ${ca}`)
    else log.warn(fields, `${host}: certificate issued by ${ca} instead: ${describeRefusals(refusals)}`)
    onEvent({ type: 'certificate.issued', host, role: duty, ca, notAfter })
  }

  /** Hosts that may be served by the internal CA meanwhile, are. */
  async #fillIn(): Promise<void> {
    const { inventory, internal, log } = this.#options
    for (const { target } of this.#tasks.values()) {
      const { host, keyType } = target
      if (!target.interim || inventory.find(host) !== undefined) continue
      try {
        const request = { names: [host], keyType, challenges: [] }
        inventory.publish(host, 'interim', await internal.issue(request, this.#stop.signal))
      } catch (error) {
        log.warn({ host, err: error }, `no interim certificate for ${host}: ${messageOf(error)}`)
      }
    }
  }

  /**
   * Asks the CAs of the certificates held, seldom, when they wish them renewed (RFC 9773).
   * @returns when to come here again
   */
  #pollRenewalInfo(task: Task): number {
    const { access, clock, inventory } = this.#options
    const now = clock.now()
    const holding = inventory.holding(task.target.host)
    let againAt = Number.POSITIVE_INFINITY
    for (const role of ['live', 'standby'] as const satisfies Role[]) {
      const certificate = holding[role]
      const issuer = certificate === undefined ? undefined : access(certificate.source)?.issuer
      if (certificate === undefined || issuer?.renewalInfo === undefined) continue
      let poll = task.polls.get(certificate.fingerprint) ?? this.#firstPoll(now)
      if (poll.askAt <= now) {
        poll = { info: poll.info, askAt: now + POLL_INTERVAL_MS }
        this.#track(this.#poll(task, issuer, certificate))
      }
      task.polls.set(certificate.fingerprint, poll)
      againAt = Math.min(againAt, poll.askAt)
    }
    return againAt
  }

  /** Never rejects: without an answer the lifetime decides. */
  async #poll(task: Task, issuer: Issuer, certificate: Certificate): Promise<void> {
    const { clock, log } = this.#options
    const { host } = task.target
    try {
      const info = await issuer.renewalInfo?.(certificate, this.#stop.signal)
      const askAt = clock.now() + (info?.pollAgainMs ?? POLL_INTERVAL_MS)
      task.polls.set(certificate.fingerprint, { info, askAt })
      if (info !== undefined && this.#isIdle(task)) this.#consider(task)
      this.#startOrders()
    } catch (error) {
      log.debug({ host, err: error }, `no renewal information for ${host}: ${messageOf(error)}`)
    }
  }

  /** A fleet that has just started does not fall upon its CA all at once: about five questions a second. */
  #firstPoll(now: number): Poll {
    return { info: undefined, askAt: now + this.#options.random() * this.#tasks.size * 200 }
  }

  #track(work: Promise<void>): void {
    this.#inFlight.add(work)
    work.finally(() => this.#inFlight.delete(work))
  }
}
