import { EventEmitter, once } from 'node:events'
import * as fs from 'node:fs'
import {
  appendFileSync,
  linkSync,
  mkdirSync,
  renameSync,
  rmSync,
  symlinkSync,
  unlinkSync,
  writeFileSync,
} from 'node:fs'
import { join } from 'node:path'
import t, { type Test } from 'tap'
import { type FileStamps, stampFiles, watchConfig } from '../../src/config/watch.ts'
import { type Clock, SystemClock } from '../../src/time.ts'

/** Watches files of the test's folder. Resolves when the kernel's watches are surely in place. */
async function watchFiles(t: Test, ...files: string[]) {
  const stamps = await stampFiles(files)
  const { changed, count, close } = watchSince(t, stamps)
  const ready = changed()
  appendFileSync(files[0] ?? '', ' ')
  await ready
  const already = count()
  return { changed, count: () => count() - already, close }
}

function watchSince(t: Test, stamps: FileStamps, clock: Clock = new SystemClock()) {
  const changes = new EventEmitter()
  let count = 0
  const watcher = watchConfig({ stamps }, clock, () => {
    count++
    changes.emit('change')
  })
  // Watches and timers of the program never keep a process alive.
  const keepAlive = setInterval(() => {}, 60_000)
  t.teardown(() => {
    clearInterval(keepAlive)
    watcher.close()
  })
  return { changed: () => once(changes, 'change'), count: () => count, close: () => watcher.close() }
}

/** Does not wait until it has been quiet. */
class ImpatientClock extends SystemClock {
  override after(_delayMs: number, task: () => void) {
    return super.after(0, task)
  }
}

t.test('a file that is written in place', async (t) => {
  const file = join(t.testdir({ config: '1' }), 'config')
  const { changed } = await watchFiles(t, file)
  writeFileSync(file, '2')
  await changed()
})

t.test('a file that is written through another name, as bind mounts are', async (t) => {
  const dir = t.testdir({ inside: { config: '1' }, outside: {} })
  linkSync(join(dir, 'inside/config'), join(dir, 'outside/config'))
  const { changed } = await watchFiles(t, join(dir, 'inside/config'))
  writeFileSync(join(dir, 'outside/config'), '2')
  await changed()
})

t.test('a file that is replaced by a rename, again and again', async (t) => {
  const dir = t.testdir({ config: '1' })
  const { changed } = await watchFiles(t, join(dir, 'config'))
  for (const text of ['2', '3', '4']) {
    writeFileSync(join(dir, 'config.new'), text)
    renameSync(join(dir, 'config.new'), join(dir, 'config'))
    await changed()
  }
})

t.test('a folder that is swapped behind a symlink, as Kubernetes does, again and again', async (t) => {
  const dir = t.testdir({ '..1': { config: '1' } })
  symlinkSync('..1', join(dir, '..data'))
  symlinkSync('..data/config', join(dir, 'config'))
  const { changed } = await watchFiles(t, join(dir, 'config'))
  for (const version of [2, 3, 4]) {
    mkdirSync(join(dir, `..${version}`))
    writeFileSync(join(dir, `..${version}/config`), `${version}`)
    symlinkSync(`..${version}`, join(dir, '..new'))
    renameSync(join(dir, '..new'), join(dir, '..data'))
    await changed()
    rmSync(join(dir, `..${version - 1}`), { recursive: true })
  }
})

t.test('a symlink that gets another target, and a new file behind the target', async (t) => {
  const dir = t.testdir({ live: {}, archive: { 'cert1.pem': '1', 'cert2.pem': '2' } })
  const link = join(dir, 'live/cert.pem')
  symlinkSync('../archive/cert1.pem', link)
  const { changed } = await watchFiles(t, link)
  unlinkSync(link)
  symlinkSync('../archive/cert2.pem', link)
  await changed()
  writeFileSync(join(dir, 'archive/new'), '3')
  renameSync(join(dir, 'archive/new'), join(dir, 'archive/cert2.pem'))
  await changed()
})

