import t from 'tap'
import { configSchema } from '../../src/config/schema.ts'
import { givenUpCas, hostsOfOneCa, resolveCas, resolveSites } from '../../src/config/sites.ts'
import { DAY, MINUTE } from '../../src/time.ts'

const upstreams = ['http://127.0.0.1:3000']
const corp = { directory: 'https://ca.corp.example/d' }
const zerossl = { eab: { kid: 'kid', hmacKey: 'aG1hYw' } }

function resolve(config: object) {
  const parsed = configSchema.parse({ sites: [], ...config })
  return { sites: resolveSites(parsed), cas: resolveCas(parsed) }
}

/** `a.example.com b.example.com: letsencrypt zerossl` for each site. */
function supply(config: object): string[] {
  return resolve(config).sites.map(
    ({ hosts, tls }) =>
      `${hosts.join(' ')}: ${tls.kind === 'issued' ? tls.cas.join(' ') : tls.kind === 'file' ? tls.certificate : tls.kind}`,
  )
}

t.test('which CAs serve which host', async (t) => {
  const cases: [name: string, config: object, supply: string[]][] = [
    [
      'nothing configured',
      { sites: [{ hosts: ['a.example.com'], upstreams }] },
      ['a.example.com: letsencrypt'],
    ],
    [
      'the ACME CAs of `cas` in their order',
      { cas: { zerossl, letsencrypt: {}, internal: {} }, sites: [{ hosts: ['a.example.com'], upstreams }] },
      ['a.example.com: zerossl letsencrypt'],
    ],
    [
      'private CAs do not stand in for public ones unasked',
      { cas: { corp, letsencrypt: {} }, sites: [{ hosts: ['a.example.com', 'db.internal'], upstreams }] },
      ['a.example.com: letsencrypt', 'db.internal: corp'],
    ],
    [
      'private CAs serve public names where there are no others',
      {
        cas: { corp, other: { directory: 'https://other.example/d' } },
        sites: [{ hosts: ['a.example.com'], upstreams }],
      },
      ['a.example.com: corp other'],
    ],
    [
      'only internal CAs configured',
      {
        cas: { internal: { lifetime: '3d' } },
        sites: [{ hosts: ['a.example.com', 'localhost'], upstreams }],
      },
      ['a.example.com: letsencrypt', 'localhost: internal'],
    ],
    [
      'the top list',
      {
        tls: { cas: ['corp', 'letsencrypt'] },
        cas: { corp },
        sites: [{ hosts: ['a.example.com', 'localhost'], upstreams }],
      },
      ['a.example.com: corp letsencrypt', 'localhost: corp'],
    ],
    [
      'the site’s list over the top one',
      {
        tls: { cas: ['letsencrypt'] },
        sites: [
          { hosts: ['a.example.com', '*.example.com'], upstreams, tls: { cas: ['letsencrypt', 'internal'] } },
        ],
      },
      ['a.example.com: letsencrypt internal', '*.example.com: internal'],
    ],
    [
      'private names fall to the internal CA',
      {
        sites: [
          { hosts: ['localhost', '127.0.0.1', '::1', 'nas.local', '*.internal', 'a.example.com'], upstreams },
        ],
      },
      ['localhost 127.0.0.1 ::1 nas.local *.internal: internal', 'a.example.com: letsencrypt'],
    ],
    [
      'a preset with a directory of its own is a private CA',
      {
        cas: { letsencrypt: { directory: 'https://localhost:14000/dir' } },
        sites: [{ hosts: ['localhost'], upstreams }],
      },
      ['localhost: letsencrypt'],
    ],
    [
      'a public CA under another name stays public',
      {
        cas: { le: { directory: 'https://acme-v02.api.letsencrypt.org/directory' } },
        sites: [{ hosts: ['localhost'], upstreams }],
      },
      ['localhost: internal'],
    ],
    [
      'a certificate of your own serves whatever the site has',
      { sites: [{ hosts: ['*.example.com', 'localhost'], upstreams, tls: { certificate: '/own.pem' } }] },
      ['*.example.com localhost: /own.pem'],
    ],
  ]
  for (const [name, config, expected] of cases) t.strictSame(supply(config), expected, name)
})

