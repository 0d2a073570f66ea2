/**
 * Every CA of the config, ready to be asked: its issuer, its breaker and its rate-limit ledger, kept over restarts and
 * reloads. Receives the CAs from `server.ts`; `renew/` asks here.
 */
import { randomBytes } from 'node:crypto'
import { isDeepStrictEqual } from 'node:util'
import type { Ca } from '../config/cas.ts'
import { messageOf } from '../errors.ts'
import type { Log } from '../log.ts'
import type { Records } from '../store/records.ts'
import { type Cancel, type Clock, DAY, SECOND } from '../time.ts'
import { CaHealth, type CaSnapshot, type CaState, type HealthOptions, type HealthRecord } from './health.ts'
import type { Issuer } from './issuer.ts'
import { Ledger, type LedgerSnapshot } from './ledger.ts'
import { limitsOf } from './limits.ts'

/** One CA, to order from. */
export interface CaAccess {
  readonly issuer: Issuer
  readonly ledger: Ledger
  /** Does the CA keep ARI renewals out of its rate limits? */
  readonly exemptsRenewals: boolean
}

export interface AuthoritiesOptions {
  readonly clock: Clock
  readonly random: () => number
  readonly log: Log
  readonly records: Pick<Records, 'loadState' | 'loadStates' | 'saveState' | 'removeState'>
  /** Chooses the adapter. May read files. */
  readonly createIssuer: (ca: Ca) => Issuer
  /** Called at every change of a CA's state; must not throw. */
  readonly onChange: (snapshot: CaSnapshot, previous: CaState) => void
  readonly onProbeFailed?: HealthOptions['onProbeFailed']
}

/** So old that it is past counting whatever the limits are, and however wrong our clock. */
const FORGOTTEN_AFTER_MS = 180 * DAY
/** Ledgers change with every order: what has happened within so long is written at once. */
const SAVE_DELAY_MS = SECOND

export class Authorities {
  readonly health: CaHealth
  readonly #options: AuthoritiesOptions
  readonly #accesses = new Map<string, CaAccess>()
  /** The CAs that a stand-in takes the place of. */
  readonly #rehearsed = new Map<string, CaAccess>()
  /** What each issuer was made from, to tell at a reload which has changed, and which is elsewhere. */
  readonly #made = new Map<string, Ca>()
  readonly #cancelSaves = new Map<string, Cancel>()
  /** Writes under way: a stop waits for them. */
  readonly #saving = new Set<Promise<void>>()
  /** Tells our ledgers in the store from those of other processes that share it, and of those before this one. */
  readonly #instance = randomBytes(6).toString('hex')
  #started = false

  constructor(options: AuthoritiesOptions) {
    this.#options = options
    const { clock, random, log, onChange, onProbeFailed } = options
    const persist = (id: string, record: HealthRecord): void =>
      this.#track(this.#save('health', id, id, record))
    this.health = new CaHealth({
      clock,
      random,
      log,
      onChange,
      persist,
      ...(onProbeFailed === undefined ? {} : { onProbeFailed }),
    })
  }

  access(id: string): CaAccess | undefined {
    return this.#accesses.get(id)
  }

