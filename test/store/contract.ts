/** What every `Store` must do. Run by `fs.test.ts` and `redis.test.ts`. */
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { join } from 'node:path'
import type { Test } from 'tap'
import { silentLog } from '../../src/log.ts'
import { openStore } from '../../src/store/open.ts'
import type { Store } from '../../src/store/store.ts'
import { keepAlive } from '../support/alive.ts'

/** Long enough for a loaded machine; nothing below takes that long when it works. */
const LIMIT_MS = 20_000

/** @param url of an empty store for each test */
export function testStoreContract(t: Test, makeUrl: (t: Test) => Promise<string>): void {
  const test = (name: string, body: (t: Test, store: Store, url: string) => Promise<void>): void => {
    t.test(name, async (t) => {
      const url = await makeUrl(t)
      const store = await openStore(url, '/', silentLog())
      t.teardown(() => store.close())
      await body(t, store, url)
    })
  }
  keepAlive(t)
  testBytes(test)
  testKeys(test)
  testLocks(test)
}

type Define = (name: string, body: (t: Test, store: Store, url: string) => Promise<void>) => void

function testBytes(test: Define): void {
  test('an absent key reads as undefined', async (t, store) => {
    t.equal(await store.read('absent'), undefined)
    t.equal(await store.read('folder/absent'), undefined)
  })

  test('what was written is read back byte by byte', async (t, store) => {
    const values = [Buffer.alloc(0), Buffer.from([0, 255, 10, 13, 128]), Buffer.alloc(1_000_000, 'é')]
    for (const [index, value] of values.entries()) {
      await store.write(`a/${index}`, value)
      t.same(await store.read(`a/${index}`), value)
    }
  })

  test('another connection sees what was written', async (t, store, url) => {
    const other = await openStore(url, '/', silentLog())
    t.teardown(() => other.close())
    await store.write('shared', Buffer.from('1'))
    t.same(await other.read('shared'), Buffer.from('1'))
  })

  test('a write replaces what was there', async (t, store) => {
    await store.write('a', Buffer.from('a long old value'))
    await store.write('a', Buffer.from('new'))
    t.same(await store.read('a'), Buffer.from('new'))
  })

  test('a removed key is absent, and removing it again does nothing', async (t, store) => {
    await store.write('a/b', Buffer.from('1'))
    await store.remove('a/b')
    t.equal(await store.read('a/b'), undefined)
    await store.remove('a/b')
    await store.remove('never/there')
  })

  test('a reader sees one of two values that are written at once, whole', async (_t, store) => {
    const values = ['a', 'b'].map((letter) => Buffer.alloc(100_000, letter))
    await store.write('key', values[0]!)
    let writing = true
    const writers = values.map(async (value) => {
      for (let round = 0; round < 30; round++) await store.write('key', value)
    })
    const reader = async (): Promise<void> => {
      while (writing) {
        const found = await store.read('key')
        if (!values.some((value) => found?.equals(value))) throw new Error('a value was torn')
      }
    }
    const reading = reader()
    await Promise.all(writers)
    writing = false
    await reading
  })

  test('writing and removing siblings at once never fails', async (t, store) => {
    const busy = ['a', 'b', 'c'].map(async (name) => {
      for (let round = 0; round < 50; round++) {
        await store.write(`deep/folder/${name}`, Buffer.from(name))
        await store.remove(`deep/folder/${name}`)
      }
    })
    await Promise.all(busy)
    t.same(await store.list(''), [])
  })
}

