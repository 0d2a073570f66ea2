/** Asks the forecast about the fleet as it is now. Reads the inventory, the verdicts, the CAs' health and their ledgers. */
import type { CaAccess } from '../ca/authorities.ts'
import { Capacity } from '../ca/capacity.ts'
import type { CaHealth } from '../ca/health.ts'
import type { Inventory } from '../cert/inventory.ts'
import type { Verdicts } from '../cert/verdicts.ts'
import type { Clock } from '../time.ts'
import { describeExposure, type Exposure, forecast, type Supplied } from './forecast.ts'

export interface OutlookOptions {
  readonly clock: Clock
  readonly inventory: Inventory
  readonly verdicts: Verdicts
  readonly health: Pick<CaHealth, 'snapshot'>
  /** Undefined: no such CA. */
  readonly access: (ca: string) => Pick<CaAccess, 'ledger' | 'exemptsRenewals'> | undefined
  /** The hosts that CAs supply, and by which. */
  readonly hosts: () => Iterable<Pick<Supplied, 'host' | 'cas'>>
}

export class Outlook {
  readonly #options: OutlookOptions

  constructor(options: OutlookOptions) {
    this.#options = options
  }

  /** What is lost if this CA never comes back, the first first. In memory; looks at every host. */
  exposures(ca: string): Exposure[] {
    const hasRoom = this.#room()
    return forecast(
      ca,
      this.#supplied(),
      (other, host, by) => this.canIssue(other) && hasRoom(other, host, by),
    )
  }

  /** The same in words; empty when nothing is lost. */
  describe(ca: string): string {
    return describeExposure(this.exposures(ca), this.#options.clock.now())
  }

  *#supplied(): Generator<Supplied> {
    const { hosts, inventory, verdicts } = this.#options
    for (const { host, cas } of hosts()) {
      const { live, standby } = inventory.holding(host)
      const notAfters = [live, standby].flatMap((each) =>
        each === undefined || verdicts.faultOf(each) !== undefined ? [] : [each.notAfter],
      )
      yield { host, cas, notAfters }
    }
  }

  /** Do the rate limits of a CA leave room for an order for the host by then? Each that they do is counted. */
  #room(): (ca: string, host: string, by: number) => boolean {
    const { access, clock, inventory } = this.#options
    const now = clock.now()
    const capacities = new Map<string, Capacity>()
    return (ca, host, by) => {
      const found = access(ca)
      if (found === undefined) return false
      const { exemptsRenewals, ledger } = found
      const { live } = inventory.holding(host)
      const exempt = exemptsRenewals && live?.source === ca && ledger.renewsFor(live.account)
      const latest = Math.max(now, by)
      if (ledger.openAt([host], exempt) > latest) return false
      if (exempt) return true
      const capacity = capacities.get(ca) ?? new Capacity(ledger, now)
      capacities.set(ca, capacity)
      return capacity.plan([host], latest)
    }
  }

  /** Does it take orders, and may it be used? */
  canIssue(ca: string): boolean {
    const { health, verdicts } = this.#options
    return health.snapshot(ca)?.state === 'up' && !verdicts.isDistrusted(ca)
  }
}