t.test('a file that is gone says nothing until it is back', async (t) => {
  const dir = t.testdir({ config: '1', key: '1', next: '2' })
  const files = [join(dir, 'config'), join(dir, 'key')]
  const { changed, count } = watchSince(t, await stampFiles(files), new ImpatientClock())
  renameSync(join(dir, 'next'), join(dir, 'config'))
  await changed()
  const folder = fs.watch(dir)
  t.teardown(() => folder.close())
  const gone = once(folder, 'change')
  unlinkSync(join(dir, 'key'))
  await gone
  // The watch has been told by now and looks at the disk at once; this takes longer.
  for (let round = 0; round < 20; round++) await stampFiles(files)
  t.equal(count(), 1)
  writeFileSync(join(dir, 'next'), '1')
  renameSync(join(dir, 'next'), join(dir, 'key'))
  await changed()
})

t.test('a folder that is gone and back', async (t) => {
  const dir = t.testdir({ etc: { config: '1' } })
  const { changed } = await watchFiles(t, join(dir, 'etc/config'))
  renameSync(join(dir, 'etc'), join(dir, 'etc.old'))
  mkdirSync(join(dir, 'etc'))
  writeFileSync(join(dir, 'etc/config'), '2')
  await changed()
  writeFileSync(join(dir, 'etc/config'), '3')
  await changed()
})

t.test('a file that was not there at first', async (t) => {
  const dir = t.testdir({ config: '1' })
  const { changed } = await watchFiles(t, join(dir, 'config'), join(dir, 'later/key'))
  mkdirSync(join(dir, 'later'))
  writeFileSync(join(dir, 'later/key'), '1')
  await changed()
})

t.test('a change between the reading and the watching', async (t) => {
  const file = join(t.testdir({ config: '1' }), 'config')
  const stamps = await stampFiles([file])
  writeFileSync(file, '2')
  await watchSince(t, stamps).changed()
})

t.test('a burst is told once, and other files of the folder never', async (t) => {
  const dir = t.testdir({ config: '1', key: '1' })
  const { changed, count } = await watchFiles(t, join(dir, 'config'), join(dir, 'key'))
  for (let i = 0; i < 10; i++) {
    appendFileSync(join(dir, 'config'), 'x')
    appendFileSync(join(dir, 'key'), 'x')
    appendFileSync(join(dir, 'log'), 'x')
  }
  await changed()
  writeFileSync(join(dir, 'config'), '2')
  await changed()
  t.equal(count(), 2)
})

t.test('a closed watch says nothing more', async (t) => {
  const file = join(t.testdir({ config: '1' }), 'config')
  const closed = await watchFiles(t, file)
  closed.close()
  await watchFiles(t, file)
  t.equal(closed.count(), 0)
})

t.test('a watch that is closed while it looks says nothing', async (t) => {
  const file = join(t.testdir({ config: '1' }), 'config')
  const stamps = await stampFiles([file])
  writeFileSync(file, '2')
  const closed = watchSince(t, stamps)
  closed.close()
  await watchSince(t, stamps).changed()
  t.equal(closed.count(), 0)
})

t.test('where the kernel has no watches left, the disk is asked now and then', async (t) => {
  const exhausted = (): never => {
    throw Object.assign(new Error('no space left'), { code: 'ENOSPC' })
  }
  const poor = await t.mockImport<typeof import('../../src/config/watch.ts')>('../../src/config/watch.ts', {
    'node:fs': { ...fs, watch: exhausted },
  })
  const file = join(t.testdir({ config: '1' }), 'config')
  const timers = new EventEmitter()
  const clock: Clock = {
    now: () => 0,
    monotonic: () => 0,
    after: (delayMs, task) => {
      timers.emit('set', delayMs, task)
      return () => {}
    },
  }
  let count = 0
  const firstTimer = once(timers, 'set')
  const watcher = poor.watchConfig({ stamps: await poor.stampFiles([file]) }, clock, () => count++)
  t.teardown(() => watcher.close())
  const [delayMs, look] = await firstTimer
  t.equal(delayMs, 5000)
  // At once, or a look that is under way may see it empty first.
  writeFileSync(`${file}.new`, '2')
  renameSync(`${file}.new`, file)
  const secondTimer = once(timers, 'set')
  look()
  const [, lookAgain] = await secondTimer
  const thirdTimer = once(timers, 'set')
  lookAgain()
  await thirdTimer
  t.equal(count, 1)
})
