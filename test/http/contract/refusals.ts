/** What never reaches an upstream: requests that two programs could read differently, and hosts and paths that are not ours. */
import type { Test } from 'tap'
import { Front, HOST, type MakeWire } from '../front.ts'
import { RawClient, statusOf } from '../raw-client.ts'
import { bodyOf, fieldOf, ok, RawUpstream } from '../raw-upstream.ts'

const CRLF = '\r\n'
const host = `Host: ${HOST}`
/** A request that smuggling would bring to the upstream. */
const smuggled = `GET /smuggled HTTP/1.1${CRLF}${host}${CRLF}${CRLF}`
const message = (...lines: string[]): string => lines.join(CRLF)

/** What is wrong, the bytes, and the status that they get. */
const REFUSED: readonly (readonly [string, string, number])[] = [
  [
    'Content-Length with Transfer-Encoding',
    message('POST / HTTP/1.1', host, 'Content-Length: 4', 'Transfer-Encoding: chunked', '', '0', '', ''),
    400,
  ],
  [
    'Transfer-Encoding with Content-Length',
    message('POST / HTTP/1.1', host, 'Transfer-Encoding: chunked', 'Content-Length: 4', '', '0', '', ''),
    400,
  ],
  [
    'two equal lengths',
    message('POST / HTTP/1.1', host, 'Content-Length: 2', 'Content-Length: 2', '', 'hi'),
    400,
  ],
  ['two lengths', message('POST / HTTP/1.1', host, 'Content-Length: 2', 'Content-Length: 3', '', 'hi!'), 400],
  ['a list of lengths', message('POST / HTTP/1.1', host, 'Content-Length: 2, 2', '', 'hi'), 400],
  ['a signed length', message('POST / HTTP/1.1', host, 'Content-Length: +2', '', 'hi'), 400],
  ['a negative length', message('POST / HTTP/1.1', host, 'Content-Length: -2', '', 'hi'), 400],
  ['a hexadecimal length', message('POST / HTTP/1.1', host, 'Content-Length: 0x2', '', 'hi'), 400],
  ['an empty length', message('POST / HTTP/1.1', host, 'Content-Length:', '', ''), 400],
  ['a length past 2^53', message('POST / HTTP/1.1', host, 'Content-Length: 9007199254740993', '', ''), 400],
  [
    'a length past 2^64',
    message('POST / HTTP/1.1', host, 'Content-Length: 18446744073709551618', '', 'hi'),
    400,
  ],
  [
    'a coding before chunked',
    message('POST / HTTP/1.1', host, 'Transfer-Encoding: gzip, chunked', '', '0', '', ''),
    400,
  ],
  [
    'chunked before another coding',
    message('POST / HTTP/1.1', host, 'Transfer-Encoding: chunked, identity', '', '0', '', ''),
    400,
  ],
  [
    'chunked twice',
    message(
      'POST / HTTP/1.1',
      host,
      'Transfer-Encoding: chunked',
      'Transfer-Encoding: chunked',
      '',
      '0',
      '',
      '',
    ),
    400,
  ],
  [
    'chunked in two fields with another',
    message(
      'POST / HTTP/1.1',
      host,
      'Transfer-Encoding: identity',
      'Transfer-Encoding: chunked',
      '',
      '0',
      '',
      '',
    ),
    400,
  ],
  ['identity', message('POST / HTTP/1.1', host, 'Transfer-Encoding: identity', '', ''), 400],
  ['xchunked', message('POST / HTTP/1.1', host, 'Transfer-Encoding: xchunked', '', '0', '', ''), 400],
  ['quoted chunked', message('POST / HTTP/1.1', host, 'Transfer-Encoding: "chunked"', '', '0', '', ''), 400],
  [
    'chunked with a vertical tab',
    message('POST / HTTP/1.1', host, 'Transfer-Encoding: \x0bchunked', '', '0', '', ''),
    400,
  ],
  [
    'chunked in HTTP/1.0',
    message('POST / HTTP/1.0', host, 'Transfer-Encoding: chunked', '', '0', '', ''),
    400,
  ],
  ['bare LF after the request line', `GET / HTTP/1.1\n${host}${CRLF}${CRLF}`, 400],
  ['bare LF after a field', `GET / HTTP/1.1${CRLF}${host}\nX: y${CRLF}${CRLF}`, 400],
  ['bare LF at the end of the head', `GET / HTTP/1.1${CRLF}${host}${CRLF}\n${smuggled}`, 400],
  ['bare CR in a field', `GET / HTTP/1.1${CRLF}${host}${CRLF}X: a\rb${CRLF}${CRLF}`, 400],
  ['bare CR at the end of a field', `GET / HTTP/1.1${CRLF}${host}${CRLF}X: a\r${CRLF}${CRLF}`, 400],
  ['a folded field', message('GET / HTTP/1.1', host, 'X: a', ' b', '', ''), 400],
  ['a folded field with a tab', message('GET / HTTP/1.1', host, 'X: a', '\tb', '', ''), 400],
  ['a fold before the first field', message('GET / HTTP/1.1', ' X: a', host, '', ''), 400],
  ['a NUL in a value', message('GET / HTTP/1.1', host, 'X: a\0b', '', ''), 400],
  ['a control in a value', message('GET / HTTP/1.1', host, 'X: a\x08b', '', ''), 400],
  ['DEL in a value', message('GET / HTTP/1.1', host, 'X: a\x7fb', '', ''), 400],
  ['a space before the colon', message('GET / HTTP/1.1', host, 'X : a', '', ''), 400],
  ['a tab before the colon', message('GET / HTTP/1.1', host, 'X\t: a', '', ''), 400],
  ['no name', message('GET / HTTP/1.1', host, ': a', '', ''), 400],
  ['no colon', message('GET / HTTP/1.1', host, 'X', '', ''), 400],
  ['a name with a space', message('GET / HTTP/1.1', host, 'X Y: a', '', ''), 400],
  ['a name with a control', message('GET / HTTP/1.1', host, 'X\x01: a', '', ''), 400],
  ['a name beyond ASCII', message('GET / HTTP/1.1', host, 'X\xe9: a', '', ''), 400],
  ['no Host', message('GET / HTTP/1.1', 'X: a', '', ''), 400],
  ['an empty Host', message('GET / HTTP/1.1', 'Host:', '', ''), 400],
  ['two Hosts', message('GET / HTTP/1.1', host, 'Host: else.example', '', ''), 400],
  ['one Host twice', message('GET / HTTP/1.1', host, host, '', ''), 400],
  ['a Host with userinfo', message('GET / HTTP/1.1', `Host: user@${HOST}`, '', ''), 400],
  ['a Host with a space', message('GET / HTTP/1.1', `Host: ${HOST} x`, '', ''), 400],
  ['a list of Hosts', message('GET / HTTP/1.1', `Host: ${HOST},${HOST}`, '', ''), 400],
  ['a Host with a path', message('GET / HTTP/1.1', `Host: ${HOST}/x`, '', ''), 400],
  ['a Host with a word for a port', message('GET / HTTP/1.1', `Host: ${HOST}:http`, '', ''), 400],
  ['a URL of another host', message('GET https://else.example/ HTTP/1.1', host, '', ''), 400],
  ['a URL with userinfo', message(`GET https://u@${HOST}/ HTTP/1.1`, host, '', ''), 400],
  ['a URL of another scheme', message(`GET ftp://${HOST}/ HTTP/1.1`, host, '', ''), 400],
  ['a target without a slash', message('GET x HTTP/1.1', host, '', ''), 400],
  ['a target with a fragment', message('GET /x#y HTTP/1.1', host, '', ''), 400],
  ['a target with a space', message('GET /x y HTTP/1.1', host, '', ''), 400],
  ['a target with a tab', message('GET /x\ty HTTP/1.1', host, '', ''), 400],
  ['a target with a NUL', message('GET /x\0y HTTP/1.1', host, '', ''), 400],
  ['an asterisk', message('OPTIONS * HTTP/1.1', host, '', ''), 400],
  ['CONNECT', message(`CONNECT ${HOST}:443 HTTP/1.1`, `${host}:443`, '', ''), 501],
  ['HTTP/2.0 in text', message('GET / HTTP/2.0', host, '', ''), 400],
  ['HTTP/1.2', message('GET / HTTP/1.2', host, '', ''), 400],
  ['no version', message('GET /', host, '', ''), 400],
  ['a version in lower case', message('GET / http/1.1', host, '', ''), 400],
  ['a method in lower case', message('head / HTTP/1.1', host, '', ''), 400],
  ['no method', message(' / HTTP/1.1', host, '', ''), 400],
  [
    'a chunk size that is no number',
    message('POST / HTTP/1.1', host, 'Transfer-Encoding: chunked', '', 'zz', 'hi', '0', '', ''),
    400,
  ],
  [
    'a chunk size with a sign',
    message('POST / HTTP/1.1', host, 'Transfer-Encoding: chunked', '', '+2', 'hi', '0', '', ''),
    400,
  ],
  [
    'a chunk size with 0x',
    message('POST / HTTP/1.1', host, 'Transfer-Encoding: chunked', '', '0x2', 'hi', '0', '', ''),
    400,
  ],
  [
    'a chunk size with spaces before',
    message('POST / HTTP/1.1', host, 'Transfer-Encoding: chunked', '', ' 2', 'hi', '0', '', ''),
    400,
  ],
  [
    'a chunk size past 2^64',
    message(
      'POST / HTTP/1.1',
      host,
      'Transfer-Encoding: chunked',
      '',
      '10000000000000002',
      'hi',
      '0',
      '',
      '',
    ),
    400,
  ],
  [
    'an empty chunk size',
    message('POST / HTTP/1.1', host, 'Transfer-Encoding: chunked', '', '', '0', '', ''),
    400,
  ],
  [
    'a chunk longer than its size',
    message('POST / HTTP/1.1', host, 'Transfer-Encoding: chunked', '', '2', 'hello', '0', '', ''),
    400,
  ],
  [
    'a chunk ended by bare LF',
    `${message('POST / HTTP/1.1', host, 'Transfer-Encoding: chunked', '', '2', 'hi')}\n0${CRLF}${CRLF}`,
    400,
  ],
  [
    'a chunk size ended by bare LF',
    `${message('POST / HTTP/1.1', host, 'Transfer-Encoding: chunked', '', '2')}\nhi${CRLF}0${CRLF}${CRLF}`,
    400,
  ],
  [
    'a folded trailer',
    message('POST / HTTP/1.1', host, 'Transfer-Encoding: chunked', '', '0', 'X: a', ' b', '', ''),
    400,
  ],
  ...['Content-Length: 9', 'Transfer-Encoding: chunked'].map((trailer): [string, string, number] => [
    `${trailer.split(':')[0]} in a trailer`,
    message('POST / HTTP/1.1', host, 'Transfer-Encoding: chunked', '', '0', trailer, '', ''),
    400,
  ]),
  [
    'an expectation twice',
    message(
      'POST / HTTP/1.1',
      host,
      'Content-Length: 2',
      'Expect: 100-continue',
      'Expect: 100-continue',
      '',
      'hi',
    ),
    417,
  ],
  ['a head of 20 KiB', message('GET / HTTP/1.1', host, `X: ${'x'.repeat(20_000)}`, '', ''), 431],
  ['a target of 20 KiB', message(`GET /${'x'.repeat(20_000)} HTTP/1.1`, host, '', ''), 431],
  [
    'a thousand fields',
    message('GET / HTTP/1.1', host, ...Array.from({ length: 1000 }, (_, i) => `X-${i}: x`), '', ''),
    431,
  ],
  [
    'three thousand fields before the framing',
    message(
      'POST / HTTP/1.1',
      host,
      ...Array.from({ length: 3000 }, () => 'a:'),
      'Transfer-Encoding: chunked',
      '',
      '0',
      '',
      smuggled,
    ),
    431,
  ],
]

