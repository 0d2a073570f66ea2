import { join } from 'node:path'
import t, { type Test } from 'tap'
import { createAuthority, createLeaf } from '../../src/cert/signing.ts'
import { generateKeyPem } from '../../src/cert/x509.ts'
import { check } from '../../src/commands/check.ts'
import { DAY } from '../../src/time.ts'
import { Revoker, toPem } from '../support/revoker.ts'

const upstreams = ['http://127.0.0.1:3000']
const site = { hosts: ['app.example.com'], upstreams }

/** Runs the command; what it printed, line by line, paths without the test's folder. */
async function run(t: Test, args: string[], env: Record<string, string> = {}) {
  const out = t.capture(console, 'log')
  const err = t.capture(console, 'error')
  const code = await check(args, env)
  const linesOf = (calls: ReturnType<typeof out>) =>
    calls.flatMap(({ args }) => String(args[0]).replaceAll(`${t.testdirName}/`, './').split('\n'))
  return { code, out: linesOf(out()), err: linesOf(err()) }
}

/** Writes a config to the test's folder; gives the arguments that name it. */
function write(t: Test, config: object, files: Record<string, string> = {}): string[] {
  return ['--config', join(t.testdir({ ...files, 'c.json': JSON.stringify(config) }), 'c.json')]
}

t.test('a good config: one line, exit code 0', async (t) => {
  const config = {
    sites: [site, { hosts: ['b.example.com', 'localhost'], upstreams }],
    listen: { https: [':443', '[::1]:8443'], admin: false },
  }
  t.strictSame(await run(t, write(t, config)), {
    code: 0,
    out: ['./c.json is good: 2 sites, 3 hosts; CAs letsencrypt, internal; https :443 [::1]:8443, http :80'],
    err: [],
  })
})

t.test('a bad config: every problem on a line, exit code 1', async (t) => {
  const config = { sites: [{ ...site, upstream: upstreams }], listen: { http: ['80'] } }
  t.strictSame(await run(t, write(t, config)), {
    code: 1,
    out: [],
    err: [
      'listen.http[0]: "80" is not an address to listen on: write "IP:port", "[IPv6]:port" or ":port" for every address',
      'sites[0]: unknown key "upstream" (did you mean "upstreams"?)',
    ],
  })
})

t.test('--json: one object, with the same exit codes', async (t) => {
  const good = await run(t, [...write(t, { sites: [site] }), '--json'])
  t.equal(good.code, 0)
  t.strictSame(JSON.parse(good.out.join('')), {
    valid: true,
    file: './c.json',
    sites: 1,
    hosts: 1,
    cas: ['letsencrypt'],
    listen: { https: [':443'], http: [':80'], admin: ['127.0.0.1:9443'] },
  })
  const bad = await run(t, [...write(t, { sites: [] }), '--json'])
  t.equal(bad.code, 1)
  t.strictSame(JSON.parse(bad.out.join('')), {
    valid: false,
    problems: [{ path: 'sites', message: 'names no site' }],
  })
})

t.test('certificates of your own are loaded, and must name the hosts', async (t) => {
  const now = Date.now()
  const validity = { notBefore: now - DAY, notAfter: now + DAY }
  const key = await generateKeyPem('ecdsa-p256')
  const issuer = {
    keyPem: key,
    certificatePem: await createAuthority({ commonName: 'Test', keyPem: key, pathLength: 0, ...validity }),
  }
  const own = await createLeaf({ names: ['*.example.com'], keyPem: key, issuer, ...validity })
  const files = { 'own.pem': own, 'own.key': key, 'other.key': await generateKeyPem('ecdsa-p256') }
  const sites = (...all: [host: string, key: string][]) => ({
    sites: all.map(([host, key]) => ({ hosts: [host], upstreams, tls: { certificate: 'own.pem', key } })),
  })
  t.strictSame(await run(t, write(t, sites(['a.example.com', 'own.key']), files)), {
    code: 0,
    out: ['./c.json is good: 1 site, 1 host; https :443, http :80, admin 127.0.0.1:9443'],
    err: [],
  })
  t.strictSame(
    await run(t, write(t, sites(['a.example.com', 'other.key'], ['example.com', 'own.key']), files)),
    {
      code: 1,
      out: [],
      err: [
        'sites[0].tls.certificate: ./own.pem: no certificate in it belongs to the private key in ./other.key',
        'sites[1].hosts[0]: "example.com" is not among the names of ./own.pem (it is for *.example.com)',
      ],
    },
  )
})