function testKeys(test: Define): void {
  test('keys are listed by prefix, sorted', async (t, store) => {
    const keys = ['b/1', 'b/10', 'b/2', 'b/c/d', 'b.x', 'bb/1', 'a']
    for (const key of keys) await store.write(key, Buffer.from(key))
    t.same(await store.list('b/'), ['b/1', 'b/10', 'b/2', 'b/c/d'])
    t.same(await store.list('b/1'), ['b/1', 'b/10'])
    t.same(await store.list('b'), ['b.x', 'b/1', 'b/10', 'b/2', 'b/c/d', 'bb/1'])
    t.same(await store.list(''), [...keys].sort())
    for (const prefix of ['absent/', 'b/c/d/', '*', '/', '../', 'b//'])
      t.same(await store.list(prefix), [], prefix)
  })

  test('more keys than one page are all listed', async (t, store) => {
    const keys = Array.from({ length: 1200 }, (_, index) => `k/${String(index).padStart(4, '0')}`)
    for (let start = 0; start < keys.length; start += 100) {
      await Promise.all(keys.slice(start, start + 100).map((key) => store.write(key, Buffer.from('1'))))
    }
    t.same(await store.list('k/'), keys)
  })

  test('every sign of the alphabet, and 255 of them, make a key', async (t, store) => {
    const keys = ['AZaz09._~%@+-', '...', '.a', 'a..b/c.', `${'x'.repeat(255)}/${'y'.repeat(255)}`, '%2E%2E']
    for (const key of keys) {
      await store.write(key, Buffer.from(key))
      t.same(await store.read(key), Buffer.from(key), key)
    }
    t.same(await store.list(''), keys.toSorted())
  })

  test('what is no key is refused', async (t, store) => {
    const bad = [
      '',
      '/',
      'a/',
      '/a',
      'a//b',
      '.',
      '..',
      '../a',
      'a/../b',
      'a/.',
      './a',
      'a b',
      'a\\b',
      'ü',
      'a\0',
      'a\n',
      ',a',
      '*',
    ]
    for (const key of bad) {
      const expected = { name: 'StoreError', code: 'STORE_DENIED' }
      await t.rejects(store.read(key), expected, `read ${JSON.stringify(key)}`)
      await t.rejects(store.write(key, Buffer.from('1')), expected, `write ${JSON.stringify(key)}`)
      await t.rejects(store.remove(key), expected, `remove ${JSON.stringify(key)}`)
    }
    t.same(await store.list(''), [])
  })
}

function testLocks(test: Define): void {
  const limit = (): AbortSignal => AbortSignal.timeout(LIMIT_MS)

  test('a lock is free again once it is released, and releasing twice does nothing', async (t, store) => {
    const first = await store.lock('*.example.com', 10_000, limit())
    await first.release()
    const second = await store.lock('*.example.com', 10_000, limit())
    await first.release()
    t.equal(second.lost.aborted, false)
    await t.rejects(store.lock('*.example.com', 10_000, AbortSignal.timeout(1)))
    await second.release()
  })

  test('locks of different names do not wait for each other', async (t, store) => {
    const leases = await Promise.all(['a', 'b', 'a/b', 'a*'].map((name) => store.lock(name, 10_000, limit())))
    t.equal(leases.length, 4)
    for (const lease of leases) await lease.release()
  })

  test('a lock is no key', async (t, store) => {
    const lease = await store.lock('a', 10_000, limit())
    t.same(await store.list(''), [])
    await lease.release()
  })

  test('of many who want a lock one at a time has it, and each gets it', async (t, store, url) => {
    const stores = await Promise.all([1, 2, 3].map(() => openStore(url, '/', silentLog())))
    for (const each of stores) t.teardown(() => each.close())
    let holders = 0
    let turns = 0
    const contender = async (own: Store): Promise<void> => {
      for (let round = 0; round < 2; round++) {
        const lease = await own.lock('busy', 10_000, limit())
        if (++holders > 1) throw new Error('two hold the lock')
        await own.write('busy', Buffer.from(String(turns++)))
        holders--
        await lease.release()
      }
    }
    await Promise.all([store, ...stores].flatMap((each) => [contender(each), contender(each)]))
    t.equal(turns, 16)
  })

  test('waiting ends with the signal, and leaves the lock to others', async (t, store) => {
    const held = await store.lock('a', 10_000, limit())
    const reason = new Error('enough')
    const controller = new AbortController()
    const waiting = store.lock('a', 10_000, controller.signal)
    controller.abort(reason)
    await t.rejects(waiting, reason)
    await t.rejects(store.lock('a', 10_000, AbortSignal.abort(reason)), reason)
    await held.release()
    await (await store.lock('a', 10_000, limit())).release()
  })

  test('a holder keeps its lock for longer than the ttl', async (t, store) => {
    const lease = await store.lock('a', 300, limit())
    await t.rejects(store.lock('a', 300, AbortSignal.timeout(1200)), { name: 'TimeoutError' })
    t.equal(lease.lost.aborted, false)
    await lease.release()
  })

  test('the lock of a holder that was killed is free after its ttl', async (t, store, url) => {
    const holder = spawn(process.execPath, [join(import.meta.dirname, 'holder.ts'), url, 'a', '500'], {
      stdio: ['ignore', 'pipe', 'inherit'],
    })
    t.teardown(() => holder.kill('SIGKILL'))
    await once(holder.stdout, 'data')
    await t.rejects(store.lock('a', 500, AbortSignal.timeout(800)), { name: 'TimeoutError' })
    holder.kill('SIGKILL')
    const lease = await store.lock('a', 500, limit())
    t.equal(lease.lost.aborted, false)
    await lease.release()
  })
}
