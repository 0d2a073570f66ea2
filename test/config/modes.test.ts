import t from 'tap'
import { findContradictions } from '../../src/config/consistency.ts'
import { parseSections } from '../../src/config/schema.ts'

const hosts = ['db.example.com']
const http = ['http://127.0.0.1:3000']
const tcp = ['tcp://127.0.0.1:5432']

function complaints(site: object, top: object = {}): string[] {
  const problems = findContradictions(parseSections({ ...top, sites: [{ hosts, ...site }] }))
  return problems.map(({ path, message, hint }) => `${path}: ${message}; ${hint}`)
}

for (const mode of ['tcp', 'passthrough']) {
  t.test(`a ${mode} site says what a stream needs, and no more`, async (t) => {
    t.strictSame(complaints({ mode, upstreams: tcp, proxyProtocol: 'v2' }), [])
    t.strictSame(complaints({ mode, upstreams: ['unix:/run/db.sock'] }), [])
    t.match(complaints({ mode, upstreams: ['unix+h2c:/run/db.sock'] }), [/write "unix:\/run\/db\.sock"/])
    t.match(complaints({ mode }), [/^sites\[0\]: has no `upstreams`.*tcp:\/\//])
    t.match(complaints({ mode, upstreams: http }), [
      /^sites\[0\]\.upstreams\[0\]: .*"tcp:\/\/127\.0\.0\.1:3000"/,
    ])
    t.match(complaints({ mode, upstreams: tcp, routes: [{ path: '/a', upstreams: http }] }), [
      /^sites\[0\]\.routes: means nothing here; it is for HTTP/,
    ])
    const spread = { balance: { hash: 'ip' }, slowStart: '5s', queue: {}, healthCheck: { type: 'tcp' } }
    t.strictSame(complaints({ mode, upstreams: tcp, ...spread }), [])
    const ofHttp = { balance: { hash: 'cookie:a' }, retries: 1, sticky: true, healthCheck: { path: '/up' } }
    t.match(complaints({ mode, upstreams: tcp, ...ofHttp }), [
      /\.balance: means nothing here/,
      /\.healthCheck\.path: /,
      /\.retries: /,
      /\.sticky: /,
    ])
    t.match(complaints({ mode, upstreams: tcp, hsts: true }), [/^sites\[0\]\.hsts: /])
  })
}

t.test('a health check that only connects asks for nothing', async (t) => {
  const healthCheck = { type: 'tcp', path: '/up' }
  t.match(complaints({ upstreams: http, healthCheck }), [
    /^sites\[0\]\.healthCheck\.path: means nothing here/,
  ])
  t.match(complaints({ routes: [{ path: '/', upstreams: http, healthCheck }] }), [
    /^sites\[0\]\.routes\[0\]\.healthCheck\.path: /,
  ])
  t.strictSame(complaints({ upstreams: http, healthCheck: { path: '/up' } }), [])
})

t.test('an HTTP site has no tcp:// upstreams and no keys of streams', async (t) => {
  t.match(complaints({ upstreams: tcp }), [
    /^sites\[0\]\.upstreams\[0\]: tcp:.* takes no requests; .*"mode": "tcp"/,
  ])
  t.match(complaints({ routes: [{ path: '/', upstreams: tcp }] }), [
    /^sites\[0\]\.routes\[0\]\.upstreams\[0\]: /,
  ])
  t.match(complaints({ upstreams: http, alpn: ['x'], proxyProtocol: 'v1' }), [
    /\.alpn: /,
    /\.proxyProtocol: /,
  ])
})

t.test('where TLS is passed through, nothing is said of it, and names choose', async (t) => {
  const site = { mode: 'passthrough', upstreams: tcp }
  t.match(complaints({ ...site, alpn: ['x'] }), [/\.alpn: .*upstream’s/])
  t.match(complaints({ ...site, tls: { keyType: 'rsa-2048' } }), [/^sites\[0\]\.tls\.keyType: /])
  t.match(complaints({ ...site, deliver: [{ key: '/tmp/key.pem' }] }), [/^sites\[0\]\.deliver: /])
  t.match(complaints({ ...site, hosts: ['192.0.2.1'] }), [/^sites\[0\]\.hosts\[0\]: .*address/])
  t.strictSame(complaints({ ...site, hosts: ['*.example.com'] }), [])
  t.match(complaints(site, { tls: { defaultHost: 'db.example.com' } }), [/^tls\.defaultHost: .*certificate/])
})
