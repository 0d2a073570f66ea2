import { setImmediate as otherWork } from 'node:timers/promises'
import t from 'tap'
import { VirtualClock } from '../../src/commands/simulate/virtual-clock.ts'
import { silentLog } from '../../src/log.ts'
import { openFileStore } from '../../src/store/fs.ts'
import { QuiescentStore } from '../../src/store/quiescent.ts'
import type { Store } from '../../src/store/store.ts'
import { SystemClock } from '../../src/time.ts'

t.test('a close waits for the writes under way, and for the holder of a lease', async (t) => {
  const files = await openFileStore(t.testdir({}), silentLog())
  const store = new QuiescentStore(files, new SystemClock())
  const lease = await store.lock('host', 10_000, new AbortController().signal)
  let closed = false
  const closing = store.close().then(() => {
    closed = true
  })
  for (let turn = 0; turn < 100; turn++) await otherWork()
  t.notOk(closed, 'the lease is held')
  await store.write('a', Buffer.from('1'))
  const writing = store.write('b', Buffer.from('2'))
  await lease.release()
  await closing
  await writing
  t.same(await files.list(''), ['a', 'b'])
})

t.test('a store that was closed takes nothing more', async (t) => {
  const folder = t.testdir({})
  const store = new QuiescentStore(await openFileStore(folder, silentLog()), new SystemClock())
  await store.close()
  const closed = { name: 'StoreError', message: 'The store is closed' }
  await t.rejects(store.write('a', Buffer.from('1')), closed)
  await t.rejects(store.lock('a', 10_000, new AbortController().signal), closed)
  t.same(await (await openFileStore(folder, silentLog())).list(''), [])
})

t.test('a medium that hangs holds up a close for 5 seconds and no more', async (t) => {
  const clock = new VirtualClock(0)
  let closed = false
  const hanging: Partial<Store> = {
    write: () => new Promise(() => {}),
    close: async () => {
      closed = true
    },
  }
  const store = new QuiescentStore(hanging as Store, clock)
  void store.write('a', Buffer.from('1'))
  const closing = store.close()
  await clock.advance(4999)
  t.notOk(closed)
  await clock.advance(1)
  await closing
  t.ok(closed)
})
