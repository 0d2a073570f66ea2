import t from 'tap'
import { examineAuthority } from '../../../src/commands/doctor/authority.ts'
import { resolveCa } from '../../../src/config/cas.ts'
import { silentLog } from '../../../src/log.ts'
import { openFileStore } from '../../../src/store/fs.ts'
import { Records } from '../../../src/store/records.ts'
import { SystemClock } from '../../../src/time.ts'
import { startPebble } from '../../peers/pebble.ts'
import { wordsOf } from './words.ts'

const pebble = await startPebble({
  dnsServer: '127.0.0.1:9',
  httpPort: 1,
  tlsPort: 1,
  config: { externalAccountBindingRequired: true },
})
t.teardown(() => pebble.stop())
const folder = t.testdir({ 'roots.pem': pebble.minicaPem })
const store = await openFileStore(`${folder}/store`, silentLog())
t.teardown(() => store.close())
const records = new Records(store, silentLog())
const base = { directory: pebble.directory, contact: [], roots: `${folder}/roots.pem` }

const options = { records, clock: new SystemClock(), distrusted: [] }

async function examine(config: object) {
  const ca = resolveCa('p', { ...base, ...config })!
  const { findings, usable } = await examineAuthority(ca, options)
  return { words: findings.map(wordsOf), usable }
}

t.test('an EAB that is needed and not there', async (t) => {
  const { words, usable } = await examine({})
  t.equal(
    words[1],
    'fail account: none yet, and the CA makes none without an external account binding (EAB) | fix: add "eab": { "kid": …, "hmacKey": … } from your account at the CA to `cas.p`',
  )
  t.equal(usable, false)
})

t.test('an EAB that is not tried yet, whose key is not told', async (t) => {
  const { words, usable } = await examine({ eab: { kid: 'k', hmacKey: 'c2VjcmV0' } })
  t.equal(
    words[1],
    'warn account: none yet: the CA says whether it accepts the EAB when the first order makes one | fix: order from p before you need it: the canary of `holdfast drill` does, and so does a standby',
  )
  t.notMatch(words.join(), 'c2VjcmV0')
  t.equal(usable, true)
})

t.test('a profile that is not on offer', async (t) => {
  const { words } = await examine({ profile: 'tlsserver' })
  t.equal(
    words.at(-1),
    'warn profile: there is no tlsserver (on offer: none), so orders go without | fix: set `cas.p.profile` to one of them, or remove it',
  )
})

t.test('no store', async (t) => {
  const { findings } = await examineAuthority(resolveCa('p', base)!, { ...options, records: undefined })
  t.same(findings.map(wordsOf).slice(1), [
    'warn account: not looked at: the store cannot be read | fix: mend the store first',
  ])
})

t.test('the internal CA', async (t) => {
  const ca = resolveCa('internal', undefined)!
  const { findings, usable } = await examineAuthority(ca, options)
  t.same(findings.map(wordsOf), ['ok directory: is Holdfast itself: needs nobody'])
  t.equal(usable, true)
})
