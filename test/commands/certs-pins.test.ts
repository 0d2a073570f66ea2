/** Pinned roots and the running instance: it takes them over, and lets go of them, at once. */
import { mkdir, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import t from 'tap'
import { startDns } from '../peers/dns.ts'
import { startPebble } from '../peers/pebble.ts'
import { admin, prepare, run, serve, startApp, writeConfig } from './program.ts'

const dns = await startDns()
t.teardown(() => dns.stop())
const setup = await prepare(t, await startApp(t))
const { folder, ports } = setup
const pebble = await startPebble({ dnsServer: dns.address, httpPort: ports.http, tlsPort: ports.https })
t.teardown(() => pebble.stop())
await writeFile(join(folder, 'endpoint.pem'), pebble.minicaPem)
await writeConfig(setup, {
  ...setup.config,
  // Its chains end in a root that the public set lacks, as one that a later runtime has dropped.
  cas: { pebble: { directory: pebble.directory, roots: 'endpoint.pem', trust: 'public' } },
  tls: { cas: ['pebble'], standby: 'off' },
  sites: [{ hosts: ['app.example.com'], upstreams: ['http://127.0.0.1:9'] }],
})
const certs = (...args: string[]) => run(folder, ['certs', ...args])
const program = await serve(t, setup)

t.test('a root that is pinned counts from then on', async (t) => {
  await program.said('CA_BAD_CERTIFICATE')
  await mkdir(join(folder, 'data/roots'), { recursive: true })
  await writeFile(join(folder, 'data/roots/pebble.pem'), await pebble.root())
  t.equal((await admin(setup, '/api/cas/pebble/roots', { method: 'POST' })).status, 202)
  t.equal((await admin(setup, '/api/cas/nobody/roots', { method: 'POST' })).status, 404)
  t.match(await certs('renew', 'app.example.com'), { code: 0 })
  await program.said('certificate issued by pebble')
  t.match(await certs('roots'), { out: /pebble \(pinned\)/ })
  t.match(await certs('roots', 'pin', 'pebble'), { code: 0, out: /^Pinned "Pebble Root CA .*" for pebble: / })
})

t.test('a root that is let go of counts no more', async (t) => {
  t.match(await certs('roots', 'unpin', 'pebble'), { code: 0, out: /^The roots of pebble are those of its/ })
  t.match(program.out, /is unverifiable: /, 'judged before the command ended')
})
