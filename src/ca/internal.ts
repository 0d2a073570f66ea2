/**
 * The internal CA: signs with a root that it makes once and keeps in the store, through an intermediate that it renews
 * by itself. For names that no public CA serves, and for the time until one has. Hides the authority and its care;
 * receives orders from `renew/` like any other CA.
 */
import { randomBytes, X509Certificate } from 'node:crypto'
import { Certificate, formatMoment } from '../cert/certificate.ts'
import { generateKeyPem } from '../cert/x509.ts'
import { IssueError, messageOf, type Retry } from '../errors.ts'
import type { Log } from '../log.ts'
import type { Authority, Records } from '../store/records.ts'
import { type Clock, DAY, HOUR, MINUTE, withDeadline } from '../time.ts'
import type { IssueRequest, Issuer } from './issuer.ts'

export interface InternalIssuerOptions {
  /** The CA's name in the config. */
  readonly id: string
  readonly records: Pick<Records, 'loadAuthority' | 'saveAuthority' | 'lock'>
  readonly clock: Clock
  /** Of the leaves. */
  readonly lifetimeMs: number
  readonly log: Log
}

const ROOT_LIFETIME_MS = 3650 * DAY
const INTERMEDIATE_LIFETIME_MS = 365 * DAY
/** A new intermediate is made when the one in use has less left than this. */
const INTERMEDIATE_LEAST_MS = INTERMEDIATE_LIFETIME_MS / 3
/** Made under a clock that ran ahead, a CA is not good for anything until then: so much is forgiven. */
const AUTHORITY_BACKDATE_MS = 60 * DAY
/** Clients' clocks differ from ours. */
const LEAF_BACKDATE_MS = HOUR
/** Signing takes milliseconds, an RSA key seconds; the rest is the store, and a crashed peer's lease of 30 s. */
const LONGEST_ISSUE_MS = MINUTE

/** An authority as it stands in the store, with what decides on its use. */
interface Parsed extends Authority {
  readonly root: X509Certificate
  readonly intermediate: X509Certificate
}

/** Processes that share a store share one root: whoever comes first makes it, under the store's lock. */
export class InternalIssuer implements Issuer {
  readonly id: string
  readonly datesByOurClock = true
  readonly #records: InternalIssuerOptions['records']
  readonly #clock: Clock
  readonly #lifetimeMs: number
  readonly #log: Log
  #current: Parsed | undefined
  #refreshing: Promise<Parsed> | undefined

  constructor(options: InternalIssuerOptions) {
    this.id = options.id
    this.#records = options.records
    this.#clock = options.clock
    this.#lifetimeMs = options.lifetimeMs
    this.#log = options.log
  }

