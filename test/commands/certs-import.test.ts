/** What `certs import` says of the running instance is true, also where that runs as another user. */
import { chmod, chown, mkdir, readFile, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import t, { type Test } from 'tap'
import { makeCertificate } from '../support/certificates.ts'
import { admin, launch, type Program, prepare, run, type Setup, until, writeConfig } from './program.ts'

const UPSTREAM = 'http://127.0.0.1:9'
/** Of every Debian; owns nothing. */
const NOBODY = 65534
const own = await makeCertificate({ names: ['localhost', 'other.test'] })

/** An instance as a user without privileges, who owns its folder; its operator is root. */
async function serveAsNobody(t: Test): Promise<{ setup: Setup; program: Program }> {
  const setup = await prepare(t, UPSTREAM)
  await chmod(setup.folder, 0o755)
  await mkdir(join(setup.folder, 'data'))
  await chown(join(setup.folder, 'data'), NOBODY, NOBODY)
  await writeConfig(setup, setup.config)
  await writeFile(join(setup.folder, 'own.pem'), own.chainPem)
  await writeFile(join(setup.folder, 'own.key'), own.keyPem)
  const program = launch(setup.folder, ['serve'], {}, NOBODY)
  t.teardown(() => program.end('SIGKILL'))
  await program.said('"msg":"serving')
  return { setup, program }
}

function importOf({ folder }: Setup, host: string, ...more: string[]) {
  return run(folder, ['certs', 'import', host, '--certificate', 'own.pem', '--key', 'own.key', ...more])
}

t.test(
  'an operator and a service of two users',
  { skip: process.getuid?.() !== 0 && 'needs root' },
  async (t) => {
    t.test('what root imports is served by the service, which can replace it', async (t) => {
      const { setup, program } = await serveAsNobody(t)
      const { code, out } = await importOf(setup, 'localhost')
      t.match(out, /\nThe running instance serves it from now on\.\n$/)
      t.equal(code, 0)
      t.match(await (await admin(setup, '/api/certificates')).json(), [
        { live: { fingerprint: own.fingerprint } },
      ])
      t.match(await run(setup.folder, ['certs', 'renew', 'localhost']), { code: 0 })
      const stored = join(setup.folder, 'data/certificates/localhost/live.pem')
      await until(async () => !(await readFile(stored, 'utf8')).includes(own.chainPem))
      t.notMatch(program.out, 'cannot be read')
    })

    t.test('an instance that cannot read it: the reason, and exit code 1', async (t) => {
      const { setup } = await serveAsNobody(t)
      const folder = join(setup.folder, 'data/certificates/localhost')
      await chown(folder, 0, 0)
      const { code, err, out } = await importOf(setup, 'localhost')
      t.notMatch(out, 'from now on')
      t.match(
        err.replaceAll(setup.folder, '.'),
        /^holdfast: the running instance does not serve it: The store at \.\/data\/certificates\/localhost\/\S+: permission denied: let user 65534 own it, or [^\n]+\n$/m,
      )
      t.equal(code, 1)
    })

    t.test('an instance that does not have the host yet serves it with its config', async (t) => {
      const { setup } = await serveAsNobody(t)
      const [site] = setup.config.sites
      const sites = [{ ...site, hosts: ['localhost', 'other.test'] }]
      await writeFile(join(setup.folder, 'next.json'), JSON.stringify({ ...setup.config, sites }))
      const { code, out } = await importOf(setup, 'other.test', '--config', 'next.json')
      t.match(
        out,
        /\nThe running instance has no host other\.test that a CA supplies: it serves it once it has this config\.\n$/,
      )
      t.equal(code, 0)
    })
  },
)
