import { resolve } from 'node:path'
import t from 'tap'
import { configFromEnv, loadChosenConfig } from '../../src/config/load.ts'
import { resolveCas, resolveSites } from '../../src/config/sites.ts'
import { ConfigError } from '../../src/errors.ts'

const app = { HOLDFAST_HOSTS: 'app.example.com', HOLDFAST_UPSTREAMS: 'http://app:3000' }
const binding = { ZEROSSL_KID: 'kid', ZEROSSL_HMAC: 'aG1hYw' }

function mistakes(env: Record<string, string>): string[] {
  try {
    configFromEnv(env)
    return []
  } catch (error) {
    if (error instanceof ConfigError) return error.message.split('\n')
    throw error
  }
}

t.test('hosts and upstreams are enough', async (t) => {
  const { config, baseDir, file, files } = configFromEnv(app)
  const [site] = resolveSites(config)
  t.strictSame(site?.hosts, ['app.example.com'])
  t.strictSame(
    site?.routes.map((route) => route.upstreams[0]?.url),
    ['http://app:3000'],
  )
  t.match(site?.tls, { kind: 'issued', cas: ['letsencrypt'] })
  t.strictSame(config.listen.https, [{ host: undefined, port: 443 }])
  t.equal(config.store, `file:${resolve('data')}`)
  t.strictSame([baseDir, file, files], [process.cwd(), undefined, []])
})

t.test('lists are separated by commas or spaces, and empty variables are as good as unset', async (t) => {
  const { config } = configFromEnv({
    HOLDFAST_HOSTS: ' a.example.com, b.example.com,localhost ',
    HOLDFAST_UPSTREAMS: 'http://app:1 http://app:2',
    HOLDFAST_CAS: '',
    HOLDFAST_CONTACT: '',
    HOLDFAST_STORE: '',
  })
  t.strictSame(config.sites[0]?.hosts, ['a.example.com', 'b.example.com', 'localhost'])
  t.strictSame(
    config.sites[0]?.upstreams?.map((upstream) => upstream.port),
    [1, 2],
  )
  t.strictSame(
    resolveSites(config).map((site) => site.tls),
    [
      {
        kind: 'issued',
        cas: ['letsencrypt'],
        operators: new Map([['letsencrypt', 'letsencrypt.org']]),
        ...policy,
      },
      { kind: 'issued', cas: ['internal'], operators: new Map([['internal', 'internal']]), ...policy },
    ],
  )
})

const policy = {
  standby: 'always',
  challenges: ['tls-alpn-01', 'http-01'],
  keyType: 'ecdsa-p256',
  reuseKey: false,
  interim: false,
}

t.test(
  'the contact goes to every CA; presets bring their directory, and their binding its variables',
  async (t) => {
    const { config } = configFromEnv({
      ...app,
      ...binding,
      HOLDFAST_CAS: 'letsencrypt,zerossl https://CA.corp.example:9000/acme/directory internal',
      HOLDFAST_CONTACT: 'ops@example.com',
      HOLDFAST_STORE: 'redis://redis:6379',
    })
    const contact = ['mailto:ops@example.com']
    const cas = resolveCas(config)
    t.strictSame([...cas.keys()], ['letsencrypt', 'zerossl', 'ca-corp-example-9000', 'internal'])
    t.match(cas.get('letsencrypt'), { contact, eab: undefined })
    t.match(cas.get('zerossl'), { contact, eab: { kid: 'kid', hmacKey: 'aG1hYw' }, public: true })
    t.match(cas.get('ca-corp-example-9000'), {
      contact,
      directory: 'https://CA.corp.example:9000/acme/directory',
      public: false,
    })
    t.strictSame(config.tls.cas, [...cas.keys()])
    t.equal(config.store, 'redis://redis:6379')
  },
)

t.test('a private CA may need a binding too', async (t) => {
  const env = { HOLDFAST_CAS: 'https://ca.corp/d', CA_CORP_KID: 'kid', CA_CORP_HMAC: 'aG1hYw' }
  const { config } = configFromEnv({ ...app, ...env })
  t.strictSame(config.cas['ca-corp']?.eab, { kid: 'kid', hmacKey: 'aG1hYw' })
})

t.test('the directory of a preset is that preset', async (t) => {
  const { config } = configFromEnv({ ...app, ...binding, HOLDFAST_CAS: 'https://acme.zerossl.com/v2/DV90' })
  t.match(resolveCas(config).get('zerossl'), { eab: { kid: 'kid' } })
})

