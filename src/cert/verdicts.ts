/**
 * Which certificates must not be relied upon any more, whatever their dates say. The inventory serves others instead,
 * and the planner replaces them. In memory; `renew/judge.ts` passes the verdicts and keeps them.
 */
import type { Certificate } from './certificate.ts'

/**
 * `compromised`: somebody else may have the key, so it is never served again. `revoked`: its CA says so. `distrusted`:
 * the operator does not trust its CA. `unverifiable`: its chain no longer ends where it must.
 */
export type Fault = 'compromised' | 'revoked' | 'distrusted' | 'unverifiable'

/** What survives a restart. */
export interface VerdictsSnapshot {
  /** By fingerprint. */
  readonly condemned: Readonly<Record<string, Fault>>
  readonly distrusted: readonly string[]
}

export class Verdicts {
  readonly #condemned = new Map<string, Fault>()
  readonly #distrusted = new Set<string>()
  readonly #listeners = new Set<() => void>()

  /** Synchronous; on the path of a handshake. */
  faultOf(certificate: Certificate): Fault | undefined {
    if (this.#condemned.size === 0 && this.#distrusted.size === 0) return undefined
    return (
      this.#condemned.get(certificate.fingerprint) ??
      (this.#distrusted.has(certificate.source) ? 'distrusted' : undefined)
    )
  }

  isDistrusted(ca: string): boolean {
    return this.#distrusted.has(ca)
  }

  /** @returns false when the same verdict stood already, or a graver one: compromise is for ever */
  condemn(fingerprint: string, fault: Exclude<Fault, 'distrusted'>): boolean {
    const before = this.#condemned.get(fingerprint)
    if (before === fault || before === 'compromised') return false
    this.#condemned.set(fingerprint, fault)
    this.#tell()
    return true
  }

  /** Takes back that a chain cannot be verified; other verdicts stand. @returns false when there was nothing to take back */
  absolve(fingerprint: string): boolean {
    if (this.#condemned.get(fingerprint) !== 'unverifiable') return false
    this.#condemned.delete(fingerprint)
    this.#tell()
    return true
  }

  /** @returns false when nothing changed */
  setDistrusted(ca: string, distrusted: boolean): boolean {
    if (this.#distrusted.has(ca) === distrusted) return false
    if (distrusted) this.#distrusted.add(ca)
    else this.#distrusted.delete(ca)
    this.#tell()
    return true
  }

  /** In place of all that stood. */
  restore({ condemned, distrusted }: VerdictsSnapshot): void {
    this.#condemned.clear()
    this.#distrusted.clear()
    for (const [fingerprint, fault] of Object.entries(condemned)) this.#condemned.set(fingerprint, fault)
    for (const ca of distrusted) this.#distrusted.add(ca)
    this.#tell()
  }

  onChange(listener: () => void): void {
    this.#listeners.add(listener)
  }

  /** @param isHeld which fingerprints still matter */
  snapshot(isHeld: (fingerprint: string) => boolean): VerdictsSnapshot {
    const kept = [...this.#condemned].filter(
      ([fingerprint, fault]) => fault === 'compromised' || isHeld(fingerprint),
    )
    return { condemned: Object.fromEntries(kept), distrusted: [...this.#distrusted] }
  }

  #tell(): void {
    for (const listener of this.#listeners) listener()
  }
}
