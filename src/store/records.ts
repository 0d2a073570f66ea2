/**
 * What Holdfast keeps, as records over the bytes of a `Store`: accounts, authorities, certificates, small documents of
 * state. Hides the layout of the keys, how a certificate goes from staged to live, and validation, for every adapter.
 *
 *     accounts/<ca>                       JSON
 *     authorities/<id>/authority.json     everything, written at once
 *     authorities/<id>/root.pem           a copy for people: `curl --cacert`
 *     certificates/<host>/<role>.pem      chain, then key; plain PEM, as nginx and HAProxy take it
 *     roots/<ca>.pem                      roots that the operator has pinned; PEM
 *     secrets/<name>                      JSON: random octets
 *     state/<kind>/<id>                   JSON
 *     damaged/<digest>/<key>              what could not be read back, as it was found
 *
 * Receives from `ca/` and `renew/`; hands to the adapter that `open.ts` chose.
 */
import { createHash, randomBytes } from 'node:crypto'
import { type Certificate, parseCertificates } from '../cert/certificate.ts'
import type { Role } from '../cert/inventory.ts'
import { messageOf, StoreError } from '../errors.ts'
import type { Log } from '../log.ts'
import { SECOND } from '../time.ts'
import { decodeSegment, encodeSegment } from './key.ts'
import {
  type Account,
  type Authority,
  formatCertificate,
  formatDocument,
  parseAccount,
  parseAuthority,
  parseCertificate,
  parseDocument,
} from './record-formats.ts'
import type { Lease, Store } from './store.ts'

export type { Account, Authority }

export interface StoredCertificate {
  readonly host: string
  readonly role: Role
  readonly certificate: Certificate
}

/**
 * What the small documents are about: renewal jobs by host, health by CA, rate-limit ledgers by CA and process; the verdicts and the
 * failovers that go on, in one each.
 */
export type StateKind = 'jobs' | 'health' | 'ledgers' | 'verdicts' | 'failovers'

/** The id of the document of a kind of which there is one. */
export const SOLE_RECORD = 'all'

/** How long a crashed holder may block others, where its crash cannot be told. */
const LOCK_TTL_MS = 30 * SECOND

/** Loads in flight: enough to hide a store's latency, and far from any limit on open files. */
const AT_ONCE = 64

const SECRET_BYTES = 32

const CERTIFICATE_KEY = /^certificates\/([^/]+)\/(live|standby|interim)(?:\.staged)?\.pem$/

/**
 * A record that is there but damaged is moved to `damaged/`, told once by a warning, and from then on absent. A
 * certificate or a state that may not be read is told, and absent too, for it can be made again; an account or an
 * authority is not, and rejects. When the store as a whole fails, every call rejects. Rejects with `StoreError`.
 */
export class Records {
  readonly #store: Store
  readonly #log: Log

  constructor(store: Store, log: Log) {
    this.#store = store
    this.#log = log
  }

  loadAccount(ca: string): Promise<Account | undefined> {
    return this.#load(accountKey(ca), parseAccount)
  }

  saveAccount(ca: string, account: Account): Promise<void> {
    return this.#store.write(accountKey(ca), formatDocument(account))
  }

  removeAccount(ca: string): Promise<void> {
    return this.#store.remove(accountKey(ca))
  }

  /** Writes `root.pem` anew where it is gone or differs. */
  async loadAuthority(id: string): Promise<Authority | undefined> {
    const authority = await this.#load(authorityKey(id), parseAuthority)
    if (authority !== undefined) await this.#publishRoot(id, authority)
    return authority
  }

  /** A crash leaves the old authority or the new one, whole. */
  async saveAuthority(id: string, authority: Authority): Promise<void> {
    await this.#store.write(authorityKey(id), formatDocument(authority))
    await this.#publishRoot(id, authority)
  }

