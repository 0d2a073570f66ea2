/**
 * Lease locks in a folder. Hides how processes agree without a server; serves `fs.ts`.
 *
 * Who wants a lock lays down a ticket, a file with a name of its own, and then looks around: alone, it holds the lock;
 * otherwise it takes its ticket back and tries again later. Of two, whoever looks last sees the other, so never both
 * hold it. A dead holder's ticket is deleted by its unique name, which can never hit another's: takers need not agree.
 * The holder's heartbeat is the modification time of its ticket.
 */
import { createHash, randomUUID } from 'node:crypto'
import { readdir, stat, unlink, utimes, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import type { Clock } from '../time.ts'
import { type Hold, waitForLease } from './lease.ts'
import { stateOf } from './owner.ts'
import type { Lease } from './store.ts'

/** When a ticket's heartbeat was first seen as it is now, by ticket. */
type Sightings = Map<string, { readonly mtimeMs: number; readonly since: number }>

export class FileLocks {
  readonly #folder: string
  readonly #owner: string
  readonly #clock: Clock

  /** @param folder exists, and is on a local file system @param owner of this process */
  constructor(folder: string, owner: string, clock: Clock) {
    this.#folder = folder
    this.#owner = owner
    this.#clock = clock
  }

  acquire(name: string, ttlMs: number, signal: AbortSignal): Promise<Lease> {
    const lock = createHash('sha256').update(name).digest('hex').slice(0, 32)
    const sightings: Sightings = new Map()
    return waitForLease(this.#clock, name, ttlMs, signal, async () => {
      if ((await this.#standing(lock, sightings)).length > 0) return undefined
      const ticket = [lock, this.#owner, ttlMs, randomUUID()].join(',')
      const hold = this.#hold(ticket)
      try {
        await writeFile(join(this.#folder, ticket), `${name}\n`, { flag: 'wx', mode: 0o600 })
        const standing = await this.#standing(lock, sightings)
        if (standing.length === 1 && standing[0] === ticket) return hold
      } catch (error) {
        // A ticket that stayed would block everybody, for its owner lives.
        await hold.release()
        throw error
      }
      await hold.release()
      return undefined
    })
  }

  #hold(ticket: string): Hold {
    const path = join(this.#folder, ticket)
    return {
      renew: async () => {
        const now = this.#clock.now() / 1000
        return (await ifPresent(utimes(path, now, now).then(() => true))) ?? false
      },
      release: () => ifPresent(unlink(path)),
    }
  }

  /** The tickets for a lock whose holders live, as far as can be told; those of the dead are deleted. */
  async #standing(lock: string, sightings: Sightings): Promise<string[]> {
    const tickets = (await readdir(this.#folder)).filter((each) => each.startsWith(`${lock},`))
    const standing: string[] = []
    for (const ticket of tickets) {
      const path = join(this.#folder, ticket)
      if (await this.#isAbandoned(ticket, path, sightings)) await ifPresent(unlink(path))
      else standing.push(ticket)
    }
    return standing
  }

  /** By death where that can be told; else by silence for its ttl, on our own clock: others' may be wrong. */
  async #isAbandoned(ticket: string, path: string, sightings: Sightings): Promise<boolean> {
    const [, owner = '', ttlMs] = ticket.split(',')
    if (stateOf(owner) === 'gone') return true
    const mtimeMs = (await ifPresent(stat(path)))?.mtimeMs
    if (mtimeMs === undefined) return true
    const now = this.#clock.monotonic()
    const seen = sightings.get(ticket)
    if (seen?.mtimeMs === mtimeMs) return now - seen.since > Number(ttlMs)
    sightings.set(ticket, { mtimeMs, since: now })
    return false
  }
}

/** Undefined when the file is not there; other failures reject. */
async function ifPresent<T>(operation: Promise<T>): Promise<T | undefined> {
  try {
    return await operation
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return undefined
    throw error
  }
}
