import t from 'tap'
import type { Account, Records } from '../../src/store/records.ts'
import type { FaultProxy } from '../peers/fault-proxy.ts'
import type { Pebble } from '../peers/pebble.ts'
import { issueErrorOf, requestFor, startWorld } from './acme-world.ts'

const world = await startWorld(t)
const forever = new AbortController().signal
const request = requestFor(['app.example.com'])

const KEY_IDS = {
  'kid-1': 'zWNDZM6eQGHWpSRTPal5eIUYFTu7EajVIoguysqZ9wG44nMEtx3MUAsUDkMTQ12W',
  'kid-2': 'b10lLJs8l1GPIzsLP0s6pMt8O0XVGnfTaCeROxQM0BIt2XrJMDHJZBM5NuQmQJQH',
}

/** A Pebble, and a proxy before it that counts. */
async function startCounted(config = {}): Promise<{ pebble: Pebble; proxy: FaultProxy }> {
  const pebble = await world.startPebble({ config })
  return { pebble, proxy: await world.startFaultProxy(pebble) }
}

function through(proxy: FaultProxy, records: Records) {
  return { directory: proxy.directory, endpointRoots: proxy.rootPem, records }
}

function accountsMade({ requests }: FaultProxy): number {
  return requests.filter(({ path }) => path === '/sign-me-up').length
}

