/** Against a foreign implementation: what holds for Pebble may be its own habit, not RFC 8555. */
import t from 'tap'
import { startCaddy } from '../peers/caddy.ts'
import { issueErrorOf, requestFor, serveHttp01, serveTlsAlpn01, startWorld } from './acme-world.ts'

/** It looks for proofs on the ports 80 and 443 only: each process has those of an address of its own. */
const address = `127.${1 + (process.pid % 250)}.${(process.pid >> 8) % 250}.80`

const world = await startWorld(t)
const forever = new AbortController().signal
await serveHttp01(t, world.http01, 80, address)
await serveTlsAlpn01(t, world.tlsAlpn01, 443, address)
const caddy = await startCaddy()
t.teardown(() => caddy.stop())
const records = await world.records()
const issuer = await world.issuer(caddy, { id: 'caddy', records })

t.test('issues, and renews on the same account with another key', async (t) => {
  const first = await issuer.issue(requestFor([address]), forever)
  t.same(first.names, [address])
  t.ok(first.isValidAt(Date.now()))
  const account = await records.loadAccount('caddy')
  const { ariId, account: url } = first
  t.equal(url, account?.url)
  const replaces = ariId === undefined ? {} : { replaces: { ariId, account: url } }
  const second = await issuer.issue(requestFor([address], replaces), forever)
  t.not(second.serial, first.serial)
  t.not(second.keyPem, first.keyPem)
  t.equal((await records.loadAccount('caddy'))?.url, account?.url)
})

t.test('is content with a proof by tls-alpn-01 alone', async (t) => {
  const { names } = await issuer.issue(requestFor([address], { challenges: ['tls-alpn-01'] }), forever)
  t.same(names, [address])
})

t.test('changes no account keys (501), which costs nothing', async (t) => {
  const before = await records.loadAccount('caddy')
  t.match(await issueErrorOf(issuer.changeAccountKey()), {
    message: /^caddy: change of the account key: 501 /,
  })
  await issuer.issue(requestFor([address]), forever)
  t.same(await records.loadAccount('caddy'), before)
})

t.test('answers a probe, and confirms the account', async (t) => {
  await t.resolves(issuer.probe(forever))
  t.equal(await issuer.confirmAccount(forever), (await records.loadAccount('caddy'))?.url)
})
