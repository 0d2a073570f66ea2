/**
 * Which certificate answers for which name, in memory. The slow world meets the fast one here:
 * `renew/` and `cert/files.ts` publish, `tls/` finds.
 */
import type { Clock } from '../time.ts'
import { type Certificate, wildcardOf } from './certificate.ts'
import { Verdicts } from './verdicts.ts'

/** `live` is served; `standby` takes over; `interim` (internal CA) only fills in until a live one is there. */
export type Role = 'live' | 'standby' | 'interim'

/** Served in this order, the first that is valid now. */
const PREFERENCE: readonly Role[] = ['live', 'standby', 'interim']

export type Holding = Readonly<Partial<Record<Role, Certificate>>>

export interface Change {
  readonly host: string
  readonly role: Role
  readonly certificate: Certificate | undefined
}

export class Inventory {
  readonly #holdings = new Map<string, Partial<Record<Role, Certificate>>>()
  readonly #listeners = new Set<(change: Change) => void>()
  readonly #clock: Clock
  readonly #verdicts: Verdicts

  constructor(clock: Clock, verdicts = new Verdicts()) {
    this.#clock = clock
    this.#verdicts = verdicts
  }

  /**
   * The certificate to serve for a name as a client sent it: lower case is expected. Synchronous, in memory, two
   * map lookups at the most. One that is expired or condemned is served only when there is nothing better, and one
   * whose key is compromised never.
   */
  find(name: string): Certificate | undefined {
    const now = this.#clock.now()
    const exact = this.#bestOf(this.#holdings.get(name), now)
    if (exact !== undefined && this.#isFit(exact, now)) return exact
    const wildcard = this.#bestOf(this.#holdings.get(wildcardOf(name)), now)
    return wildcard !== undefined && this.#isFit(wildcard, now) ? wildcard : (exact ?? wildcard)
  }

  /** What is held for a host of the config (wildcards by their own name). */
  holding(host: string): Holding {
    return this.#holdings.get(host) ?? {}
  }

  hosts(): string[] {
    return [...this.#holdings.keys()]
  }

  /** Takes effect at the next handshake. Publishing what is there already does nothing. */
  publish(host: string, role: Role, certificate: Certificate): void {
    const holding = this.#holdings.get(host)
    if (holding?.[role]?.chainFingerprint === certificate.chainFingerprint) return
    if (holding === undefined) this.#holdings.set(host, { [role]: certificate })
    else holding[role] = certificate
    this.#tell({ host, role, certificate })
  }

  /** Takes one role of a host away, or the whole host. */
  withdraw(host: string, role?: Role): void {
    const holding = this.#holdings.get(host)
    if (holding === undefined) return
    for (const each of role === undefined ? PREFERENCE : [role]) {
      if (holding[each] === undefined) continue
      delete holding[each]
      this.#tell({ host, role: each, certificate: undefined })
    }
    if (Object.keys(holding).length === 0) this.#holdings.delete(host)
  }

  /** Returns how to stop listening. */
  onChange(listener: (change: Change) => void): () => void {
    this.#listeners.add(listener)
    return () => this.#listeners.delete(listener)
  }

  #tell(change: Change): void {
    for (const listener of this.#listeners) listener(change)
  }

  /** The first by preference that is fit; failing that, the first that may be shown at all. */
  #bestOf(holding: Holding | undefined, now: number): Certificate | undefined {
    if (holding === undefined) return undefined
    let fallback: Certificate | undefined
    for (const role of PREFERENCE) {
      const certificate = holding[role]
      if (certificate === undefined) continue
      if (this.#isFit(certificate, now)) return certificate
      if (this.#verdicts.faultOf(certificate) !== 'compromised') fallback ??= certificate
    }
    return fallback
  }

  #isFit(certificate: Certificate, now: number): boolean {
    return certificate.isValidAt(now) && this.#verdicts.faultOf(certificate) === undefined
  }
}
