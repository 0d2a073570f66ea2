/**
 * The machine's clock, corrected by what the CAs say the time is: a clock that is set a month ahead, or that woke up in
 * the past, must neither make good certificates look expired nor new ones look as if they came from the future.
 *
 * One CA's word is not enough, for its clock may be the one that is wrong: it takes two that agree, or one that agrees
 * with the machine, or with what was attested before. From then on the time is known whatever the machine's clock does,
 * because the monotonic clock goes on.
 *
 * Where only one CA can be heard, its word counts once it has signed for it (`vouch`): by a certificate that was just
 * issued, by its clock and not by the machine's, or by one that is held and of the machine's future. Who tells of one sees
 * to it that nothing which others have issued is at stake. The machine and another CA, or two others, that agree overrule it.
 */
import { type Cancel, type Clock, DAY, MINUTE } from './time.ts'

/** Clocks that are no further apart agree: nothing that Holdfast does hangs on less. */
const TOLERANCE_MS = 10 * MINUTE
/** What was said longer ago counts no more: no CA has been heard since, and a machine may have slept. */
const LONGEST_MEMORY_MS = DAY

/** Milliseconds since the epoch. */
export interface Span {
  readonly from: number
  readonly until: number
}

/** Somebody's clock: what it shows when the monotonic clock is at 0. */
interface Reading {
  readonly epoch: number
  /** On the monotonic clock; of the latest who said so. */
  readonly heardAt: number
}

export class AttestedClock implements Clock {
  readonly #machine: Clock
  /** By witness. */
  readonly #readings = new Map<string, Reading>()
  #attested: Reading | undefined
  readonly #listeners = new Set<() => void>()

  constructor(machine: Clock) {
    this.#machine = machine
  }

  now(): number {
    return this.#right(this.#machine.now())
  }

  monotonic(): number {
    return this.#machine.monotonic()
  }

  after(delayMs: number, task: () => void): Cancel {
    return this.#machine.after(delayMs, task)
  }

  /** How far the machine's clock is ahead of the right time, in milliseconds; 0 while no more is wrong than matters. */
  get errorMs(): number {
    const own = this.#machine.now()
    return own - this.#right(own)
  }

  /** Has anybody's word proved what time it is, within the last day? */
  get isAttested(): boolean {
    return this.#attested !== undefined && this.#isFresh(this.#attested)
  }

  /**
   * Somebody has told the time.
   *
   * @param witness who has a clock of his own
   * @param time what it shows, milliseconds since the epoch
   */
  hear(witness: string, time: number): void {
    const said = this.#reading(time)
    this.#readings.set(witness, said)
    const own = this.#reading(this.#machine.now())
    const fresh = this.#freshReadings()
    if (fresh.some((each) => agree(each, own))) {
      this.#attest(own)
      return
    }
    const known = this.#attested
    if (known !== undefined && this.#isFresh(known) && agree(known, said)) {
      // It confirms what is known, and does not move it: by small steps one CA could lead us anywhere.
      this.#attest({ ...known, heardAt: said.heardAt })
      return
    }
    if (fresh.some((each) => each !== said && agree(each, said))) this.#attest(said)
  }

  /**
   * By a certificate of its own a witness has signed that the time is in this span. Where it alone has told the time, and
   * nothing is known of it otherwise, it is believed if its clock is in the span, and the machine's is not.
   */
  vouch(witness: string, span: Span): void {
    if (this.isAttested) return
    const [said, ...others] = this.#freshReadings()
    if (said === undefined || said !== this.#readings.get(witness) || others.length > 0) return
    const { from, until } = span
    const tolerant = { from: from - TOLERANCE_MS, until }
    const isWithinTheirs = isWithin(tolerant, said.epoch + this.#machine.monotonic())
    if (isWithinTheirs && !isWithin(span, this.#machine.now())) this.#attest(said)
  }

  /** The right time, as another process of this machine knows it. */
  adopt(time: number): void {
    this.#attest(this.#reading(time))
  }

  /** Called whenever it is known anew that `now` is right. */
  onAttested(listener: () => void): void {
    this.#listeners.add(listener)
  }

  /** @param own what the machine's clock shows now */
  #right(own: number): number {
    const attested = this.#attested
    if (attested === undefined) return own
    if (!this.#isFresh(attested)) return own
    const right = attested.epoch + this.#machine.monotonic()
    return Math.abs(own - right) <= TOLERANCE_MS ? own : right
  }

  #freshReadings(): Reading[] {
    return [...this.#readings.values()].filter((each) => this.#isFresh(each))
  }

  #isFresh({ heardAt }: Reading): boolean {
    return this.#machine.monotonic() - heardAt <= LONGEST_MEMORY_MS
  }

  #reading(time: number): Reading {
    const heardAt = this.#machine.monotonic()
    return { epoch: time - heardAt, heardAt }
  }

  #attest(reading: Reading): void {
    this.#attested = reading
    for (const listener of this.#listeners) listener()
  }
}

export function isWithin({ from, until }: Span, time: number): boolean {
  return time >= from && time < until
}

function agree(a: Reading, b: Reading): boolean {
  return Math.abs(a.epoch - b.epoch) <= TOLERANCE_MS
}
