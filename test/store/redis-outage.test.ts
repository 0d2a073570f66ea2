import { once } from 'node:events'
import t from 'tap'
import { silentLog } from '../../src/log.ts'
import { openRedisStore } from '../../src/store/redis.ts'
import { freePort, Peer } from '../peers/process.ts'
import { startRedis } from '../peers/redis.ts'
import { memoryLog } from '../support/log.ts'

const LIMIT_MS = 20_000

t.test('a Redis that hangs fails calls, and serves again once it answers', async (t) => {
  const redis = await startRedis()
  t.teardown(() => redis.stop())
  const store = await openRedisStore(redis.url, silentLog())
  t.teardown(() => store.close())
  await store.write('a', Buffer.from('1'))
  redis.pause()
  const expected = { name: 'StoreError', code: 'STORE_UNAVAILABLE', message: /does not answer in time/ }
  await Promise.all([
    t.rejects(store.read('a'), expected),
    t.rejects(openRedisStore(redis.url, silentLog()), expected),
  ])
  redis.resume()
  t.same(await store.read('a'), Buffer.from('1'))
})

t.test('a Redis that goes away and comes back is told once each, and serves again', async (t) => {
  const port = await freePort()
  const startAgain = (): Promise<Peer> =>
    Peer.start('redis-server', ['--port', String(port), '--save', '', '--appendonly', 'no'], {
      ports: [port],
    })
  const first = await startAgain()
  const { log, lines, warnings } = memoryLog()
  const store = await openRedisStore(`redis://127.0.0.1:${port}`, log)
  t.teardown(() => store.close())
  const before = warnings().length
  await first.stop()
  await t.rejects(store.read('a'), { name: 'StoreError', code: 'STORE_UNAVAILABLE', message: /start it/ })
  t.same(
    warnings()
      .slice(before)
      .map((line) => line.msg),
    ['lost the store; connecting again'],
  )
  const writing = store.write('a', Buffer.from('1'))
  const second = await startAgain()
  t.teardown(() => second.stop())
  await writing
  t.same(await store.read('a'), Buffer.from('1'))
  t.match(lines.at(-1)?.msg, /^Redis at 127\.0\.0\.1:\d+ is back$/)
})

t.test('a lease is lost when Redis hangs for its ttl', async (t) => {
  const redis = await startRedis()
  t.teardown(() => redis.stop())
  const store = await openRedisStore(redis.url, silentLog())
  t.teardown(() => store.close())
  const lease = await store.lock('a', 500, AbortSignal.timeout(LIMIT_MS))
  redis.pause()
  await once(lease.lost, 'abort', { signal: AbortSignal.timeout(LIMIT_MS) })
  t.match(lease.lost.reason, { name: 'StoreError', code: 'LOCK_LOST' })
  redis.resume()
})
