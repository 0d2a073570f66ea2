import { join } from 'node:path'
import t from 'tap'
import { VirtualClock } from '../../src/commands/simulate/virtual-clock.ts'
import { DEFAULT_BALANCING } from '../../src/config/balancing.ts'
import { ConfigError } from '../../src/errors.ts'
import { Gateway, type Policy } from '../../src/http/gateway.ts'
import type { RequestFacts, Verdict } from '../../src/http/verdict.ts'
import { silentLog } from '../../src/log.ts'
import { Names } from '../../src/upstreams/names.ts'
import { makeSite, makeUpstream, type SiteOptions } from './front.ts'

const CLIENT = {
  clientAddress: '192.0.2.1',
  contentLength: -1,
  fields: { field: () => undefined },
}
const ANYBODY = { clientAddress: '192.0.2.1', field: () => undefined }

const timeouts = { head: 1, body: 2, connect: 3, response: 4, keepAlive: 5, upgrade: 6, drain: 7 }

function policy(sites: readonly SiteOptions[], rest: Partial<Policy> = {}): Policy {
  return {
    sites: sites.map(makeSite),
    timeouts,
    trustedProxies: [],
    httpsPort: 443,
    httpPorts: [80],
    ...rest,
  }
}

function makeGateway(sites: readonly SiteOptions[], rest: Partial<Policy> = {}): Gateway {
  return new Gateway(policy(sites, rest), {
    clock: new VirtualClock(),
    log: silentLog(),
    names: new Names(),
    stickyKey: Buffer.alloc(32),
    challenge: (path) => (path === '/.well-known/acme-challenge/ours' ? 'key.authorization' : undefined),
  })
}

const SITES: readonly SiteOptions[] = [
  {
    hosts: ['app.example.com', '2001:db8::1'],
    upstreams: ['http://127.0.0.1:1'],
    routes: [
      { path: '/api', upstreams: ['http://127.0.0.1:2'] },
      { path: '/api/v2/', upstreams: ['http://127.0.0.1:3'] },
    ],
    redirect: true,
    hsts: { maxAge: 1000, includeSubDomains: false, preload: true },
  },
  { hosts: ['*.example.com', 'example.org'], upstreams: ['http://127.0.0.1:4'], redirect: false },
  { hosts: ['deep.example.net'], routes: [{ path: '/only', upstreams: ['http://127.0.0.1:5'] }] },
]

/** On a GET of `/` over TLS, but for these facts. */
function verdictOf(gateway: Gateway, facts: Partial<RequestFacts> = {}): Verdict {
  const host = 'app.example.com'
  return gateway.decide({
    secure: true,
    serverName: host,
    method: 'GET',
    host,
    target: '/',
    ...CLIENT,
    ...facts,
  })
}

/** The verdict in short: the route's path and port, the status, or the location. */
function decide(gateway: Gateway, facts: Partial<RequestFacts>): string {
  const verdict = verdictOf(gateway, facts)
  if (verdict.action === 'refuse') return String(verdict.error.status)
  if (verdict.action === 'forward') return verdict.route.balancer.pick(ANYBODY)?.url.slice(17) ?? 'none'
  if (verdict.action === 'wait') return 'wait'
  return `${verdict.status} ${verdict.headers.find(([name]) => name === 'location')?.[1] ?? verdict.body}`
}

t.test('the longest prefix that ends at a segment takes the request', async (t) => {
  const gateway = makeGateway(SITES)
  for (const [target, port] of [
    ['/', '1'],
    ['/api', '2'],
    ['/api?x', '2'],
    ['/api/', '2'],
    ['/api/x', '2'],
    ['/api/v2', '3'],
    ['/api/v2/', '3'],
    ['/api/v2/x?y', '3'],
    ['/api/v2?/', '3'],
    ['/api/v22', '2'],
    ['/apix', '1'],
    ['/API', '1'],
    ['/x/api', '1'],
  ] as const) {
    t.equal(decide(gateway, { target }), port, target)
  }
  const bare = { serverName: 'deep.example.net', host: 'deep.example.net' }
  t.equal(decide(gateway, { ...bare, target: '/only/x' }), '5')
  t.equal(decide(gateway, { ...bare, target: '/else' }), '404')
})

