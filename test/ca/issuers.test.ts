import t from 'tap'
import { Issuers } from '../../src/ca/issuers.ts'
import { resolveCa } from '../../src/config/cas.ts'
import { silentLog } from '../../src/log.ts'
import { openFileStore } from '../../src/store/fs.ts'
import { Records } from '../../src/store/records.ts'
import { SystemClock } from '../../src/time.ts'
import { makeAuthority, makeCertificate } from '../support/certificates.ts'

t.test('a pinned root is one that chains of its CA may end in, and of no other, at once', async (t) => {
  const log = silentLog()
  const records = new Records(await openFileStore(t.testdir({}), log), log)
  const authority = await makeAuthority()
  const issuers = new Issuers({ records, clock: new SystemClock(), log, solvers: [] })
  for (const name of ['letsencrypt', 'google']) {
    const ca = resolveCa(name, undefined)
    if (ca !== undefined) issuers.create(ca)
  }
  // As if the runtime had dropped the root from its set.
  const verify = async (source: string) => {
    await issuers.load()
    return issuers.verify(await makeCertificate({ names: ['app.example.com'], authority, source }))
  }
  await t.rejects(verify('letsencrypt'), { code: 'CHAIN_INVALID' })
  await records.savePinnedRoots('letsencrypt', authority.rootPem)
  t.equal((await verify('letsencrypt'))?.toString(), authority.rootPem)
  await t.rejects(verify('google'), { code: 'CHAIN_INVALID' })
  await records.removePinnedRoots('letsencrypt')
  await t.rejects(verify('letsencrypt'), { code: 'CHAIN_INVALID' })
})
