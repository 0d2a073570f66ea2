/**
 * Passes the verdicts: looks every day, and whenever asked, at each certificate that is held, whether its chain still
 * verifies and whether its CA has revoked it, and keeps what it finds, and what the operator says, over restarts.
 */
import { setImmediate as yieldToOthers } from 'node:timers/promises'
import type { Certificate } from '../cert/certificate.ts'
import type { Inventory } from '../cert/inventory.ts'
import type { Fault, Verdicts, VerdictsSnapshot } from '../cert/verdicts.ts'
import { messageOf } from '../errors.ts'
import type { Log } from '../log.ts'
import type { Records } from '../store/records.ts'
import { type Cancel, type Clock, DAY } from '../time.ts'

export interface JudgeOptions {
  readonly clock: Clock
  readonly log: Log
  readonly records: Pick<Records, 'loadState' | 'saveState'>
  readonly inventory: Inventory
  readonly verdicts: Verdicts
  /** Throws when the chain does not end where the certificate's CA must; returns for certificates that have no CA. */
  readonly verify: (certificate: Certificate) => void
  /** Does its CA say that it is revoked? Undefined: it cannot be told. */
  readonly isRevoked: (certificate: Certificate, signal: AbortSignal) => Promise<boolean | undefined>
  /** Something that was served may have to be replaced. */
  readonly onVerdict: (certificate: Certificate, fault: Fault) => void
}

const INTERVAL_MS = DAY
const RECORD = 'all'

export class Judge {
  readonly #options: JudgeOptions
  readonly #stop = new AbortController()
  #cancelNext: Cancel = () => {}
  #sitting: Promise<void> | undefined

  constructor(options: JudgeOptions) {
    this.#options = options
  }

  /** Reads the verdicts of before; to be done before the first handshake. */
  async load(): Promise<void> {
    const { records, verdicts } = this.#options
    const stored = await records.loadState('verdicts', RECORD)
    if (isSnapshot(stored)) verdicts.restore(stored)
  }

  start(): void {
    this.#cancelNext = this.#options.clock.after(0, () => void this.review())
  }

  async stop(): Promise<void> {
    this.#stop.abort()
    this.#cancelNext()
    await this.#sitting
  }

  /** Looks at everything now. Never rejects; calls that come while it looks share one look. */
  review(): Promise<void> {
    this.#sitting ??= this.#reviewAll().finally(() => {
      this.#sitting = undefined
      this.#cancelNext()
      if (!this.#stop.signal.aborted) {
        this.#cancelNext = this.#options.clock.after(INTERVAL_MS, () => void this.review())
      }
    })
    return this.#sitting
  }

  /** The operator's word on a CA. @returns false when nothing changed */
  async setDistrusted(ca: string, distrusted: boolean): Promise<boolean> {
    const { log, verdicts } = this.#options
    if (!verdicts.setDistrusted(ca, distrusted)) return false
    log.warn({ ca }, distrusted ? `${ca} is distrusted from now on` : `${ca} is trusted again`)
    await this.#save()
    if (distrusted)
      for (const certificate of this.#held())
        if (certificate.source === ca) this.#options.onVerdict(certificate, 'distrusted')
    return true
  }

  /** The operator's word on a certificate: somebody else may have its key, so it is never served again; or it is revoked. */
  async condemn(certificate: Certificate, fault: 'compromised' | 'revoked'): Promise<void> {
    if (this.#pass(certificate, fault, 'the operator says so')) await this.#save()
  }

  async #reviewAll(): Promise<void> {
    let changed = false
    for (const certificate of this.#held()) {
      if (this.#stop.signal.aborted) return
      changed = this.#verify(certificate) || changed
      changed = (await this.#askRevocation(certificate)) || changed
      // Thousands of certificates may be judged without any I/O: let requests in between.
      await yieldToOthers()
    }
    if (changed) await this.#save()
  }

  #verify(certificate: Certificate): boolean {
    const { clock, verdicts, verify } = this.#options
    // The dates are the planner's business.
    if (!certificate.isValidAt(clock.now())) return false
    try {
      verify(certificate)
      return verdicts.absolve(certificate.fingerprint)
    } catch (error) {
      return this.#pass(certificate, 'unverifiable', messageOf(error))
    }
  }

  async #askRevocation(certificate: Certificate): Promise<boolean> {
    const { isRevoked, log } = this.#options
    try {
      const revoked = await isRevoked(certificate, this.#stop.signal)
      return revoked === true && this.#pass(certificate, 'revoked', 'its CA has revoked it')
    } catch (error) {
      log.debug({ ca: certificate.source, err: error }, `revocation cannot be told: ${messageOf(error)}`)
      return false
    }
  }

  #pass(certificate: Certificate, fault: Exclude<Fault, 'distrusted'>, why: string): boolean {
    const { log, onVerdict, verdicts } = this.#options
    if (!verdicts.condemn(certificate.fingerprint, fault)) return false
    const { names, source, serial } = certificate
    log.error(
      { names, ca: source, serial, fault },
      `the certificate for ${names[0]} from ${source} is ${fault}: ${why}`,
    )
    onVerdict(certificate, fault)
    return true
  }

  #held(): Certificate[] {
    const { inventory } = this.#options
    return inventory.hosts().flatMap((host) => {
      const { live, standby } = inventory.holding(host)
      return [live, standby].filter((certificate) => certificate !== undefined)
    })
  }

  async #save(): Promise<void> {
    const { log, records, verdicts } = this.#options
    const held = new Set(this.#held().map(({ fingerprint }) => fingerprint))
    try {
      await records.saveState(
        'verdicts',
        RECORD,
        verdicts.snapshot((fingerprint) => held.has(fingerprint)),
      )
    } catch (error) {
      log.warn({ err: error }, `the verdicts on certificates could not be kept: ${messageOf(error)}`)
    }
  }
}

function isSnapshot(value: unknown): value is VerdictsSnapshot {
  if (typeof value !== 'object' || value === null) return false
  const { condemned, distrusted } = value as Partial<VerdictsSnapshot>
  return typeof condemned === 'object' && condemned !== null && Array.isArray(distrusted)
}