t.test('over TLS the host must belong to the site of the connection’s name', async (t) => {
  const gateway = makeGateway(SITES)
  for (const [serverName, host, outcome] of [
    ['app.example.com', 'app.example.com', '1'],
    ['app.example.com', 'APP.example.com.:8443', '1'],
    ['app.example.com', '[2001:db8::1]', '1'],
    ['a.example.com', 'b.example.com', '4'],
    ['a.example.com', 'example.org', '4'],
    ['app.example.com', 'b.example.com', '421'],
    ['b.example.com', 'app.example.com', '421'],
    ['app.example.com', 'nobody.example', '421'],
    ['nobody.example', 'nobody.example', '421'],
    ['nobody.example', 'app.example.com', '421'],
    ['app.example.com', 'a.b.example.com', '421'],
    ['app.example.com', 'bad host', '400'],
    ['app.example.com', undefined, '400'],
    [undefined, 'app.example.com', '1'],
    [undefined, '[2001:DB8::1]:443', '1'],
    [undefined, 'nobody.example', '421'],
  ] as const) {
    t.equal(decide(gateway, { serverName, host }), outcome, `${serverName} ${host}`)
  }
})

t.test('a site with client certificates serves connections that were asked by its own policy', async (t) => {
  const policyOf = (id: string) => ({
    id,
    required: true,
    ca: '',
    crls: [],
    crlsEndAt: Infinity,
    crlFile: undefined,
  })
  const sites = policy([
    { hosts: ['open.example'], upstreams: ['http://127.0.0.1:1'] },
    { hosts: ['one.example'], upstreams: ['http://127.0.0.1:2'] },
    { hosts: ['two.example'], upstreams: ['http://127.0.0.1:3'] },
  ])
  const [open, one, two] = sites.sites
  const guarded = [
    { ...open!, hosts: ['open.example'] },
    { ...one!, clientPolicy: policyOf('a') },
    { ...two!, clientPolicy: policyOf('b') },
  ]
  const log = silentLog()
  const names = new Names()
  const options = {
    clock: new VirtualClock(),
    log,
    names,
    stickyKey: Buffer.alloc(32),
    challenge: () => undefined,
  }
  const gateway = new Gateway({ ...sites, sites: guarded }, options)
  for (const [clientPolicy, host, outcome] of [
    ['a', 'one.example', '2'],
    ['b', 'two.example', '3'],
    [undefined, 'open.example', '1'],
    [undefined, 'one.example', '421'],
    ['b', 'one.example', '421'],
    ['a', 'open.example', '421'],
  ] as const)
    for (const serverName of [host, undefined]) {
      const client = clientPolicy && { policy: clientPolicy, certificate: undefined }
      t.equal(
        decide(gateway, { serverName, host, ...(client && { client }) }),
        outcome,
        `${clientPolicy} ${host}`,
      )
    }
  // Even where plain HTTP is proxied.
  t.match(decide(gateway, { secure: false, serverName: undefined, host: 'open.example' }), '1')
  t.match(decide(gateway, { secure: false, serverName: undefined, host: 'one.example' }), /^308/)
})

t.test('plain HTTP is redirected, forwarded where the site says so, and 404 for strangers', async (t) => {
  const plain = { secure: false, serverName: undefined }
  const standard = makeGateway(SITES)
  const target = '/a/b?c=d%20e&f'
  t.equal(decide(standard, { ...plain, target }), `308 https://app.example.com${target}`)
  t.equal(
    decide(standard, { ...plain, host: 'App.Example.Com:80', target }),
    `308 https://app.example.com${target}`,
  )
  t.equal(decide(standard, { ...plain, host: '[2001:db8::1]:80' }), '308 https://[2001:db8::1]/')
  t.equal(decide(makeGateway(SITES, { httpsPort: 8443 }), plain), '308 https://app.example.com:8443/')
  t.equal(decide(standard, { ...plain, host: 'a.example.com' }), '4')
  t.equal(decide(standard, { ...plain, host: 'nobody.example' }), '404')
  t.equal(decide(standard, { ...plain, host: 'nobody@example' }), '400')
})

t.test('the redirect of who came to port 80 through mapped ports leads to port 443', async (t) => {
  const gateway = makeGateway(SITES, { httpsPort: 8443, httpPorts: [8080] })
  for (const [host, location] of [
    ['app.example.com', 'https://app.example.com/'],
    ['app.example.com:80', 'https://app.example.com/'],
    ['[2001:db8::1]', 'https://[2001:db8::1]/'],
    ['app.example.com:8080', 'https://app.example.com:8443/'],
    ['[2001:db8::1]:8080', 'https://[2001:db8::1]:8443/'],
  ] as const)
    t.equal(decide(gateway, { secure: false, serverName: undefined, host }), `308 ${location}`, host)
})

