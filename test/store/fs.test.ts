import { type ChildProcess, execFile, spawn } from 'node:child_process'
import { once } from 'node:events'
import {
  chmod,
  chown,
  lstat,
  mkdir,
  readdir,
  rename,
  stat,
  symlink,
  utimes,
  writeFile,
} from 'node:fs/promises'
import { dirname, join } from 'node:path'
import { promisify } from 'node:util'
import t, { type Test } from 'tap'
import { VirtualClock } from '../../src/commands/simulate/virtual-clock.ts'
import { silentLog } from '../../src/log.ts'
import { openFileStore } from '../../src/store/fs.ts'
import { ownerOfThisProcess } from '../../src/store/owner.ts'
import type { Store } from '../../src/store/store.ts'
import { DAY, MINUTE } from '../../src/time.ts'
import { keepAlive } from '../support/alive.ts'
import { testStoreContract } from './contract.ts'

const run = promisify(execFile)
const LIMIT_MS = 20_000

keepAlive(t)

t.test('contract', async (t) => testStoreContract(t, async (t) => `file:${t.testdir()}/data`))

async function open(t: Test, folder = join(t.testdir(), 'data')): Promise<{ store: Store; folder: string }> {
  return { store: await openFileStore(folder, silentLog()), folder }
}

t.test('files are 0600 and folders 0700 whatever the umask', async (t) => {
  const root = t.testdir()
  for (const umask of [0o000, 0o022, 0o777]) {
    const old = process.umask(umask)
    try {
      const folder = join(root, `umask-${umask}`, 'data')
      const { store } = await open(t, folder)
      await store.write('a/b/c', Buffer.from('1'))
      for (const path of [dirname(folder), folder, join(folder, 'a'), join(folder, 'a/b')]) {
        t.equal((await stat(path)).mode & 0o777, 0o700, path)
      }
      t.equal((await stat(join(folder, 'a/b/c'))).mode & 0o777, 0o600)
    } finally {
      process.umask(old)
    }
  }
})

t.test('a folder that holds nothing any more is removed, the store’s own apart', async (t) => {
  const { store, folder } = await open(t)
  await store.write('a/b/c', Buffer.from('1'))
  await store.write('a/d', Buffer.from('1'))
  await store.remove('a/b/c')
  t.same(await readdir(join(folder, 'a')), ['d'])
  await store.remove('a/d')
  t.same(await readdir(folder), [])
})

t.test('opening sweeps what crashed writers left, and nothing of living ones', async (t) => {
  const { folder } = await open(t)
  await mkdir(join(folder, 'a'))
  const [pid, start, realm] = ownerOfThisProcess().split('-')
  const lay = async (name: string, ageMs: number): Promise<string> => {
    await writeFile(join(folder, 'a', name), 'half')
    const time = (Date.now() - ageMs) / 1000
    await utimes(join(folder, 'a', name), time, time)
    return name
  }
  await lay(`,tmp,${await deadPid()}-1-${realm},1`, 0)
  await lay(`,tmp,${pid}-1${start}-${realm},recycled`, 0)
  await lay(`,tmp,${pid}-${start}-elsewhere,old`, DAY)
  const living = await lay(`,tmp,${pid}-${start}-${realm},1`, DAY)
  const foreign = await lay(`,tmp,${pid}-${start}-elsewhere,young`, MINUTE)
  await open(t, folder)
  t.same((await readdir(join(folder, 'a'))).sort(), [living, foreign].sort())
})

t.test('the store’s own folder may be a symbolic link, nothing below it', async (t) => {
  const root = t.testdir({ real: {}, outside: { secret: 'of another' }, data: t.fixture('symlink', 'real') })
  const { store } = await open(t, join(root, 'data'))
  await store.write('a/b', Buffer.from('1'))
  await symlink(join(root, 'outside'), join(root, 'real/folder'))
  await symlink(join(root, 'outside/secret'), join(root, 'real/a/file'))
  const refusal = { name: 'StoreError', code: 'STORE_DENIED', message: /symbolic link/ }
  await t.rejects(store.read('folder/secret'), refusal)
  await t.rejects(store.write('folder/secret', Buffer.from('1')), refusal)
  await t.rejects(store.write('folder/new/deep', Buffer.from('1')), refusal)
  await t.rejects(store.remove('folder/secret'), refusal)
  await t.rejects(store.read('a/file'), refusal)
  t.same(await store.list(''), ['a/b'])
  t.same(await readdir(join(root, 'outside')), ['secret'])
})

t.test('a write puts a file in the place of a symbolic link', async (t) => {
  const root = t.testdir({ data: {}, outside: 'untouched' })
  const { store } = await open(t, join(root, 'data'))
  await symlink(join(root, 'outside'), join(root, 'data/a'))
  await store.write('a', Buffer.from('1'))
  t.ok((await lstat(join(root, 'data/a'))).isFile())
  t.equal((await stat(join(root, 'outside'))).size, 'untouched'.length)
})

