/**
 * Passes the verdicts: looks four times a day, when a chain ends, and whenever asked, at what is held: whether its chain
 * still verifies, and whether its CA has revoked it, and keeps what it finds, and what the operator says, over restarts.
 */
import { setImmediate as yieldToOthers } from 'node:timers/promises'
import type { Certificate } from '../cert/certificate.ts'
import type { Inventory } from '../cert/inventory.ts'
import { type Fault, type OwnFault, readVerdicts, type Verdicts } from '../cert/verdicts.ts'
import { messageOf } from '../errors.ts'
import { LatestWrite } from '../latest-write.ts'
import type { Log } from '../log.ts'
import { type Records, SOLE_RECORD } from '../store/records.ts'
import { type Cancel, type Clock, HOUR, MINUTE } from '../time.ts'

export interface JudgeOptions {
  readonly clock: Clock
  readonly log: Log
  readonly records: Pick<Records, 'loadState' | 'saveState'>
  readonly inventory: Inventory
  readonly verdicts: Verdicts
  /** Throws when the chain does not end where it must; returns where that is not known. */
  readonly verify: (certificate: Certificate) => void
  /** Until when `verify` passes, by the dates of the chain. */
  readonly endOf: (certificate: Certificate) => number
  /** Does its CA say that it is revoked? Undefined: it cannot be told. */
  readonly isRevoked: (certificate: Certificate, signal: AbortSignal) => Promise<boolean | undefined>
  /** Something that was served may have to be replaced. */
  readonly onVerdict: (certificate: Certificate, fault: Fault) => void
}

/** CAs publish new revocation lists several times a day. */
const INTERVAL_MS = 6 * HOUR
/** How often ends of chains are looked for, however far the next is. */
const WATCH_INTERVAL_MS = MINUTE

export class Judge {
  readonly #options: JudgeOptions
  readonly #stop = new AbortController()
  #cancelNext: Cancel = () => {}
  #cancelWatch: Cancel = () => {}
  #sitting: Promise<void> | undefined
  /** A CA may recall thousands at once. */
  readonly #kept = new LatestWrite(() => this.#write())

  constructor(options: JudgeOptions) {
    this.#options = options
  }

  /** Reads the verdicts of before; to be done before the first handshake. */
  async load(): Promise<void> {
    const { records, verdicts } = this.#options
    const snapshot = readVerdicts(await records.loadState('verdicts', SOLE_RECORD))
    if (snapshot !== undefined) verdicts.restore(snapshot)
  }

  start(): void {
    this.#cancelNext = this.#options.clock.after(0, () => void this.review())
    this.#cancelWatch = this.#options.clock.after(0, () => void this.#watchEnds())
  }

  async stop(): Promise<void> {
    this.#stop.abort()
    this.#cancelNext()
    this.#cancelWatch()
    await this.#sitting
    await this.#kept.settled()
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
    await this.#kept.request()
    if (distrusted) this.#tellDistrusted([ca])
    return true
  }

  /** The config's word on CAs, in place of what it said before. */
  distrustOnly(cas: ReadonlySet<string>): void {
    this.#tellDistrusted(this.#options.verdicts.setConfigured(cas))
  }

  /** What the CA demands by ARI: that a certificate go before its time, or that no more. */
  async setRecalled(certificate: Certificate, recalled: boolean): Promise<void> {
    const changed = recalled
      ? this.#pass(certificate, 'recalled', 'its CA wants it replaced before its time (ARI)')
      : this.#options.verdicts.absolve(certificate, 'recalled')
    if (changed) await this.#kept.request()
  }

  /** The operator's word on a certificate: somebody else may have its key, so it is never served again; or it is revoked. */
  async condemn(certificate: Certificate, fault: 'compromised' | 'revoked'): Promise<void> {
    if (this.#pass(certificate, fault, 'the operator says so')) await this.#kept.request()
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
    if (changed) await this.#kept.request()
  }

  /** That a chain ends is known beforehand, so it is not left to the next look. The clock may jump, either way. */
  async #watchEnds(): Promise<void> {
    const { clock, endOf, verdicts } = this.#options
    let [changed, againInMs] = [false, WATCH_INTERVAL_MS]
    for (const certificate of this.#held()) {
      const end = endOf(certificate)
      if (end === certificate.notAfter) continue
      const leftMs = end - clock.now()
      if (leftMs > 0) againInMs = Math.min(againInMs, leftMs)
      const fault = verdicts.faultOf(certificate)
      if (leftMs > 0 ? fault !== 'unverifiable' : fault !== undefined) continue
      changed = this.#verify(certificate) || changed
      await yieldToOthers()
      if (this.#stop.signal.aborted) return
    }
    this.#cancelWatch = clock.after(againInMs, () => void this.#watchEnds())
    if (changed) await this.#kept.request()
  }

  #verify(certificate: Certificate): boolean {
    const { clock, verdicts, verify } = this.#options
    // The dates are the planner's business.
    if (!certificate.isValidAt(clock.now())) return false
    try {
      verify(certificate)
      return verdicts.absolve(certificate, 'unverifiable')
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

  #pass(certificate: Certificate, fault: OwnFault, why: string): boolean {
    const { log, onVerdict, verdicts } = this.#options
    const alike = fault === 'compromised' ? this.#othersWithKeyOf(certificate) : []
    if (!verdicts.condemn(certificate, fault)) return false
    for (const each of [certificate, ...alike]) {
      const { names, source, serial } = each
      log.error(
        { names, ca: source, serial, fault },
        `the certificate for ${names[0]} from ${source} is ${fault}: ${why}`,
      )
      onVerdict(each, fault)
    }
    return true
  }

  #tellDistrusted(cas: readonly string[]): void {
    for (const certificate of this.#held())
      if (cas.includes(certificate.source)) this.#options.onVerdict(certificate, 'distrusted')
  }

  #othersWithKeyOf({ fingerprint, keyFingerprint }: Certificate): Certificate[] {
    return this.#held().filter(
      (each) => each.keyFingerprint === keyFingerprint && each.fingerprint !== fingerprint,
    )
  }

  #held(): Certificate[] {
    const { inventory } = this.#options
    return inventory.hosts().flatMap((host) => {
      const { live, standby } = inventory.holding(host)
      return [live, standby].filter((certificate) => certificate !== undefined)
    })
  }

  /** Never rejects. */
  async #write(): Promise<void> {
    const { log, records, verdicts } = this.#options
    const held = new Set(this.#held().map(({ fingerprint }) => fingerprint))
    const snapshot = verdicts.snapshot((fingerprint) => held.has(fingerprint))
    try {
      await records.saveState('verdicts', SOLE_RECORD, snapshot)
    } catch (error) {
      log.warn({ err: error }, `the verdicts on certificates could not be kept: ${messageOf(error)}`)
    }
  }
}