  /** Every certificate that can be read back, in no order, after finishing what a crash left staged. */
  async loadCertificates(): Promise<StoredCertificate[]> {
    const keys = new Set(await this.#store.list('certificates/'))
    const records = new Map<string, { host: string; role: Role }>()
    for (const key of keys) {
      const [, segment = '', role] = CERTIFICATE_KEY.exec(key) ?? []
      const host = decodeSegment(segment)
      if (host !== undefined) records.set(`${role} ${host}`, { host, role: role as Role })
    }
    const stored: StoredCertificate[] = []
    await forEachBounded(records.values(), async ({ host, role }) => {
      const certificate = keys.has(stagedKey(host, role))
        ? await this.loadCertificate(host, role)
        : await this.#loadReplaceable(certificateKey(host, role), parseCertificate)
      if (certificate !== undefined) stored.push({ host, role, certificate })
    })
    return stored
  }

  /** Finishes what a crash left staged. */
  loadCertificate(host: string, role: Role): Promise<Certificate | undefined> {
    return this.#latest(host, role, (key) => this.#loadReplaceable(key, parseCertificate))
  }

  /** As `loadCertificate`, for whoever must know: one that may not be read rejects. */
  loadReadableCertificate(host: string, role: Role): Promise<Certificate | undefined> {
    return this.#latest(host, role, (key) => this.#load(key, parseCertificate))
  }

  /** Once it resolves, or the stage alone is written, no crash loses the certificate. */
  async saveCertificate(host: string, role: Role, certificate: Certificate): Promise<void> {
    await this.#store.write(stagedKey(host, role), formatCertificate(certificate))
    await this.#promote(host, role, certificate)
  }

  async removeCertificate(host: string, role: Role): Promise<void> {
    // Left alone, the stage would bring the certificate back.
    await this.#store.remove(stagedKey(host, role))
    await this.#store.remove(certificateKey(host, role))
  }

  /** PEM by CA. */
  async loadPinnedRoots(): Promise<Map<string, string>> {
    const pinned = new Map<string, string>()
    for (const key of await this.#store.list('roots/')) {
      const ca = decodeSegment(/^roots\/([^/]+)\.pem$/.exec(key)?.[1] ?? '')
      const pem = ca === undefined ? undefined : await this.#loadReplaceable(key, parseRootsPem)
      if (ca !== undefined && pem !== undefined) pinned.set(ca, pem)
    }
    return pinned
  }

  savePinnedRoots(ca: string, pem: string): Promise<void> {
    return this.#store.write(rootsKey(ca), Buffer.from(pem))
  }

  removePinnedRoots(ca: string): Promise<void> {
    return this.#store.remove(rootsKey(ca))
  }

  /** JSON as it was saved; the caller validates its shape. */
  loadState(kind: StateKind, id: string): Promise<unknown> {
    return this.#loadReplaceable(stateKey(kind, id), parseDocument)
  }

  /** @param value JSON: what `JSON.stringify` keeps as it is */
  saveState(kind: StateKind, id: string, value: unknown): Promise<void> {
    return this.#store.write(stateKey(kind, id), formatDocument(value))
  }

  removeState(kind: StateKind, id: string): Promise<void> {
    return this.#store.remove(stateKey(kind, id))
  }

  /** All documents of a kind by id. */
  async loadStates(kind: StateKind): Promise<Map<string, unknown>> {
    const prefix = `state/${kind}/`
    const states = new Map<string, unknown>()
    await forEachBounded(await this.#store.list(prefix), async (key) => {
      const id = decodeSegment(key.slice(prefix.length))
      if (id === undefined) return
      const value = await this.#loadReplaceable(key, parseDocument)
      if (value !== undefined) states.set(id, value)
    })
    return states
  }

  /** 32 random octets by name, the same for all who share the store; made when first asked for. */
  async secret(name: string): Promise<Buffer> {
    const key = `secrets/${encodeSegment(name)}`
    const load = () => this.#loadReplaceable(key, parseSecret)
    const known = await load()
    if (known !== undefined) return known
    const lease = await this.lock(`secret-${name}`, new AbortController().signal)
    try {
      // Another process may have been faster.
      const existing = await load()
      if (existing !== undefined) return existing
      const made = randomBytes(SECRET_BYTES)
      await this.#store.write(key, formatDocument({ octets: made.toString('base64') }))
      return made
    } finally {
      await lease.release()
    }
  }

