/** What people and programs ask of a running instance: `status`, `certs` and the admin endpoint. One instance for all. */
import { readdir, readFile, writeFile } from 'node:fs/promises'
import { request } from 'node:http'
import { join } from 'node:path'
import t from 'tap'
import { makeCertificate } from '../support/certificates.ts'
import { openssl } from '../support/openssl.ts'
import { admin, get, prepare, rootOf, run, serve, startApp, until, writeConfig } from './program.ts'

const setup = await prepare(t, await startApp(t))
/** Nobody listens there. */
const DEAD = 'http://127.0.0.1:9'
const [site] = setup.config.sites
const dead = { path: '/dead', upstreams: [DEAD], healthCheck: { type: 'tcp' } }
const passed = { hosts: ['k8s.example.com'], mode: 'passthrough', upstreams: ['tcp://127.0.0.1:9'] }
setup.config.sites = [{ ...site, routes: [dead] }, passed]
await writeConfig(setup, setup.config)
const program = await serve(t, setup)
const own = await makeCertificate({ names: ['localhost'] })
await writeFile(join(setup.folder, 'own.pem'), own.chainPem)
await writeFile(join(setup.folder, 'own.key'), own.keyPem)
await writeFile(join(setup.folder, 'passphrase'), 'secret words\n')
/** Everything that a program answered, for the search at the end. */
const captured: string[] = []

async function command(...args: string[]) {
  const finished = await run(setup.folder, args)
  return { ...finished, err: finished.err.replaceAll(setup.folder, '.') }
}

async function ask(path: string, init?: RequestInit) {
  const response = await admin(setup, path, init)
  const body = await response.text()
  captured.push(body, JSON.stringify([...response.headers]))
  return { status: response.status, body, type: response.headers.get('content-type') ?? '' }
}

/** With a Host of one's own, which fetch does not allow. */
function askAs(host: string): Promise<number | undefined> {
  return new Promise((resolve, reject) => {
    request({ host: '127.0.0.1', port: setup.ports.admin, headers: { host }, agent: false }, (response) => {
      response.resume()
      resolve(response.statusCode)
    })
      .on('error', reject)
      .end()
  })
}

t.test(
  'certs distrust and trust: the word reaches the running instance, and an unknown CA is one line',
  async (t) => {
    t.match(await command('certs', 'distrust', 'internal'), {
      code: 0,
      out: /^internal is distrusted from now on/,
    })
    const status = await command('status')
    t.equal(status.code, 1)
    t.match(status.out, /^localhost +condemned +internal, distrusted +-/m)
    t.match(status.out, /^internal +distrusted/m)
    t.match(await command('certs', 'trust', 'internal'), { code: 0, out: /^internal is trusted from now on/ })
    t.strictSame(await command('certs', 'distrust', 'nobody'), {
      code: 1,
      out: '',
      err: 'holdfast: the running instance has no CA nobody\n',
    })
  },
)

t.test('status: a table for people', async (t) => {
  const { code, out, err } = await command('status')
  t.match(out, /^HOST +STATE +LIVE +STANDBY +LAST ERROR\nlocalhost +valid +internal, \d+d\d+h left +-/)
  t.match(out, /Every host has a valid certificate/)
  t.strictSame([code, err], [0, ''])
})

t.test('status --json: for programs', async (t) => {
  const { code, out } = await command('status', '--json')
  t.match(JSON.parse(out), {
    hosts: [
      { host: 'localhost', state: 'valid' },
      { host: 'k8s.example.com', state: 'passthrough' },
    ],
    cas: [{ id: 'internal', state: 'up' }],
  })
  t.equal(code, 0)
})

t.test('an upstream that is down: in the log, the metrics, the API and `status`', async (t) => {
  await program.said(`${DEAD} fails its health check`)
  t.match((await ask('/metrics')).body, `holdfast_upstream_up{upstream="${DEAD}"} 0`)
  t.match(JSON.parse((await ask('/api/upstreams')).body), [
    { host: 'localhost', path: '/dead', url: DEAD, health: 'failing', problem: /ECONNREFUSED/ },
    { host: 'localhost', path: '/', health: 'unchecked', ejected: false },
    { host: 'k8s.example.com', url: 'tcp://127.0.0.1:9', health: 'unchecked' },
  ])
  const { out } = await command('status')
  t.match(out, /^http:\/\/127\.0\.0\.1:9 +down +0 +0 +0 +connect ECONNREFUSED 127\.0\.0\.1:9$/m)
  t.match(out, /^http:\/\/127\.0\.0\.1:\d+ +up +0 +\d+ +0$/m)
})