t.test('CAs that are listed for a host in vain', async (t) => {
  const cas = ['letsencrypt', 'internal']
  const own = { certificate: '/own.pem' }
  const tls = { cas: ['letsencrypt', 'corp', 'internal'] }
  const config = configSchema.parse({
    tls,
    cas: { corp },
    sites: [
      { hosts: ['a.example.com', '*.example.com', 'wiki.internal', '*.internal'], upstreams },
      { hosts: ['nas.internal', '*.example.net'], upstreams, tls: { cas } },
      { hosts: ['*.example.org'], upstreams, tls: own },
    ],
  })
  const names = [...givenUpCas(config)].map(([host, given]) =>
    [host, ...given.map(({ name }) => name)].join(' '),
  )
  t.strictSame(names, [
    'a.example.com',
    '*.example.com letsencrypt corp',
    'wiki.internal',
    '*.internal',
    'nas.internal letsencrypt',
    '*.example.net letsencrypt',
  ])
})

t.test('a site takes from the top what it does not say itself', async (t) => {
  const { sites } = resolve({
    tls: { standby: 'off', challenges: ['http-01'], keyType: 'rsa-2048', reuseKey: true, interim: true },
    sites: [
      { hosts: ['a.example.com'], upstreams },
      {
        hosts: ['b.example.com'],
        upstreams,
        tls: {
          standby: 'on-degraded',
          challenges: ['tls-alpn-01'],
          keyType: 'ecdsa-p384',
          reuseKey: false,
          interim: false,
        },
      },
      { hosts: ['c.example.com'], upstreams, tls: { certificate: '/c.p12', passphrase: 'p' } },
    ],
  })
  t.strictSame(
    sites.map((site) => site.tls),
    [
      {
        kind: 'issued',
        cas: ['letsencrypt'],
        operators: new Map([['letsencrypt', 'letsencrypt.org']]),
        standby: 'off',
        challenges: ['http-01'],
        keyType: 'rsa-2048',
        reuseKey: true,
        interim: true,
      },
      {
        kind: 'issued',
        cas: ['letsencrypt'],
        operators: new Map([['letsencrypt', 'letsencrypt.org']]),
        standby: 'on-degraded',
        challenges: ['tls-alpn-01'],
        keyType: 'ecdsa-p384',
        reuseKey: false,
        interim: false,
      },
      { kind: 'file', certificate: '/c.p12', key: undefined, passphrase: 'p' },
    ],
  )
})

t.test('who runs a CA: a company by its CAA names, else the server of the directory', async (t) => {
  const cas = {
    zerossl,
    sectigo: zerossl,
    corp,
    other: { directory: 'https://ca.corp.example/other' },
    le: { directory: 'https://acme-v02.api.letsencrypt.org/directory' },
    internal: {},
  }
  const sites = [{ hosts: ['a.example.com'], upstreams, tls: { cas: Object.keys(cas) } }]
  const [site] = resolve({ cas, sites }).sites
  t.strictSame(site?.tls.kind === 'issued' && Object.fromEntries(site.tls.operators), {
    zerossl: 'sectigo.com',
    sectigo: 'sectigo.com',
    corp: 'https://ca.corp.example',
    other: 'https://ca.corp.example',
    le: 'letsencrypt.org',
    internal: 'internal',
  })
})

t.test('a challenge that no listener answers is left out', async (t) => {
  const sites = [{ hosts: ['a.example.com'], upstreams }]
  const challenges = (listen: object) =>
    resolve({ listen, sites }).sites.map(({ tls }) => tls.kind === 'issued' && tls.challenges)
  t.strictSame(challenges({ http: [] }), [['tls-alpn-01']])
  t.strictSame(challenges({ https: [] }), [['http-01']])
})

t.test('routes come longest first, the site’s own upstreams as "/"', async (t) => {
  const routes = ['/api/', '/', '/api/v2/'].map((path) => ({ path, upstreams }))
  const { sites } = resolve({
    sites: [
      { hosts: ['a.example.com'], upstreams, routes: routes.filter(({ path }) => path !== '/') },
      { hosts: ['b.example.com'], routes },
    ],
  })
  for (const site of sites)
    t.strictSame(
      site.routes.map((route) => route.path),
      ['/api/v2/', '/api/', '/'],
    )
})

t.test('a site that is split by its CAs shares its routes', async (t) => {
  const { sites } = resolve({ sites: [{ hosts: ['a.example.com', 'localhost'], upstreams }] })
  t.equal(sites.length, 2)
  t.equal(sites[0]?.routes, sites[1]?.routes)
})

