/**
 * How often a host may have been ordered for over all lives of a program that is killed time and again: once for each
 * certificate that was wanted and has come, and once more for each kill that met an order in flight, which is lost.
 */
export class Demand {
  /** Certificates that were wanted and have come into the store, however many lives it took. */
  met = 0
  /** Kills that came after an order for what was wanted, and before its certificate was in the store. */
  lost = 0
  #isWanted = false
  #orders = 0

  /** The host lacks a certificate, or somebody asked for another: the same as before where that has not come yet. */
  want(): void {
    this.#isWanted = true
  }

  /**
   * A life has ended.
   * @param orders placed for the host over all lives
   * @param isNew does the store hold another certificate than at the start of this life?
   */
  ended(orders: number, isNew: boolean): void {
    if (this.#isWanted && isNew) this.met++
    else if (this.#isWanted && orders > this.#orders) this.lost++
    if (isNew) this.#isWanted = false
    this.#orders = orders
  }

  /** At the end of a life, when no order is under way. */
  get mostOrders(): number {
    return this.met + this.lost
  }
}