t.test('status without an instance: one line, exit code 1', async (t) => {
  const other = await prepare(t, 'http://127.0.0.1:9')
  await writeConfig(other, other.config)
  const { code, out, err } = await run(other.folder, ['status'])
  t.strictSame([code, out], [1, ''])
  t.match(
    err,
    /^holdfast: no running instance at http:\/\/127\.0\.0\.1:\d+: [^\n]+Is `holdfast serve` up, with this config\?\n$/,
  )
})

t.test('the endpoint answers what it promises, and no more', async (t) => {
  t.match(await ask('/healthz'), { status: 200, body: 'ok\n' })
  t.match(await ask('/readyz'), { status: 200, body: 'ready\n' })
  t.match(JSON.parse((await ask('/api/certificates')).body)[0], { host: 'localhost', state: 'valid' })
  t.match(JSON.parse((await ask('/api/cas')).body), [{ id: 'internal', state: 'up' }])
  t.match(JSON.parse((await ask('/api/events')).body), [{ type: 'certificate.issued', ca: 'internal' }])
  t.match(await ask('/'), { status: 200, type: 'text/html; charset=utf-8', body: /<title>Holdfast/ })
  t.match(await ask('/nothing'), { status: 404 })
  t.match(await ask('/api/certificates/unknown.test/renew', { method: 'POST' }), { status: 404 })
  t.match(await ask('/', { method: 'DELETE' }), { status: 405 })
})

t.test('a host name that is not its own, or a web page that posts, is refused', async (t) => {
  t.equal(await askAs('evil.example'), 403)
  t.equal(await askAs('localhost'), 200)
  const headers = { origin: 'https://evil.example' }
  t.match(await ask('/api/certificates/localhost/renew', { method: 'POST', headers }), { status: 403 })
})