t.test('is made once and kept over restarts', async (t) => {
  const { pebble, proxy } = await startCounted()
  const records = await world.records()
  for (let start = 0; start < 2; start++) {
    const issuer = await world.issuer(pebble, through(proxy, records))
    await issuer.issue(request, forever)
    await issuer.issue(request, forever)
  }
  t.equal(accountsMade(proxy), 1)
  t.match(await records.loadAccount('pebble'), { directory: proxy.directory, url: /\/my-account\// })
})

t.test('is made once by processes that share a store', async (t) => {
  const { pebble, proxy } = await startCounted()
  const records = await world.records()
  const issuers = await Promise.all([1, 2, 3].map(() => world.issuer(pebble, through(proxy, records))))
  const certificates = await Promise.all(issuers.map((issuer) => issuer.issue(request, forever)))
  t.equal(certificates.length, 3)
  t.equal(accountsMade(proxy), 1)
})

t.test('is told of whenever something is asked as it, and so is the one that takes its place', async (t) => {
  const pebble = await world.startPebble()
  const used: string[] = []
  const issuer = await world.issuer(pebble, { trust: 'any', onAccount: (url) => used.push(url) })
  await issuer.issue(request, forever)
  await pebble.restart()
  await issuer.issue(request, forever)
  const [first, again, other] = used
  t.equal(used.length, 3)
  t.equal(again, first)
  t.not(other, first)
})

t.test('is made anew at a CA that was reset', async (t) => {
  const pebble = await world.startPebble()
  const records = await world.records()
  await (await world.issuer(pebble, { records })).issue(request, forever)
  const lost = await records.loadAccount('pebble')
  await pebble.restart()

  t.test('before the first order after our restart', async (t) => {
    const issuer = await world.issuer(pebble, { records })
    t.same((await issuer.issue(request, forever)).names, request.names)
    t.not((await records.loadAccount('pebble'))?.url, lost?.url)
  })

  t.test('in the midst of our life', async (t) => {
    const known = await world.issuer(pebble, { records, trust: 'any' })
    await known.issue(request, forever)
    await pebble.restart()
    t.same((await known.issue(request, forever)).names, request.names)
  })
})

t.test('is kept while the CA that was reset makes no new one', async (t) => {
  const { pebble, proxy } = await startCounted()
  const records = await world.records()
  const issuer = await world.issuer(pebble, { ...through(proxy, records), trust: 'any' })
  await issuer.issue(request, forever)
  const account = await records.loadAccount('pebble')
  await pebble.restart()
  await proxy.setFault({ kind: '503', path: /sign-me-up/ })
  t.match(await issueErrorOf(issuer.issue(request, forever)), { code: 'CA_UNAVAILABLE' })
  t.same(await records.loadAccount('pebble'), account)
})

t.test('is made anew where the config names another directory', async (t) => {
  const { pebble, proxy } = await startCounted()
  const records = await world.records()
  await (await world.issuer(pebble, { records })).issue(request, forever)
  await (await world.issuer(pebble, through(proxy, records))).issue(request, forever)
  t.equal(accountsMade(proxy), 1)
  t.equal((await records.loadAccount('pebble'))?.directory, proxy.directory)
})

t.test('external account binding', async (t) => {
  const { pebble, proxy } = await startCounted({
    externalAccountBindingRequired: true,
    externalAccountMACKeys: KEY_IDS,
  })
  const records = await world.records()
  const issue = async (eab: { kid: string; hmacKey: string } | undefined) =>
    (await world.issuer(pebble, { ...through(proxy, records), eab })).issue(request, forever)

  t.test('whose absence or falsehood is the account to blame, and tells no secret', async (t) => {
    for (const eab of [
      undefined,
      { kid: 'kid-1', hmacKey: KEY_IDS['kid-2'] },
      { kid: 'none', hmacKey: KEY_IDS['kid-2'] },
    ]) {
      const error = await issueErrorOf(issue(eab))
      t.match(error, { code: 'ACCOUNT_REJECTED', blame: 'account', retry: 'now' })
      t.match(error.message, /^pebble: new account: 4\d\d /)
      t.notMatch(error.message, KEY_IDS['kid-2'])
    }
    t.equal(await records.loadAccount('pebble'), undefined)
  })

  t.test('binds the account, once', async (t) => {
    await issue({ kid: 'kid-1', hmacKey: KEY_IDS['kid-1'] })
    const made = accountsMade(proxy)
    await issue({ kid: 'kid-1', hmacKey: KEY_IDS['kid-1'] })
    t.equal(accountsMade(proxy), made)
    t.match(await records.loadAccount('pebble'), { eabKid: 'kid-1' })
  })

  t.test('with another key id makes another account', async (t) => {
    const before = await records.loadAccount('pebble')
    await issue({ kid: 'kid-2', hmacKey: KEY_IDS['kid-2'] })
    const after = await records.loadAccount('pebble')
    t.equal(after?.eabKid, 'kid-2')
    t.not(after?.url, before?.url)
  })

  t.test('may leave the config once the account is there', async (t) => {
    const before = await records.loadAccount('pebble')
    await issue(undefined)
    t.same(await records.loadAccount('pebble'), before)
  })
})

t.test('contact', async (t) => {
  const { pebble, proxy } = await startCounted()
  const records = await world.records()
  const issue = async (contact: string[]) =>
    (await world.issuer(pebble, { ...through(proxy, records), contact })).issue(request, forever)
  const isUpdate = ({ path }: { path: string }) => path.startsWith('/my-account/')

  t.test('that the CA dislikes makes no account', async (t) => {
    const error = await issueErrorOf(issue(['tel:+1234']))
    t.match(error, { code: 'ACCOUNT_REJECTED', blame: 'account' })
  })

  t.test('is given with the account, and again by a process that finds one', async (t) => {
    await issue(['mailto:one@example.com'])
    t.notOk(proxy.requests.some(isUpdate))
    await issue(['mailto:two@example.com'])
    t.equal(proxy.requests.filter(isUpdate).length, 1)
  })

  t.test('that the CA dislikes costs no certificate once there is an account', async (t) => {
    t.match(await issue(['tel:+1234']), { names: request.names })
    t.match(world.log.warnings().at(-1)?.msg, 'pebble does not take the contact')
  })
})

t.test('is confirmed without a change', async (t) => {
  const { pebble, proxy } = await startCounted()
  const records = await world.records()
  const issuer = await world.issuer(pebble, through(proxy, records))

  t.test('none yet: none is made, and the CA is not asked', async (t) => {
    t.equal(await issuer.confirmAccount(forever), undefined)
    t.equal(accountsMade(proxy), 0)
    t.equal(await records.loadAccount('pebble'), undefined)
  })

  t.test('one that the CA knows: its URL', async (t) => {
    await issuer.issue(request, forever)
    const account = await records.loadAccount('pebble')
    t.equal(await issuer.confirmAccount(forever), account?.url)
    t.same(await records.loadAccount('pebble'), account)
  })

  t.test('one that the CA has lost: no new one', async (t) => {
    await pebble.restart()
    const account = await records.loadAccount('pebble')
    const error = await issueErrorOf(issuer.confirmAccount(forever))
    t.match(error, { code: 'ACCOUNT_REJECTED', problem: { type: /:accountDoesNotExist$/ } })
    t.same(await records.loadAccount('pebble'), account)
  })
})

t.test('a store that fails is ours to mend', async (t) => {
  const pebble = await world.startPebble()
  const records = await world.records()
  class Full extends Error {}
  const broken = {
    loadAccount: (ca: string) => records.loadAccount(ca),
    saveAccount: async (_ca: string, _account: Account) => {
      throw new Full('the disk is full')
    },
    lock: (name: string, signal: AbortSignal) => records.lock(name, signal),
  }
  const issuer = await world.issuer(pebble, { records: broken as unknown as Records })
  const error = await issueErrorOf(issuer.issue(request, forever))
  t.match(error, { code: 'LOCAL_FAILURE', blame: 'local', message: 'pebble: order: the disk is full' })
  t.type(error.cause, Full)
})
