/**
 * Makes events of what the engines say, dates them, and tells failovers, which are nobody's single step: a CA is down,
 * and certificates come from others in its place. `server.ts` wires the engines' callbacks to it.
 */
import type { CaSnapshot } from '../ca/health.ts'
import type { Certificate } from '../cert/certificate.ts'
import type { Fault } from '../cert/verdicts.ts'
import type { CertificateFailed, CertificateObtained, DatedEvent, HoldfastEvent } from '../events.ts'
import type { Clock } from '../time.ts'

export interface ReporterOptions {
  readonly clock: Clock
  readonly isDown: (ca: string) => boolean
  /** What is lost if this CA stays down, in words; empty when nothing is. */
  readonly exposure: (ca: string) => string
  /** Must not throw. */
  readonly emit: (event: DatedEvent) => void
}

export class Reporter {
  readonly #options: ReporterOptions
  /** By the CA that is down: who supplies in its place, and how much. */
  readonly #failovers = new Map<string, { instead: Set<string>; certificates: number }>()

  constructor(options: ReporterOptions) {
    this.#options = options
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
    const failover = this.#failovers.get(ca)
    if (failover === undefined) return
    this.#failovers.delete(ca)
    this.report({ type: 'failover.ended', ca, ...failover, instead: [...failover.instead] })
  }

  /** An order came to its end. */
  renewal(event: CertificateObtained | CertificateFailed): void {
    this.report(event)
    if (event.type === 'certificate.failed') return
    for (const { ca } of event.refused) if (this.#options.isDown(ca)) this.#suppliedInstead(ca, event.ca)
  }

  /** A certificate that is held must go. */
  verdict(certificate: Certificate, hosts: readonly string[], fault: Fault): void {
    const { source, serial } = certificate
    for (const host of hosts) this.report({ type: 'certificate.revoked', host, source, serial, fault })
  }

  #suppliedInstead(ca: string, by: string): void {
    const failover = this.#failovers.get(ca)
    if (failover !== undefined) {
      failover.instead.add(by)
      failover.certificates++
      return
    }
    this.#failovers.set(ca, { instead: new Set([by]), certificates: 1 })
    this.report({ type: 'failover.started', ca, instead: [by], certificates: 1 })
  }
}
