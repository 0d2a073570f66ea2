/**
 * Which certificate answers for which name, in memory. The slow world meets the fast one here:
 * `renew/` and `cert/files.ts` publish, `tls/` finds.
 */
import type { Clock } from '../time.ts'
import { type Certificate, wildcardOf } from './certificate.ts'

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

  constructor(clock: Clock) {
    this.#clock = clock
  }

  /**
   * The certificate to serve for a name as a client sent it: lower case is expected. Synchronous, in memory, two
   * map lookups at the most. An expired certificate is served only when there is nothing better.
   */
  find(name: string): Certificate | undefined {
    const now = this.#clock.now()
    const exact = bestOf(this.#holdings.get(name), now)
    if (exact?.isValidAt(now)) return exact
    const wildcard = bestOf(this.#holdings.get(wildcardOf(name)), now)
    return wildcard?.isValidAt(now) ? wildcard : (exact ?? wildcard)
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
    if (holding?.[role]?.fingerprint === certificate.fingerprint) return
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
}

/** The first by preference that is valid; failing that, the first. */
function bestOf(holding: Holding | undefined, now: number): Certificate | undefined {
  if (holding === undefined) return undefined
  let fallback: Certificate | undefined
  for (const role of PREFERENCE) {
    const certificate = holding[role]
    if (certificate?.isValidAt(now)) return certificate
    fallback ??= certificate
  }
  return fallback
}
