/**
 * A process that writes records without end, until it is killed: `writer.ts FOLDER FIRST_VERSION`. The certificate,
 * authority, account and job of a version say which it is. Prints `KIND VERSION` before it writes one.
 */
import { writeSync } from 'node:fs'
import { flushCompileCache } from 'node:module'
import { Certificate } from '../../src/cert/certificate.ts'
import { silentLog } from '../../src/log.ts'
import { openFileStore } from '../../src/store/fs.ts'
import { Records } from '../../src/store/records.ts'

const [folder = '', first] = process.argv.slice(2)
const records = new Records(await openFileStore(folder, silentLog()), silentLog())
const certificate = await records.loadCertificate('a.example', 'live')
const account = await records.loadAccount('ca')
if (certificate === undefined || account === undefined) throw new Error('the test lays the first of each')

// It is saved at a good end only, and there will be none.
flushCompileCache()

const tell = (kind: string, version: number): void => void writeSync(1, `${kind} ${version}\n`)

for (let version = Number(first); ; version++) {
  const lease = await records.lock('a.example', AbortSignal.timeout(10_000))
  tell('certificate', version)
  const { chainPem, keyPem } = certificate
  await records.saveCertificate(
    'a.example',
    'live',
    new Certificate(chainPem, keyPem, `${version}`, 'a test'),
  )
  tell('account', version)
  await records.saveAccount('ca', { ...account, url: `${version}` })
  tell('job', version)
  await records.saveState('jobs', 'a.example', { version })
  await lease.release()
}