t.test('a path that is a file is refused at open', async (t) => {
  const root = t.testdir({ file: 'content' })
  for (const path of [join(root, 'file'), join(root, 'file/data')]) {
    await t.rejects(openFileStore(path, silentLog()), {
      name: 'StoreError',
      code: 'STORE_DENIED',
      message: `The store at ${path}: a file is where a folder must be: move it, or point \`store\` elsewhere`,
    })
  }
})

t.test('a path where nothing can be made is refused at open', async (t) => {
  await t.rejects(openFileStore('/proc/holdfast/data', silentLog()), {
    name: 'StoreError',
    message: /^The store at \/proc\/holdfast\/data: /,
  })
})

/** Runs `open` and a write as a user without privileges; says what it threw. */
async function openUnprivileged(folder: string): Promise<string> {
  const program = `
    import { silentLog } from '${join(import.meta.dirname, '../../src/log.ts')}'
    import { openFileStore } from '${join(import.meta.dirname, '../../src/store/fs.ts')}'
    const lines = []
    const log = Object.assign(silentLog(), { warn: (fields, text) => lines.push(text) })
    if (process.getuid() === 0) process.setuid(65534)
    try {
      const store = await openFileStore(process.argv[1], log)
      lines.push((await store.list('')).join(' '))
    } catch (error) {
      lines.push(error.code + ' ' + error.message)
    }
    console.log(lines.join('\\n'))`
  const { stdout } = await run(process.execPath, ['--input-type=module', '-e', program, folder])
  return stdout.trim()
}

/** Under a folder that everybody may pass, as the user without privileges has to. */
async function openFolderFor(t: Test, mode: number, owner: number): Promise<string> {
  const { stdout } = await run('mktemp', ['-d', '/tmp/holdfast-store-XXXXXX'])
  const base = stdout.trim()
  t.teardown(() => run('rm', ['-rf', base]))
  await chmod(base, 0o755)
  const folder = join(base, 'data')
  await mkdir(folder)
  if (process.getuid?.() === 0) await chown(folder, owner, owner)
  await chmod(folder, mode)
  return folder
}

t.test('a folder without write permission is refused at open', async (t) => {
  const folder = await openFolderFor(t, 0o555, 0)
  const user = process.getuid?.() || 65534
  t.equal(
    await openUnprivileged(folder),
    `STORE_DENIED The store at ${folder}: permission denied: let user ${user} own it, or point \`store\` elsewhere`,
  )
})

t.test('a folder below that may not be read is told and left out', async (t) => {
  const folder = await openFolderFor(t, 0o755, 65534)
  for (const name of ['sealed', 'lost+found', 'open']) await mkdir(join(folder, name))
  await writeFile(join(folder, 'open/a'), '1')
  for (const name of ['sealed', 'lost+found']) await chmod(join(folder, name), 0o000)
  const sealed = `${folder}/sealed cannot be read and is left out`
  t.equal(await openUnprivileged(folder), [sealed, sealed, 'open/a'].join('\n'))
})

t.test(
  'what root writes belongs to the owner of the store’s folder, who can go on with it',
  { skip: process.getuid?.() !== 0 && 'needs root' },
  async (t) => {
    const folder = await openFolderFor(t, 0o700, 65534)
    const { store } = await open(t, folder)
    await store.write('a/b/c', Buffer.from('1'))
    await (await store.lock('a', MINUTE, AbortSignal.timeout(LIMIT_MS))).release()
    for (const path of ['a', 'a/b', 'a/b/c', ',locks']) {
      const { gid, mode, uid } = await stat(join(folder, path))
      t.strictSame([uid, gid], [65534, 65534], path)
      t.equal(mode & 0o077, 0, path)
    }
    t.equal(await openUnprivileged(folder), 'a/b/c')
  },
)

t.test('a full disk is refused at open, and at a write that leaves nothing behind', async (t) => {
  const folder = await openFolderFor(t, 0o700, 0)
  if (!(await mountSmallDisk(t, folder))) return void t.comment('skipped: mounting a small disk needs root')
  const { store } = await open(t, folder)
  await store.write('a', Buffer.from('old'))
  const refusal = {
    name: 'StoreError',
    code: 'STORE_UNAVAILABLE',
    message: /^The store at \/tmp\/.*: the disk is full: free some space$/,
  }
  await t.rejects(store.write('a', Buffer.alloc(200_000)), refusal)
  t.same(await readdir(folder), ['a'])
  t.same(await store.read('a'), Buffer.from('old'))
  await store.write('fill', Buffer.alloc(60_000))
  await t.rejects(store.lock('a', MINUTE, AbortSignal.timeout(LIMIT_MS)), refusal)
  t.same(
    (await readdir(folder, { recursive: true })).filter((name) => name.includes('locks/')),
    [],
  )
  await t.rejects(openFileStore(folder, silentLog()), refusal)
  t.same((await readdir(folder)).sort(), [',locks', 'a', 'fill'])
})

