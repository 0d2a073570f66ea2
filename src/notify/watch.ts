/**
 * Watches what is served: which role's certificate answers for each host, and whether its end comes near. Reads the
 * inventory, where renewals, verdicts and the clock meet; tells events through a callback.
 */
import { type Certificate, wildcardOf } from '../cert/certificate.ts'
import type { Holding, Inventory, Role } from '../cert/inventory.ts'
import type { Verdicts } from '../cert/verdicts.ts'
import type { HoldfastEvent, Served } from '../events.ts'
import { type Cancel, type Clock, DAY, MINUTE } from '../time.ts'

export interface CertificateWatchOptions {
  readonly clock: Clock
  readonly inventory: Inventory
  readonly verdicts: Verdicts
  readonly onEvent: (event: HoldfastEvent) => void
}

const INTERVAL_MS = MINUTE
/** Part of a lifetime that is left when its end is near. */
const LAST_PART = 1 / 10
const REMINDER_MS = DAY

export class CertificateWatch {
  readonly #options: CertificateWatchOptions
  readonly #served = new Map<string, Served>()
  /** When each host's coming end was last told, and of which certificate. */
  readonly #warned = new Map<string, { fingerprint: string; at: number }>()
  #cancelNext: Cancel = () => {}
  #stopListening: () => void = () => {}

  constructor(options: CertificateWatchOptions) {
    this.#options = options
  }

  /** What is served at the start is no switch. */
  start(): void {
    this.#stopListening = this.#options.inventory.onChange(({ host }) => this.#lookAtServed(host))
    this.look()
  }

  stop(): void {
    this.#cancelNext()
    this.#stopListening()
  }

  /** Looks at every host now, and each minute from then on. */
  look(): void {
    this.#cancelNext()
    this.#cancelNext = this.#options.clock.after(INTERVAL_MS, () => this.look())
    for (const host of this.#options.inventory.hosts()) {
      this.#lookAtServed(host)
      this.#lookAtEnd(host)
    }
  }

  /** Looks at every host soon; calls that come at once share one look. */
  lookSoon(): void {
    this.#cancelNext()
    this.#cancelNext = this.#options.clock.after(0, () => this.look())
  }

  #lookAtServed(host: string): void {
    const { inventory, onEvent } = this.#options
    const from = this.#served.get(host)
    if (Object.keys(inventory.holding(host)).length === 0) {
      // The host is gone from the config.
      this.#served.delete(host)
      this.#warned.delete(host)
      return
    }
    const to = servedOf(host, inventory)
    if (to === undefined) this.#served.delete(host)
    else this.#served.set(host, to)
    if (from !== undefined && from.role !== to?.role) {
      onEvent({ type: 'certificate.switched', host, from, to })
    }
  }

  #lookAtEnd(host: string): void {
    const { clock, inventory, onEvent } = this.#options
    const now = clock.now()
    const best = this.#longest(inventory.holding(host))
    if (best === undefined || now < best.notAfter - LAST_PART * (best.notAfter - best.notBefore)) return
    const before = this.#warned.get(host)
    const isTold = before?.fingerprint === best.fingerprint && Math.abs(now - before.at) < REMINDER_MS
    if (isTold) return
    this.#warned.set(host, { fingerprint: best.fingerprint, at: now })
    const notAfter = new Date(best.notAfter).toISOString()
    onEvent({ type: 'certificate.expiring', host, source: best.source, notAfter })
  }

  #longest({ live, standby }: Holding): Certificate | undefined {
    return [live, standby]
      .filter((each) => each !== undefined && this.#options.verdicts.faultOf(each) === undefined)
      .reduce((a, b) => (a !== undefined && b !== undefined && b.notAfter <= a.notAfter ? a : b), undefined)
  }
}

/** A host without a certificate of its own is served its wildcard's. */
function servedOf(host: string, inventory: Inventory): Served | undefined {
  const certificate = inventory.find(host)
  if (certificate === undefined) return undefined
  const { source, fingerprint } = certificate
  const role =
    roleOf(fingerprint, inventory.holding(host)) ??
    roleOf(fingerprint, inventory.holding(wildcardOf(host))) ??
    'live'
  return { role, source, fingerprint, notAfter: new Date(certificate.notAfter).toISOString() }
}

function roleOf(fingerprint: string, holding: Holding): Role | undefined {
  const roles = ['live', 'standby', 'interim'] as const
  return roles.find((role) => holding[role]?.fingerprint === fingerprint)
}
