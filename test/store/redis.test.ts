import t from 'tap'
import { startRedis } from '../peers/redis.ts'
import { testStoreContract } from './contract.ts'

t.test('contract', async (t) => {
  const redis = await startRedis()
  t.teardown(() => redis.stop())
  let database = 0
  testStoreContract(t, async () => `${redis.url}/${database++}`)
})
