/** What becomes of an account: a new key (RFC 8555 section 7.3.5), its end (section 7.3.6), whatever answer is lost. */
import t from 'tap'
import type { AcmeIssuer } from '../../src/ca/acme.ts'
import { generateKeyPem } from '../../src/cert/x509.ts'
import type { Account, Records } from '../../src/store/records.ts'
import { issueErrorOf, requestFor, startWorld } from './acme-world.ts'

const world = await startWorld(t)
const forever = new AbortController().signal
const request = requestFor(['app.example.com'])
const pebble = await world.startPebble()

/** An issuer whose account is made. */
async function start(): Promise<{ records: Records; issuer: AcmeIssuer; account: () => Promise<Account> }> {
  const records = await world.records()
  const issuer = await world.issuer(pebble, { records })
  await issuer.issue(request, forever)
  const account = async () => (await records.loadAccount('pebble')) ?? t.bailout('no account')
  return { records, issuer, account: account as () => Promise<Account> }
}

t.test('a new key: the same account, and nothing answers to the old key', async (t) => {
  const { records, issuer, account } = await start()
  const before = await account()
  await issuer.changeAccountKey()
  const after = await account()
  t.equal(after.url, before.url)
  t.not(after.keyPem, before.keyPem)
  t.equal(after.nextKeyPem, undefined)
  t.equal(await issuer.confirmAccount(forever), before.url)
  await issuer.issue(request, forever)
  t.equal((await account()).url, before.url, 'no order has made another account')
  await records.saveAccount('pebble', before)
  t.match(await issueErrorOf(issuer.confirmAccount(forever)), {
    problem: { type: /:accountDoesNotExist$/ },
  })
})

t.test('a crash after the CA took the new key: the next order finds it', async (t) => {
  const { records, issuer, account } = await start()
  const before = await account()
  await issuer.changeAccountKey()
  const { keyPem } = await account()
  await records.saveAccount('pebble', { ...before, nextKeyPem: keyPem })
  t.equal(await issuer.confirmAccount(forever), before.url)
  await issuer.issue(request, forever)
  t.same(await account(), { ...before, keyPem })
})

t.test('a crash before the CA was asked: the old key stays', async (t) => {
  const { records, issuer, account } = await start()
  const before = await account()
  await records.saveAccount('pebble', { ...before, nextKeyPem: await generateKeyPem('ecdsa-p256') })
  t.equal(await issuer.confirmAccount(forever), before.url)
  await issuer.issue(request, forever)
  t.same(await account(), before)
})

t.test('a CA that does not answer leaves both keys, and the change is made good', async (t) => {
  const records = await world.records()
  const proxy = await world.startFaultProxy(pebble)
  const through = { directory: proxy.directory, endpointRoots: proxy.rootPem, records }
  const issuer = await world.issuer(pebble, through)
  await issuer.issue(request, forever)
  const before = await records.loadAccount('pebble')
  await proxy.setFault({ kind: '503', path: /rollover/ })
  t.match(await issueErrorOf(issuer.changeAccountKey()), { code: 'CA_UNAVAILABLE' })
  t.match(await records.loadAccount('pebble'), { keyPem: before?.keyPem, nextKeyPem: /PRIVATE KEY/ })
  await proxy.setFault(undefined)
  await issuer.changeAccountKey()
  const after = await records.loadAccount('pebble')
  t.equal(after?.url, before?.url)
  t.not(after?.keyPem, before?.keyPem)
  t.equal(after?.nextKeyPem, undefined)
})

t.test('an order in whose midst the key changes goes on with the new one', async (t) => {
  const { records, issuer, account } = await start()
  const before = await account()
  let asked = 0
  const changing = await world.issuer(pebble, {
    records: {
      loadAccount: async (ca) => {
        if (asked++ > 0) return records.loadAccount(ca)
        const old = await records.loadAccount(ca)
        await issuer.changeAccountKey()
        return old
      },
      saveAccount: (ca, changed) => records.saveAccount(ca, changed),
      removeAccount: (ca) => records.removeAccount(ca),
      lock: (name, signal) => records.lock(name, signal),
    },
  })
  t.same((await changing.issue(request, forever)).names, request.names)
  t.equal((await account()).url, before.url)
})

t.test('the end: it is gone at the CA and here, and the next order makes another', async (t) => {
  const { records, issuer, account } = await start()
  const before = await account()
  await issuer.deactivateAccount()
  t.equal(await records.loadAccount('pebble'), undefined)
  await records.saveAccount('pebble', before)
  await t.rejects(issuer.confirmAccount(forever), 'the CA takes it no more')

  await t.test('also where a crash came before it was gone here', async (t) => {
    await issuer.deactivateAccount()
    t.equal(await records.loadAccount('pebble'), undefined)
  })

  await issuer.issue(request, forever)
  t.not((await account()).url, before.url)
})

t.test('without an account there is nothing to change or to end', async (t) => {
  const issuer = await world.issuer(pebble)
  for (const change of [() => issuer.changeAccountKey(), () => issuer.deactivateAccount()])
    t.match(await issueErrorOf(change()), { message: /account: there is none in the store/ })
})
