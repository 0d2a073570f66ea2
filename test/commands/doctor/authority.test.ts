import t from 'tap'
import { examineAuthority } from '../../../src/commands/doctor/authority.ts'
import { resolveCa } from '../../../src/config/cas.ts'
import { StoreError } from '../../../src/errors.ts'
import { silentLog } from '../../../src/log.ts'
import { openFileStore } from '../../../src/store/fs.ts'
import { Records } from '../../../src/store/records.ts'
import { SystemClock } from '../../../src/time.ts'
import { requestFor, startWorld } from '../../ca/acme-world.ts'
import { wordsOf } from './words.ts'

const KEYS = {
  'kid-1': 'zWNDZM6eQGHWpSRTPal5eIUYFTu7EajVIoguysqZ9wG44nMEtx3MUAsUDkMTQ12W',
  'kid-2': 'b10lLJs8l1GPIzsLP0s6pMt8O0XVGnfTaCeROxQM0BIt2XrJMDHJZBM5NuQmQJQH',
}
const EAB = { kid: 'kid-1', hmacKey: KEYS['kid-1'] }

const world = await startWorld(t)
const pebble = await world.startPebble({
  config: { externalAccountBindingRequired: true, externalAccountMACKeys: KEYS },
})
const proxy = await world.startFaultProxy(pebble)
const folder = t.testdir({ 'roots.pem': proxy.rootPem })
const base = { directory: proxy.directory, contact: [], roots: `${folder}/roots.pem` }
const records = await world.records()
const options = { records, clock: new SystemClock(), distrusted: [] }

async function examine(config: object, more: Partial<Parameters<typeof examineAuthority>[1]> = {}) {
  const ca = resolveCa('p', { ...base, ...config })!
  const { findings, usable, accountUri } = await examineAuthority(ca, { ...options, ...more })
  return { words: findings.map(wordsOf), usable, accountUri }
}

function accountsAsked(): number {
  return proxy.requests.filter(({ path }) => path === '/sign-me-up').length
}

t.test('an EAB that is needed and not there', async (t) => {
  const { words, usable } = await examine({})
  t.equal(
    words[1],
    'fail account: none yet, and the CA makes none without an external account binding (EAB) | fix: add "eab": { "kid": …, "hmacKey": … } from your account at the CA to `cas.p`',
  )
  t.equal(usable, false)
})

t.test('an EAB that the CA refuses: the fix, no account, and no secret', async (t) => {
  for (const eab of [
    { kid: 'kid-1', hmacKey: KEYS['kid-2'] },
    { kid: 'none', hmacKey: KEYS['kid-2'] },
  ]) {
    const { words, usable } = await examine({ eab })
    t.match(
      words[1],
      /^fail account: the CA does not accept the EAB: p: new account: 4\d\d .* \| fix: take `kid` and `hmacKey` from your account at the CA, as they are there, for `cas\.p\.eab`$/,
    )
    t.notMatch(words.join(), KEYS['kid-2'])
    t.equal(usable, false)
  }
  t.equal(await records.loadAccount('p'), undefined)
})

t.test('an EAB that the CA could not be asked about', async (t) => {
  await proxy.setFault({ kind: '503', path: /sign-me-up/ })
  const { words, usable } = await examine({ eab: EAB })
  await proxy.setFault(undefined)
  t.equal(
    words[1],
    'fail account: p: new account: 503, so that it is not known whether the CA accepts the EAB | fix: run doctor again later',
  )
  t.equal(usable, false)
})

t.test('an account that is refused for another reason than its EAB', async (t) => {
  for (const [contact, type] of [
    ['tel:+1234', 'unsupportedContact'],
    ['mailto:ops', 'invalidContact'],
  ]) {
    const { words } = await examine({ eab: EAB, contact: [contact] })
    t.match(words[1], `fail account: p: new account: 400 ${type}`)
    t.match(words[1], '| fix: set `cas.p.contact` to an address that the CA takes')
  }
})

t.test('an account that the store does not take', async (t) => {
  const full = () => Promise.reject(new StoreError('STORE_UNAVAILABLE', 'the disk is full'))
  const store = await openFileStore(`${folder}/full`, silentLog())
  t.teardown(() => store.close())
  const broken = new Records(
    {
      read: (key) => store.read(key),
      lock: (...asked) => store.lock(...asked),
      write: full,
      remove: full,
      list: full,
      close: full,
    },
    silentLog(),
  )
  const { words } = await examine({ eab: EAB }, { records: broken })
  t.equal(
    words[1],
    'fail account: p: account: the disk is full | fix: see `store` in the config, and who may write it',
  )
})

t.test('no account is made at a CA that is distrusted', async (t) => {
  const before = accountsAsked()
  for (const { words } of [
    await examine({ eab: EAB, distrusted: true }),
    await examine({ eab: EAB }, { distrusted: ['p'] }),
  ])
    t.equal(words[1], 'ok account: none yet, and none is made at a CA that is distrusted')
  t.equal(accountsAsked(), before)
})

t.test('without a store an EAB is not tested', async (t) => {
  const before = accountsAsked()
  const { words, usable } = await examine({ eab: EAB }, { records: undefined })
  t.same(words.slice(1), [
    'warn account: not looked at: the store cannot be read, and so not tested whether the CA accepts the EAB | fix: mend the store first',
  ])
  t.equal(usable, true)
  t.equal(accountsAsked(), before)
})

t.test('an EAB that the CA accepts: the account that orders then use', async (t) => {
  const { words, usable, accountUri } = await examine({ eab: EAB })
  t.equal(
    words[1],
    `ok account: made just now, and valid at the CA, bound to EAB key id kid-1: ${accountUri}`,
  )
  t.notMatch(words.join(), EAB.hmacKey)
  t.equal(usable, true)

  const again = await examine({ eab: EAB })
  t.equal(again.words[1], `ok account: valid at the CA, bound to EAB key id kid-1: ${accountUri}`)
  t.match(await records.loadAccount('p'), { url: accountUri, eabKid: 'kid-1' })

  const before = accountsAsked()
  const issuer = await world.issuer(pebble, {
    id: 'p',
    directory: proxy.directory,
    endpointRoots: proxy.rootPem,
    records,
    eab: EAB,
  })
  const { account } = await issuer.issue(requestFor(['app.example.com']), new AbortController().signal)
  t.equal(account, accountUri)
  t.equal(accountsAsked(), before)
})

t.test('an account of another EAB stays: an instance may use it until it reloads', async (t) => {
  const before = await records.loadAccount('p')
  const { words } = await examine({ eab: { kid: 'kid-2', hmacKey: KEYS['kid-2'] } })
  t.match(
    words[1],
    /^warn account: the one in the store is of another EAB or directory: .* \| fix: order from p/,
  )
  t.same(await records.loadAccount('p'), before)
})

t.test('a profile that is not on offer', async (t) => {
  const { words } = await examine({ profile: 'tlsserver' })
  t.equal(
    words.at(-1),
    'warn profile: there is no tlsserver (on offer: default), so orders go without | fix: set `cas.p.profile` to one of them, or remove it',
  )
})

t.test('no store', async (t) => {
  const { words } = await examine({}, { records: undefined })
  t.same(words.slice(1), [
    'warn account: not looked at: the store cannot be read | fix: mend the store first',
  ])
})

t.test('the internal CA', async (t) => {
  const ca = resolveCa('internal', undefined)!
  const { findings, usable } = await examineAuthority(ca, options)
  t.same(findings.map(wordsOf), ['ok directory: is Holdfast itself: needs nobody'])
  t.equal(usable, true)
})
