import t from 'tap'
import { findContradictions } from '../../src/config/consistency.ts'
import { describeIssue, problemsOf } from '../../src/config/issues.ts'
import { configJsonSchema, configSchema, parseSections } from '../../src/config/schema.ts'
import { resolveSites, type SiteRoute } from '../../src/config/sites.ts'

const hosts = ['app.example.com']
const upstreams = ['http://127.0.0.1:3000']

/** The routes of a site that says this, by their path. */
function routesOf(site: object): Record<string, SiteRoute> {
  const [resolved] = resolveSites(configSchema.parse({ sites: [{ hosts, ...site }] }))
  return Object.fromEntries(resolved!.routes.map((route) => [route.path, route]))
}

function complaints(site: object): string[] {
  const problems = findContradictions(parseSections({ sites: [{ hosts, ...site }] }))
  return problems.map(({ path, message, hint }) => `${path}: ${message}; ${hint}`)
}

/** What the schema says of a site. */
function faults(site: object): string[] {
  const input = { sites: [{ hosts, upstreams, ...site }] }
  const parsed = configSchema.safeParse(input, { error: describeIssue })
  const problems = problemsOf(parsed.error?.issues ?? [], input, configJsonSchema())
  return problems.map(({ path, message }) => `${path.replace('sites[0].', '')}: ${message}`)
}

t.test('a route without any of it has no shaping', async (t) => {
  const { '/': own, '/api': api } = routesOf({ upstreams, routes: [{ path: '/api', upstreams }] })
  t.equal(own?.shaping, undefined)
  t.equal(api?.shaping, undefined)
})

t.test('routes take over who may ask, and how often, unless they say so themselves', async (t) => {
  const routes = routesOf({
    upstreams,
    allow: ['10.0.0.0/8'],
    deny: ['10.1.0.0/16'],
    maintenance: true,
    rateLimit: { requests: 10 },
    maxBody: '2KB',
    routes: [
      { path: '/same', upstreams },
      {
        path: '/open',
        upstreams,
        allow: ['0.0.0.0/0', '::/0'],
        deny: [],
        maintenance: false,
        rateLimit: false,
      },
    ],
  })
  const own = routes['/']?.shaping
  t.match(own, {
    allow: ['10.0.0.0/8'],
    deny: ['10.1.0.0/16'],
    maintenance: { retryAfter: 300_000, allow: [] },
    rateLimit: { by: 'ip', requests: 10, per: 60_000 },
    maxBody: 2048,
  })
  t.strictSame(routes['/same']?.shaping, own)
  t.equal(routes['/same']?.shaping?.rateLimit, own?.rateLimit, 'one object: they count together')
  t.match(routes['/open']?.shaping, {
    allow: ['0.0.0.0/0', '::/0'],
    deny: [],
    maintenance: undefined,
    rateLimit: undefined,
  })
})

t.test('a site’s own answer is for its own route', async (t) => {
  const routes = routesOf({
    redirectTo: 'https://www.example.com{uri}',
    routes: [
      { path: '/api', upstreams },
      { path: '/health', respond: { body: 'ok' } },
    ],
  })
  t.match(routes['/'], {
    upstreams: [],
    shaping: { redirectTo: { to: 'https://www.example.com{uri}', status: 308 } },
  })
  t.equal(routes['/api']?.shaping, undefined)
  t.match(routes['/health'], {
    upstreams: [],
    shaping: { redirectTo: undefined, respond: { status: 200, body: 'ok' } },
  })
})

t.test('a request gets one answer, and a status without content has none', async (t) => {
  const respond = { status: 404 }
  t.strictSame(complaints({ respond }), [])
  t.match(complaints({ upstreams, respond }), [/^sites\[0\]\.respond: is there beside `upstreams`/])
  t.match(complaints({ redirectTo: '/x', respond }), [/^sites\[0\]\.respond: is there beside `redirectTo`/])
  t.match(complaints({ upstreams, routes: [{ path: '/a', upstreams, redirectTo: '/x' }] }), [
    /^sites\[0\]\.routes\[0\]\.redirectTo: is there beside `upstreams`/,
  ])
  t.match(complaints({ routes: [{ path: '/a' }] }), [/^sites\[0\]\.routes\[0\]: has none of `upstreams`/])
  t.match(complaints({}), [/^sites\[0\]: has none of `upstreams`, `routes`/])
  t.match(complaints({ redirectTo: '/x', routes: [{ path: '/', upstreams }] }), [
    /^sites\[0\]\.routes\[0\]\.path: "\/" is the path of the site’s own `redirectTo`/,
  ])
  t.match(complaints({ respond: { status: 204, body: 'x' } }), [
    /^sites\[0\]\.respond\.body: a response with status 204 has no content/,
  ])
})

