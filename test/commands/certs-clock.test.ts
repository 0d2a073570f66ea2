/** A running instance may know the time better than its machine: `certs` goes by it. */
import { once } from 'node:events'
import { writeFile } from 'node:fs/promises'
import { createServer } from 'node:http'
import { join } from 'node:path'
import t from 'tap'
import { silentLog } from '../../src/log.ts'
import { openFileStore } from '../../src/store/fs.ts'
import { Records } from '../../src/store/records.ts'
import { DAY, HOUR } from '../../src/time.ts'
import { makeCertificate } from '../support/certificates.ts'
import { prepare, run, writeConfig } from './program.ts'

const HOST = 'localhost'

for (const aheadMs of [30 * DAY, -30 * DAY]) {
  t.test(`the clock of the machine is ${aheadMs / DAY} days ahead`, async (t) => {
    // To the machine, which these processes cannot set, the right time is so much ago, or to come.
    const right = Date.now() - aheadMs
    const certificate = await makeCertificate({ names: [HOST], notBefore: right - HOUR, days: 7 })
    const setup = await prepare(t, 'http://127.0.0.1:9')
    await writeConfig(setup, setup.config)
    await writeFile(join(setup.folder, 'own.pem'), certificate.chainPem + certificate.keyPem)
    const records = new Records(await openFileStore(join(setup.folder, 'data'), silentLog()), silentLog())
    await records.saveCertificate(HOST, 'live', certificate)
    await records.close()
    const certs = (...args: string[]) => run(setup.folder, ['certs', ...args])

    t.test('without an instance the machine is believed', async (t) => {
      t.match(await certs('export', HOST, '--wait=0s'), {
        code: 1,
        err: /no valid certificate for localhost/,
      })
      t.match(await certs('import', HOST, '--certificate', 'own.pem'), { code: 1, err: /own\.pem: / })
    })

    t.test('with one, its time counts', async (t) => {
      const answers: Record<string, unknown> = {
        '/api/clock': { now: new Date(right).toISOString(), errorSeconds: aheadMs / 1000 },
      }
      const instance = createServer((request, response) => {
        response.end(JSON.stringify(answers[request.url ?? ''] ?? []))
      })
      t.teardown(() => instance.close())
      await once(instance.listen(setup.ports.admin, '127.0.0.1'), 'listening')
      t.match(await certs('list'), { code: 0, out: /6d2[23]h left/ })
      t.match(await certs('export', HOST, '--wait=0s'), { code: 0, out: /BEGIN CERTIFICATE/ })
      t.match(await certs('import', HOST, '--certificate', 'own.pem'), { code: 0, out: /^Imported/ })
    })

    t.test('what else listens at its address is not minded', async (t) => {
      const stranger = createServer((_, response) => response.end('<html>'))
      t.teardown(() => stranger.close())
      await once(stranger.listen(setup.ports.admin, '127.0.0.1'), 'listening')
      t.match(await certs('export', HOST), { code: 0, out: /BEGIN CERTIFICATE/ })
    })
  })
}