t.test('every CA comes with its preset and defaults', async (t) => {
  const { cas } = resolve({
    cas: {
      corp: { ...corp, trust: '/root.pem', profile: 'short' },
      dev: { type: 'internal', lifetime: '1d' },
      zerossl,
    },
    sites: [{ hosts: ['a.example.com'], upstreams, tls: { cas: ['letsencrypt-staging'] } }],
  })
  t.strictSame(Object.fromEntries(cas), {
    corp: {
      type: 'acme',
      name: 'corp',
      distrusted: false,
      directory: 'https://ca.corp.example/d',
      contact: [],
      eab: undefined,
      profile: 'short',
      preferredRoot: undefined,
      roots: undefined,
      trust: '/root.pem',
      public: false,
      caaIdentities: [],
      statusFeed: undefined,
      rateLimits: {},
      probeIntervalMs: MINUTE,
    },
    dev: { type: 'internal', name: 'dev', distrusted: false, lifetimeMs: DAY },
    zerossl: {
      type: 'acme',
      name: 'zerossl',
      distrusted: false,
      directory: 'https://acme.zerossl.com/v2/DV90',
      contact: [],
      eab: { kid: 'kid', hmacKey: 'aG1hYw' },
      profile: undefined,
      preferredRoot: undefined,
      roots: undefined,
      trust: 'public',
      public: true,
      caaIdentities: ['sectigo.com'],
      statusFeed: undefined,
      rateLimits: {},
      probeIntervalMs: MINUTE,
    },
    'letsencrypt-staging': {
      type: 'acme',
      name: 'letsencrypt-staging',
      distrusted: false,
      directory: 'https://acme-staging-v02.api.letsencrypt.org/directory',
      contact: [],
      eab: undefined,
      profile: undefined,
      preferredRoot: undefined,
      roots: undefined,
      trust: 'any',
      public: true,
      caaIdentities: ['letsencrypt.org'],
      statusFeed: undefined,
      rateLimits: {},
      probeIntervalMs: MINUTE,
    },
    internal: { type: 'internal', name: 'internal', distrusted: false, lifetimeMs: 7 * DAY },
  })
})

t.test(
  'a rule of deliver is there once for each host, with the host in its paths and arguments',
  async (t) => {
    const rule = { combined: '/tls/{host}.pem', command: ['reload', '{host}'], mode: '0640' }
    const { sites } = resolve({
      cas: { letsencrypt: {} },
      sites: [{ hosts: ['a.example.com', '*.localhost'], upstreams, deliver: [rule] }],
    })
    t.match(
      sites.flatMap(({ deliver }) => deliver),
      [
        {
          host: 'a.example.com',
          files: [{ form: 'combined', path: '/tls/a.example.com.pem' }],
          command: ['reload', 'a.example.com'],
          commandLimitMs: 30_000,
          mode: 0o640,
        },
        {
          host: '*.localhost',
          files: [{ path: '/tls/_.localhost.pem' }],
          command: ['reload', '_.localhost'],
        },
      ],
    )
  },
)

t.test('which hosts depend on one public CA', async (t) => {
  const site = { hosts: ['a.example.com', 'localhost'], upstreams }
  const other = { hosts: ['b.example.com'], upstreams, tls: { cas: ['zerossl'] } }
  const sectigo = { eab: zerossl.eab }
  const cases: [name: string, config: object, alone: Record<string, string[]>][] = [
    ['Let’s Encrypt, unasked', { sites: [site] }, { letsencrypt: ['a.example.com'] }],
    ['two of them', { cas: { letsencrypt: {}, zerossl }, sites: [site] }, {}],
    [
      'two that are one company',
      { cas: { sectigo, zerossl }, sites: [site] },
      { 'sectigo, zerossl': ['a.example.com'] },
    ],
    [
      'each site its own',
      { cas: { letsencrypt: {}, zerossl }, sites: [{ ...site, tls: { cas: ['letsencrypt'] } }, other] },
      { letsencrypt: ['a.example.com'], zerossl: ['b.example.com'] },
    ],
    [
      'several sites of one',
      { cas: { zerossl }, sites: [site, other] },
      { zerossl: ['a.example.com', 'b.example.com'] },
    ],
    [
      'the other is distrusted',
      { cas: { letsencrypt: { distrusted: true }, zerossl }, sites: [site] },
      { zerossl: ['a.example.com'] },
    ],
    [
      'the other is internal',
      { tls: { cas: ['letsencrypt', 'internal'] }, sites: [site] },
      { letsencrypt: ['a.example.com'] },
    ],
    ['the other is private', { cas: { corp }, tls: { cas: ['letsencrypt', 'corp'] }, sites: [site] }, {}],
    ['one that is private', { cas: { corp }, sites: [site] }, {}],
    ['the internal one', { tls: { cas: ['internal'] }, sites: [site] }, {}],
    [
      'no certificates of ours',
      { sites: [{ ...site, mode: 'passthrough', upstreams: ['tcp://127.0.0.1:1'] }] },
      {},
    ],
  ]
  for (const [name, config, alone] of cases) {
    const found = hostsOfOneCa(configSchema.parse({ sites: [], ...config }))
    t.strictSame(Object.fromEntries(found), alone, name)
  }
})
