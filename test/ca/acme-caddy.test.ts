/** Against a foreign implementation: what holds for Pebble may be its own habit, not RFC 8555. */
import { once } from 'node:events'
import { createServer } from 'node:http'
import t from 'tap'
import { startCaddy } from '../peers/caddy.ts'
import { issueErrorOf, requestFor, startWorld } from './acme-world.ts'

/** It looks for proofs on port 80 only: each process has that of an address of its own. */
const address = `127.${1 + (process.pid % 250)}.${(process.pid >> 8) % 250}.80`

const world = await startWorld(t)
const forever = new AbortController().signal
const proofs = createServer((request, response) => {
  const answer = world.http01.answer(request.url ?? '')
  response.writeHead(answer === undefined ? 404 : 200).end(answer)
})
await once(proofs.listen(80, address), 'listening')
t.teardown(() => proofs.close())
const caddy = await startCaddy()
t.teardown(() => caddy.stop())
const records = await world.records()
const issuer = await world.issuer(caddy, { id: 'caddy', records })

t.test('issues, and renews on the same account with another key', async (t) => {
  const first = await issuer.issue(requestFor([address]), forever)
  t.same(first.names, [address])
  t.ok(first.isValidAt(Date.now()))
  const account = await records.loadAccount('caddy')
  const replaces = first.ariId === undefined ? {} : { replaces: first.ariId }
  const second = await issuer.issue(requestFor([address], replaces), forever)
  t.not(second.serial, first.serial)
  t.not(second.keyPem, first.keyPem)
  t.equal((await records.loadAccount('caddy'))?.url, account?.url)
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
