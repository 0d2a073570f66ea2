/**
 * Makes events of what the engines say, dates them, and tells failovers, which are nobody's single step: a CA is down,
 * and certificates come from others in its place. `server.ts` wires the engines' callbacks to it.
 */
import type { CaSnapshot, CaState } from '../ca/health.ts'
import type { Certificate } from '../cert/certificate.ts'
import type { Fault } from '../cert/verdicts.ts'
import type { CertificateFailed, CertificateObtained, DatedEvent, HoldfastEvent } from '../events.ts'
import type { Clock } from '../time.ts'

export interface ReporterOptions {
  readonly clock: Clock
  /** Undefined: no such CA. */
  readonly stateOf: (ca: string) => CaState | undefined
  /** What is lost if this CA stays down, in words; empty when nothing is. */
  readonly exposure: (ca: string) => string
  /** Must not throw. */
  readonly emit: (event: DatedEvent) => void
  /** `failovers` has changed. Must not throw. */
  readonly onFailovers: () => void
}

/** By the CA that is down: who supplies in its place, and how many certificates came of it. */
export type Failovers = Readonly<Record<string, FailoverState>>

interface FailoverState {
  readonly instead: readonly string[]
  readonly certificates: number
}

export class Reporter {
  readonly #options: ReporterOptions
  readonly #failovers = new Map<string, FailoverState>()

  constructor(options: ReporterOptions) {
    this.#options = options
  }

  /** Those that go on, to be given to `restore` after a restart. */
  get failovers(): Failovers {
    return Object.fromEntries(this.#failovers)
  }

  /** Takes over what went on before a restart; what has ended meanwhile is told. */
  restore(failovers: Failovers): void {
    for (const [ca, failover] of Object.entries(failovers)) {
      const state = this.#options.stateOf(ca)
      if (state === undefined) continue
      this.#failovers.set(ca, failover)
      if (state === 'up') this.#endFailover(ca)
    }
  }

  report(event: HoldfastEvent): void {
    const at = new Date(this.#options.clock.now()).toISOString()
    this.#options.emit({ ...event, at })
  }

  /** A breaker opened or closed. */
  caChanged({ id: ca, state, lastFailure }: CaSnapshot): void {
    if (state !== 'up') {
      const { reason, message } = lastFailure ?? {}
      this.report({ type: 'ca.degraded', ca, reason, message, exposure: this.#options.exposure(ca) })
      return
    }
    this.report({ type: 'ca.recovered', ca })
    this.#endFailover(ca)
  }

  /** An order came to its end. */
  renewal(event: CertificateObtained | CertificateFailed): void {
    this.report(event)
    if (event.type === 'certificate.failed') return
    for (const { ca } of event.refused)
      if (this.#options.stateOf(ca) !== 'up') this.#suppliedInstead(ca, event.ca)
  }

  /** A certificate that is held must go. */
  verdict(certificate: Certificate, hosts: readonly string[], fault: Fault): void {
    const { source, serial } = certificate
    for (const host of hosts) this.report({ type: 'certificate.revoked', host, source, serial, fault })
  }

  #suppliedInstead(ca: string, by: string): void {
    const before = this.#failovers.get(ca)
    const { instead, certificates } = before ?? { instead: [], certificates: 0 }
    const failover = { instead: [...new Set([...instead, by])], certificates: certificates + 1 }
    this.#failovers.set(ca, failover)
    this.#options.onFailovers()
    if (before === undefined) this.report({ type: 'failover.started', ca, ...failover })
  }

  #endFailover(ca: string): void {
    const failover = this.#failovers.get(ca)
    if (failover === undefined) return
    this.#failovers.delete(ca)
    this.#options.onFailovers()
    this.report({ type: 'failover.ended', ca, ...failover })
  }
}