t.test('the files of client certificates are read', async (t) => {
  const config = {
    sites: [{ ...site, tls: { clientCertificates: { ca: 'clients.pem', crl: 'clients.crl' } } }],
  }
  const keyPem = await generateKeyPem('ecdsa-p256')
  const validity = { notBefore: Date.now(), notAfter: Date.now() + DAY }
  const root = await createAuthority({ ...validity, commonName: 'Clients', keyPem, pathLength: 0 })
  const { code, err } = await run(t, write(t, config, { 'clients.pem': root, 'clients.crl': 'nothing' }))
  t.equal(code, 1)
  t.match(err, [/^\.\/clients\.crl: holds no revocation list that can be read/])
})

t.test('revocation lists that have run out are told', async (t) => {
  const revoker = await Revoker.create()
  const [thisUpdate, nextUpdate] = [Date.now() - 2 * DAY, Date.now() - DAY]
  const files = {
    'clients.pem': revoker.authority.certificatePem,
    'clients.crl': toPem(revoker.crl({ thisUpdate, nextUpdate })),
  }
  const config = {
    sites: [{ ...site, tls: { clientCertificates: { ca: 'clients.pem', crl: 'clients.crl' } } }],
  }
  const { code, err } = await run(t, write(t, config, files))
  t.equal(code, 1)
  t.match(err, [/^\.\/clients\.crl: a revocation list in it ran out on \d{4}-/])
  const renewed = { ...files, 'clients.crl': toPem(revoker.crl()) }
  t.equal((await run(t, write(t, config, renewed))).code, 0)
})

t.test('a certificate for upstreams is read, with its key', async (t) => {
  const keyPem = await generateKeyPem('ecdsa-p256')
  const validity = { notBefore: Date.now(), notAfter: Date.now() + DAY }
  const own = await createAuthority({ ...validity, commonName: 'own', keyPem, pathLength: 0 })
  const config = { sites: [{ ...site, upstreamTls: { certificate: 'own.pem', key: 'own.key' } }] }
  t.equal((await run(t, write(t, config, { 'own.pem': own, 'own.key': keyPem }))).code, 0)
  const files = { 'own.pem': own, 'own.key': await generateKeyPem('ecdsa-p256') }
  t.match(await run(t, write(t, config, files)), {
    code: 1,
    err: [/^sites\[0\]\.upstreamTls\.certificate: .*own\.pem: its first certificate does not belong/],
  })
})

t.test('a config that is not there: exit code 1', async (t) => {
  const absent = join(t.testdir({}), 'absent.json')
  t.strictSame(await run(t, ['--config', absent]), {
    code: 1,
    out: [],
    err: ['./absent.json does not exist (name the config with --config FILE)'],
  })
})

t.test('the environment is checked where there is no file', async (t) => {
  const home = process.cwd()
  t.teardown(() => process.chdir(home))
  process.chdir(t.testdir({}))
  t.strictSame(
    await run(t, [], { HOLDFAST_HOSTS: 'app.example.com', HOLDFAST_UPSTREAMS: 'http://app:3000' }),
    {
      code: 0,
      out: [
        'The environment is good: 1 site, 1 host; CA letsencrypt; https :443, http :80, admin 127.0.0.1:9443',
      ],
      err: [],
    },
  )
  t.strictSame(await run(t, [], { HOLDFAST_HOSTS: 'app.example.com' }), {
    code: 1,
    out: [],
    err: ['HOLDFAST_UPSTREAMS: is not set'],
  })
})

t.test('a wrong command: usage, exit code 2', async (t) => {
  const { code, err } = await run(t, ['--confg', 'x'])
  t.equal(code, 2)
  t.match(err[0], /--confg/)
  t.match(err.join('\n'), /holdfast check \[--config FILE\] \[--json\]/)
})
