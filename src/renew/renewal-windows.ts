/**
 * When the CAs wish their certificates to be renewed (RFC 9773), asked for seldom and in the background. An answer
 * only ever moves a renewal; without one the lifetime decides.
 */
import type { CaAccess } from '../ca/authorities.ts'
import type { Issuer, RenewalInfo } from '../ca/issuer.ts'
import type { Certificate } from '../cert/certificate.ts'
import { messageOf } from '../errors.ts'
import type { Log } from '../log.ts'
import { type Clock, HOUR } from '../time.ts'

/** How often a CA is asked when it does not say. */
const POLL_INTERVAL_MS = 6 * HOUR
/** After a start the first questions are spread: about five a second. */
const FIRST_POLL_SPACING_MS = 200

export interface RenewalWindowsOptions {
  readonly clock: Clock
  readonly random: () => number
  readonly log: Log
  readonly access: (ca: string) => CaAccess | undefined
}

interface Poll {
  readonly info: RenewalInfo | undefined
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

  /** When its CA is to be asked again, milliseconds since the epoch; infinite where the CA offers no such thing. */
  askAt(certificate: Certificate, fleetSize: number): number {
    if (this.#issuerOf(certificate) === undefined) return Number.POSITIVE_INFINITY
    const known = this.#polls.get(certificate)
    if (known !== undefined) return known.askAt
    const { clock, random } = this.#options
    const askAt = clock.now() + random() * fleetSize * FIRST_POLL_SPACING_MS
    this.#polls.set(certificate, { info: undefined, askAt })
    return askAt
  }

  /** Asks its CA. Never rejects. */
  async ask(certificate: Certificate, signal: AbortSignal): Promise<void> {
    const { clock, log } = this.#options
    this.#polls.set(certificate, { info: this.find(certificate), askAt: clock.now() + POLL_INTERVAL_MS })
    try {
      const info = await this.#issuerOf(certificate)?.renewalInfo?.(certificate, signal)
      const askAt = clock.now() + (info?.pollAgainMs ?? POLL_INTERVAL_MS)
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
