/** `certs account` and `certs revoke` against a real CA, through the running instance and without one. */
import { readFile, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import t from 'tap'
import { startDns } from '../peers/dns.ts'
import { startPebble } from '../peers/pebble.ts'
import { admin, prepare, run, serve, startApp, until, writeConfig } from './program.ts'

const dns = await startDns()
t.teardown(() => dns.stop())
const setup = await prepare(t, await startApp(t))
const { folder, ports } = setup
const pebble = await startPebble({ dnsServer: dns.address, httpPort: ports.http, tlsPort: ports.https })
t.teardown(() => pebble.stop())
await writeFile(join(folder, 'endpoint.pem'), pebble.minicaPem)
await writeConfig(setup, {
  ...setup.config,
  cas: { pebble: { directory: pebble.directory, roots: 'endpoint.pem', trust: 'any' } },
  tls: { cas: ['pebble', 'internal'], standby: 'off' },
  sites: [{ hosts: ['app.example.com'], upstreams: ['http://127.0.0.1:9'] }],
})
const account = (...args: string[]) => run(folder, ['certs', 'account', ...args])
const stored = async () => JSON.parse(await readFile(join(folder, 'data/accounts/pebble'), 'utf8'))

t.test('an account that is not there yet, a CA without one, and words that do not fit', async (t) => {
  t.match(await account('pebble', 'rollover'), { code: 1, err: /there is none in the store: the first/ })
  t.match(await account('internal', 'rollover'), { code: 1, err: /the config has no CA internal with an/ })
  t.match(await account('pebble'), { code: 2, err: /certs account CA rollover\|deactivate/ })
})

t.test('rollover by the running instance', async (t) => {
  const program = await serve(t, setup)
  await until(async () =>
    /"source": "pebble"|"ca": "pebble"/.test(await (await admin(setup, '/api/certificates')).text()),
  )
  const before = await stored()
  t.match(await account('pebble', 'rollover'), { code: 0, out: 'The account at pebble has a new key.\n' })
  const after = await stored()
  t.equal(after.url, before.url)
  t.not(after.keyPem, before.keyPem)
  t.match(await account('internal', 'rollover'), { code: 1, err: /the running instance has no CA internal/ })
  await program.end('SIGTERM')
  t.notMatch(program.out, /PRIVATE KEY/)
})

t.test('revocation by the CA that issued it', async (t) => {
  const program = await serve(t, setup)
  t.match(await run(folder, ['certs', 'revoke', 'app.example.com']), {
    code: 0,
    out: /^The live certificate for app\.example\.com is revoked: it gives way to others\. [^\n]*\n$/,
  })
  await program.end('SIGTERM')
})

t.test('rollover, then the end, while none runs', async (t) => {
  const before = await stored()
  t.match(await account('pebble', 'rollover'), { code: 0 })
  t.not((await stored()).keyPem, before.keyPem)
  t.match(await account('pebble', 'deactivate'), { code: 0, out: /^The account at pebble is deactivated\. / })
  await t.rejects(stored(), { code: 'ENOENT' })
})
