/**
 * A `Store` in Redis 6 or later (or what speaks its protocol), shared by replicas. Durable as far as that server is: it
 * wants an append-only file and no eviction, and a warning says so where it has not. The only user of ioredis.
 *
 * `holdfast:<key>` holds a value, `holdfast:lock:<name>` a lock with the token of its holder.
 */
import { randomUUID } from 'node:crypto'
import { Redis } from 'ioredis'
import { messageOf, StoreError } from '../errors.ts'
import type { Log } from '../log.ts'
import { type Clock, SECOND, SystemClock } from '../time.ts'
import { assertKey, isKey } from './key.ts'
import { type Hold, waitForLease } from './lease.ts'
import type { Lease, Store } from './store.ts'

const PREFIX = 'holdfast:'
const LOCK_PREFIX = 'holdfast:lock:'

/** What any call may take, over reconnections. */
const CALL_LIMIT_MS = 5 * SECOND
const LONGEST_RECONNECT_DELAY_MS = 2 * SECOND
const KEYS_A_SCAN = 1000

const EXTEND = `
if redis.call('get', KEYS[1]) ~= ARGV[1] then return 0 end
return redis.call('pexpire', KEYS[1], ARGV[2])`

const DELETE = `
if redis.call('get', KEYS[1]) ~= ARGV[1] then return 0 end
return redis.call('del', KEYS[1])`

type Failure = readonly [pattern: RegExp, code: StoreError['code'], what: string]

/** Redis answers with a word for programs, then text for people. */
const FAILURES: readonly Failure[] = [
  [/^(NOAUTH|WRONGPASS)/, 'STORE_DENIED', 'refuses the login: check user and password in `store`'],
  [
    /^NOPERM/,
    'STORE_DENIED',
    'forbids this user a command: grant it ~holdfast:* +@read +@write +@scripting +info',
  ],
  [/^ERR DB index/, 'STORE_DENIED', 'has no such database: correct the number after "/" in `store`'],
  [/^OOM/, 'STORE_UNAVAILABLE', 'is full: raise its `maxmemory`'],
  [/^READONLY/, 'STORE_UNAVAILABLE', 'is a read-only replica: name the primary in `store`'],
  [
    /timed ?out|timeout/i,
    'STORE_UNAVAILABLE',
    'does not answer in time: see whether it hangs or is overloaded',
  ],
]
const UNREACHABLE: Failure = [/^/, 'STORE_UNAVAILABLE', 'cannot be used: start it, or correct `store`']

/**
 * Connects once; from then on it reconnects by itself, and a call fails when Redis stays away for 5 s.
 * @param url `redis://` or `rediss://`, with user and password where needed, percent-encoded
 * @throws StoreError when there is no Redis to be had; it never quotes the password
 */
export async function openRedisStore(
  url: string,
  log: Log,
  clock: Clock = new SystemClock(),
): Promise<Store> {
  const store = new RedisStore(parseUrl(url), log, clock)
  try {
    await store.connect()
    return store
  } catch (error) {
    await store.close()
    throw error
  }
}

/** Where a Redis is, and how to log in. */
interface Server {
  readonly secure: boolean
  readonly host: string
  readonly port: number
  readonly database: number
  /** Empty: none is needed. */
  readonly username: string
  readonly password: string
}

class RedisStore implements Store {
  readonly #address: string
  readonly #password: string
  readonly #log: Log
  readonly #clock: Clock
  readonly #redis: Redis
  #isOpen = false
  /** Why there is no connection; undefined while there is one. */
  #outage: string | undefined