t.test('mistakes name the variable', async (t) => {
  const cases: [env: Record<string, string>, lines: string[]][] = [
    [{}, ['HOLDFAST_HOSTS: is not set', 'HOLDFAST_UPSTREAMS: is not set']],
    [
      { HOLDFAST_HOSTS: 'a.example.com:443', HOLDFAST_UPSTREAM: 'http://app:3000' },
      [
        'HOLDFAST_UPSTREAM: is no variable of Holdfast (did you mean "HOLDFAST_UPSTREAMS"?)',
        'HOLDFAST_HOSTS: "a.example.com:443" is not a host: leave out scheme, port and path',
        'HOLDFAST_UPSTREAMS: is not set',
      ],
    ],
    [
      { ...app, HOLDFAST_HOSTS: 'a.example.com a.example.com' },
      ['HOLDFAST_HOSTS: "a.example.com" is there twice (remove one of the two)'],
    ],
    [
      { ...app, HOLDFAST_UPSTREAMS: 'app:3000' },
      ['HOLDFAST_UPSTREAMS: is not an upstream: put "http://" in front, or "https://" where it speaks TLS'],
    ],
    [
      { ...app, HOLDFAST_CAS: 'letsencrypt,google', HOLDFAST_CONTACT: 'ops', GOOGLE_HMAC: 'not base64' },
      [
        'HOLDFAST_CONTACT: "ops" is not a contact: write an address such as "you@example.com"',
        'GOOGLE_KID: is not set',
        'GOOGLE_HMAC: is not base64url: copy the HMAC key from your account at the CA',
      ],
    ],
    [
      { ...app, HOLDFAST_CAS: 'letsencript http://ca.example.com/d' },
      [
        'HOLDFAST_CAS: is not a directory: write the https:// URL of the ACME directory',
        'HOLDFAST_CAS: no CA is named "letsencript" (did you mean "letsencrypt"?)',
      ],
    ],
    [
      { ...app, HOLDFAST_STORE: 'mysql://me:s3cret@db' },
      ['HOLDFAST_STORE: is not a store: write "file:./data", "redis://host:6379" or "rediss://host:6379"'],
    ],
  ]
  for (const [env, lines] of cases) t.strictSame(mistakes(env), lines, JSON.stringify(env))
})

t.test('a variable that looks like one of ours and is none is refused', async (t) => {
  const refused: Record<string, string> = {
    HOLDFAST_HOST: 'did you mean "HOLDFAST_HOSTS"?',
    HOLDFAST_CA: 'did you mean "HOLDFAST_CAS"?',
    HOLDFAST_LISTEN_ADMIN:
      'there are HOLDFAST_HOSTS, HOLDFAST_UPSTREAMS, HOLDFAST_CONTACT, HOLDFAST_CAS, HOLDFAST_STORE; all else takes a config file',
  }
  for (const [name, hint] of Object.entries(refused))
    t.strictSame(mistakes({ ...app, [name]: 'x' }), [`${name}: is no variable of Holdfast (${hint})`])
  const home = process.cwd()
  t.teardown(() => process.chdir(home))
  process.chdir(t.testdir({}))
  await t.rejects(loadChosenConfig(undefined, { HOLDFAST_HOST: 'x' }), {
    message: /^HOLDFAST_HOST: is no variable of Holdfast .*\nthere is no proxy\.config\.json /,
  })
})

t.test('what Kubernetes tells of a Service named holdfast is no mistake', async (t) => {
  const env = {
    HOLDFAST_SERVICE_HOST: '10.96.0.7',
    HOLDFAST_SERVICE_PORT: '443',
    HOLDFAST_SERVICE_PORT_HTTPS: '443',
    HOLDFAST_PORT: 'tcp://10.96.0.7:443',
    HOLDFAST_PORT_443_TCP: 'tcp://10.96.0.7:443',
    HOLDFAST_PORT_443_TCP_PROTO: 'tcp',
    HOLDFAST_PORT_443_TCP_PORT: '443',
    HOLDFAST_PORT_443_TCP_ADDR: '10.96.0.7',
    HOLDFAST_ADMIN_SERVICE_HOST: '10.96.0.8',
    HOLDFAST_ADMIN_PORT_9443_TCP_ADDR: '10.96.0.8',
  }
  t.strictSame(mistakes({ ...app, ...env }), [])
})