  /** For any name: no proof of control is asked for. */
  issue(request: IssueRequest, signal: AbortSignal): Promise<Certificate> {
    return this.#attempt(`issuing for ${request.names.join(', ')}`, signal, async () => {
      const { intermediatePem, intermediateKeyPem, intermediate } = await this.#authority()
      const { keyType, keyPem = await generateKeyPem(keyType) } = request
      const now = this.#clock.now()
      const { createLeaf } = await import('../cert/signing.ts')
      const leafPem = await createLeaf({
        names: request.names,
        keyPem,
        notBefore: now - LEAF_BACKDATE_MS,
        notAfter: Math.min(now + this.#lifetimeMs, Date.parse(intermediate.validTo)),
        issuer: { certificatePem: intermediatePem, keyPem: intermediateKeyPem },
      })
      return new Certificate(leafPem + intermediatePem, keyPem, this.id, `certificate from ${this.id}`)
    })
  }

  /** Makes the root where there is none. */
  async probe(signal: AbortSignal): Promise<void> {
    await this.#attempt('looking for its root', signal, () => this.#authority())
  }

  /** What clients must trust. Makes it where there is none. Rejects with an `IssueError`. */
  async rootPem(): Promise<string> {
    const { rootPem } = await this.#attempt('looking for its root', undefined, () => this.#authority())
    return rootPem
  }

  async #attempt<T>(what: string, signal: AbortSignal | undefined, work: () => Promise<T>): Promise<T> {
    const doing = `${this.id}: ${what}`
    try {
      signal?.throwIfAborted()
      return await withDeadline(this.#clock, LONGEST_ISSUE_MS, doing, signal, work)
    } catch (cause) {
      if (cause instanceof IssueError) throw cause
      throw failure(`${doing} failed: ${messageOf(cause)}`, 'later', cause)
    }
  }

  /** From memory. A renewal goes on beside it as long as the intermediate of before is good. */
  async #authority(): Promise<Parsed> {
    const current = this.#current
    if (current === undefined || !this.#isUsable(current)) return this.#refresh()
    if (this.#isDue(current) && this.#refreshing === undefined) {
      this.#refresh().catch((err: unknown) => {
        this.#log.warn(
          { ca: this.id, err },
          'the intermediate of the internal CA could not be renewed; the old one goes on',
        )
      })
    }
    return current
  }

  /** One for all who ask at the time, which no caller's signal ends for the others. */
  #refresh(): Promise<Parsed> {
    const doing = `${this.id}: loading its root`
    this.#refreshing ??= withDeadline(this.#clock, LONGEST_ISSUE_MS, doing, undefined, (signal) =>
      this.#loadOrMake(signal),
    ).finally(() => {
      this.#refreshing = undefined
    })
    return this.#refreshing
  }

  async #loadOrMake(signal: AbortSignal): Promise<Parsed> {
    const found = await this.#load()
    if (found !== undefined && !this.#isDue(found)) return found
    const lease = await this.#records.lock(`authorities/${this.id}`, signal)
    try {
      // Another process may have been faster.
      const existing = await this.#load()
      if (existing !== undefined && !this.#isDue(existing)) return existing
      const made = await this.#make(existing)
      AbortSignal.any([signal, lease.lost]).throwIfAborted()
      await this.#records.saveAuthority(this.id, made)
      this.#current = parse(made)
      const what = existing === undefined ? 'root made' : 'intermediate renewed'
      this.#log.info({ ca: this.id, root: this.#current.root.fingerprint256 }, `internal CA: ${what}`)
      return this.#current
    } finally {
      await lease.release()
    }
  }

  async #load(): Promise<Parsed | undefined> {
    const stored = await this.#records.loadAuthority(this.id)
    if (stored === undefined) return undefined
    this.#current = parse(stored)
    this.#assertRootValid(this.#current.root)
    return this.#current
  }

  /** A new intermediate, below a new root where there is none. */
  async #make(existing: Parsed | undefined): Promise<Authority> {
    const now = this.#clock.now()
    const notBefore = now - AUTHORITY_BACKDATE_MS
    const { rootPem, rootKeyPem } = existing ?? (await this.#makeRoot(now))
    const rootEnds = Date.parse(new X509Certificate(rootPem).validTo)
    const intermediateKeyPem = await generateKeyPem('ecdsa-p256')
    const { createAuthority } = await import('../cert/signing.ts')
    const intermediatePem = await createAuthority({
      commonName: this.#commonName('intermediate'),
      keyPem: intermediateKeyPem,
      notBefore,
      notAfter: Math.min(now + INTERMEDIATE_LIFETIME_MS, rootEnds),
      pathLength: 0,
      issuer: { certificatePem: rootPem, keyPem: rootKeyPem },
    })
    return { rootPem, rootKeyPem, intermediatePem, intermediateKeyPem }
  }

  async #makeRoot(now: number): Promise<Pick<Authority, 'rootPem' | 'rootKeyPem'>> {
    const rootKeyPem = await generateKeyPem('ecdsa-p256')
    const { createAuthority } = await import('../cert/signing.ts')
    const rootPem = await createAuthority({
      commonName: this.#commonName('root'),
      keyPem: rootKeyPem,
      notBefore: now - AUTHORITY_BACKDATE_MS,
      notAfter: now + ROOT_LIFETIME_MS,
      pathLength: 1,
    })
    return { rootPem, rootKeyPem }
  }

  /** No two alike: clients that meet one name with two keys refuse both. */
  #commonName(role: string): string {
    return `Holdfast ${this.id.slice(0, 32)} ${role} ${randomBytes(4).toString('hex')}`
  }

  #isUsable({ root, intermediate }: Parsed): boolean {
    const now = this.#clock.now()
    return [root, intermediate].every(
      ({ validFrom, validTo }) => now >= Date.parse(validFrom) && now < Date.parse(validTo),
    )
  }

  #isDue(authority: Parsed): boolean {
    if (!this.#isUsable(authority)) return true
    const ends = Date.parse(authority.intermediate.validTo)
    // In the root's last year a new one would end no later.
    return ends - this.#clock.now() < INTERMEDIATE_LEAST_MS && Date.parse(authority.root.validTo) - ends > DAY
  }

  /** A root is never replaced without being asked: every client would have to trust the new one. */
  #assertRootValid(root: X509Certificate): void {
    const now = this.#clock.now()
    const [from, to] = [root.validFrom, root.validTo].map((text) => Date.parse(text)) as [number, number]
    if (now < from) {
      const message = `${this.id}: its root is not valid before ${formatMoment(from)}: is the clock right?`
      throw failure(message, 'later', undefined)
    }
    if (now >= to) {
      const message = `${this.id}: its root expired on ${formatMoment(to)}: is the clock right? If so, remove authorities/${this.id} from the store and restart; a new root is made, which clients must trust`
      throw failure(message, 'never', undefined)
    }
  }
}

function failure(message: string, retry: Retry, cause: unknown): IssueError {
  return new IssueError('LOCAL_FAILURE', message, { blame: 'local', retry, cause })
}

function parse(authority: Authority): Parsed {
  const { rootPem, intermediatePem } = authority
  return {
    ...authority,
    root: new X509Certificate(rootPem),
    intermediate: new X509Certificate(intermediatePem),
  }
}
