/**
 * A rehearsed CA outage on the running instance, from its start to the restoration of everything: puts the CA's
 * stand-in in place, orders the canary, listens to what happens, and tells it line by line. `api.ts` starts it and
 * hands the lines on. Nothing of it is kept, so a drill never outlives the process; no live certificate is touched.
 */
import type { Authorities } from '../ca/authorities.ts'
import { type Outage, RehearsedIssuer } from '../ca/rehearsal.ts'
import type { Inventory } from '../cert/inventory.ts'
import type { DatedEvent } from '../events.ts'
import type { Log } from '../log.ts'
import type { Outlook } from '../notify/outlook.ts'
import type { Renewer } from '../renew/renewer.ts'
import type { Target } from '../renew/task.ts'
import { type Cancel, type Clock, formatDuration } from '../time.ts'
import type { Events } from './events.ts'

export interface DrillRequest {
  readonly ca: string
  readonly outage: Outage
  readonly forMs: number
  /** The host whose standby is renewed as a trial; undefined: the first that fits; `none`: no host. */
  readonly canary: string | undefined
}

const NO_CANARY = 'none'

/** The order that a drill places: for a standby, so that the live certificate stays. Certificates spent: one. */
export interface Canary {
  readonly host: string
  /** Asked in this order; the first is the CA that fails. */
  readonly cas: readonly string[]
}

/** A certificate that came from another CA because the rehearsed one failed. `afterMs` counts from the fault. */
export interface SwitchedOrder {
  readonly host: string
  readonly role: 'live' | 'standby'
  readonly ca: string
  readonly afterMs: number
}

export interface DrillReport {
  readonly ca: string
  readonly outage: Outage
  readonly startedAt: string
  readonly lastedMs: number
  readonly endedBecause: string
  /** How long after the fault the CA's breaker opened; absent where it stayed closed, as at a rate limit. */
  readonly breakerOpenedAfterMs: number | undefined
  readonly canary: Canary | undefined
  /** Why there is no canary. */
  readonly noCanary: string | undefined
  readonly switched: readonly SwitchedOrder[]
  /** Also the canary, where its order had not come to an end by the drill's. */
  readonly failed: readonly { readonly host: string; readonly message: string }[]
  /** Hosts that no other CA could have kept; each with the end of its last certificate. */
  readonly lost: readonly { readonly host: string; readonly from: string }[]
}

/** What a drill tells, a JSON line each. */
export type DrillLine =
  | {
      readonly type: 'drill.started'
      readonly at: string
      readonly endsAt: string
      readonly canary: Canary | undefined
      readonly noCanary: string | undefined
      /** Hosts that order a standby elsewhere because of the drill (`standby: on-degraded`). */
      readonly standbys: number
    }
  | DatedEvent
  | { readonly type: 'drill.ended'; readonly report: DrillReport }

/** Why no drill was begun. The message says what to do. */
export class DrillRefusedError extends Error {
  override name = 'DrillRefusedError'
}

export interface DrillsOptions {
  readonly clock: Clock
  readonly log: Log
  readonly authorities: Pick<Authorities, 'health' | 'access' | 'rehearse'>
  readonly inventory: Inventory
  readonly renewer: Pick<Renewer, 'rehearse' | 'renewStandby'>
  readonly outlook: Outlook
  readonly events: Events
  /** The hosts that CAs supply. */
  readonly targets: () => readonly Target[]
}

/** One drill at a time. */
export class Drills {
  readonly #options: DrillsOptions
  #current: Drill | undefined

  constructor(options: DrillsOptions) {
    this.#options = options
  }

