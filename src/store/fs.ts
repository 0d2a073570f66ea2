/**
 * A `Store` in a folder of a local file system: a key is the path of a file below it. Files are 0600 and folders 0700
 * whatever the umask; a write goes to a temporary file beside its target, is synced, renamed and synced again.
 *
 * Names with a comma are no keys: `,tmp,…` is a write in progress, `,locks` the folder of locks.
 *
 * What root writes belongs to the owner of the store's own folder: an operator's command runs as root beside a service
 * that does not, and that could neither read a file of root's nor write into a folder of root's.
 */
import { randomUUID } from 'node:crypto'
import { constants, type Dirent } from 'node:fs'
import {
  chmod,
  type FileHandle,
  mkdir,
  open,
  readdir,
  realpath,
  rename,
  rm,
  rmdir,
  stat,
  unlink,
} from 'node:fs/promises'
import { basename, dirname, join, relative } from 'node:path'
import { messageOf, StoreError } from '../errors.ts'
import type { Log } from '../log.ts'
import { type Clock, HOUR, SystemClock } from '../time.ts'
import { FileLocks } from './file-locks.ts'
import { assertKey, isKey } from './key.ts'
import { ownerOfThisProcess, stateOf } from './owner.ts'
import type { Lease, Store } from './store.ts'

const TEMPORARY = 'tmp'
const LOCKS = ',locks'

/** To whom root hands over what it makes. */
interface Heir {
  readonly uid: number
  readonly gid: number
}

/** Where its writer cannot be asked after, a temporary file this old is nobody's: a write takes moments. */
const ABANDONED_MS = HOUR

/**
 * Makes the folder where it is absent, proves that it can be written, and sweeps what crashed writers left.
 * @param directory absolute
 * @throws StoreError that names the path and what to do
 */
export async function openFileStore(
  directory: string,
  log: Log,
  clock: Clock = new SystemClock(),
): Promise<Store> {
  try {
    await makeFolder(directory, undefined)
    const root = await realpath(directory)
    const store = new FileStore(root, await heirOf(root), log, clock)
    await store.probe()
    await store.sweep()
    return store
  } catch (error) {
    throw storeError(error, directory)
  }
}

class FileStore implements Store {
  /** Real, so that a path below it that is not real shows a symbolic link. */
  readonly #root: string
  readonly #heir: Heir | undefined
  readonly #owner = ownerOfThisProcess()
  readonly #log: Log
  readonly #clock: Clock
  readonly #locks: FileLocks

  constructor(root: string, heir: Heir | undefined, log: Log, clock: Clock) {
    this.#root = root
    this.#heir = heir
    this.#log = log
    this.#clock = clock
    this.#locks = new FileLocks(join(root, LOCKS), this.#owner, clock)
  }

  async read(key: string): Promise<Buffer | undefined> {
    const path = this.#pathOf(key)
    try {
      await refuseLinks(dirname(path))
      return await readWhole(path)
    } catch (error) {
      if (isAbsence(error)) return undefined
      throw storeError(error, path)
    }
  }

