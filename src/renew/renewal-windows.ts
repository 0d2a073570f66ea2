/**
 * When the CAs wish their certificates to be renewed (RFC 9773), asked for seldom and in the background. An answer
 * only ever moves a renewal; without one the lifetime decides.
 */
import type { CaAccess } from '../ca/authorities.ts'
import type { CaHealth } from '../ca/health.ts'
import type { Issuer, RenewalInfo } from '../ca/issuer.ts'
import type { Certificate } from '../cert/certificate.ts'
import { messageOf } from '../errors.ts'
import type { Log } from '../log.ts'
import { type Clock, HOUR } from '../time.ts'

/** How often a CA is asked when it does not say. */
const POLL_INTERVAL_MS = 6 * HOUR
/** After a start, and after an outage, questions are spread: about five a second. */
const POLL_SPACING_MS = 200

export interface RenewalWindowsOptions {
  readonly clock: Clock
  readonly random: () => number
  readonly log: Log
  readonly access: (ca: string) => CaAccess | undefined
  readonly health: Pick<CaHealth, 'silentForMs'>
}

interface Poll {
  readonly info: RenewalInfo | undefined
  /** On the monotonic clock: a wall clock that is set back would put it off by as much. */
  readonly askAt: number
}

export class RenewalWindows {
  readonly #options: RenewalWindowsOptions
  readonly #polls = new WeakMap<Certificate, Poll>()

  constructor(options: RenewalWindowsOptions) {
    this.#options = options
  }

  /** What its CA said last. */
  find(certificate: Certificate): RenewalInfo | undefined {
    return this.#polls.get(certificate)?.info
  }

  /**
   * How long from now its CA is to be asked again; infinite where the CA offers no such thing. One that does not
   * answer probes is left alone; one whose orders fail may still have something to tell.
   */
  askInMs(certificate: Certificate, fleetSize: number): number {
    if (this.#issuerOf(certificate) === undefined) return Number.POSITIVE_INFINITY
    const { clock, health, random } = this.#options
    const now = clock.monotonic()
    const known = this.#polls.get(certificate)
    // Whole: less than a millisecond may be lost in the sum with the time of day, and be asked for again at once.
    if (known !== undefined && known.askAt > now) return Math.ceil(known.askAt - now)
    const silentForMs = health.silentForMs(certificate.source)
    if (known !== undefined && silentForMs === 0) return 0
    const inMs = silentForMs + random() * fleetSize * POLL_SPACING_MS
    this.#polls.set(certificate, { info: known?.info, askAt: now + inMs })
    return inMs
  }

  /** Asks its CA. Never rejects. */
  async ask(certificate: Certificate, signal: AbortSignal): Promise<void> {
    const { clock, log } = this.#options
    const again = clock.monotonic() + POLL_INTERVAL_MS
    this.#polls.set(certificate, { info: this.find(certificate), askAt: again })
    try {
      const info = await this.#issuerOf(certificate)?.renewalInfo?.(certificate, signal)
      const askAt = clock.monotonic() + (info?.pollAgainMs ?? POLL_INTERVAL_MS)
      this.#polls.set(certificate, { info, askAt })
    } catch (error) {
      log.debug({ ca: certificate.source, err: error }, `no renewal information: ${messageOf(error)}`)
    }
  }

  #issuerOf(certificate: Certificate): Issuer | undefined {
    const issuer = this.#options.access(certificate.source)?.issuer
    return issuer?.renewalInfo === undefined ? undefined : issuer
  }
}
