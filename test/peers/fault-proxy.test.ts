import { X509Certificate } from 'node:crypto'
import { once } from 'node:events'
import type { IncomingMessage } from 'node:http'
import { get } from 'node:https'
import t from 'tap'
import { startDns } from './dns.ts'
import { type Exchange, exchange } from './exchange.ts'
import { type Fault, type FaultKind, startFaultProxy } from './fault-proxy.ts'
import { type Ordered, orderCertificate, parseChain } from './order.ts'
import { startPebble } from './pebble.ts'
import { freePort } from './process.ts'

const NAME = 'app.example.com'
/** Pebble refuses who does not say what it is (RFC 8555 section 6.1). */
const HEADERS = { 'user-agent': 'holdfast-test' }

const dns = await startDns()
const httpPort = await freePort()
const pebble = await startPebble({ dnsServer: dns.address, httpPort, tlsPort: 1 })
const proxy = await startFaultProxy({
  upstream: pebble.directory,
  upstreamRoot: pebble.minicaPem,
  signer: () => pebble.signer(),
})
t.teardown(() => Promise.all([proxy.stop(), pebble.stop(), dns.stop()]))
t.beforeEach(() => {
  proxy.requests.length = 0
})
t.afterEach(() => proxy.setFault(undefined))

t.test('without a fault a certificate is issued through it, and its requests are on record', async (t) => {
  const [leaf] = parseChain((await order()).pem)
  t.equal(leaf!.checkHost(NAME), NAME)
  t.match(proxy.requests[0], { method: 'GET', path: '/dir', time: Number })
  t.match(proxy.requests.at(-1), { method: 'POST', path: /^\/certZ\//, status: 200 })
})

t.test('the URLs in the directory lead back through it', async (t) => {
  const { newOrder } = JSON.parse((await ask()).body.toString())
  t.equal(new URL(newOrder).origin, new URL(proxy.directory).origin)
})

t.test('503: every answer', async (t) => {
  await proxy.setFault('503')
  t.match(await ask(), { status: 503, headers: { 'content-type': 'text/html' } })
})

t.test('429: a problem document, and stay away for a day', async (t) => {
  await proxy.setFault('429')
  const answer = await ask()
  t.match(answer, { status: 429, headers: { 'retry-after': '86400' } })
  t.match(JSON.parse(answer.body.toString()), { type: 'urn:ietf:params:acme:error:rateLimited' })
})

t.test('html: 200, and no JSON', async (t) => {
  await proxy.setFault('html')
  const answer = await ask()
  t.match(answer, { status: 200, headers: { 'content-type': 'text/html' } })
  t.throws(() => JSON.parse(answer.body.toString()))
})

t.test('refuse: closes the port and what is open, until the fault is lifted', async (t) => {
  await proxy.setFault('hang')
  const pending = ask()
  await seen(1)
  await proxy.setFault('refuse')
  await t.rejects(pending, { code: 'ECONNRESET' })
  await t.rejects(ask(), { code: 'ECONNREFUSED' })
  await proxy.setFault(undefined)
  t.match(await ask(), { status: 200 })
})

t.test('hang: the request is taken and never answered', async (t) => {
  await proxy.setFault('hang')
  const impatient = new AbortController()
  const pending = ask({ signal: impatient.signal })
  await seen(1)
  t.notOk('status' in proxy.requests[0]!)
  await proxy.setFault(undefined)
  const first = await Promise.race([pending.then(() => 'the hanging'), ask().then(() => 'the later')])
  t.equal(first, 'the later')
  impatient.abort()
  await t.rejects(pending, { name: 'AbortError' })
})

t.test('deserted: once the last client has gone', async (t) => {
  await proxy.setFault('hang')
  const impatient = new AbortController()
  const pending = ask({ signal: impatient.signal })
  await seen(1)
  const deserted = proxy.deserted().then(() => 'deserted')
  await proxy.setFault(undefined)
  t.equal(await Promise.race([deserted, ask().then(() => 'not yet')]), 'not yet')
  impatient.abort()
  await t.rejects(pending, { name: 'AbortError' })
  t.equal(await deserted, 'deserted')
})

t.test('drip: the true head, then one byte a second', async (t) => {
  await proxy.setFault('drip')
  const request = get(proxy.directory, { ca: proxy.rootPem, headers: HEADERS, agent: false })
  const [response] = (await once(request, 'response')) as [IncomingMessage]
  t.equal(response.statusCode, 200)
  t.ok(Number(response.headers['content-length']) > 100)
  const [first] = await once(response, 'data')
  const [second] = await once(response, 'data')
  t.equal(`${first}${second}`, '{\n')
  request.destroy()
})

t.test('bad-nonce: POST fails with a fresh nonce, GET does not', async (t) => {
  await proxy.setFault('bad-nonce')
  t.match(await ask(), { status: 200 })
  const answer = await ask({ method: 'POST', body: '{}' })
  t.match(answer, { status: 400, headers: { 'replay-nonce': /./ } })
  t.match(JSON.parse(answer.body.toString()), { type: 'urn:ietf:params:acme:error:badNonce' })
})

t.test('bad-nonce, twice: the nonce that it gives is good', async (t) => {
  await proxy.setFault({ kind: 'bad-nonce', times: 2 })
  t.match((await order()).pem, 'BEGIN CERTIFICATE')
})

t.test('a fault that is limited to a path leaves the others alone', async (t) => {
  await proxy.setFault({ kind: '503', path: /nonce/ })
  t.match(await ask(), { status: 200 })
  t.match(await ask({ path: '/nonce-plz' }), { status: 503 })
})

t.test('a fault that is limited in number passes', async (t) => {
  await proxy.setFault({ kind: '503', times: 2 })
  const statuses = [await ask(), await ask(), await ask()].map((answer) => answer.status)
  t.same(statuses, [503, 503, 200])
})

t.test('expired-certificate: only the time is wrong', async (t) => {
  const ordered = await orderUnder('expired-certificate')
  t.same(await faultsOf(ordered), ['expired'])
})

t.test('foreign-certificate: only the key is wrong', async (t) => {
  const ordered = await orderUnder('foreign-certificate')
  t.same(await faultsOf(ordered), ['key'])
})

t.test('wrong-name: only the name is wrong', async (t) => {
  const ordered = await orderUnder('wrong-name')
  t.same(await faultsOf(ordered), ['name'])
})

t.test('wrong-chain: the leaf is genuine, its issuer is not in the chain', async (t) => {
  const ordered = await orderUnder('wrong-chain')
  t.same(await faultsOf(ordered), [])
  const [leaf, other] = parseChain(ordered.pem)
  t.notOk(leaf!.checkIssued(other!))
})

t.test('truncated: the PEM ends in the middle', async (t) => {
  const { pem } = await orderUnder('truncated')
  t.match(pem, 'BEGIN CERTIFICATE')
  t.ok(parseChain(pem).length < 2)
})

t.test('no fault: a certificate without faults', async (t) => {
  t.same(await faultsOf(await order()), [])
})

t.test('an upstream that has gone looks like a broken connection', async (t) => {
  await pebble.stop()
  await t.rejects(ask(), { code: 'ECONNRESET' })
  await pebble.restart()
  t.match(await ask(), { status: 200 })
})

interface Question {
  method?: string
  path?: string
  body?: string
  signal?: AbortSignal
}

function ask({ path, ...options }: Question = {}): Promise<Exchange> {
  const url = new URL(path ?? '/dir', proxy.directory).href
  return exchange(url, { ca: proxy.rootPem, headers: HEADERS, ...options })
}

function order(): Promise<Ordered> {
  return orderCertificate({ directory: proxy.directory, root: proxy.rootPem, httpPort, name: NAME })
}

async function orderUnder(fault: FaultKind | Fault): Promise<Ordered> {
  await proxy.setFault(fault)
  return order()
}

/** Resolves once so many requests have arrived. */
async function seen(count: number): Promise<void> {
  while (proxy.requests.length < count) await new Promise(setImmediate)
}

/** What is wrong with the leaf, apart from what follows it in the chain. */
async function faultsOf(ordered: Ordered): Promise<string[]> {
  const leaf = parseChain(ordered.pem)[0]!
  const issuer = new X509Certificate(await pebble.intermediate())
  const checks = {
    expired: leaf.validToDate.getTime() > Date.now(),
    key: leaf.publicKey.export({ type: 'spki', format: 'pem' }) === ordered.publicKey,
    name: leaf.checkHost(NAME) === NAME,
    signature: leaf.checkIssued(issuer) && leaf.verify(issuer.publicKey),
  }
  return Object.entries(checks).flatMap(([what, good]) => (good ? [] : [what]))
}
