/** Which certificate `certs export` takes out of the store. */
import t, { type Test } from 'tap'
import type { OwnFault } from '../../src/cert/verdicts.ts'
import { exported } from '../../src/commands/certs/export.ts'
import { configSchema } from '../../src/config/schema.ts'
import { silentLog } from '../../src/log.ts'
import { openStore } from '../../src/store/open.ts'
import { Records } from '../../src/store/records.ts'
import { DAY, SystemClock } from '../../src/time.ts'
import { makeCertificate } from '../support/certificates.ts'

const HOST = 'app.example.com'
const make = (source: string, more = {}) => makeCertificate({ names: [HOST], source, ...more })
const live = await make('a')
const standby = await make('b')
const expired = await make('a', { notBefore: Date.now() - 91 * DAY })
const names = new Map([live, standby, expired].map((each) => [each.chainPem + each.keyPem, each]))

interface Stored {
  readonly liveIs?: OwnFault
  readonly standbyIs?: OwnFault
  /** In the store. */
  readonly distrusted?: readonly string[]
  /** By the config. */
  readonly distrustedByConfig?: readonly string[]
  readonly liveExpired?: boolean
}

/** @returns whose certificate comes out, `a` or `b`, or the error */
async function exportOf(t: Test, stored: Stored, options: { role?: string; waitMs?: number } = {}) {
  const { liveIs, standbyIs, distrusted = [], distrustedByConfig = [], liveExpired = false } = stored
  const { store } = configSchema.parse({ sites: [{ hosts: [HOST], upstreams: ['http://127.0.0.1:9'] }] })
  const records = new Records(await openStore(store, t.testdir({}), silentLog()), silentLog())
  await records.saveCertificate(HOST, 'live', liveExpired ? expired : live)
  await records.saveCertificate(HOST, 'standby', standby)
  const condemned = {
    ...(liveIs && { [liveIs === 'compromised' ? live.keyFingerprint : live.fingerprint]: liveIs }),
    ...(standbyIs && {
      [standbyIs === 'compromised' ? standby.keyFingerprint : standby.fingerprint]: standbyIs,
    }),
  }
  await records.saveState('verdicts', 'all', { condemned, distrusted })
  try {
    const content = await exported(records, async () => new SystemClock(), HOST, {
      role: options.role,
      waitMs: options.waitMs,
      format: 'pem',
      passphrase: undefined,
      distrusted: new Set(distrustedByConfig),
    })
    return names.get(String(content))?.source
  } catch (error) {
    return (error as Error).message
  } finally {
    await records.close()
  }
}

t.test('what is served comes out, also while it is waited for', async (t) => {
  const cases: [name: string, stored: Stored, source: string][] = [
    ['both well', {}, 'a'],
    ['the live one expired', { liveExpired: true }, 'b'],
    ['revoked', { liveIs: 'revoked' }, 'b'],
    ['compromised', { liveIs: 'compromised' }, 'b'],
    ['its CA distrusted', { distrusted: ['a'] }, 'b'],
    ['its CA distrusted by the config', { distrustedByConfig: ['a'] }, 'b'],
  ]
  for (const [name, stored, source] of cases) {
    t.equal(await exportOf(t, stored), source, name)
    t.equal(await exportOf(t, stored, { waitMs: 0 }), source, name)
  }
})

t.test('where neither is good: as served, or another is waited for', async (t) => {
  const revoked: Stored = { liveIs: 'revoked', standbyIs: 'revoked' }
  const none = `no valid certificate for ${HOST} has come within 0ms`
  t.equal(await exportOf(t, revoked), 'a')
  t.equal(await exportOf(t, revoked, { waitMs: 0 }), none)
  const compromised: Stored = { liveIs: 'compromised', standbyIs: 'compromised' }
  t.equal(await exportOf(t, compromised), `the store holds no certificate for ${HOST} that may be served`)
})

t.test('a role that is named is kept to', async (t) => {
  const revoked: Stored = { liveIs: 'revoked' }
  t.equal(await exportOf(t, {}, { role: 'standby' }), 'b')
  t.equal(await exportOf(t, revoked, { role: 'live' }), 'a')
  t.equal(
    await exportOf(t, revoked, { role: 'live', waitMs: 0 }),
    `no valid live certificate for ${HOST} has come within 0ms`,
  )
})
