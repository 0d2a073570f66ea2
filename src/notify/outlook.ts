/** Asks the forecast about the fleet as it is now. Reads the inventory, the verdicts and the CAs' health. */
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
    return forecast(ca, this.#supplied(), (other) => this.canIssue(other))
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

  /** Does it take orders, and may it be used? */
  canIssue(ca: string): boolean {
    const { health, verdicts } = this.#options
    return health.snapshot(ca)?.state === 'up' && !verdicts.isDistrusted(ca)
  }
}