t.test(
  'a site that is passed through has its plain HTTP redirected, challenges too, unless it says no',
  async (t) => {
    const stream = {
      mode: 'passthrough',
      alpn: [],
      upstreams: [makeUpstream('tcp://127.0.0.1:9')],
      balancing: DEFAULT_BALANCING,
      proxyProtocol: undefined,
    } as const
    const gateway = makeGateway([
      { hosts: ['*.example.com'], upstreams: ['http://127.0.0.1:1'] },
      { hosts: ['through.example.com'], stream, redirect: true },
      { hosts: ['quiet.example.com'], stream, redirect: false },
    ])
    const plain = { secure: false, serverName: undefined, host: 'through.example.com' }
    t.equal(decide(gateway, { ...plain, target: '/x?y' }), '308 https://through.example.com/x?y')
    const target = '/.well-known/acme-challenge/theirs'
    t.equal(decide(gateway, { ...plain, target }), `308 https://through.example.com${target}`)
    t.equal(decide(gateway, { ...plain, host: 'quiet.example.com' }), '404')
    for (const serverName of [undefined, 'app.example.com', 'through.example.com'])
      t.equal(decide(gateway, { serverName, host: 'through.example.com' }), '421', String(serverName))
  },
)

t.test('challenges are answered on plain HTTP alone, whatever the host, and never redirected', async (t) => {
  const gateway = makeGateway(SITES)
  const ours = { secure: false, serverName: undefined, target: '/.well-known/acme-challenge/ours' }
  const theirs = { ...ours, target: '/.well-known/acme-challenge/theirs' }
  t.equal(decide(gateway, ours), '200 key.authorization')
  t.equal(decide(gateway, { ...ours, host: 'nobody.example' }), '200 key.authorization')
  t.equal(decide(gateway, { ...ours, method: 'HEAD' }), '200 key.authorization')
  t.match(decide(gateway, { ...ours, method: 'POST' }), '404')
  t.equal(decide(gateway, theirs), '404')
  t.equal(
    decide(gateway, { ...theirs, host: 'a.example.com' }),
    '4',
    'an upstream with an ACME client of its own',
  )
  t.equal(decide(gateway, { target: ours.target }), '1', 'over TLS it is a path like others')
})

t.test('CONNECT is not supported, whatever it asks for', async (t) => {
  t.equal(decide(makeGateway(SITES), { method: 'CONNECT', host: 'app.example.com:443', target: '' }), '501')
})

t.test('a route carries what its site says of HSTS', async (t) => {
  t.match(verdictOf(makeGateway(SITES)), { route: { path: '/', hsts: 'max-age=1; preload' } })
})

t.test('a reload swaps everything, and keeps the backends that did not change', async (t) => {
  const gateway = makeGateway([
    { hosts: ['app.example.com'], upstreams: ['http://127.0.0.1:1', 'http://127.0.0.1:2'] },
  ])
  const backends = (): unknown[] => {
    const verdict = verdictOf(gateway)
    return verdict.action === 'forward'
      ? [verdict.route.balancer.pick(ANYBODY), verdict.route.balancer.pick(ANYBODY)]
      : []
  }
  const [one, two] = backends() as [{ retired: AbortSignal }, { retired: AbortSignal }]
  gateway.replace(
    policy([{ upstreams: ['http://127.0.0.1:2', 'http://127.0.0.1:3'] }], {
      trustedProxies: ['10.0.0.0/8'],
      timeouts: { ...timeouts, head: 9 },
    }),
  )
  const [kept, three] = backends()
  t.equal(kept, two)
  t.not(three, one)
  t.equal(one.retired.aborted, true)
  t.equal(two.retired.aborted, false)
  t.equal(gateway.timeouts.head, 9)
  t.equal(gateway.trusts('10.1.2.3'), true)
  t.equal(gateway.trusts('192.0.2.1'), false)
})

t.test('a reload that fails changes nothing', async (t) => {
  const gateway = makeGateway(SITES)
  const roots = join(t.testdir({}), 'missing.pem')
  const broken = policy([{ upstreams: ['https://127.0.0.1:9'], upstreamTls: { verify: true, roots } }])
  t.throws(() => gateway.replace(broken), ConfigError)
  t.equal(decide(gateway, {}), '1')
})
