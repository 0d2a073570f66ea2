/**
 * Who may ask by name and password (RFC 7617). A password is hashed once, on the thread pool, a few at a time; after that
 * its requests are let in by a keyed digest, at once. Serves `shaping.ts`.
 */
import { hash, randomBytes } from 'node:crypto'
import type { Shaping } from '../config/shaping.ts'
import { type PasswordHash, parsePasswordHash, verifyPassword } from '../password.ts'

/** `busy`: too many passwords wait to be checked. */
export type Admission = 'granted' | 'refused' | 'busy'

/** How many answers are remembered, the right ones and the wrong ones, so that repeating one costs nothing. */
const MAX_REMEMBERED = 1000
/** The thread pool has other work too. */
const MAX_RUNNING = 2
const MAX_WAITING = 64

/** Runs tasks a few at a time, in their order. */
export class Gate {
  #running = 0
  readonly #waiting: (() => void)[] = []

  get full(): boolean {
    return this.#waiting.length >= MAX_WAITING
  }

  async run<T>(task: () => Promise<T>): Promise<T> {
    if (this.#running >= MAX_RUNNING) await new Promise<void>((resolve) => this.#waiting.push(resolve))
    else this.#running++
    try {
      return await task()
    } finally {
      // The place goes to the next one as it is.
      const next = this.#waiting.shift()
      if (next === undefined) this.#running--
      else next()
    }
  }
}

export class BasicAuth {
  /** Value of WWW-Authenticate. */
  readonly challenge: string
  readonly #users: ReadonlyMap<string, PasswordHash>
  readonly #gate: Gate
  /** Goes before what is digested, so that the digests, which nobody sees, would be worth nothing elsewhere. */
  readonly #key = randomBytes(32).toString('base64')
  /*
   * By digest of the field as it came: the same credentials can be spelled in several ways. Apart, so that whoever tries
   * wrong ones makes none of the right ones forgotten.
   */
  readonly #granted = new Set<string>()
  readonly #refused = new Set<string>()
  readonly #pending = new Map<string, Promise<Admission>>()

  constructor({ users, realm }: NonNullable<Shaping['basicAuth']>, gate: Gate) {
    this.challenge = `Basic realm="${realm}", charset="UTF-8"`
    this.#gate = gate
    this.#users = new Map(
      Object.entries(users).flatMap(([user, text]) => {
        const parsed = parsePasswordHash(text)
        return parsed === undefined ? [] : [[user, parsed]]
      }),
    )
  }

  /** `authorization`: the field's value. At once for what is known; else when the password is checked. Never rejects. */
  check(authorization: string | undefined): Admission | Promise<Admission> {
    if (authorization === undefined) return 'refused'
    const digest = hash('sha256', this.#key + authorization, 'base64')
    if (this.#granted.has(digest)) return 'granted'
    if (this.#refused.has(digest)) return 'refused'
    const pending = this.#pending.get(digest)
    if (pending !== undefined) return pending
    const credentials = credentialsOf(authorization)
    if (credentials === undefined) return 'refused'
    if (this.#gate.full) return 'busy'
    const verified = this.#verify(credentials, digest)
    this.#pending.set(digest, verified)
    return verified
  }

  async #verify(credentials: Buffer, digest: string): Promise<Admission> {
    const colon = credentials.indexOf(COLON)
    const known = this.#users.get(credentials.toString('utf8', 0, colon))
    // An unknown name takes as long as a known one.
    const [anybody] = this.#users.values()
    const expected = known ?? anybody
    const password = credentials.toString('utf8', colon + 1)
    // Without the memory for it nobody is let in, and nothing is remembered.
    const matches =
      expected && (await this.#gate.run(() => verifyPassword(password, expected)).catch(() => undefined))
    this.#pending.delete(digest)
    if (matches === undefined) return 'busy'
    if (matches && known !== undefined) {
      remember(this.#granted, digest)
      return 'granted'
    }
    remember(this.#refused, digest)
    return 'refused'
  }
}

function remember(digests: Set<string>, digest: string): void {
  digests.add(digest)
  if (digests.size <= MAX_REMEMBERED) return
  const [oldest = digest] = digests
  digests.delete(oldest)
}

const COLON = 0x3a

/** Name, colon and password; undefined for what is no Basic. */
function credentialsOf(authorization: string): Buffer | undefined {
  const [, encoded] = /^basic +([A-Za-z0-9+/]+={0,2})$/i.exec(authorization) ?? []
  if (encoded === undefined) return undefined
  const credentials = Buffer.from(encoded, 'base64')
  return credentials.includes(COLON) ? credentials : undefined
}
