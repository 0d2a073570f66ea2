/** What the proxy does with a request before, or instead of, asking an upstream. */
import { join } from 'node:path'
import type { Test } from 'tap'
import { hashPassword } from '../../../src/password.ts'
import { Front, HOST, type MakeWire, type SiteOptions, until } from '../front.ts'
import { RawClient, statusOf } from '../raw-client.ts'
import { bodyOf, fieldOf, fieldsOf, ok, RawUpstream } from '../raw-upstream.ts'
import { answerOf, connectHttp2 } from './http2.ts'

export function shaping(t: Test, makeWire: MakeWire): void {
  /** A client of a proxy with one site, and the upstream behind it. */
  const against = async (
    t: Test,
    site: SiteOptions,
    trustedProxies: string[] = [],
  ): Promise<[RawClient, RawUpstream, Front]> => {
    const upstream = await RawUpstream.start(t, (socket) => socket.write(ok('upstream')))
    const front = await Front.start(t, makeWire, {
      sites: [{ upstreams: [upstream.url], ...site }],
      trustedProxies,
    })
    return [await RawClient.connect(t, front), upstream, front]
  }
  const get = (client: RawClient, target = '/', ...fields: string[]): Promise<string> => {
    client.send(`GET ${target} HTTP/1.1`, `Host: ${HOST}`, ...fields)
    return client.response()
  }

  const lastTarget = (upstream: RawUpstream): string | undefined => upstream.requests.at(-1)?.split(' ')[1]

  t.test('403 to an address that may not ask, on a connection that goes on', async (t) => {
    const [client, upstream, front] = await against(t, {
      routes: [{ path: '/inner', shaping: { deny: ['127.0.0.0/8'] } }],
    })
    const content = 'x'.repeat(1000)
    client.send('POST /inner/x HTTP/1.1', `Host: ${HOST}`, `Content-Length: ${content.length}`)
    client.write(content)
    t.equal(statusOf(await client.response()), 403)
    t.equal(bodyOf(await get(client)), 'upstream')
    t.equal(upstream.requests.length, 1)
    await until(() => front.requests.length === 2)
    t.match(front.requests[0], {
      status: 403,
      path: '/inner/x',
      client: '127.0.0.1',
      err: { code: 'FORBIDDEN' },
    })
  })

  t.test('a trusted proxy’s client is asked for, others’ word on it is not', async (t) => {
    const site = { shaping: { allow: ['203.0.113.7'] } }
    const [trusted] = await against(t, site, ['127.0.0.1'])
    t.equal(statusOf(await get(trusted, '/', 'X-Forwarded-For: 203.0.113.7')), 200)
    t.equal(statusOf(await get(trusted, '/', 'X-Forwarded-For: 203.0.113.7, 198.51.100.1')), 403)
    const [stranger] = await against(t, site)
    t.equal(statusOf(await get(stranger, '/', 'X-Forwarded-For: 203.0.113.7')), 403)
  })

  t.test('429 past the rate limit, with the time to wait', async (t) => {
    const rateLimit = { by: 'header:X-Key', requests: 2, per: 3_600_000, burst: undefined }
    const [client, upstream] = await against(t, { shaping: { rateLimit } })
    for (let i = 0; i < 2; i++) t.equal(statusOf(await get(client, '/', 'X-Key: a')), 200)
    t.equal(statusOf(await get(client, '/', 'X-Key: b')), 200)
    const refused = await get(client, '/', 'x-key: a')
    t.equal(statusOf(refused), 429)
    t.equal(fieldOf(refused, 'retry-after'), '1800')
    t.equal(upstream.requests.length, 3)
  })

  t.test('a route’s rules hold however its path is spelled', async (t) => {
    const [client, upstream, front] = await against(t, {
      routes: [{ path: '/auth/', shaping: { deny: ['127.0.0.0/8'] } }],
    })
    const session = connectHttp2(t, front)
    for (const target of [
      '/auth/x',
      '/x/../auth/x',
      '/x/%2e%2E/auth/x',
      '/x%2F..%2fauth/x',
      '/./auth/x',
      '//auth/x',
      '/%61uth/x',
      '/auth%2Fx',
      '/auth\\x',
      '/auth;y/x',
      '/x/..;/auth/x',
      '/auth',
    ]) {
      t.equal(statusOf(await get(client, target)), 403, target)
      const stream = session.request({ ':path': target, ':authority': HOST })
      t.equal((await answerOf(stream)).status, 403, `${target} over HTTP/2`)
    }
    t.equal(upstream.requests.length, 0)
  })

  t.test(
    'a path that another program could read as one of another route goes on as it was read',
    async (t) => {
      const upstream = await RawUpstream.start(t, (socket) => socket.write(ok('upstream')))
      const upstreams = [upstream.url]
      const routes = [
        { path: '/in/', upstreams },
        { path: '/a%7Cb', upstreams },
        { path: '/strip/', upstreams, shaping: { rewrite: '/' } },
      ]
      const front = await Front.start(t, makeWire, { sites: [{ upstreams, routes }] })
      const client = await RawClient.connect(t, front)
      for (const [target, sent] of [
        ['/in/../x?a=%2e&b=//', '/x?a=%2e&b=//'],
        ['/x%2F../in/y', '/in/y'],
        ['/%69n/%C3%A9%20%25?/%2e', '/in/%C3%A9%20%25?/%2e'],
        ['/a|b/c', '/a%7Cb/c'],
        // To who takes it for a reference, `x` is a host.
        ['//x/in/y', '/x/in/y'],
        ['/\\x/in/y', '/x/in/y'],
        ['/strip/x/../y', '/y'],
        ['/%73trip/y', '/y'],
        // All read the route of these alike.
        ['/a%2Fb;c//d', '/a%2Fb;c//d'],
        ['/in/a%2Fb;c//d', '/in/a%2Fb;c//d'],
        ['/strip/a%2Fb', '/a%2Fb'],
      ] as const) {
        t.equal(statusOf(await get(client, target)), 200, target)
        t.equal(lastTarget(upstream), sent, target)
      }
      t.match(front.requests.at(0), { path: '/in/../x' }, 'the log has what was asked for')
    },
  )

  t.test('400 to a path that leads above the root, where routes hang on paths', async (t) => {
    const [, upstream, front] = await against(t, { routes: [{ path: '/in' }] })
    for (const target of ['/..', '/in/../../x', '/%2e%2e/in', '/in/..%2F../..'])
      t.equal(statusOf(await get(await RawClient.connect(t, front), target)), 400, target)
    t.equal(upstream.requests.length, 0)
  })

  t.test('a site with one way for all passes paths on as they were sent', async (t) => {
    const [client, upstream] = await against(t, {})
    for (const target of ['/a/../b', '//x', '/%61', '/..', '/a;b\\c']) {
      await get(client, target)
      t.equal(lastTarget(upstream), target)
    }
  })

  t.test('503 while a route is closed, until a reload opens it', async (t) => {
    const maintenance = { retryAfter: 60_000, allow: [], page: undefined }
    const [client, upstream, front] = await against(t, { shaping: { maintenance } })
    const closed = await get(client, '/', 'Accept: text/html')
    t.equal(statusOf(closed), 503)
    t.equal(fieldOf(closed, 'retry-after'), '60')
    t.match(fieldOf(closed, 'content-type'), /^text\/html/)
    await until(() => front.requests.length === 1)
    t.match(front.requests[0], { msg: 'request', err: { code: 'MAINTENANCE' } }, 'no alarm')
    front.reload({ sites: [{ upstreams: [upstream.url] }] })
    t.equal(bodyOf(await get(client)), 'upstream')
  })

  t.test('503 with the page of the maintenance, which is no alarm either', async (t) => {
    const page = join(t.testdir({ 'page.html': '<h1>Bald zurück' }), 'page.html')
    const maintenance = { retryAfter: 60_000, allow: [], page }
    const [client, , front] = await against(t, { shaping: { maintenance } })
    const closed = await get(client)
    t.equal(statusOf(closed), 503)
    t.equal(fieldOf(closed, 'retry-after'), '60')
    t.equal(bodyOf(closed), Buffer.from('<h1>Bald zurück').toString('latin1'))
    await until(() => front.requests.length === 1)
    t.match(front.requests[0], { msg: 'request', status: 503 })
  })

  t.test('a redirect takes along what was asked for, and leads to no other host', async (t) => {
    const [client] = await against(t, {
      routes: [
        { path: '/old', shaping: { redirectTo: { to: 'https://www.example.com{uri}', status: 301 } } },
        { path: '/', shaping: { redirectTo: { to: '/{path}', status: 308 } } },
      ],
    })
    const moved = await get(client, '/old/a?b=%20c')
    t.equal(statusOf(moved), 301)
    t.equal(fieldOf(moved, 'location'), 'https://www.example.com/old/a?b=%20c')
    t.equal(fieldOf(moved, 'content-length'), '0')
    t.equal(fieldOf(await get(client, '//evil.example'), 'location'), '/evil.example')
  })

  t.test('an answer of its own: status, fields and UTF-8 content, which HEAD leaves out', async (t) => {
    const body = 'Grüße, 世界'
    const bytes = Buffer.from(body)
    const [client, upstream] = await against(t, {
      routes: [{ path: '/hello', shaping: { respond: { status: 418, headers: { 'X-Own': 'yes' }, body } } }],
    })
    const response = await get(client, '/hello')
    t.equal(statusOf(response), 418)
    t.equal(fieldOf(response, 'x-own'), 'yes')
    t.equal(fieldOf(response, 'content-type'), 'text/plain; charset=utf-8')
    t.equal(fieldOf(response, 'content-length'), String(bytes.length))
    t.equal(bodyOf(response), bytes.toString('latin1'))
    client.send('HEAD /hello HTTP/1.1', `Host: ${HOST}`)
    const head = await client.receive(/\r\n\r\n/)
    t.equal(fieldOf(head, 'content-length'), String(bytes.length))
    client.received = ''
    t.equal(bodyOf(await get(client)), 'upstream', 'nothing came after the head')
    t.equal(upstream.requests.length, 1)
  })

  t.test('204 has neither content nor length', async (t) => {
    const respond = { status: 204, headers: {}, body: '' }
    const [client] = await against(t, { routes: [{ path: '/none', shaping: { respond } }] })
    const response = await get(client, '/none')
    t.equal(statusOf(response), 204)
    t.equal(fieldOf(response, 'content-length'), undefined)
    t.equal(fieldOf(response, 'content-type'), undefined)
    t.equal(bodyOf(await get(client)), 'upstream')
  })

  t.test(
    'an upstream gets another path in place of the route’s; the log has what was asked for',
    async (t) => {
      const upstream = await RawUpstream.start(t, (socket) => socket.write(ok()))
      const upstreams = [upstream.url]
      const front = await Front.start(t, makeWire, {
        sites: [{ routes: [{ path: '/api', upstreams, shaping: { rewrite: '/' } }] }],
      })
      const client = await RawClient.connect(t, front)
      client.send('POST /api/a%20b?c HTTP/1.1', `Host: ${HOST}`, 'X-Sent: yes', 'Content-Length: 4')
      client.write('body')
      t.equal(statusOf(await client.response()), 200)
      const [request = ''] = upstream.requests
      t.match(request, /^POST \/a%20b\?c HTTP\/1\.1\r\n/)
      t.equal(fieldOf(request, 'x-sent'), 'yes')
      t.equal(bodyOf(request), 'body')
      await until(() => front.requests.length === 1)
      t.match(front.requests[0], { path: '/api/a%20b' })
    },
  )

  t.test('headers of requests are set, added and removed, ours too', async (t) => {
    const [client, upstream] = await against(t, {
      shaping: {
        requestHeaders: {
          set: { Host: 'inner.example:81', 'X-Env': 'prod', 'X-Forwarded-Proto': 'http' },
          add: { 'X-List': 'ours', 'X-New': '1' },
          remove: ['Cookie'],
        },
      },
    })
    await get(client, '/', 'x-env: dev', 'X-Env: test', 'X-List: theirs', 'Cookie: a=b', 'X-Kept: yes')
    const [request = ''] = upstream.requests
    t.strictSame(
      fieldsOf(request).filter((line) => /^(host|cookie|x-(env|list|new|kept|forwarded-proto)):/.test(line)),
      [
        'host: inner.example:81',
        'x-env: prod',
        'x-forwarded-proto: http',
        'x-kept: yes',
        'x-list: ours',
        'x-list: theirs',
        'x-new: 1',
      ],
    )
    t.equal(fieldOf(request, 'x-forwarded-host'), HOST)
  })

  t.test('headers of responses are set, added and removed; those of our own answers are not', async (t) => {
    const upstream = await RawUpstream.start(t, (socket) =>
      socket.write(
        'HTTP/1.1 200 OK\r\nServer: x\r\nX-Frame: a\r\nx-frame: b\r\nVary: Cookie\r\nContent-Length: 2\r\n\r\nok',
      ),
    )
    const responseHeaders = {
      set: { 'X-Frame': 'DENY', 'Access-Control-Allow-Origin': '*' },
      add: { Vary: 'Origin' },
      remove: ['server'],
    }
    const front = await Front.start(t, makeWire, {
      sites: [
        {
          upstreams: [upstream.url],
          shaping: { responseHeaders },
          routes: [{ path: '/down', upstreams: ['http://127.0.0.1:9'] }],
        },
      ],
    })
    const client = await RawClient.connect(t, front)
    const response = await get(client)
    t.strictSame(
      fieldsOf(response).filter((line) => !/^(connection|keep-alive|date|via):/.test(line)),
      [
        'access-control-allow-origin: *',
        'content-length: 2',
        'vary: Cookie',
        'vary: Origin',
        'x-frame: DENY',
      ],
    )
    t.equal(bodyOf(response), 'ok')
    const page = await get(client, '/down')
    t.equal(statusOf(page), 502)
    t.equal(fieldOf(page, 'x-frame'), undefined)
  })

  t.test('all of it holds for HTTP/2 clients', async (t) => {
    const upstream = await RawUpstream.start(t, (socket) => socket.write(ok()))
    const upstreams = [upstream.url]
    const headers = { set: { 'X-Env': 'prod' }, add: {}, remove: ['cookie'] }
    const front = await Front.start(t, makeWire, {
      sites: [
        {
          routes: [
            {
              path: '/api',
              upstreams,
              shaping: { rewrite: '/', requestHeaders: headers, responseHeaders: headers },
            },
            { path: '/old', shaping: { redirectTo: { to: '/new{uri}', status: 301 } } },
            { path: '/inner', upstreams, shaping: { allow: [] } },
          ],
        },
      ],
    })
    const session = connectHttp2(t, front)
    const ask = (path: string): ReturnType<typeof answerOf> =>
      answerOf(session.request({ ':path': path, ':authority': HOST, 'x-env': 'dev', cookie: 'a=b' }))
    t.equal((await ask('/inner')).status, 403)
    t.match(await ask('/old?x'), { status: 301, headers: { location: '/new/old?x' } })
    t.match(await ask('/api/x'), { status: 200, headers: { 'x-env': 'prod' } })
    const [request = ''] = upstream.requests
    t.match(request, /^GET \/x HTTP\/1\.1\r\n/)
    t.equal(fieldOf(request, 'x-env'), 'prod')
    t.equal(fieldOf(request, 'cookie'), undefined)
  })

  const CREDENTIALS = `Basic ${Buffer.from('alice:secret').toString('base64')}`
  const basicAuth = async (): Promise<object> => ({
    basicAuth: { users: { alice: await hashPassword('secret') }, realm: 'Staff' },
  })

  t.test('401 with a challenge to who has no password; the upstream is not asked', async (t) => {
    const [client, upstream, front] = await against(t, { shaping: await basicAuth() })
    for (const fields of [[], [`Authorization: Basic ${Buffer.from('alice:wrong').toString('base64')}`]]) {
      const refused = await get(client, '/', ...fields)
      t.equal(statusOf(refused), 401)
      t.equal(fieldOf(refused, 'www-authenticate'), 'Basic realm="Staff", charset="UTF-8"')
    }
    t.equal(upstream.requests.length, 0)
    t.equal(bodyOf(await get(client, '/', `Authorization: ${CREDENTIALS}`)), 'upstream')
    t.equal(fieldOf(upstream.requests[0] ?? '', 'authorization'), CREDENTIALS)
    t.notMatch(JSON.stringify(front.log.lines), /secret|YWxpY2U/)
  })

  for (const framing of ['length', 'chunked']) {
    t.test(`a body that came while the password was checked arrives, by ${framing}`, async (t) => {
      const [client, upstream] = await against(t, { shaping: await basicAuth() })
      const content = '~'.repeat(100_000)
      const [field, body] =
        framing === 'length'
          ? [`Content-Length: ${content.length}`, content]
          : ['Transfer-Encoding: chunked', `186a0\r\n${content}\r\n0\r\n\r\n`]
      client.write('POST / HTTP/1.1', `Host: ${HOST}`, `Authorization: ${CREDENTIALS}`, field, '', body)
      client.send('GET /next HTTP/1.1', `Host: ${HOST}`, `Authorization: ${CREDENTIALS}`)
      t.equal(bodyOf(await client.response()), 'upstream')
      t.equal(bodyOf(await client.response()), 'upstream')
      t.equal(upstream.requests[0]?.match(/~/g)?.length, content.length)
      t.match(upstream.requests[1], /^GET \/next /)
    })
  }

  t.test('a wrong password with a body is refused, and the next request answered', async (t) => {
    const [client, upstream] = await against(t, { shaping: await basicAuth() })
    const wrong = `Authorization: Basic ${Buffer.from('bob:secret').toString('base64')}`
    client.write('POST / HTTP/1.1', `Host: ${HOST}`, wrong, 'Content-Length: 4', '', 'body')
    client.send('GET / HTTP/1.1', `Host: ${HOST}`, `Authorization: ${CREDENTIALS}`)
    t.equal(statusOf(await client.response()), 401)
    t.equal(bodyOf(await client.response()), 'upstream')
    t.equal(upstream.requests.length, 1)
  })

  t.test('a client that leaves while its password is checked is forgotten', async (t) => {
    const [client, upstream, front] = await against(t, { shaping: await basicAuth() })
    let asked = 0
    const decide = front.gateway.decide.bind(front.gateway)
    front.gateway.decide = (facts) => {
      asked++
      return decide(facts)
    }
    client.send('GET / HTTP/1.1', `Host: ${HOST}`, `Authorization: ${CREDENTIALS}`)
    await until(() => asked === 1)
    client.socket.destroy()
    const other = await RawClient.connect(t, front)
    t.equal(bodyOf(await get(other, '/', `Authorization: ${CREDENTIALS}`)), 'upstream')
    await until(() => front.requests.length === 2)
    t.equal(upstream.requests.length, 1)
  })

  t.test('passwords are asked of HTTP/2 clients too, and their bodies arrive', async (t) => {
    const [, upstream, front] = await against(t, { shaping: await basicAuth() })
    const session = connectHttp2(t, front)
    const headers = { ':path': '/', ':authority': HOST }
    t.match(await answerOf(session.request(headers)), {
      status: 401,
      headers: { 'www-authenticate': /^Basic realm="Staff"/ },
    })
    const stream = session.request({ ...headers, ':method': 'POST', authorization: CREDENTIALS })
    stream.end(Buffer.alloc(200_000, '~'))
    t.equal((await answerOf(stream)).status, 200)
    t.equal(upstream.requests[0]?.match(/~/g)?.length, 200_000)
  })

  t.test('413 to content that says it is too large, and to content that turns out to be', async (t) => {
    const [client, upstream, front] = await against(t, { shaping: { maxBody: 1000 } })
    const post = async (...fields: string[]): Promise<string> => {
      client.write('POST / HTTP/1.1', `Host: ${HOST}`, ...fields)
      return client.response()
    }
    const [small, large] = ['x'.repeat(1000), 'x'.repeat(1001)]
    t.equal(statusOf(await post('Content-Length: 1000', '', small)), 200)
    t.equal(statusOf(await post('Transfer-Encoding: chunked', '', '3e8', small, '0', '', '')), 200)
    t.equal(statusOf(await post('Content-Length: 1001', '', large)), 413)
    t.equal(statusOf(await post('Transfer-Encoding: chunked', '', '3e9', large, '0', '', '')), 413)
    t.equal(bodyOf(await get(client)), 'upstream', 'the connection goes on')
    t.equal(upstream.requests.length, 3)
    const session = connectHttp2(t, front)
    const stream = session.request({ ':path': '/', ':authority': HOST, ':method': 'POST' })
    stream.end(large)
    t.equal((await answerOf(stream)).status, 413)
    t.equal((await answerOf(session.request({ ':path': '/', ':authority': HOST }))).status, 200)
  })

  t.test('what passes a tunnel is no content', async (t) => {
    const upstream = await RawUpstream.start(t, (socket) => {
      socket.write('HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: echo\r\n\r\n')
      socket.removeAllListeners('data')
      socket.on('data', (piece) => socket.write(piece))
    })
    const front = await Front.start(t, makeWire, {
      sites: [{ upstreams: [upstream.url], shaping: { maxBody: 10 } }],
    })
    const client = await RawClient.connect(t, front)
    client.send('GET / HTTP/1.1', `Host: ${HOST}`, 'Connection: upgrade', 'Upgrade: echo')
    await client.receive(/\r\n\r\n$/)
    client.write('~'.repeat(100))
    await client.receive(/~{100}$/)
    t.match(client.received, /^HTTP\/1\.1 101 /)
  })
}