t.test('header rules are taken over as a whole, a rewrite is for its own route', async (t) => {
  const requestHeaders = { set: { 'X-Env': 'prod' } }
  const routes = routesOf({
    upstreams,
    rewrite: '/app',
    requestHeaders,
    responseHeaders: { remove: ['Server'] },
    routes: [
      { path: '/api', upstreams, rewrite: '/' },
      { path: '/raw', upstreams, requestHeaders: {} },
    ],
  })
  t.match(routes['/']?.shaping, { rewrite: '/app', requestHeaders, responseHeaders: { remove: ['Server'] } })
  t.match(routes['/api']?.shaping, { rewrite: '/', requestHeaders })
  t.strictSame(routes['/raw']?.shaping?.requestHeaders, { set: {}, add: {}, remove: [] })
  t.equal(routes['/raw']?.shaping?.rewrite, undefined)
})

t.test('a route may leave out what its site compresses', async (t) => {
  const routes = routesOf({
    upstreams,
    compress: true,
    routes: [
      { path: '/same', upstreams },
      { path: '/plain', upstreams, compress: false },
    ],
  })
  t.equal(routes['/']?.shaping?.compress, true)
  t.equal(routes['/same']?.shaping?.compress, true)
  t.equal(routes['/plain']?.shaping, undefined)
  t.match(complaints({ routes: [{ path: '/a', respond: {}, compress: true }] }), [/compress: means nothing/])
})

t.test('what is for upstreams stands beside some', async (t) => {
  const requestHeaders = { remove: ['Cookie'] }
  t.match(complaints({ redirectTo: '/x', rewrite: '/' }), [
    /^sites\[0\]\.rewrite: means nothing without `upstreams`/,
  ])
  t.match(complaints({ routes: [{ path: '/a', respond: {}, requestHeaders }] }), [
    /^sites\[0\]\.routes\[0\]\.requestHeaders: means nothing without `upstreams`/,
  ])
  t.strictSame(complaints({ respond: {}, requestHeaders, routes: [{ path: '/a', upstreams }] }), [])
})

t.test('a rewrite is a path', async (t) => {
  for (const rewrite of ['/', '/v2', '/v2/', '/a%20b']) t.strictSame(faults({ rewrite }), [], rewrite)
  for (const rewrite of ['', 'v2', '/a?b', '/a#b', '/a b', '/é', 'http://x/'])
    t.match(faults({ rewrite }), [/^rewrite: ".*" is not a path/], rewrite)
})

t.test('rules leave alone what frames a message or is Holdfast’s to say', async (t) => {
  const set = (name: string, value = 'x'): object => ({ set: { [name]: value } })
  for (const rules of [
    set('X-Any'),
    set('Host', 'inner.example:8080'),
    set('Host', '[::1]'),
    { remove: ['Cookie'] },
  ])
    t.strictSame(faults({ requestHeaders: rules }), [], JSON.stringify(rules))
  for (const rules of [
    set('Content-Length', '3'),
    set('Transfer-Encoding', 'chunked'),
    set('Connection', 'close'),
    set('TE'),
    set('Via'),
    set('X Y'),
    set('X', 'a\r\nY: b'),
    set('Host', 'a/b'),
    set('host', 'user@a'),
    { add: { Host: 'a' } },
    { remove: ['host'] },
    { remove: ['upgrade'] },
    { add: { X: 'x'.repeat(8192) } },
  ])
    t.equal(faults({ requestHeaders: rules }).length, 1, JSON.stringify(rules).slice(0, 80))
  t.match(faults({ responseHeaders: set('Strict-Transport-Security') }), [/write `hsts` in the site/])
  t.strictSame(faults({ responseHeaders: { remove: ['Strict-Transport-Security'] } }), [])
})

