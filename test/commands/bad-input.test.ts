/** What `serve` makes of what it cannot use: one clear line on stderr, the exit code, and nothing lost. */
import { once } from 'node:events'
import { chmod, mkdir, readdir, readFile, writeFile } from 'node:fs/promises'
import { type AddressInfo, createServer } from 'node:net'
import { join } from 'node:path'
import t, { type Test } from 'tap'
import { generateKeyPem } from '../../src/cert/x509.ts'
import { makeCertificate } from '../support/certificates.ts'
import { prepare, rootOf, run, type Setup, serve, writeConfig } from './program.ts'

const UPSTREAM = 'http://127.0.0.1:9'
/** Of every Debian; owns nothing. */
const NOBODY = 65534

/** Serves in vain. @returns what it said on stderr, with the folder as `.` */
async function failure(t: Test, setup: Setup, args: string[] = [], code = 1): Promise<string> {
  const finished = await run(setup.folder, ['serve', ...args])
  t.equal(finished.code, code)
  t.notMatch(finished.out, /serving/)
  return finished.err.replaceAll(setup.folder, '.')
}

t.test('a config that is not there', async (t) => {
  const setup = await prepare(t, UPSTREAM)
  t.equal(
    await failure(t, setup, ['--config', 'no.json']),
    'holdfast: no.json does not exist (name the config with --config FILE)\n',
  )
})

t.test('a config that cannot be parsed: which file it is, and where in it', async (t) => {
  const setup = await prepare(t, UPSTREAM)
  const says = 'line 2, column 1: the file ends, but "{" of line 1, column 1 is not closed\n'
  await writeFile(join(setup.folder, 'proxy.config.json'), '{\n')
  await writeFile(join(setup.folder, 'other.json'), '{\n')
  t.equal(await failure(t, setup), `holdfast: proxy.config.json: ${says}`)
  t.equal(await failure(t, setup, ['--config', './other.json']), `holdfast: ./other.json: ${says}`)
  t.match(await run(setup.folder, ['check']), { code: 1, err: `proxy.config.json: ${says}` })
})

t.test('a config with several faults: a line for each', async (t) => {
  const setup = await prepare(t, UPSTREAM)
  await writeConfig(setup, {
    ...setup.config,
    sites: [{ hosts: ['localhost'], upstream: [UPSTREAM] }],
    forwarder: 'slow',
  })
  t.equal(
    await failure(t, setup),
    [
      'holdfast: sites[0]: unknown key "upstream" (did you mean "upstreams"?)',
      'holdfast: forwarder: "slow" is not one of "fast", "compat"',
      '',
    ].join('\n'),
  )
})

t.test('an option that does not exist: exit code 2', async (t) => {
  const setup = await prepare(t, UPSTREAM)
  t.equal(await failure(t, setup, ['--confg', 'x'], 2), "holdfast: Unknown option '--confg'\n")
})

t.test('certificates of your own that cannot be served', async (t) => {
  const good = await makeCertificate({ names: ['localhost'] })
  const old = await makeCertificate({ names: ['localhost'], notBefore: Date.parse('2020-01-01'), days: 30 })
  const cases = [
    { name: 'no PEM at all', pem: 'hello', key: good.keyPem },
    { name: "another certificate's key", pem: good.chainPem, key: await generateKeyPem('ecdsa-p256') },
    { name: 'an expired one', pem: old.chainPem, key: old.keyPem },
  ]
  const said: string[] = []
  for (const { pem, key } of cases) {
    const setup = await prepare(t, UPSTREAM)
    await writeFile(join(setup.folder, 'own.pem'), pem)
    await writeFile(join(setup.folder, 'own.key'), key)
    const tls = { certificate: 'own.pem', key: 'own.key' }
    await writeConfig(setup, {
      ...setup.config,
      sites: [{ hosts: ['localhost'], upstreams: [UPSTREAM], tls }],
    })
    said.push(await failure(t, setup))
  }
  t.strictSame(said, [
    'holdfast: ./own.pem: is not PEM; PKCS#12 brings its own key: leave `key` out\n',
    'holdfast: ./own.pem: no certificate in it belongs to the private key in ./own.key\n',
    'holdfast: ./own.pem: expired on 2020-01-31T00:00:00Z\n',
  ])
})

t.test('a store that is a file is left as it is', async (t) => {
  const setup = await prepare(t, UPSTREAM)
  await writeFile(join(setup.folder, 'data'), 'precious')
  await writeConfig(setup, setup.config)
  t.equal(
    await failure(t, setup),
    'holdfast: The store at ./data: a file is where a folder must be: move it, or point `store` elsewhere\n',
  )
  t.equal(await readFile(join(setup.folder, 'data'), 'utf8'), 'precious')
})

t.test('a store folder that this user may not write', { skip: process.getuid?.() !== 0 }, async (t) => {
  const setup = await prepare(t, UPSTREAM)
  await writeConfig(setup, setup.config)
  await chmod(setup.folder, 0o755)
  await mkdir(join(setup.folder, 'data'), { mode: 0o755 })
  const finished = await run(setup.folder, ['serve'], {}, NOBODY)
  t.equal(finished.code, 1)
  t.match(finished.err.replaceAll(setup.folder, '.'), /^holdfast: The store at \.\/data: [^\n]+\n$/)
  t.strictSame(await readdir(join(setup.folder, 'data')), [])
})

t.test('a port in use, of each kind', async (t) => {
  const squatter = createServer().listen(0, '127.0.0.1')
  await once(squatter, 'listening')
  t.teardown(() => squatter.close())
  const { port } = squatter.address() as AddressInfo
  const address = `127.0.0.1:${port}`
  const setup = await prepare(t, UPSTREAM)
  const said: string[] = []
  for (const change of [{ https: [address] }, { http: [address] }, { admin: address }]) {
    await writeConfig(setup, { ...setup.config, listen: { ...setup.config.listen, ...change } })
    said.push((await failure(t, setup)).replaceAll(String(port), 'PORT'))
  }
  const hint = "`ss -ltnp 'sport = :PORT'` names it: stop it, or listen elsewhere"
  t.strictSame(said, [
    `holdfast: listen.https[0]: 127.0.0.1:PORT is in use by another program (${hint})\n`,
    `holdfast: listen.http[0]: 127.0.0.1:PORT is in use by another program (${hint})\n`,
    `holdfast: listen.admin: 127.0.0.1:PORT is in use by another program (${hint})\n`,
  ])
})

t.test('a start in vain beside a running instance takes nothing from it', async (t) => {
  const setup = await prepare(t, UPSTREAM)
  await writeConfig(setup, setup.config)
  await serve(t, setup)
  const stored = join(setup.folder, 'data/certificates/localhost/live.pem')
  const [root, certificate] = [await rootOf(setup), await readFile(stored)]
  await failure(t, setup)
  t.equal(await rootOf(setup), root)
  t.strictSame(await readFile(stored), certificate)
})