  /** Waits for the lease on a name among all processes that share the store. Rejects with the signal's reason. */
  lock(name: string, signal: AbortSignal): Promise<Lease> {
    return this.#store.lock(name, LOCK_TTL_MS, signal)
  }

  /** Lets go of the store. No call may follow. */
  close(): Promise<void> {
    return this.#store.close()
  }

  async #latest(
    host: string,
    role: Role,
    load: (key: string) => Promise<Certificate | undefined>,
  ): Promise<Certificate | undefined> {
    const staged = await load(stagedKey(host, role))
    if (staged === undefined) return load(certificateKey(host, role))
    await this.#promote(host, role, staged)
    return staged
  }

  async #promote(host: string, role: Role, certificate: Certificate): Promise<void> {
    await this.#store.write(certificateKey(host, role), formatCertificate(certificate))
    await this.#store.remove(stagedKey(host, role))
  }

  async #publishRoot(id: string, authority: Authority): Promise<void> {
    const key = `authorities/${encodeSegment(id)}/root.pem`
    const root = Buffer.from(authority.rootPem)
    if ((await this.#store.read(key))?.equals(root)) return
    await this.#store.write(key, root)
  }

  /** One record that may not be read must not keep the rest from being served. */
  async #loadReplaceable<T>(key: string, parse: (text: string, key: string) => T): Promise<T | undefined> {
    try {
      return await this.#load(key, parse)
    } catch (error) {
      if (!(error instanceof StoreError) || error.code !== 'STORE_DENIED') throw error
      this.#log.warn({ key, err: error }, `${key} cannot be read and is left out`)
      return undefined
    }
  }

  async #load<T>(key: string, parse: (text: string, key: string) => T): Promise<T | undefined> {
    const bytes = await this.#store.read(key)
    if (bytes === undefined) return undefined
    try {
      return parse(bytes.toString(), key)
    } catch (error) {
      await this.#setAside(key, bytes, messageOf(error))
      return undefined
    }
  }

  async #setAside(key: string, bytes: Buffer, reason: string): Promise<void> {
    const digest = createHash('sha256').update(bytes).digest('hex').slice(0, 8)
    const copy = `damaged/${digest}/${key}`
    try {
      await this.#store.write(copy, bytes)
      // Somebody may have mended it in the meantime.
      if ((await this.#store.read(key))?.equals(bytes)) await this.#store.remove(key)
      this.#log.warn({ key, reason }, `${key} is damaged: set aside as ${copy}`)
    } catch (error) {
      this.#log.warn({ key, reason, err: error }, `${key} is damaged and could not be set aside`)
    }
  }
}

function parseSecret(text: string): Buffer {
  const document = parseDocument(text)
  const octets = typeof document === 'object' && document !== null && 'octets' in document && document.octets
  const secret = Buffer.from(typeof octets === 'string' ? octets : '', 'base64')
  if (secret.length !== SECRET_BYTES) throw new Error('it holds no secret')
  return secret
}

function accountKey(ca: string): string {
  return `accounts/${encodeSegment(ca)}`
}

function authorityKey(id: string): string {
  return `authorities/${encodeSegment(id)}/authority.json`
}

function certificateKey(host: string, role: Role): string {
  return `certificates/${encodeSegment(host)}/${role}.pem`
}

function stagedKey(host: string, role: Role): string {
  return `certificates/${encodeSegment(host)}/${role}.staged.pem`
}

function rootsKey(ca: string): string {
  return `roots/${encodeSegment(ca)}.pem`
}

function parseRootsPem(text: string, key: string): string {
  return parseCertificates(text, key)
    .map((root) => root.toString())
    .join('')
}

function stateKey(kind: StateKind, id: string): string {
  return `state/${kind}/${encodeSegment(id)}`
}

/** Runs `work` on every item, at most `AT_ONCE` at a time. */
async function forEachBounded<T>(items: Iterable<T>, work: (item: T) => Promise<void>): Promise<void> {
  // The workers draw from one iterator.
  const queue = items[Symbol.iterator]()
  const worker = async (): Promise<void> => {
    for (let next = queue.next(); !next.done; next = queue.next()) await work(next.value)
  }
  await Promise.all(Array.from({ length: AT_ONCE }, worker))
}