t.test('a stream has nothing to shape', async (t) => {
  const site = { mode: 'tcp', upstreams: ['tcp://127.0.0.1:5432'] }
  for (const shaping of [
    { allow: [] },
    { redirectTo: '/x' },
    { maintenance: false },
    { basicAuth: false },
    { rateLimit: false },
  ]) {
    const [key] = Object.keys(shaping)
    t.match(complaints({ ...site, ...shaping }), [
      new RegExp(`^sites\\[0\\]\\.${key}: means nothing here; it is for HTTP`),
    ])
  }
})

t.test('a redirect goes to a URL or a path, with variables that there are', async (t) => {
  for (const to of ['https://www.example.com{uri}', 'http://{host}/x', '/', '/new{path}?from={uri}']) {
    t.strictSame(faults({ redirectTo: to }), [], to)
    t.strictSame(faults({ redirectTo: { to, status: 302 } }), [], to)
  }
  for (const to of [
    'www.example.com',
    '//evil.example',
    '/\\evil',
    'javascript:x',
    'https://x/{port}',
    '/é',
    '/a b',
  ]) {
    t.match(faults({ redirectTo: to }), [/^redirectTo: ".*" is not a place to redirect to/], to)
    t.match(faults({ redirectTo: { to } }), [/^redirectTo\.to: ".*" is not a place to redirect to/], to)
  }
  t.match(faults({ redirectTo: { to: '/x', status: 304 } }), [/301, 302, 303, 307 or 308/])
})

t.test('an answer’s headers are such, on one line, and do not frame the message', async (t) => {
  t.strictSame(faults({ respond: { headers: { 'X-Empty': '', Allow: 'GET, HEAD' } } }), [])
  for (const headers of [
    { 'Content-Length': '3' },
    { 'transfer-encoding': 'chunked' },
    { Connection: 'close' },
    { 'X Y': 'a' },
    { '': 'a' },
    { X: 'a\r\nSet-Cookie: b' },
    { X: ' a' },
    { X: 'é' },
  ]) {
    t.equal(faults({ respond: { headers } }).length, 1, JSON.stringify(headers))
  }
})

t.test('users have hashes of passwords, which are never shown', async (t) => {
  const hash = `$scrypt$ln=15,r=8,p=3$${'A'.repeat(22)}$${'A'.repeat(43)}`
  t.strictSame(faults({ basicAuth: { users: { alice: hash } } }), [])
  t.strictSame(faults({ basicAuth: { users: { alice: 'hunter2' } } }), [
    'basicAuth.users.alice: is not a password hash: make one with "holdfast hash-password"',
  ])
  t.match(faults({ basicAuth: { users: {} } }), [/^basicAuth\.users: names no user/])
  t.match(faults({ basicAuth: { users: { 'a:b': hash } } }), [/"a:b" is not a user name/])
  t.match(faults({ basicAuth: { users: { a: hash }, realm: 'a"b' } }), [/is not a realm/])
})

t.test('limits and ranges that mean nothing are refused', async (t) => {
  t.match(faults({ rateLimit: { requests: 0 } }), [/at least 1/])
  t.match(faults({ rateLimit: { requests: 1, burst: 0 } }), [/at least 1/])
  t.match(faults({ rateLimit: true }), [/^rateLimit: true is not a rate limit: write \{ "requests"/])
  t.match(faults({ rateLimit: { requests: 1, by: 'cookie:a' } }), [
    /"cookie:a" is not what clients are told apart by/,
  ])
  t.strictSame(faults({ rateLimit: { requests: 1, by: 'header:X-Api-Key' }, maxBody: '10MB' }), [])
  for (const maxBody of ['10', '10 MB', '1.5MB', 'MB', '-1B', '10mb'])
    t.match(faults({ maxBody }), [/^maxBody: ".*" is not a size: write/], maxBody)
  t.match(faults({ allow: ['10.0.0.0/33'] }), [/^allow\[0\]: "10.0.0.0\/33" is not an address range/])
  t.match(faults({ maintenance: 'yes' }), [/^maintenance: "yes" is not a maintenance policy/])
  t.match(faults({ respond: { status: 101 } }), [/^respond\.status: 101 is not a status: write 200 to 599/])
})
