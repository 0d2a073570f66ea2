/**
 * Which certificates must not be relied upon any more, whatever their dates say. The inventory serves others instead,
 * and the planner replaces them. In memory; `renew/judge.ts` passes the verdicts and keeps them.
 */
import type { Certificate } from './certificate.ts'

/**
 * `compromised`: somebody else may have the key, so no certificate with it is ever served again. `revoked`: its CA says so. `unverifiable`:
 * its chain no longer ends where it must. `recalled`: its CA wants it gone before its time (ARI), as before it revokes.
 * `distrusted`: the operator does not trust its CA.
 */
export type Fault = OwnFault | 'distrusted'

/** Of one certificate, not of all that its CA issued. */
export type OwnFault = 'compromised' | 'revoked' | 'unverifiable' | 'recalled'

/** A graver one is never forgotten for a lighter one. */
const GRAVITY: Readonly<Record<Exclude<OwnFault, 'compromised'>, number>> = {
  recalled: 0,
  unverifiable: 1,
  revoked: 2,
}

/** What survives a restart, and what workers are told. */
export interface VerdictsSnapshot {
  /** By fingerprint of the certificate, or of the key where that is compromised. */
  readonly condemned: Readonly<Record<string, OwnFault>>
  /** By `certs distrust`. */
  readonly distrusted: readonly string[]
  /** By the config. */
  readonly configured?: readonly string[]
}

/** What a verdict on a certificate goes by. */
export type Judged = Pick<Certificate, 'fingerprint' | 'keyFingerprint'>

export class Verdicts {
  readonly #condemned = new Map<string, Exclude<OwnFault, 'compromised'>>()
  /** Fingerprints of keys; those of certificates from stores that were written before keys were condemned. */
  readonly #compromised = new Set<string>()
  readonly #distrusted = new Set<string>()
  #configured: ReadonlySet<string> = new Set()
  readonly #listeners = new Set<() => void>()

  /** Synchronous; on the path of a handshake. */
  faultOf(certificate: Certificate): Fault | undefined {
    return this.#ownFaultOf(certificate) ?? (this.isDistrusted(certificate.source) ? 'distrusted' : undefined)
  }

  isDistrusted(ca: string): boolean {
    return this.#distrusted.has(ca) || this.#configured.has(ca)
  }

  /** @returns false when the same verdict stood already, or a graver one: compromise is for ever */
  condemn(certificate: Judged, fault: OwnFault): boolean {
    const before = this.#ownFaultOf(certificate)
    if (before === 'compromised') return false
    if (fault === 'compromised') this.#compromised.add(certificate.keyFingerprint)
    else if (before === undefined || GRAVITY[before] < GRAVITY[fault])
      this.#condemned.set(certificate.fingerprint, fault)
    else return false
    this.#tell()
    return true
  }

  /** Takes that verdict back; others stand. @returns false when there was nothing to take back */
  absolve({ fingerprint }: Judged, fault: 'unverifiable' | 'recalled'): boolean {
    if (this.#condemned.get(fingerprint) !== fault) return false
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

  /** The CAs that the config distrusts, in place of those of before. @returns those that it has come to distrust */
  setConfigured(cas: ReadonlySet<string>): string[] {
    const added = [...cas].filter((ca) => !this.isDistrusted(ca))
    this.#configured = cas
    this.#tell()
    return added
  }

  /** In place of all that stood. */
  restore({ condemned, distrusted, configured = [] }: VerdictsSnapshot): void {
    this.#condemned.clear()
    this.#compromised.clear()
    this.#distrusted.clear()
    for (const [fingerprint, fault] of Object.entries(condemned)) {
      if (fault === 'compromised') this.#compromised.add(fingerprint)
      else this.#condemned.set(fingerprint, fault)
    }
    for (const ca of distrusted) this.#distrusted.add(ca)
    this.#configured = new Set(configured)
    this.#tell()
  }

  onChange(listener: () => void): void {
    this.#listeners.add(listener)
  }

  /** @param isHeld which certificates' fingerprints still matter; compromise is never forgotten */
  snapshot(isHeld: (fingerprint: string) => boolean): VerdictsSnapshot {
    const kept: [string, OwnFault][] = [...this.#condemned].filter(([fingerprint]) => isHeld(fingerprint))
    for (const key of this.#compromised) kept.push([key, 'compromised'])
    return {
      condemned: Object.fromEntries(kept),
      distrusted: [...this.#distrusted],
      configured: [...this.#configured],
    }
  }

  #ownFaultOf(certificate: Judged): OwnFault | undefined {
    const { fingerprint } = certificate
    const compromised = this.#compromised
    if (compromised.size > 0 && (compromised.has(certificate.keyFingerprint) || compromised.has(fingerprint)))
      return 'compromised'
    return this.#condemned.size === 0 ? undefined : this.#condemned.get(fingerprint)
  }

  #tell(): void {
    for (const listener of this.#listeners) listener()
  }
}

/** A stored record; one that is not of our making counts as absent. */
export function readVerdicts(value: unknown): VerdictsSnapshot | undefined {
  if (typeof value !== 'object' || value === null) return undefined
  const { condemned, distrusted } = value as Partial<VerdictsSnapshot>
  const isOurs = typeof condemned === 'object' && condemned !== null && Array.isArray(distrusted)
  return isOurs ? (value as VerdictsSnapshot) : undefined
}
