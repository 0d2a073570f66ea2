import { execFile } from 'node:child_process'
import { X509Certificate } from 'node:crypto'
import { Resolver } from 'node:dns/promises'
import { once } from 'node:events'
import { connect } from 'node:net'
import { promisify } from 'node:util'
import { AuthorityKeyIdentifierExtension, X509Certificate as Parsed } from '@peculiar/x509'
import t from 'tap'
import { startDns } from './dns.ts'
import { exchange } from './exchange.ts'
import { startNginx } from './nginx.ts'
import { orderCertificate, parseChain } from './order.ts'
import { type Pebble, startPebble } from './pebble.ts'
import { freePort, Peer } from './process.ts'
import { startRedis } from './redis.ts'

const dns = await startDns()
t.teardown(() => dns.stop())
const httpPort = await freePort()

for (const version of ['2.4', '2.10'] as const) {
  t.test(`Pebble ${version}`, async (t) => {
    const lifetimeSeconds = 7200
    const pebble = await startPebble({
      version,
      dnsServer: dns.address,
      httpPort,
      tlsPort: 1,
      lifetimeSeconds,
    })
    t.teardown(() => pebble.stop())

    t.test('issues a certificate that chains to its root', async (t) => {
      const { pem } = await order(pebble)
      const [leaf, intermediate] = parseChain(pem)
      const root = new X509Certificate(await pebble.root())
      t.ok(leaf!.verify(intermediate!.publicKey))
      t.ok(intermediate!.verify(root.publicKey))
      t.equal(intermediate!.toString(), new X509Certificate(await pebble.intermediate()).toString())
      t.equal(leaf!.checkHost('app.example.com'), 'app.example.com')
    })

    t.test('issues for the lifetime asked for', async (t) => {
      const [leaf] = parseChain((await order(pebble)).pem)
      const seconds = (leaf!.validToDate.getTime() - leaf!.validFromDate.getTime()) / 1000
      t.ok(Math.abs(seconds - lifetimeSeconds) <= 1)
    })

    t.test('hangs when paused, and answers when resumed', async (t) => {
      pebble.pause()
      const answer = pebble.root()
      const first = await Promise.race([answer, readDns('still-here.example')])
      t.same(first, ['127.0.0.1'], 'another peer answered in the meantime')
      pebble.resume()
      t.match(await answer, 'BEGIN CERTIFICATE')
    })

    t.test('is a new CA on the same port after a restart', async (t) => {
      const before = await pebble.root()
      await pebble.restart()
      t.not(await pebble.root(), before)
      t.match(await order(pebble), { pem: 'BEGIN CERTIFICATE' })
    })

    t.test('refuses connections once stopped, until it is restarted', async (t) => {
      await pebble.stop()
      await t.rejects(pebble.root(), { code: 'ECONNREFUSED' })
      await pebble.restart()
      t.match(await pebble.root(), 'BEGIN CERTIFICATE')
    })
  })
}

t.test('Pebble announces the renewal window that it was given', async (t) => {
  const pebble = await startPebble({ dnsServer: dns.address, httpPort, tlsPort: 1 })
  t.teardown(() => pebble.stop())
  const { pem } = await order(pebble)
  const window = { start: new Date('2030-01-01T00:00:00Z'), end: new Date('2030-01-02T00:00:00Z') }
  await pebble.setRenewalInfo(parseChain(pem)[0]!.toString(), window)
  const headers = { 'user-agent': 'test' }
  const directory = await exchange(pebble.directory, { ca: pebble.minicaPem, headers })
  const { renewalInfo } = JSON.parse(directory.body.toString()) as { renewalInfo: string }
  const answer = await exchange(`${renewalInfo}/${ariIdOf(pem)}`, { ca: pebble.minicaPem, headers })
  t.match(JSON.parse(answer.body.toString()), {
    suggestedWindow: { start: '2030-01-01T00:00:00.000Z', end: '2030-01-02T00:00:00.000Z' },
  })
})

t.test('Pebble takes further configuration, such as external account binding', async (t) => {
  const config = { externalAccountBindingRequired: true, externalAccountMACKeys: { 'kid-1': 'c2VjcmV0' } }
  const pebble = await startPebble({ dnsServer: dns.address, httpPort, tlsPort: 1, config })
  t.teardown(() => pebble.stop())
  await t.rejects(order(pebble), /externalAccountBinding/)
})

t.test('a peer that cannot start says why', async (t) => {
  await t.rejects(Peer.start('redis-server', ['--no-such-option'], { ports: [await freePort()] }), {
    message: /no-such-option/,
  })
})

t.test('the DNS answers 127.0.0.1 for any name, and what was set', async (t) => {
  t.same(await readDns('anything.example'), ['127.0.0.1'])
  await dns.addA('moved.example', ['127.0.0.9'])
  t.same(await readDns('moved.example'), ['127.0.0.9'])
  await dns.addCaa('guarded.example', [{ tag: 'issue', value: 'ca.example' }])
  t.match(await resolver().resolveCaa('guarded.example'), [{ issue: 'ca.example' }])
})

t.test('Redis answers, and is gone once stopped', async (t) => {
  const redis = await startRedis()
  const { hostname, port } = new URL(redis.url)
  const socket = connect(Number(port), hostname)
  socket.write('PING\r\n')
  const [pong] = await once(socket, 'data')
  t.equal(String(pong), '+PONG\r\n')
  const closed = once(socket, 'close')
  await redis.stop()
  await closed
})

t.test('nginx serves the configuration that it was given', async (t) => {
  const port = await freePort()
  const nginx = await startNginx(`server { listen 127.0.0.1:${port}; root .; }`, [port], { 'a.txt': 'hello' })
  t.teardown(() => nginx.stop())
  t.match(await exchange(`http://127.0.0.1:${port}/a.txt`), { status: 200, body: Buffer.from('hello') })
})

function order(pebble: Pebble): ReturnType<typeof orderCertificate> {
  return orderCertificate({
    directory: pebble.directory,
    root: pebble.minicaPem,
    httpPort,
    name: 'app.example.com',
  })
}

function resolver(): Resolver {
  const own = new Resolver()
  own.setServers([dns.address])
  return own
}

function readDns(name: string): Promise<string[]> {
  return resolver().resolve4(name)
}

/** RFC 9773 section 4.1. */
function ariIdOf(pem: string): string {
  const leaf = new Parsed(parseChain(pem)[0]!.raw)
  const keyId = leaf.getExtension(AuthorityKeyIdentifierExtension)?.keyId ?? ''
  return [keyId, leaf.serialNumber].map((hex) => Buffer.from(hex, 'hex').toString('base64url')).join('.')
}

t.test('no two tests are given the same port, though none has bound it yet', async (t) => {
  const own = await Promise.all(Array.from({ length: 8 }, () => freePort()))
  // One that begins to look where this one did, and goes past where it is now.
  const program = `
    Object.defineProperty(process, 'pid', { value: ${process.pid} })
    const { freePort } = await import(${JSON.stringify(new URL('process.ts', import.meta.url).href)})
    console.log(JSON.stringify(await Promise.all(Array.from({ length: 64 }, () => freePort()))))
    process.exit()`
  const { stdout } = await promisify(execFile)(process.execPath, ['--input-type=module', '-e', program])
  const others: number[] = JSON.parse(stdout)
  t.equal(new Set([...own, ...others]).size, 8 + 64)
})