  /** Makes what is new or changed, and forgets what is gone. Throws what `createIssuer` throws, and changes nothing then. */
  async update(cas: ReadonlyMap<string, Ca>): Promise<void> {
    const changed = [...cas.values()].filter((ca) => !isMadeAlike(this.#made.get(ca.name), ca))
    const issuers = changed.map((ca) => [ca, this.#options.createIssuer(ca)] as const)
    for (const id of this.#accesses.keys()) if (!cas.has(id)) this.#forget(id)
    for (const [ca, issuer] of issuers) await this.#install(ca, issuer)
    this.health.arrange([...cas.keys()])
  }

  /**
   * Puts another issuer in a CA's place until it is called off. What comes of it goes to a breaker and a ledger that
   * begin as copies and are never kept, so that the CA's own know nothing of it, here and in the store.
   * @returns how to call it off; it does nothing to a CA that was made anew, or has gone, since
   */
  rehearse(id: string, standInFor: (issuer: Issuer) => Issuer): () => void {
    const own = this.#accesses.get(id)
    if (own === undefined) throw new Error(`no CA ${id} to rehearse with`)
    const issuer = standInFor(own.issuer)
    const standIn = { ...own, issuer, ledger: own.ledger.copy() }
    const endOfHealth = this.health.rehearse(issuer)
    this.#rehearsed.set(id, own)
    this.#accesses.set(id, standIn)
    return () => {
      if (this.#accesses.get(id) === standIn) this.#accesses.set(id, own)
      if (this.#rehearsed.get(id) === own) this.#rehearsed.delete(id)
      endOfHealth()
    }
  }

  /** Does another issuer stand in for it at present? */
  isRehearsed(id: string): boolean {
    return this.#rehearsed.has(id)
  }

  /** Starts watching the CAs' health. */
  start(): void {
    this.#started = true
    this.health.start()
  }

  async stop(): Promise<void> {
    this.health.stop()
    for (const cancel of this.#cancelSaves.values()) cancel()
    // Also those that were written since they changed: the clock may have been set right meanwhile.
    for (const id of this.#accesses.keys())
      if (this.#cancelSaves.has(id) || !this.#ownAccess(id)?.ledger.isEmpty) await this.#saveLedger(id)
    await Promise.all(this.#saving)
  }

  async #install(ca: Ca, issuer: Issuer): Promise<void> {
    const { clock } = this.#options
    const { limits, exemptsRenewals } = limitsOf(ca)
    const others = await this.#loadOthers(ca)
    const record = readHealth(await this.#loadHealth(ca))
    // Last, for orders go on being counted meanwhile.
    const stays = placeOf(this.#made.get(ca.name)) === placeOf(ca)
    const counted = stays ? this.#ownAccess(ca.name)?.ledger.snapshot() : undefined
    const ledger = new Ledger(limits, clock, counted, () => this.#saveSoon(ca.name))
    ledger.learn(others)
    this.#forget(ca.name)
    this.#accesses.set(ca.name, { issuer, ledger, exemptsRenewals })
    this.#made.set(ca.name, ca)
    this.health.add(issuer, record, ca.type === 'acme' ? ca.probeIntervalMs : undefined)
    if (this.#started) this.health.start()
  }

  #ownAccess(id: string): CaAccess | undefined {
    return this.#rehearsed.get(id) ?? this.#accesses.get(id)
  }

  #forget(id: string): void {
    this.health.remove(id)
    this.#rehearsed.delete(id)
    this.#accesses.delete(id)
    this.#made.delete(id)
  }

  #saveSoon(id: string): void {
    if (this.#cancelSaves.has(id)) return
    const save = (): void => this.#track(this.#saveLedger(id))
    this.#cancelSaves.set(id, this.#options.clock.after(SAVE_DELAY_MS, save))
  }

  /** For work that never rejects. */
  #track(work: Promise<void>): void {
    this.#saving.add(work)
    work.then(() => this.#saving.delete(work))
  }

  /** And hears what others have done meanwhile: those that order at once tell each other once a second. */
  async #saveLedger(id: string): Promise<void> {
    this.#cancelSaves.delete(id)
    const [ledger, ca] = [this.#ownAccess(id)?.ledger, this.#made.get(id)]
    if (ledger === undefined || ca === undefined) return
    await this.#save('ledgers', id, `${id}.${this.#instance}`, ledger.snapshot())
    try {
      ledger.learn(await this.#loadOthers(ca))
    } catch (error) {
      const message = `what others have ordered of ${id} could not be read: ${messageOf(error)}`
      this.#options.log.warn({ ca: id, err: error }, message)
    }
  }

  /** What others have told of the CA. What is long past is removed, for processes come and go. */
  async #loadOthers(ca: Ca): Promise<LedgerSnapshot[]> {
    const { clock, records } = this.#options
    const others: LedgerSnapshot[] = []
    for (const [key, stored] of await records.loadStates('ledgers')) {
      const [id, instance] = key.split('.')
      const told = readLedger(stored)
      if (id !== ca.name || instance === this.#instance || told === undefined) continue
      if (isPast(told, clock.now())) await records.removeState('ledgers', key)
      else if (isOfPlace(stored, ca)) others.push(told)
    }
    return others
  }

  async #loadHealth(ca: Ca): Promise<unknown> {
    const stored = await this.#options.records.loadState('health', ca.name)
    return isOfPlace(stored, ca) ? stored : undefined
  }

  async #save(kind: 'health' | 'ledgers', id: string, key: string, value: object): Promise<void> {
    try {
      await this.#options.records.saveState(kind, key, { ...value, place: placeOf(this.#made.get(id)) })
    } catch (error) {
      this.#options.log.warn(
        { ca: id, err: error },
        `the ${kind} of ${id} could not be kept: ${messageOf(error)}`,
      )
    }
  }
}

/** Where it is: what is known of a CA elsewhere under its name is of no use. Undefined: it is not known. */
function placeOf(ca: Ca | undefined): string | undefined {
  return ca?.type === 'internal' ? '' : ca?.directory
}

function isPast({ events, refusals }: LedgerSnapshot, now: number): boolean {
  const times = [...Object.values(events).flat(), ...refusals.map(({ at, forMs }) => at + forMs)]
  return times.every((at) => at < now - FORGOTTEN_AFTER_MS)
}

/** Is it told of the CA at the place where it is now? */
function isOfPlace(stored: unknown, ca: Ca): boolean {
  if (typeof stored !== 'object' || stored === null) return false
  return !('place' in stored) || stored.place === placeOf(ca)
}

/** An issuer does not care whether it is trusted. */
function isMadeAlike(made: Ca | undefined, ca: Ca): boolean {
  return made !== undefined && isDeepStrictEqual({ ...made, distrusted: ca.distrusted }, ca)
}

/** A stored record; one that is not of our making counts as absent. */
function readHealth(value: unknown): HealthRecord | undefined {
  if (typeof value !== 'object' || value === null) return undefined
  const record = value as Partial<HealthRecord>
  const numbers = [record.pauses, record.pausedAt, record.pauseMs]
  return numbers.every((each) => typeof each === 'number') ? (record as HealthRecord) : undefined
}

/** What of a stored ledger is one. */
function readLedger(value: unknown): LedgerSnapshot | undefined {
  if (typeof value !== 'object' || value === null) return undefined
  const { account, events, refusals } = value as Partial<Record<keyof LedgerSnapshot, unknown>>
  if (typeof events !== 'object' || events === null || !Array.isArray(refusals)) return undefined
  const times = Object.entries(events).map(([key, each]) => [
    key,
    Array.isArray(each) ? each.filter(Number.isFinite) : [],
  ])
  return {
    events: Object.fromEntries(times),
    refusals: refusals.filter(isRefusal),
    ...(typeof account === 'string' ? { account } : {}),
  }
}

function isRefusal(value: unknown): value is LedgerSnapshot['refusals'][number] {
  if (typeof value !== 'object' || value === null) return false
  const { domain, at, forMs } = value as Record<string, unknown>
  return typeof domain === 'string' && Number.isFinite(at) && Number.isFinite(forMs)
}
