/**
 * The machine's clock, corrected by what the CAs say the time is: a clock that is set a month ahead, or that woke up in
 * the past, must neither make good certificates look expired nor new ones look as if they came from the future.
 *
 * One CA's word is not enough, for its clock may be the one that is wrong: it takes two that agree, or one that agrees
 * with the machine, or with what was attested before. From then on the time is known whatever the machine's clock does,
 * because the monotonic clock goes on.
 *
 * Where only one CA can be heard, its word counts once it has signed for it: a certificate of its own that is good by its
 * clock and not by the machine's, just issued, or held and of the machine's future. Who tells of one (`vouch`) sees to it
 * that nothing which others have given is at stake. The machine, or two other CAs that agree, overrule it as soon as they are heard.
 */
import { type Cancel, type Clock, DAY, MINUTE } from './time.ts'

/** Clocks that are no further apart agree: nothing that Holdfast does hangs on less. */
const TOLERANCE_MS = 10 * MINUTE
/** What was said longer ago counts no more: no CA has been heard since, and a machine may have slept. */
const LONGEST_MEMORY_MS = DAY

/** Of a certificate, milliseconds since the epoch. */
interface Validity {
  readonly notBefore: number
  readonly notAfter: number
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
   * A witness has issued a certificate of these dates. Where it alone has told the time, and nothing is known of it
   * otherwise, it is believed if its certificate is valid by its clock, and not by the machine's.
   */
  vouch(witness: string, { notBefore, notAfter }: Validity): void {
    if (this.isAttested) return
    const [said, ...others] = this.#freshReadings()
    if (said === undefined || said !== this.#readings.get(witness) || others.length > 0) return
    const own = this.#machine.now()
    const theirs = said.epoch + this.#machine.monotonic()
    const isValidByTheirs = theirs > notBefore - TOLERANCE_MS && theirs < notAfter
    if (isValidByTheirs && (own < notBefore || own >= notAfter)) this.#attest(said)
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

function agree(a: Reading, b: Reading): boolean {
  return Math.abs(a.epoch - b.epoch) <= TOLERANCE_MS
}