/** 16 pages. */
async function mountSmallDisk(t: Test, folder: string): Promise<boolean> {
  try {
    await run('mount', ['-t', 'tmpfs', '-o', 'size=64k', 'tmpfs', folder])
  } catch {
    return false
  }
  t.teardown(() => run('umount', [folder]))
  return true
}

/** Moves only by `poll`: as far as a waiter's next look, and until it has looked. */
class PollClock extends VirtualClock {
  #onSleep = (): void => {}

  override after(delayMs: number, task: () => void): () => void {
    this.#onSleep()
    return super.after(delayMs, task)
  }

  nextSleep(): Promise<void> {
    return new Promise((resolve) => {
      this.#onSleep = resolve
    })
  }

  async poll(): Promise<void> {
    const sleeping = this.nextSleep()
    // The longest pause between two looks.
    await this.advance(300)
    await sleeping
  }
}

/** Lays a ticket as another process would have, by taking a lock and renaming it. */
async function layTicket(folder: string, store: Store, owner: string, ttlMs: number): Promise<string> {
  await store.lock('a', ttlMs, AbortSignal.timeout(LIMIT_MS))
  const locks = join(folder, ',locks')
  const [own = ''] = await readdir(locks)
  const ticket = join(locks, own.replace(ownerOfThisProcess(), owner))
  await rename(join(locks, own), ticket)
  return ticket
}

t.test('the lock of a holder elsewhere is free once it was silent for its ttl', async (t) => {
  const { store, folder } = await open(t)
  const ticket = await layTicket(folder, store, '1-1-elsewhere', 3000)
  const clock = new PollClock()
  const waiter = await openFileStore(folder, silentLog(), clock)
  const sleeping = clock.nextSleep()
  let isHeld = false
  const waiting = waiter.lock('a', MINUTE, AbortSignal.timeout(LIMIT_MS)).finally(() => {
    isHeld = true
  })
  await sleeping
  for (let looks = 0; looks < 9; looks++) await clock.poll()
  // A heartbeat, by a clock that is wrong by years: that it moved is all that counts.
  await utimes(ticket, 1, 1)
  for (let looks = 0; looks < 9; looks++) await clock.poll()
  t.equal(isHeld, false)
  for (let looks = 0; looks < 3; looks++) await clock.poll()
  await (await waiting).release()
})

t.test('a pid that another process has by now holds no lock', async (t) => {
  const { store, folder } = await open(t)
  const [pid, start, realm] = ownerOfThisProcess().split('-')
  await layTicket(folder, store, `${pid}-1${start}-${realm}`, DAY)
  await (await store.lock('a', DAY, AbortSignal.timeout(LIMIT_MS))).release()
  t.same(await readdir(join(folder, ',locks')), [])
})

t.test('a holder whose lock was taken over learns it', async (t) => {
  const { folder, store } = await open(t)
  const clock = new VirtualClock()
  const holder = await openFileStore(folder, silentLog(), clock)
  const lease = await holder.lock('a', MINUTE, new AbortController().signal)
  const [own = ''] = await readdir(join(folder, ',locks'))
  await rename(join(folder, ',locks', own), join(folder, ',locks', 'gone'))
  const lost = once(lease.lost, 'abort')
  await clock.advance(MINUTE / 3)
  await lost
  t.match(lease.lost.reason, { code: 'LOCK_LOST' })
  await lease.release()
  await (await store.lock('a', MINUTE, AbortSignal.timeout(LIMIT_MS))).release()
})

t.test('of many that find a dead holder at once, one at a time takes over', async (t) => {
  const { store, folder } = await open(t)
  const dead = `${await deadPid()}-1-${ownerOfThisProcess().split('-')[2]}`
  for (let round = 0; round < 4; round++) {
    await layTicket(folder, store, dead, DAY)
    const takers = await Promise.all(Array.from({ length: 6 }, () => open(t, folder)))
    let holders = 0
    const taking = takers.map(async (taker) => {
      const lease = await taker.store.lock('a', DAY, AbortSignal.timeout(LIMIT_MS))
      if (++holders > 1) throw new Error('two hold the lock')
      await taker.store.write('a', Buffer.from('1'))
      holders--
      await lease.release()
    })
    await Promise.all(taking)
  }
  t.same(await readdir(join(folder, ',locks')), [])
})

async function deadPid(): Promise<number> {
  const child: ChildProcess = spawn('true')
  await once(child, 'exit')
  return child.pid!
}
