/** `certs` against a running instance of its own: waiting for a first certificate, revoking, renewing all, roots. */
import { X509Certificate } from 'node:crypto'
import { writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import t from 'tap'
import { makeCertificate } from '../support/certificates.ts'
import { admin, get, launch, prepare, rootOf, run, serve, startApp, until, writeConfig } from './program.ts'

const setup = await prepare(t, await startApp(t))
await writeConfig(setup, setup.config)
const certs = (...args: string[]) => run(setup.folder, ['certs', ...args])

t.test('export --wait gives up with one line when nothing comes', async (t) => {
  t.strictSame(await certs('export', 'localhost', '--wait', '50ms'), {
    code: 1,
    out: '',
    err: 'holdfast: no valid certificate for localhost has come within 50ms\n',
  })
  t.match(await certs('export', 'localhost', '--wait=soon'), { code: 2, err: /"soon" is not a duration/ })
})

t.test('export --wait gets the first certificate, whoever starts first', async (t) => {
  const waiting = launch(setup.folder, ['certs', 'export', '--wait', 'localhost'])
  await serve(t.parent as typeof t, setup)
  const { code, out } = await waiting.finished
  t.equal(code, 0)
  t.equal(new X509Certificate(out).subjectAltName, 'DNS:localhost')
  t.match(out, /-----BEGIN PRIVATE KEY-----/)
})

t.test('roots: shown with who uses them, and exported', async (t) => {
  const root = new X509Certificate(await rootOf(setup))
  const { out } = await certs('roots')
  t.match(out, /^ROOT +SHA-256 +ENDS +CA\n/)
  t.match(out, root.fingerprint256.replaceAll(':', '').toLowerCase())
  t.match(out, / internal\n$/)
  t.equal(new X509Certificate((await certs('roots', 'export')).out).fingerprint256, root.fingerprint256)
  t.ok((await certs('roots', 'export', '--all')).out.split('BEGIN CERTIFICATE').length > 100)
})

t.test('roots pin: only where there is something to pin', async (t) => {
  t.strictSame(
    [
      await certs('roots', 'pin', 'internal'),
      await certs('roots', 'pin', 'nobody'),
      await certs('roots', 'pin'),
    ].map(({ code, err }) => `${code} ${err}`),
    [
      '1 holdfast: the root of internal is in the store already: it is internal\n',
      '1 holdfast: the config has no CA nobody\n',
      '2 holdfast: say which CA (see `holdfast certs --help`)\n',
    ],
  )
})

t.test('renew --all orders for every host', async (t) => {
  const before = await get(setup, '/')
  t.match(await certs('renew', '--all'), { code: 0, out: /^Ordering new live certificates for 1 of 1 hosts/ })
  await until(async () => (await get(setup, '/')).fingerprint !== before.fingerprint)
})

t.test('revoke: where no CA can be asked, it is said', async (t) => {
  const own = await makeCertificate({ names: ['localhost'] })
  await writeFile(join(setup.folder, 'own.pem'), own.chainPem + own.keyPem)
  t.match(await certs('import', 'localhost', '--certificate', 'own.pem'), { code: 0 })
  const held = async () => (await admin(setup, '/api/certificates')).text()
  t.match(await held(), own.fingerprint)
  t.match(await certs('revoke', 'localhost', '--reason', 'superseded'), {
    code: 0,
    out: /^The live certificate for localhost is given up here: it gives way to others\..*\nNo CA was asked: ask its CA to revoke it\.\n$/,
  })
  await until(async () => !(await held()).includes(own.fingerprint))
})

t.test('revoke: another certificate is served, and a reason that is none is refused', async (t) => {
  const before = await get(setup, '/')
  t.match(await certs('revoke', 'localhost', '--reason', 'keyCompromise'), {
    code: 0,
    out: /is given up here: its key is never used again.*\nAn internal CA revokes nothing: /,
  })
  // Refused while there is nothing else, for the key is somebody else's too.
  const now = () =>
    get(setup, '/').then(
      ({ fingerprint }) => fingerprint,
      () => undefined,
    )
  t.not(await now(), before.fingerprint)
  await until(async () => (await now()) !== undefined)
  t.match(await certs('revoke', 'localhost', '--reason', 'boredom'), { code: 2, err: /no reason "boredom"/ })
})
