/** Hosts that depend on no CA of others, and those whose CAs are too few; nothing here leaves the machine. */
import { join } from 'node:path'
import t, { type Test } from 'tap'
import { diagnose } from '../../../src/commands/doctor.ts'
import { loadConfig } from '../../../src/config/load.ts'
import { freePort } from '../../peers/process.ts'
import { wordsOf } from './words.ts'

const noRecord = () => Promise.reject(Object.assign(new Error('no data'), { code: 'ENODATA' }))
const lookup = { resolve4: noRecord, resolve6: noRecord, resolveCaa: noRecord, resolveCname: noRecord }

async function examine(t: Test, host: string, cas: string[]) {
  const closed = `https://127.0.0.1:${await freePort()}/dir`
  const config = {
    listen: { admin: false },
    cas: { corp: { directory: closed } },
    sites: [{ hosts: [host], upstreams: ['http://127.0.0.1:9'], tls: { cas } }],
  }
  const folder = t.testdir({ 'c.json': JSON.stringify(config) })
  const { hosts } = await diagnose(await loadConfig(join(folder, 'c.json'), {}), lookup)
  const [report] = hosts
  return { ...report, words: report?.findings.map(wordsOf) ?? [] }
}

t.test('the internal CA alone needs nobody', async (t) => {
  const { words, dependsOnOne } = await examine(t, 'localhost', ['internal'])
  t.equal(words[0], 'ok CAs: the internal CA alone, which needs nobody')
  t.equal(dependsOnOne, false)
})

t.test('the internal CA is no second one for the public', async (t) => {
  const { words, usable } = await examine(t, 'app.example.com', ['corp', 'internal'])
  t.ok(
    words.includes(
      'fail trust (internal): only clients that were given its root trust it, so that it is no second CA for the public | fix: add a public CA to `tls.cas` for app.example.com',
    ),
  )
  t.same(usable, [])
})

t.test('it is one for a private name', async (t) => {
  const { usable, dependsOnOne } = await examine(t, 'wiki.internal', ['corp', 'internal'])
  t.same(usable, ['internal'])
  t.equal(dependsOnOne, true)
})

t.test('one CA only', async (t) => {
  const { words } = await examine(t, 'app.example.com', ['corp'])
  t.equal(words[0], 'fail CAs: none can issue | fix: add a second CA to `tls.cas`, such as zerossl')
})