  async write(key: string, value: Buffer): Promise<void> {
    const path = this.#pathOf(key)
    for (let attempt = 1; ; attempt++) {
      try {
        await refuseLinks(dirname(path))
        await makeFolder(dirname(path), this.#heir)
        return await this.#replace(path, value)
      } catch (error) {
        // `remove` may have taken the folder away in between, for being empty.
        if (codeOf(error) !== 'ENOENT' || attempt === 10) throw storeError(error, path)
      }
    }
  }

  async remove(key: string): Promise<void> {
    const path = this.#pathOf(key)
    try {
      await refuseLinks(dirname(path))
      await unlink(path)
      await syncFolder(dirname(path))
      await this.#removeEmptyFolders(dirname(path))
    } catch (error) {
      if (!isAbsence(error)) throw storeError(error, path)
    }
  }

  async list(prefix: string): Promise<string[]> {
    const folder = prefix.slice(0, prefix.lastIndexOf('/') + 1)
    if (folder !== '' && !isKey(folder.slice(0, -1))) return []
    try {
      const keys = await this.#pathsBelow(join(this.#root, folder))
      return keys.filter((key) => key.startsWith(prefix) && isKey(key)).sort()
    } catch (error) {
      throw storeError(error, join(this.#root, folder))
    }
  }

  async lock(name: string, ttlMs: number, signal: AbortSignal): Promise<Lease> {
    const folder = join(this.#root, LOCKS)
    try {
      await makeFolder(folder, this.#heir)
      return await this.#locks.acquire(name, ttlMs, signal)
    } catch (error) {
      throw signal.aborted ? signal.reason : storeError(error, folder)
    }
  }

  async close(): Promise<void> {}

  /** Writes and deletes a file: permissions, quotas and full disks show at no other moment. */
  async probe(): Promise<void> {
    await removeFile(await this.#writeTemporary(this.#root, Buffer.alloc(4096)))
  }

  /** Deletes the temporary files of dead processes. */
  async sweep(): Promise<void> {
    for (const path of await this.#pathsBelow(this.#root)) {
      const [, marker, owner] = basename(path).split(',')
      if (marker !== TEMPORARY || owner === undefined) continue
      const file = join(this.#root, path)
      if (await this.#isAbandoned(file, owner)) await removeFile(file)
    }
  }

  async #isAbandoned(file: string, owner: string): Promise<boolean> {
    const state = stateOf(owner)
    if (state !== 'elsewhere') return state === 'gone'
    const age = await stat(file).then(
      (found) => this.#clock.now() - found.mtimeMs,
      () => 0,
    )
    return age > ABANDONED_MS
  }

  #pathOf(key: string): string {
    assertKey(key)
    return join(this.#root, key)
  }

  async #replace(path: string, value: Buffer): Promise<void> {
    const temporary = await this.#writeTemporary(dirname(path), value)
    try {
      await rename(temporary, path)
    } catch (error) {
      await removeFile(temporary)
      throw error
    }
    await syncFolder(dirname(path))
  }

  /** Leaves nothing behind when it fails. */
  async #writeTemporary(folder: string, value: Buffer): Promise<string> {
    const path = join(folder, ['', TEMPORARY, this.#owner, randomUUID()].join(','))
    const handle = await open(path, 'wx', 0o600)
    try {
      await handle.chmod(0o600)
      if (this.#heir !== undefined) await handOver(handle, this.#heir)
      await handle.writeFile(value)
      await handle.sync()
    } catch (error) {
      await removeFile(path)
      throw error
    } finally {
      await handle.close()
    }
    return path
  }

  async #removeEmptyFolders(from: string): Promise<void> {
    try {
      for (let folder = from; folder !== this.#root; folder = dirname(folder)) await rmdir(folder)
    } catch {
      // Not empty, or somebody was quicker: either way there is nothing to do.
    }
  }

  /** Of all files below a folder, relative to the root, in no order; symbolic links are passed over. */
  async #pathsBelow(folder: string): Promise<string[]> {
    const entries = await this.#entriesOf(folder)
    const paths = entries.map(async (entry) => {
      const path = join(folder, entry.name)
      if (entry.isDirectory()) return this.#pathsBelow(path)
      return entry.isFile() ? [relative(this.#root, path)] : []
    })
    return (await Promise.all(paths)).flat()
  }

  /** One folder that is not ours to read must not hide the others. */
  async #entriesOf(folder: string): Promise<Dirent[]> {
    try {
      return await readdir(folder, { withFileTypes: true })
    } catch (error) {
      if (isAbsence(error)) return []
      if (codeOf(error) !== 'EACCES') throw error
      // What mkfs lays into every volume is root's, and nobody's loss.
      if (basename(folder) !== 'lost+found') {
        this.#log.warn({ err: storeError(error, folder) }, `${folder} cannot be read and is left out`)
      }
      return []
    }
  }
}

/** Absent is as good as removed. */
function removeFile(path: string): Promise<void> {
  return rm(path, { force: true })
}

async function readWhole(path: string): Promise<Buffer> {
  const handle = await open(path, constants.O_RDONLY | constants.O_NOFOLLOW)
  try {
    return await handle.readFile()
  } finally {
    await handle.close()
  }
}

/** With its parents, each 0700 and durable; an existing one is left as it is. */
async function makeFolder(path: string, heir: Heir | undefined): Promise<void> {
  if (await isFolder(path)) return
  await makeFolder(dirname(path), heir)
  try {
    await mkdir(path, 0o700)
  } catch (error) {
    if (codeOf(error) === 'EEXIST') return
    throw error
  }
  // The umask may have taken even the owner's bits.
  await chmod(path, 0o700)
  if (heir !== undefined) await handOverFolder(path, heir)
  await syncFolder(dirname(path))
}

/** undefined: what this process makes is rightly its own. */
async function heirOf(root: string): Promise<Heir | undefined> {
  if (process.geteuid?.() !== 0) return undefined
  const { uid, gid } = await stat(root)
  return uid === 0 ? undefined : { uid, gid }
}

async function handOverFolder(path: string, heir: Heir): Promise<void> {
  // The heir owns the folder above, and may have put a symbolic link to a folder of root's in its place.
  const handle = await open(path, constants.O_RDONLY | constants.O_DIRECTORY | constants.O_NOFOLLOW)
  try {
    await handOver(handle, heir)
  } finally {
    await handle.close()
  }
}

async function handOver(made: FileHandle, heir: Heir): Promise<void> {
  try {
    await made.chown(heir.uid, heir.gid)
  } catch (error) {
    // A root without CAP_CHOWN, or a file system with owners of its own: the store works for root all the same.
    if (codeOf(error) !== 'EPERM') throw error
  }
}

function isFolder(path: string): Promise<boolean> {
  return stat(path).then(
    (found) => found.isDirectory(),
    () => false,
  )
}

/** Makes renames, creations and deletions in it survive a power loss. */
async function syncFolder(path: string): Promise<void> {
  const handle = await open(path, constants.O_RDONLY)
  try {
    await handle.sync()
  } catch (error) {
    // Some network and shared file systems cannot, and say so by this.
    if (codeOf(error) !== 'EINVAL') throw error
  } finally {
    await handle.close()
  }
}

/** Of the folder, or of the nearest above it that is there. */
async function refuseLinks(folder: string): Promise<void> {
  const real = await realpath(folder).catch((error: unknown) => {
    if (codeOf(error) !== 'ENOENT') throw error
  })
  if (real === undefined) return refuseLinks(dirname(folder))
  if (real !== folder) {
    throw new StoreError(
      'STORE_DENIED',
      `${folder} leads through a symbolic link: only the store's own folder may be one`,
    )
  }
}

function codeOf(error: unknown): string | undefined {
  return (error as NodeJS.ErrnoException).code
}

function isAbsence(error: unknown): boolean {
  return ['ENOENT', 'ENOTDIR', 'EISDIR', 'ENAMETOOLONG'].includes(codeOf(error) ?? '')
}

function storeError(error: unknown, path: string): StoreError {
  if (error instanceof StoreError) return error
  const user = process.getuid?.()
  const remedies: Readonly<Record<string, readonly [StoreError['code'], string]>> = {
    EACCES: ['STORE_DENIED', `permission denied: let user ${user} own it, or point \`store\` elsewhere`],
    EPERM: ['STORE_DENIED', `permission denied: let user ${user} own it, or point \`store\` elsewhere`],
    EROFS: ['STORE_DENIED', 'the file system is read-only: mount a volume there, or point `store` elsewhere'],
    ENOTDIR: ['STORE_DENIED', 'a file is where a folder must be: move it, or point `store` elsewhere'],
    EISDIR: ['STORE_DENIED', 'a folder is where a file must be: move it away'],
    ELOOP: ['STORE_DENIED', 'it is a symbolic link: put a file in its place'],
    ENOSPC: ['STORE_UNAVAILABLE', 'the disk is full: free some space'],
    EDQUOT: ['STORE_UNAVAILABLE', 'the disk quota is used up: free some space'],
  }
  const [code, what] = remedies[codeOf(error) ?? ''] ?? ['STORE_UNAVAILABLE', messageOf(error)]
  return new StoreError(code, `The store at ${path}: ${what}`, { cause: error })
}