  constructor(server: Server, log: Log, clock: Clock) {
    this.#address = `Redis at ${server.host}:${server.port}`
    this.#password = server.password
    this.#log = log
    this.#clock = clock
    this.#redis = new Redis({
      host: server.host,
      port: server.port,
      db: server.database,
      username: server.username || undefined,
      password: server.password || undefined,
      tls: server.secure ? {} : undefined,
      lazyConnect: true,
      connectTimeout: CALL_LIMIT_MS,
      commandTimeout: CALL_LIMIT_MS,
      // A connection that is silently dead is given up, so that the next call gets another.
      socketTimeout: CALL_LIMIT_MS,
      // Calls wait for a reconnection, and end by the command's timeout.
      maxRetriesPerRequest: null,
      retryStrategy: (attempts) => Math.min(50 * 2 ** attempts, LONGEST_RECONNECT_DELAY_MS),
      // After a failover the old address may lead to a replica until it is resolved again.
      reconnectOnError: (error) => (error.message.startsWith('READONLY') ? 2 : false),
    })
    this.#redis.on('error', (error: Error) => this.#noticeOutage(error))
  }

  async connect(): Promise<void> {
    await this.#call(() => this.#redis.connect())
    // ioredis goes on without what failed, in database 0 where the one asked for is not there.
    if (this.#outage !== undefined) throw this.#storeError(this.#outage)
    this.#redis.on('ready', () => this.#noticeRecovery())
    this.#isOpen = true
    await this.#warnOfLoss()
  }

  async read(key: string): Promise<Buffer | undefined> {
    assertKey(key)
    return (await this.#call(() => this.#redis.getBuffer(PREFIX + key))) ?? undefined
  }

  async write(key: string, value: Buffer): Promise<void> {
    assertKey(key)
    await this.#call(() => this.#redis.set(PREFIX + key, value))
  }

  async remove(key: string): Promise<void> {
    assertKey(key)
    await this.#call(() => this.#redis.del(PREFIX + key))
  }

  async list(prefix: string): Promise<string[]> {
    const pattern = `${PREFIX}${prefix.replace(/[\\*?[\]]/g, '\\$&')}*`
    // A scan may give a key twice.
    const keys = new Set<string>()
    let cursor = '0'
    do {
      const [next, found] = await this.#call(() =>
        this.#redis.scan(cursor, 'MATCH', pattern, 'COUNT', KEYS_A_SCAN),
      )
      for (const name of found) keys.add(name.slice(PREFIX.length))
      cursor = next
    } while (cursor !== '0')
    return [...keys].filter(isKey).sort()
  }

  lock(name: string, ttlMs: number, signal: AbortSignal): Promise<Lease> {
    const key = LOCK_PREFIX + name
    const token = randomUUID()
    const hold: Hold = {
      renew: async () => (await this.#call(() => this.#redis.eval(EXTEND, 1, key, token, ttlMs))) === 1,
      release: async () => {
        await this.#call(() => this.#redis.eval(DELETE, 1, key, token))
      },
    }
    return waitForLease(this.#clock, name, ttlMs, signal, async () => {
      const taken = await this.#call(() => this.#redis.set(key, token, 'PX', ttlMs, 'NX'))
      // Refused, yet ours: it was taken before a reconnection that swallowed the answer.
      return taken === 'OK' || (await hold.renew()) ? hold : undefined
    })
  }

  async close(): Promise<void> {
    this.#redis.disconnect()
  }

  async #call<T>(command: () => Promise<T>): Promise<T> {
    try {
      return await command()
    } catch (error) {
      throw this.#storeError(messageOf(error))
    }
  }

  /** No cause: ioredis hangs the command with its arguments, keys and password among them, on its errors. */
  #storeError(message: string): StoreError {
    const text = this.#withoutPassword(this.#outage ?? message)
    const [, code, what] = FAILURES.find(([pattern]) => pattern.test(text)) ?? UNREACHABLE
    return new StoreError(code, `${this.#address} ${what} (${text})`)
  }

  #withoutPassword(text: string): string {
    return this.#password === '' ? text : text.replaceAll(this.#password, '[secret]')
  }

  #noticeOutage(error: Error): void {
    const isNews = this.#isOpen && this.#outage === undefined
    this.#outage = error.message
    if (isNews) this.#log.warn({ err: this.#storeError(error.message) }, 'lost the store; connecting again')
  }

  #noticeRecovery(): void {
    if (this.#outage !== undefined) this.#log.info(`${this.#address} is back`)
    this.#outage = undefined
  }

  /** Many a Redis is set up as a cache; ours holds the only copy of keys. */
  async #warnOfLoss(): Promise<void> {
    const info = await this.#redis.info().catch(() => '')
    if (/^aof_enabled:0/m.test(info)) {
      this.#log.warn(
        `${this.#address} keeps no append-only file: set \`appendonly yes\`, or a crash of it loses certificates`,
      )
    }
    if (/^maxmemory:[1-9]/m.test(info) && !/^maxmemory_policy:noeviction/m.test(info)) {
      this.#log.warn(`${this.#address} evicts keys when it is full: set \`maxmemory-policy noeviction\``)
    }
  }
}

function parseUrl(text: string): Server {
  const url = URL.canParse(text) ? new URL(text) : undefined
  const [username, password] = [url?.username, url?.password].map(decode)
  const database = /^\/?(\d*)$/.exec(url?.pathname ?? '')?.[1]
  if (url === undefined || username === undefined || password === undefined || database === undefined) {
    // Not quoted: it may hold a password.
    throw new StoreError(
      'STORE_DENIED',
      '`store` is no URL of a Redis: write redis://user:password@host:6379/0, percent-encoding what is not a letter or digit in the password',
    )
  }
  return {
    secure: url.protocol === 'rediss:',
    host: url.hostname.replace(/^\[(.*)\]$/, '$1'),
    port: url.port === '' ? 6379 : Number(url.port),
    database: Number(database),
    username,
    password,
  }
}

function decode(text: string | undefined): string | undefined {
  try {
    return text === undefined ? undefined : decodeURIComponent(text)
  } catch {
    return undefined
  }
}
