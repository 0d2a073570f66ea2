/**
 * How many requests may be sent a second time: a share of those sent a first time, so that an outage is never made
 * worse by trying again. One for each route.
 */

/** Of the requests. */
const SHARE = 0.2
/** What a quiet route may spend at once, and what a busy one may save up. */
const AT_FIRST = 10
const AT_MOST = 100

export class RetryBudget {
  #tokens = AT_FIRST

  /** A request is sent a first time. */
  earn(): void {
    this.#tokens = Math.min(AT_MOST, this.#tokens + SHARE)
  }

  /** May one be sent again now? */
  get allows(): boolean {
    return this.#tokens >= 1
  }

  /** One is sent again. */
  spend(): void {
    this.#tokens--
  }
}
