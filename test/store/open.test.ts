import { join } from 'node:path'
import t from 'tap'
import { silentLog } from '../../src/log.ts'
import { openStore } from '../../src/store/open.ts'
import { freePort } from '../peers/process.ts'

t.test('a file: path is relative to the config’s folder, unless it is absolute', async (t) => {
  const base = t.testdir({ config: {} })
  const cases = [
    ['file:./data', 'config/data'],
    ['file:data', 'config/data'],
    ['file:../data', 'data'],
    [`file:${base}/absolute`, 'absolute'],
    [`file://${base}/absolute`, 'absolute'],
  ] as const
  for (const [url, folder] of cases) {
    const store = await openStore(url, join(base, 'config'), silentLog())
    await store.write('key', Buffer.from(url))
    const plain = await openStore(`file:${join(base, folder)}`, '/', silentLog())
    t.equal(String(await plain.read('key')), url)
  }
})

t.test('redis:// and rediss:// lead to Redis', async (t) => {
  const port = await freePort()
  for (const scheme of ['redis', 'rediss']) {
    const opening = openStore(`${scheme}://127.0.0.1:${port}`, '/', silentLog())
    await t.rejects(opening, { name: 'StoreError', message: /^Redis at 127\.0\.0\.1/ })
  }
})