t.test('metrics are valid exposition text', async (t) => {
  await get(setup, '/')
  const { body, type } = await ask('/metrics')
  t.match(type, /^text\/plain; version=0\.0\.4/)
  const types = new Map([...body.matchAll(/^# TYPE (\w+) (\w+)$/gm)].map(([, name, kind]) => [name, kind]))
  t.match(Object.fromEntries(types), {
    holdfast_requests_total: 'counter',
    holdfast_tls_handshakes_total: 'counter',
    holdfast_response_seconds: 'histogram',
    holdfast_ca_failures_total: 'counter',
    holdfast_certificates_issued_total: 'counter',
    holdfast_certificate_not_after_seconds: 'gauge',
    holdfast_hosts: 'gauge',
    holdfast_ca_up: 'gauge',
    holdfast_clock_error_seconds: 'gauge',
  })
  const samples = body.split('\n').filter((line) => line !== '' && !line.startsWith('#'))
  for (const sample of samples) {
    const name = /^(\w+)(?:\{(?:\w+="[^"]*",?)*\})? (?:[-+0-9.e]+|NaN|[+-]Inf)$/.exec(sample)?.[1]
    if (name === undefined || !types.has(name.replace(/_(bucket|sum|count)$/, ''))) t.fail(sample)
  }
  t.match(body, 'holdfast_requests_total{code="200"}')
})

t.test('an access line a request', async (t) => {
  await get(setup, '/logged?token=abc')
  await program.said('"path":"/logged"')
  const line = program.lines.find(({ path }) => path === '/logged')
  t.match(line, {
    level: 'info',
    msg: 'request',
    method: 'GET',
    host: 'localhost',
    status: 200,
    bytes: 17,
    client: '127.0.0.1',
    protocol: 'HTTP/1.1',
    upstream: /^http:/,
    id: /./,
    ms: Number,
  })
  t.notMatch(program.out, 'token=abc', 'without the query, which may hold secrets')
})

t.test('certs list and export', async (t) => {
  t.match((await command('certs', 'list')).out, /^HOST .*\nlocalhost +live +internal /)
  t.match(JSON.parse((await command('certs', 'list', '--json')).out), [{ host: 'localhost', ca: 'internal' }])
  t.equal((await command('certs', 'export', '--root', 'internal')).out, await rootOf(setup))
  t.match((await command('certs', 'export', 'localhost')).out, /END CERTIFICATE-----\n-----BEGIN PRIVATE KEY/)
})

t.test('certs import is served from the next handshake on, and out again as PKCS#12', async (t) => {
  const { code, err, out } = await command(
    'certs',
    'import',
    'localhost',
    '--certificate',
    'own.pem',
    '--key',
    'own.key',
  )
  t.match(
    out,
    /^Imported the certificate for localhost, [^\n]+\nThe running instance serves it from now on\.\n$/,
  )
  t.match(err, /^holdfast: browsers refuse it, unless they were told to trust its root: chain of localhost /)
  t.equal(code, 0)
  const served = JSON.parse((await ask('/api/certificates')).body)
  t.equal(served[0].live.fingerprint, own.fingerprint)
  const args = ['--format', 'pkcs12', '--passphrase-file', 'passphrase', '--out', 'out.p12']
  t.match(await command('certs', 'export', 'localhost', ...args), { code: 0, err: '' })
  const read = openssl(
    setup.folder,
    'pkcs12',
    '-in',
    'out.p12',
    '-passin',
    'file:passphrase',
    '-nodes',
    '-nocerts',
  )
  t.match(read, 'BEGIN PRIVATE KEY')
})

t.test('certs renew orders a new one', async (t) => {
  t.match(await command('certs', 'renew', 'localhost'), { code: 0, out: /^Ordering a new live certificate/ })
  await until(async () => JSON.parse((await ask('/api/certificates')).body)[0].live.source === 'internal')
})

t.test('certs: what cannot be done is one line', async (t) => {
  const other = await makeCertificate({ names: ['localhost'] })
  await writeFile(join(setup.folder, 'other.key'), other.keyPem)
  const importing = (host: string, key: string) =>
    command('certs', 'import', host, '--certificate', 'own.pem', '--key', key)
  t.strictSame(
    [
      await importing('localhost', 'other.key'),
      await importing('app.test', 'own.key'),
      await command('certs', 'renew', 'app.test'),
      await command('certs', 'renew', 'localhost', '--role', 'standby'),
      await command('certs', 'revoke', 'localhost', '--role', 'interim'),
      await command('certs', 'export', 'app.test'),
      await command('certs'),
      await command('certs', 'import', 'localhost'),
    ].map(({ code, err }) => `${code} ${err}`),
    [
      '1 holdfast: own.pem: no certificate in it belongs to the private key in other.key\n',
      '1 holdfast: own.pem: the certificate is for localhost, not for app.test\n',
      '1 holdfast: the running instance has no host app.test that a CA supplies\n',
      '1 holdfast: the running instance has no host localhost that has a standby\n',
      '2 holdfast: --role interim: there are live, standby\n',
      '1 holdfast: the store holds no certificate for app.test that may be served\n',
      '2 holdfast: say what to do: certs list, export, import, renew, revoke, roots, distrust, trust, account (see `holdfast certs --help`)\n',
      '2 holdfast: certs import: --certificate FILE is missing\n',
    ],
  )
})

t.test('no key is in any answer, metric or log line', async (t) => {
  const stored = await readdir(join(setup.folder, 'data'), { recursive: true, withFileTypes: true })
  const contents = await Promise.all(
    stored
      .filter((entry) => entry.isFile())
      .map((entry) => readFile(join(entry.parentPath, entry.name), 'utf8')),
  )
  const material = [...contents, own.keyPem].flatMap((text) =>
    [...text.matchAll(/BEGIN (?:EC )?PRIVATE KEY-----(?:\\n|\n)([A-Za-z0-9+/]+)/g)].map(
      ([, line]) => line ?? '',
    ),
  )
  t.ok(material.length >= 4, 'of root, intermediate, leaf and import')
  const said = [program.out, ...captured].join('\n')
  t.strictSame(
    material.filter((key) => said.includes(key.slice(-24))),
    [],
  )
})

t.test('after a stop, an import is served from the next start on', async (t) => {
  await program.end('SIGTERM')
  const { code, out } = await command(
    'certs',
    'import',
    'localhost',
    '--certificate',
    'own.pem',
    '--key',
    'own.key',
  )
  t.match(out, /\nIt is served from the next start on: no running instance/)
  t.equal(code, 0)
  await serve(t, setup)
  t.equal(JSON.parse((await ask('/api/certificates')).body)[0].live.fingerprint, own.fingerprint)
})
