/**
 * Tells when a config, or a file that it names, has changed on disk: written in place, replaced by a rename, swapped
 * behind a symlink as Kubernetes does, or gone and back. Hides inotify's habits: it watches files and folders, and
 * then asks the disk what has really changed. Receives a `LoadedConfig` from `server.ts`.
 */
import { type FSWatcher, watch } from 'node:fs'
import { lstat, readlink, stat } from 'node:fs/promises'
import { basename, dirname, join, parse, resolve, sep } from 'node:path'
import { type Cancel, type Clock, SECOND } from '../time.ts'

/** What tells one state of a file from another; undefined while it is not there. By absolute path. */
export type FileStamps = ReadonlyMap<string, string | undefined>

/** Never rejects. */
export async function stampFiles(files: Iterable<string>): Promise<FileStamps> {
  return new Map(await Promise.all([...files].map(async (file) => [file, await stampOf(file)] as const)))
}

/**
 * Calls `onChange` once a burst of changes since `stamps` were taken, those before this call included. A file that is
 * gone says nothing until it is back. Never keeps the process alive. Network file systems may not tell: SIGHUP is for
 * them.
 */
export function watchConfig(
  { stamps }: { readonly stamps: FileStamps },
  clock: Clock,
  onChange: () => void,
): { close(): void } {
  return new ConfigWatcher(stamps, clock, onChange)
}

/** Editors and deployments write several times: wait until it has been quiet for this long. */
const QUIET_MS = 200

/** Where the kernel has no watches left, the disk is asked this often. */
const POLL_MS = 5 * SECOND

class ConfigWatcher {
  readonly #stamps: Map<string, string | undefined>
  readonly #clock: Clock
  readonly #onChange: () => void
  /** By path and inode, since a watch stays with the inode when the path gets another. */
  readonly #watchers = new Map<string, FSWatcher>()
  #wake: Cancel = () => {}
  #looking: Promise<void>
  #closed = false

  constructor(stamps: FileStamps, clock: Clock, onChange: () => void) {
    this.#stamps = new Map(stamps)
    this.#clock = clock
    this.#onChange = onChange
    this.#looking = this.#look()
  }

  close(): void {
    this.#closed = true
    this.#wake()
    for (const watcher of this.#watchers.values()) watcher.close()
    this.#watchers.clear()
  }

  /** Looks at the disk after a while; puts off a look that is due before. */
  #lookAfter(delayMs: number): void {
    if (this.#closed) return
    this.#wake()
    this.#wake = this.#clock.after(delayMs, () => {
      this.#looking = this.#looking.then(() => this.#look())
    })
  }

  /** Watches first, so that a change while it looks is told once more rather than never. */
  async #look(): Promise<void> {
    await this.#watchAll()
    const found = await stampFiles(this.#stamps.keys())
    if (this.#closed) return
    let changed = false
    for (const [file, stamp] of found) {
      if (stamp === undefined || stamp === this.#stamps.get(file)) continue
      this.#stamps.set(file, stamp)
      changed = true
    }
    if (changed) this.#onChange()
  }

  /** Every file, for writes in place (a bind mount tells its folder nothing), and every folder on the way to it. */
  async #watchAll(): Promise<void> {
    const wanted = new Map<string, { path: string; names?: Set<string> }>()
    const folders = new Map<string, Set<string>>()
    for (const file of this.#stamps.keys()) {
      wanted.set(await keyOf(file), { path: file })
      for (const entry of await entriesOf(file)) {
        const folder = dirname(entry)
        const names = folders.get(folder) ?? new Set([basename(folder)])
        folders.set(folder, names.add(basename(entry)))
      }
    }
    for (const [path, names] of folders)
      wanted.set(`${await keyOf(path)} ${[...names].join('/')}`, { path, names })
    if (this.#closed) return
    for (const [key, watcher] of this.#watchers) {
      if (wanted.has(key)) continue
      watcher.close()
      this.#watchers.delete(key)
    }
    for (const [key, { path, names }] of wanted) if (!this.#watchers.has(key)) this.#watch(key, path, names)
  }

  /** @param names entries of the folder that matter; its own name stands for itself */
  #watch(key: string, path: string, names: Set<string> | undefined): void {
    try {
      const watcher = watch(path, { persistent: false }, (_event, name) => {
        if (name === null || names === undefined || names.has(name)) this.#lookAfter(QUIET_MS)
      })
      this.#watchers.set(key, watcher)
      watcher.on('error', () => {
        watcher.close()
        this.#watchers.delete(key)
        this.#lookAfter(POLL_MS)
      })
    } catch (error) {
      const isGone = error instanceof Error && 'code' in error && error.code === 'ENOENT'
      if (!isGone) this.#lookAfter(POLL_MS)
    }
  }
}

/**
 * The folder entries that decide where a path leads: each symlink on the way, and the file itself or the first part
 * of its path that is not there.
 */
async function entriesOf(path: string, hopsLeft = 40): Promise<string[]> {
  const { root } = parse(path)
  const names = path.slice(root.length).split(sep)
  let entry = root
  for (const [index, name] of names.entries()) {
    const folder = entry
    entry = join(folder, name)
    const info = await lstat(entry).catch(() => undefined)
    if (info === undefined) break
    if (!info.isSymbolicLink() || hopsLeft === 0) continue
    const target = await readlink(entry).catch(() => '')
    return [entry, ...(await entriesOf(resolve(folder, target, ...names.slice(index + 1)), hopsLeft - 1))]
  }
  return [entry]
}

async function keyOf(path: string): Promise<string> {
  const info = await stat(path).catch(() => undefined)
  return `${path} ${info?.dev}:${info?.ino}`
}

async function stampOf(file: string): Promise<string | undefined> {
  const info = await stat(file, { bigint: true }).catch(() => undefined)
  if (info === undefined) return undefined
  return [info.dev, info.ino, info.size, info.mtimeNs, info.ctimeNs].join()
}
