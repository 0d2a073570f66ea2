/** Hosts that depend on no CA of others, and those whose CAs are too few; nothing here leaves the machine. */
import { join } from 'node:path'
import t, { type Test } from 'tap'
import { diagnose } from '../../../src/commands/doctor.ts'
import { loadConfig } from '../../../src/config/load.ts'
import { silentLog } from '../../../src/log.ts'
import { openStore } from '../../../src/store/open.ts'
import { Records } from '../../../src/store/records.ts'
import { freePort } from '../../peers/process.ts'
import { wordsOf } from './words.ts'

const noRecord = () => Promise.reject(Object.assign(new Error('no data'), { code: 'ENODATA' }))
const lookup = { resolve4: noRecord, resolve6: noRecord, resolveCaa: noRecord, resolveCname: noRecord }

interface Distrust {
  readonly byConfig?: boolean
  readonly byOperator?: boolean
}

/** @param internal whether the internal CA is distrusted */
async function examine(t: Test, host: string, cas: string[], internal: Distrust = {}) {
  const closed = `https://127.0.0.1:${await freePort()}/dir`
  const config = {
    listen: { admin: false },
    cas: {
      corp: { directory: closed },
      dev: { type: 'internal' },
      internal: { distrusted: internal.byConfig },
    },
    sites: [{ hosts: [host], upstreams: ['http://127.0.0.1:9'], tls: { cas } }],
  }
  const folder = t.testdir({ 'c.json': JSON.stringify(config) })
  const loaded = await loadConfig(join(folder, 'c.json'), {})
  const store = await openStore(loaded.config.store, loaded.baseDir, silentLog())
  if (internal.byOperator)
    await new Records(store, silentLog()).saveState('verdicts', 'all', {
      condemned: {},
      distrusted: ['internal'],
    })
  await store.close()
  const { cas: authorities, hosts } = await diagnose(loaded, lookup)
  const [report] = hosts
  const ofInternal = authorities.find(({ ca }) => ca === 'internal')?.findings.map(wordsOf)
  const standings = report?.cas.map(({ ca, standing }) => `${ca}: ${standing}`)
  return { ...report, ofInternal, standings, words: report?.findings.map(wordsOf) ?? [] }
}

t.test('the internal CA alone needs nobody', async (t) => {
  const { words, dependsOnOne, standings, failover } = await examine(t, 'localhost', ['internal'])
  t.equal(words[0], 'ok CAs: the internal CA alone, which needs nobody')
  t.same([standings, failover], [['internal: ok'], 'needs nobody'])
  t.equal(dependsOnOne, false)
})

t.test('the internal CA is no second one for the public', async (t) => {
  const { words, usable, standings, failover } = await examine(t, 'app.example.com', ['corp', 'internal'])
  t.ok(
    words.includes(
      'fail trust (internal): only clients that were given its root trust it, so that it is no second CA for the public | fix: add a public CA to `tls.cas` for app.example.com',
    ),
  )
  t.same(usable, [])
  t.same([standings, failover], [['corp: unreachable', 'internal: untrusted'], 'no CA'])
})

t.test('it is one for a private name', async (t) => {
  const { usable, dependsOnOne, failover } = await examine(t, 'wiki.internal', ['corp', 'internal'])
  t.same(usable, ['internal'])
  t.equal(dependsOnOne, true)
  t.equal(failover, 'one CA alone')
})

for (const [who, distrust, fix] of [
  ['the config', { byConfig: true }, 'remove `cas.internal.distrusted` when it may be trusted'],
  ['`certs distrust`', { byOperator: true }, 'run `holdfast certs trust internal` when it may be trusted'],
] as const)
  t.test(`a CA that is distrusted by ${who} is no CA to fall back on`, async (t) => {
    const { ofInternal, usable, standings } = await examine(
      t,
      'wiki.internal',
      ['corp', 'internal'],
      distrust,
    )
    t.same(usable, [])
    t.equal(standings?.at(-1), 'internal: distrusted')
    t.equal(ofInternal?.at(-1), `fail trust: is distrusted by you, and asked for nothing | fix: ${fix}`)
  })

t.test('an internal CA that is distrusted leaves the others, which need nobody', async (t) => {
  const { usable, dependsOnOne } = await examine(t, 'wiki.internal', ['dev', 'internal'], { byConfig: true })
  t.same(usable, ['dev'])
  t.equal(dependsOnOne, false)
})

t.test('a CA that can never serve a wildcard is told, with the way out', async (t) => {
  const { dependsOnOne, failover, standings, words } = await examine(t, '*.example.com', ['corp', 'internal'])
  t.same([standings, failover], [['internal: untrusted', 'corp: cannot issue'], 'no CA'])
  t.equal(dependsOnOne, true)
  t.equal(words[0], 'fail CAs: none can issue | fix: mend what fails for internal, corp')
  t.ok(
    words.includes(
      'fail name (corp): corp issues wildcards by dns-01 only, which Holdfast does not answer | fix: list the names that you serve in the place of *.example.com, or give its site `tls.certificate`; if every client has the internal root, "tls": { "cas": ["internal"] }',
    ),
  )
})

t.test('so is a public CA that is listed for a private name, and no DNS is asked', async (t) => {
  const { dependsOnOne, failover, standings, words } = await examine(t, 'wiki.internal', [
    'letsencrypt',
    'internal',
  ])
  t.same([standings, failover], [['internal: ok', 'letsencrypt: cannot issue'], 'one CA alone'])
  t.equal(dependsOnOne, true)
  t.same(words.slice(0, 2), [
    'fail CAs: internal alone can issue | fix: mend what fails for letsencrypt',
    'fail name (letsencrypt): letsencrypt issues for public names only | fix: take "letsencrypt" out of the `tls.cas` of wiki.internal',
  ])
  t.notOk(words.some((each) => each.includes('address')))
})

t.test('the internal CA alone for a wildcard needs nobody, where the operator says so', async (t) => {
  const { dependsOnOne, failover } = await examine(t, '*.example.com', ['internal'])
  t.same([dependsOnOne, failover], [false, 'needs nobody'])
})

t.test('one CA only', async (t) => {
  const { words } = await examine(t, 'app.example.com', ['corp'])
  t.equal(words[0], 'fail CAs: none can issue | fix: add a second CA to `tls.cas`, such as zerossl')
})