export function refusals(t: Test, makeWire: MakeWire): void {
  for (const [what, bytes, status] of REFUSED) {
    t.test(`${what}: ${status}, and nothing reaches the upstream`, async (t) => {
      const up = await RawUpstream.start(t, (socket) => socket.write(ok()))
      const front = await Front.start(t, makeWire, { upstreams: [up.url] })
      const client = await RawClient.connect(t, front)
      client.write(bytes)
      t.equal(statusOf(await client.response()), status)
      t.equal(client.received, '', 'no second response')
      t.strictSame(up.requests, [])
    })
  }

  t.test('after a request that is not HTTP the connection ends', async (t) => {
    const up = await RawUpstream.start(t, (socket) => socket.write(ok()))
    const front = await Front.start(t, makeWire, { upstreams: [up.url] })
    const client = await RawClient.connect(t, front)
    client.write(`GET / HTTP/1.1${CRLF}${host}${CRLF}X : a${CRLF}${CRLF}${smuggled}`)
    const page = await client.rest()
    t.equal(statusOf(page), 400)
    t.match(page, /^connection: close\r$/im)
    t.equal(page.split('HTTP/1.1 ').length, 2, 'one response')
    t.strictSame(up.requests, [])
  })

  for (const [what, refused] of [
    ['a target that is refused', message('GET x HTTP/1.1', host, '', '')],
    ['another version', message('GET / HTTP/2.0', host, '', '')],
    ['content that may come or not', message('GET x HTTP/1.1', host, 'Expect: 100-continue', '', '')],
  ] as const) {
    t.test(`after Connection: close nothing reaches the upstream: ${what}`, async (t) => {
      const up = await RawUpstream.start(t, (socket) => socket.write(ok()))
      const front = await Front.start(t, makeWire, { upstreams: [up.url] })
      const client = await RawClient.connect(t, front)
      client.write(refused + smuggled)
      t.equal(statusOf(await client.rest()), 400)
      const fresh = await RawClient.connect(t, front)
      fresh.send('GET /next HTTP/1.1', host)
      await fresh.response()
      t.match(up.requests, [/ \/next /])
      t.equal(up.requests.length, 1)
    })
  }

  t.test('a pipelined request that is not HTTP does not spoil the response before it', async (t) => {
    const up = await RawUpstream.start(t, (socket) => socket.write(ok('whole')))
    const front = await Front.start(t, makeWire, { upstreams: [up.url] })
    const client = await RawClient.connect(t, front)
    client.write(`GET / HTTP/1.1${CRLF}${host}${CRLF}${CRLF}garbage${CRLF}${CRLF}`)
    t.equal(bodyOf(await client.response()), 'whole')
    t.equal(statusOf(await client.rest()), 400)
  })

  t.test('content that turns out bad ends the upstream request', async (t) => {
    const up = await RawUpstream.start(t, () => {})
    const front = await Front.start(t, makeWire, { upstreams: [up.url] })
    const client = await RawClient.connect(t, front)
    client.write(message('POST / HTTP/1.1', host, 'Transfer-Encoding: chunked', '', '2', 'hi', ''))
    while ((up.sockets[0]?.bytesRead ?? 0) === 0) await new Promise(setImmediate)
    client.write(`zz${CRLF}`)
    t.equal(statusOf(await client.response()), 400)
    while (up.sockets[0]?.destroyed !== true) await new Promise(setImmediate)
    t.strictSame(up.requests, [])
  })

  /** The status and, of a 200, the content; from a proxy of three sites. */
  const ask = async (
    t: Test,
    serverName: string | undefined,
    target: string,
    host: string,
  ): Promise<string> => {
    const upstream = async (name: string): Promise<string> =>
      (await RawUpstream.start(t, (socket) => socket.write(ok(name)))).url
    const front = await Front.start(t, makeWire, {
      sites: [
        {
          hosts: [HOST, 'two.example.com'],
          upstreams: [await upstream('root')],
          routes: [{ path: '/api', upstreams: [await upstream('api')] }],
        },
        { hosts: ['*.wild.example.com'], upstreams: [await upstream('wild')] },
        { hosts: ['other.example.com'], routes: [{ path: '/only/', upstreams: [await upstream('only')] }] },
        { hosts: ['redirect.example.com'], redirect: true, upstreams: [await upstream('secure')] },
      ],
      challenges: { '/.well-known/acme-challenge/known': 'known.thumbprint' },
    })
    const client = await RawClient.connect(
      t,
      front,
      serverName === undefined ? { plain: true } : { serverName },
    )
    client.send(`GET ${target} HTTP/1.1`, `Host: ${host}`)
    const response = await client.response()
    const status = statusOf(response)
    if (status === 308) return `308 ${fieldOf(response, 'location')}`
    return status === 200 ? bodyOf(response) : String(status)
  }

  for (const [what, serverName, target, host, expected] of [
    ['a route by its path', HOST, '/api', HOST, 'api'],
    ['a route below its path', HOST, '/api/x?y', HOST, 'api'],
    ['not a path that only begins alike', HOST, '/apix', HOST, 'root'],
    ['a wildcard', 'a.wild.example.com', '/', 'a.wild.example.com', 'wild'],
    ['another host of the same wildcard', 'a.wild.example.com', '/', 'b.wild.example.com', 'wild'],
    ['another host of the same site', HOST, '/', 'TWO.example.com.', 'root'],
    ['a host of another site', HOST, '/', 'other.example.com', '421'],
    ['a host of no site', HOST, '/', 'nobody.example.com', '421'],
    ['a path of no route', 'other.example.com', '/else', 'other.example.com', '404'],
    ['an unknown host over plain HTTP', undefined, '/', 'nobody.example.com', '404'],
    ['plain HTTP where it is allowed', undefined, '/', HOST, 'root'],
    [
      'plain HTTP where it is not',
      undefined,
      '/a?b=c',
      'redirect.example.com:80',
      '308 https://redirect.example.com:8443/a?b=c',
    ],
    [
      'a challenge of ours',
      undefined,
      '/.well-known/acme-challenge/known',
      'redirect.example.com',
      'known.thumbprint',
    ],
    [
      'a challenge of somebody else',
      undefined,
      '/.well-known/acme-challenge/else',
      'redirect.example.com',
      '404',
    ],
    ['a challenge of the upstream’s own', undefined, '/.well-known/acme-challenge/else', HOST, 'root'],
    ['a challenge over TLS', HOST, '/.well-known/acme-challenge/known', HOST, 'root'],
  ] as const) {
    t.test(`${what} → ${expected}`, async (t) => {
      t.equal(await ask(t, serverName, target, host), expected)
    })
  }
}