  /** @param tell must not throw @throws DrillRefusedError */
  start(request: DrillRequest, tell: (line: DrillLine) => void): Drill {
    const { authorities, targets } = this.#options
    if (this.#current !== undefined)
      throw new DrillRefusedError(`a drill with ${this.#current.ca} is under way: wait for its end`)
    const { ca, canary } = request
    const snapshot = authorities.health.snapshot(ca)
    if (snapshot === undefined) throw new DrillRefusedError(`no CA ${ca} in the config`)
    if (snapshot.state !== 'up')
      throw new DrillRefusedError(`${ca} is down already: this is no drill (see \`holdfast status\`)`)
    if (canary !== undefined && canary !== NO_CANARY && !targets().some(({ host }) => host === canary))
      throw new DrillRefusedError(`no host ${canary} that a CA supplies`)
    const drill = new Drill(request, this.#options, tell)
    this.#current = drill
    drill.ended.then(() => {
      this.#current = undefined
    })
    return drill
  }

  /** Ends the drill that is under way, if one is. */
  end(because: string): void {
    this.#current?.end(because)
  }
}

export class Drill {
  /** Resolves once all is restored and the report is told. */
  readonly ended: Promise<void>
  readonly #request: DrillRequest
  readonly #options: DrillsOptions
  readonly #tell: (line: DrillLine) => void
  readonly #startedAt: number
  readonly #canary: Canary | undefined
  readonly #noCanary: string | undefined
  readonly #switched: SwitchedOrder[] = []
  readonly #failed = new Map<string, string>()
  readonly #over = new AbortController()
  readonly #restore: readonly Cancel[]
  readonly #resolveEnded: () => void
  #breakerOpenedAfterMs: number | undefined

  constructor(request: DrillRequest, options: DrillsOptions, tell: (line: DrillLine) => void) {
    const { authorities, clock, events, log, renewer } = options
    this.#request = request
    this.#options = options
    this.#tell = tell
    this.#startedAt = clock.now()
    const chosen = chooseCanary(request, options)
    this.#canary = typeof chosen === 'string' ? undefined : chosen
    this.#noCanary = typeof chosen === 'string' ? chosen : undefined
    const { promise, resolve } = Promise.withResolvers<void>()
    this.ended = promise
    this.#resolveEnded = resolve
    const { ca, outage, forMs } = request
    log.warn({ ca, outage }, `drill: ${ca} is treated as failing for ${formatDuration(forMs)}`)
    const over = this.#over.signal
    this.#restore = [
      clock.after(forMs, () => this.end('its time was over')),
      events.listen((event) => this.#hear(event)),
      authorities.rehearse(ca, (issuer) => new RehearsedIssuer({ issuer, outage, clock, over })),
      // After the CA: it plans every host again.
      renewer.rehearse(),
    ]
    this.#begin()
  }

  get ca(): string {
    return this.#request.ca
  }

  /** Restores everything at once. Idempotent. */
  end(because: string): void {
    if (this.#over.signal.aborted) return
    const { clock, log } = this.#options
    const report = this.#report(because)
    this.#over.abort(new Error('the drill is over'))
    for (const restore of this.#restore) restore()
    log.warn(
      { ca: this.ca, lastedMs: clock.now() - this.#startedAt },
      `drill: over, ${this.ca} is asked again`,
    )
    this.#tell({ type: 'drill.ended', report })
    this.#resolveEnded()
  }

  #begin(): void {
    const { renewer, targets } = this.#options
    const { ca, forMs } = this.#request
    const standbys = targets().filter((target) => orders(target, ca, this.#options)).length
    this.#tell({
      type: 'drill.started',
      at: isoTime(this.#startedAt),
      endsAt: isoTime(this.#startedAt + forMs),
      canary: this.#canary,
      noCanary: this.#noCanary,
      standbys,
    })
    if (this.#canary === undefined) return
    const { host, cas } = this.#canary
    renewer.renewStandby(host, cas).then((isTried) => {
      if (!isTried) this.#failed.set(host, 'another order for it was under way: no canary was ordered')
    })
  }

  #hear(event: DatedEvent): void {
    const { ca } = this.#request
    const afterMs = this.#options.clock.now() - this.#startedAt
    if (event.type === 'ca.degraded' && event.ca === ca) this.#breakerOpenedAfterMs ??= afterMs
    if (event.type === 'certificate.issued' || event.type === 'certificate.renewed') {
      if (event.refused.some((refusal) => refusal.ca === ca)) {
        this.#switched.push({ host: event.host, role: event.role, ca: event.ca, afterMs })
        this.#failed.delete(event.host)
      }
    }
    if (event.type === 'certificate.failed' && event.refused.some((refusal) => refusal.ca === ca))
      this.#failed.set(event.host, event.message)
    this.#tell(event)
  }

  #report(endedBecause: string): DrillReport {
    const { clock, outlook } = this.#options
    const { ca, outage } = this.#request
    return {
      ca,
      outage,
      startedAt: isoTime(this.#startedAt),
      lastedMs: clock.now() - this.#startedAt,
      endedBecause,
      breakerOpenedAfterMs: this.#breakerOpenedAfterMs,
      canary: this.#canary,
      noCanary: this.#noCanary,
      switched: this.#switched,
      failed: [...this.#failed, ...this.#unfinished()].map(([host, message]) => ({ host, message })),
      lost: outlook.exposures(ca).map(({ host, from }) => ({ host, from: isoTime(from) })),
    }
  }

  /** A canary that nothing has come of yet proves nothing. */
  #unfinished(): [string, string][] {
    const host = this.#canary?.host
    const isDone = this.#switched.some((order) => order.host === host)
    if (host === undefined || isDone || this.#failed.has(host)) return []
    return [[host, 'the order of the canary had not ended by then: let the drill last longer']]
  }
}

/** @returns why there is none */
function chooseCanary({ ca, canary }: DrillRequest, options: DrillsOptions): Canary | string {
  if (canary === NO_CANARY) return 'none was asked for'
  const { targets } = options
  const wanted = targets().filter(({ host }) =>
    canary === undefined ? !host.startsWith('*.') : host === canary,
  )
  for (const target of wanted) {
    const others = othersFor(target, ca, options)
    if (others.length > 0) return { host: target.host, cas: [ca, ...others] }
  }
  const who = canary ?? 'no host'
  return `${who} ${canary === undefined ? 'has' : 'lacks'} ${ca} and another CA that may be asked now, a live certificate, and a standby (\`tls.standby\`)`
}

/** The CAs, besides the one that fails, from which a standby for the host may be ordered now. */
function othersFor({ cas, host, standby }: Target, ca: string, options: DrillsOptions): string[] {
  const { authorities, inventory, outlook } = options
  const { live } = inventory.holding(host)
  if (!cas.includes(ca) || standby === 'off' || live === undefined) return []
  return cas.filter(
    (other) =>
      other !== ca &&
      other !== live.source &&
      outlook.canIssue(other) &&
      authorities.access(other)?.ledger.openAt([host], false) === 0,
  )
}

/** Will the host order a standby only because its CA fails? */
function orders({ cas, host, standby }: Target, ca: string, { inventory }: DrillsOptions): boolean {
  const holding = inventory.holding(host)
  return (
    standby === 'on-degraded' &&
    holding.live?.source === ca &&
    holding.standby === undefined &&
    cas.length > 1
  )
}

function isoTime(time: number): string {
  return new Date(time).toISOString()
}
