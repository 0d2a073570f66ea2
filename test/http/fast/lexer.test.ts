import t from 'tap'
import { type Fault, Head, type Verdict } from '../../../src/http/fast/head.ts'
import { lexRequestHead, lexResponseHead, MAX_HEAD_BYTES } from '../../../src/http/fast/lexer.ts'

const out = Buffer.alloc(2 * MAX_HEAD_BYTES + 1024)

interface Result {
  verdict: Verdict
  head: Head
  kept: string
}

function request(text: string): Result {
  const bytes = Buffer.from(text, 'latin1')
  const head = new Head()
  const verdict = lexRequestHead(head, bytes, 0, bytes.length, out)
  return { verdict, head, kept: out.toString('latin1', 0, head.length) }
}

function response(text: string): Result {
  const bytes = Buffer.from(text, 'latin1')
  const head = new Head()
  const verdict = lexResponseHead(head, bytes, 0, bytes.length, out)
  return { verdict, head, kept: out.toString('latin1', 0, head.length) }
}

/** A request for `/` of host `a` with these further lines. */
function withLines(...lines: string[]): Result {
  return request(['GET / HTTP/1.1', 'Host: a', ...lines, '', ''].join('\r\n'))
}

t.test('a plain request is copied with its facts', async (t) => {
  const { verdict, head, kept } = request(
    'POST /a?b=c HTTP/1.1\r\nHost: Example.com:8443\r\nContent-Length: 12\r\nX:1\r\n\r\nbody',
  )
  t.equal(verdict, 'complete')
  t.match(head, {
    method: 'POST',
    target: '/a?b=c',
    host: 'Example.com:8443',
    contentLength: 12,
    chunked: false,
    close: false,
  })
  t.equal(kept, 'POST /a?b=c HTTP/1.1\r\nHost: Example.com:8443\r\nContent-Length: 12\r\nX: 1\r\n')
  t.equal(
    head.end,
    'POST /a?b=c HTTP/1.1\r\nHost: Example.com:8443\r\nContent-Length: 12\r\nX:1\r\n\r\n'.length,
  )
})

t.test('whitespace around a value is taken off', async (t) => {
  t.match(withLines('X: \t a b \t').kept, 'X: a b\r\n')
  t.match(withLines('X:').kept, 'X: \r\n')
})

t.test('hop-by-hop fields are not kept', async (t) => {
  const { kept } = withLines(
    'Connection: close',
    'Keep-Alive: timeout=5',
    'Proxy-Connection: keep-alive',
    'TE: trailers',
    'Upgrade: h2c',
    'HTTP2-Settings: AAMAAABkAAQCAAAAAAIAAAAA',
    'Proxy-Authorization: Basic eA==',
    'Transfer-Encoding: chunked',
    'Expect: 100-continue',
  )
  t.equal(kept, 'GET / HTTP/1.1\r\nHost: a\r\n')
})

t.test('what Connection names is dropped, before and after it', async (t) => {
  const { kept } = withLines(
    'X-Early: 1',
    'X-Kept: 1',
    'Connection: close, X-Early, x-late',
    'X-LATE: 2',
    'Z: 3',
  )
  t.equal(kept, 'GET / HTTP/1.1\r\nHost: a\r\nX-Kept: 1\r\nZ: 3\r\n')
})

t.test('Connection cannot name away what frames or routes a message', async (t) => {
  const { kept, head } = withLines('Content-Length: 3', 'Connection: host, content-length')
  t.equal(kept, 'GET / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n')
  t.equal(head.contentLength, 3)
})

t.test('what a proxy in front claims is taken out and remembered', async (t) => {
  const { kept, head } = withLines(
    'X-Forwarded-For: 1.1.1.1',
    'x-forwarded-for: 2.2.2.2',
    'X-Forwarded-Proto: http',
    'X-Forwarded-Host: evil',
    'X-Forwarded-Port: 1',
    'Forwarded: for=3.3.3.3',
  )
  t.equal(kept, 'GET / HTTP/1.1\r\nHost: a\r\n')
  t.match(head, {
    forwardedFor: '1.1.1.1, 2.2.2.2',
    forwardedProto: 'http',
    forwardedHost: 'evil',
    forwarded: 'for=3.3.3.3',
  })
})

t.test('an untrusted client’s forwarding fields are dropped in every spelling', async (t) => {
  const lines = [
    'X-Real-IP: 1',
    'X_Forwarded_For: 2',
    'x-forwarded_port: 3',
    'X-Request-ID: 4',
    'Proxy: 5',
    'X-Other: 6',
  ]
  t.equal(withLines(...lines).kept, 'GET / HTTP/1.1\r\nHost: a\r\nX-Other: 6\r\n')
})

t.test('a trusted proxy’s further fields are kept', async (t) => {
  const head = new Head()
  head.trusted = true
  const bytes = Buffer.from(
    'GET / HTTP/1.1\r\nHost: a\r\nX-Real-IP: 1\r\nX-Request-Id: 2\r\nX-Forwarded-Port: 3\r\n\r\n',
  )
  t.equal(lexRequestHead(head, bytes, 0, bytes.length, out), 'complete')
  t.equal(
    out.toString('latin1', 0, head.length),
    'GET / HTTP/1.1\r\nHost: a\r\nX-Real-IP: 1\r\nX-Forwarded-Port: 3\r\n',
  )
  t.equal(head.requestId, '2')
})

t.test('persistence follows the version and Connection', async (t) => {
  const close = (text: string): boolean => request(text).head.close
  t.equal(close('GET / HTTP/1.1\r\nHost: a\r\n\r\n'), false)
  t.equal(close('GET / HTTP/1.1\r\nHost: a\r\nConnection: x, CLOSE\r\n\r\n'), true)
  t.equal(close('GET / HTTP/1.0\r\nHost: a\r\n\r\n'), true)
  t.equal(close('GET / HTTP/1.0\r\nHost: a\r\nConnection: keep-alive\r\n\r\n'), false)
})

t.test('an upgrade counts only where Connection names it', async (t) => {
  t.equal(withLines('Connection: keep-alive, Upgrade', 'Upgrade: websocket').head.upgrade, 'websocket')
  t.equal(withLines('Upgrade: websocket').head.upgrade, '')
  t.equal(
    request('GET / HTTP/1.0\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n').head.upgrade,
    '',
  )
})

t.test('Expect and TE are facts', async (t) => {
  t.equal(withLines('Expect: 100-Continue').head.expectContinue, true)
  t.equal(withLines('TE: gzip, trailers').head.acceptsTrailers, true)
  t.equal(withLines('TE: gzip').head.acceptsTrailers, false)
})

t.test('targets become origin-form', async (t) => {
  const target = (line: string): string => {
    const result = request(`${line} HTTP/1.1\r\nHost: a\r\n\r\n`)
    return result.verdict === 'complete' ? result.head.target : result.verdict
  }
  t.equal(target('GET /x'), '/x')
  t.equal(target('GET http://a/x?y'), '/x?y')
  t.equal(target('GET HTTPS://A'), '/')
  t.equal(target('GET http://a?q'), '/?q')
  t.equal(target('OPTIONS *'), 'target-invalid')
  t.equal(target('OPTIONS http://a'), '/')
  t.equal(target('GET *'), 'target-invalid')
  t.equal(target('GET a'), 'target-invalid')
  t.equal(target('GET http:///x'), 'target-invalid')
  t.equal(target('GET http://u@a/x'), 'target-invalid')
  t.equal(target('GET http://b/x'), 'host-disagrees')
  t.equal(target('GET /x#y'), 'target-invalid')
  t.equal(target('CONNECT a:443'), 'method-unsupported')
  t.match(request('GET http://a/x HTTP/1.1\r\nHost: a\r\n\r\n').kept, /^GET \/x HTTP\/1\.1\r\n/)
})

t.test(
  'a method of upper-case letters, digits, - and _ is taken, whether anybody knows it or not',
  async (t) => {
    for (const method of ['LIST', 'M-SEARCH', 'X_2', 'POSTX', 'GE', 'GETS'])
      t.match(request(`${method} /x HTTP/1.1\r\nHost: a\r\n\r\n`), {
        verdict: 'complete',
        head: { method },
        kept: `${method} /x HTTP/1.1\r\nHost: a\r\n`,
      })
  },
)

const GET = 'GET / HTTP/1.1\r\n'
const REFUSED: [name: string, text: string, fault: Fault][] = [
  ['no method', ' / HTTP/1.1\r\nHost: a\r\n\r\n', 'method-invalid'],
  ['method with a control', 'G\x01T / HTTP/1.1\r\nHost: a\r\n\r\n', 'method-invalid'],
  ['method in lower case', 'head / HTTP/1.1\r\nHost: a\r\n\r\n', 'method-invalid'],
  ['method with a sign', 'GE!T / HTTP/1.1\r\nHost: a\r\n\r\n', 'method-invalid'],
  ['endless method', `${'M'.repeat(33)} / HTTP/1.1\r\nHost: a\r\n\r\n`, 'method-invalid'],
  ['two spaces in the request line', 'GET  / HTTP/1.1\r\nHost: a\r\n\r\n', 'target-invalid'],
  ['tab in the request line', 'GET\t/ HTTP/1.1\r\nHost: a\r\n\r\n', 'method-invalid'],
  ['raw UTF-8 in the target', 'GET /\xc3\xa4 HTTP/1.1\r\nHost: a\r\n\r\n', 'target-invalid'],
  ['NUL in the target', 'GET /\0 HTTP/1.1\r\nHost: a\r\n\r\n', 'target-invalid'],
  ['HTTP/0.9', 'GET /\r\n\r\n', 'target-invalid'],
  ['HTTP/2 by version', 'GET / HTTP/2.0\r\nHost: a\r\n\r\n', 'version-invalid'],
  ['HTTP/1.2', 'GET / HTTP/1.2\r\nHost: a\r\n\r\n', 'version-invalid'],
  ['another protocol', 'GET / ICAP/1.0\r\nHost: a\r\n\r\n', 'version-invalid'],
  ['lower-case version', 'GET / http/1.1\r\nHost: a\r\n\r\n', 'version-invalid'],
  ['space after the version', 'GET / HTTP/1.1 \r\nHost: a\r\n\r\n', 'line-ending-invalid'],
  ['LF after the request line', 'GET / HTTP/1.1\nHost: a\r\n\r\n', 'line-ending-invalid'],
  ['LF after a field', `${GET}Host: a\nX: b\r\n\r\n`, 'line-ending-invalid'],
  ['CR in a field', `${GET}Host: a\r\nX: b\rc\r\n\r\n`, 'line-ending-invalid'],
  ['CR alone ends the head', `${GET}Host: a\r\n\rX`, 'line-ending-invalid'],
  ['LF alone ends the head', `${GET}Host: a\r\n\n`, 'line-ending-invalid'],
  ['folded line', `${GET}Host: a\r\nX: b\r\n c\r\n\r\n`, 'line-folded'],
  ['folded first line', `${GET} Host: a\r\n\r\n`, 'line-folded'],
  ['space before the colon', `${GET}Host : a\r\n\r\n`, 'space-before-colon'],
  ['tab before the colon', `${GET}Host: a\r\nTransfer-Encoding\t: chunked\r\n\r\n`, 'space-before-colon'],
  ['no colon', `${GET}Host: a\r\nX\r\n\r\n`, 'line-ending-invalid'],
  ['no name', `${GET}Host: a\r\n: x\r\n\r\n`, 'name-invalid'],
  ['NUL in a name', `${GET}Host: a\r\nX\0: x\r\n\r\n`, 'name-invalid'],
  ['obs-text in a name', `${GET}Host: a\r\nX\xe4: x\r\n\r\n`, 'name-invalid'],
  ['NUL in a value', `${GET}Host: a\r\nX: \0\r\n\r\n`, 'control-in-value'],
  ['DEL in a value', `${GET}Host: a\r\nX: \x7f\r\n\r\n`, 'control-in-value'],
  ['vertical tab in a value', `${GET}Host: a\r\nX: \x0b\r\n\r\n`, 'control-in-value'],
  ['no Host', `${GET}X: a\r\n\r\n`, 'host-absent'],
  ['no Host in HTTP/1.0', 'GET / HTTP/1.0\r\n\r\n', 'host-absent'],
  ['two Hosts', `${GET}Host: a\r\nHost: a\r\n\r\n`, 'host-repeated'],
  ['empty Host', `${GET}Host:\r\n\r\n`, 'host-invalid'],
  ['Host with a path', `${GET}Host: a/b\r\n\r\n`, 'host-invalid'],
  ['Host with a user', `${GET}Host: u@a\r\n\r\n`, 'host-invalid'],
  ['Host list', `${GET}Host: a, b\r\n\r\n`, 'host-invalid'],
  ['Host with an empty port', `${GET}Host: a:\r\n\r\n`, 'host-invalid'],
  ['Host with a name for a port', `${GET}Host: a:b\r\n\r\n`, 'host-invalid'],
  ['open bracket', `${GET}Host: [::1\r\n\r\n`, 'host-invalid'],
  [
    'Content-Length twice, equal',
    `${GET}Host: a\r\nContent-Length: 1\r\nContent-Length: 1\r\n\r\n`,
    'content-length-repeated',
  ],
  [
    'Content-Length twice, different',
    `${GET}Host: a\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n`,
    'content-length-repeated',
  ],
  ['Content-Length with a plus', `${GET}Host: a\r\nContent-Length: +1\r\n\r\n`, 'content-length-invalid'],
  ['Content-Length with a minus', `${GET}Host: a\r\nContent-Length: -1\r\n\r\n`, 'content-length-invalid'],
  ['Content-Length list', `${GET}Host: a\r\nContent-Length: 1, 1\r\n\r\n`, 'content-length-invalid'],
  ['Content-Length in hexadecimal', `${GET}Host: a\r\nContent-Length: 0x1\r\n\r\n`, 'content-length-invalid'],
  [
    'Content-Length with a leading zero',
    `${GET}Host: a\r\nContent-Length: 010\r\n\r\n`,
    'content-length-invalid',
  ],
  [
    'Content-Length past 2^53',
    `${GET}Host: a\r\nContent-Length: 9007199254740993\r\n\r\n`,
    'content-length-invalid',
  ],
  ['Content-Length empty', `${GET}Host: a\r\nContent-Length:\r\n\r\n`, 'content-length-invalid'],
  [
    'Content-Length and chunked',
    `${GET}Host: a\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n`,
    'transfer-encoding-with-content-length',
  ],
  [
    'chunked and Content-Length',
    `${GET}Host: a\r\nTransfer-Encoding: chunked\r\nContent-Length: 1\r\n\r\n`,
    'transfer-encoding-with-content-length',
  ],
  [
    'chunked twice',
    `${GET}Host: a\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n`,
    'transfer-encoding-invalid',
  ],
  ['gzip, chunked', `${GET}Host: a\r\nTransfer-Encoding: gzip, chunked\r\n\r\n`, 'transfer-encoding-invalid'],
  ['identity', `${GET}Host: a\r\nTransfer-Encoding: identity\r\n\r\n`, 'transfer-encoding-invalid'],
  ['xchunked', `${GET}Host: a\r\nTransfer-Encoding: xchunked\r\n\r\n`, 'transfer-encoding-invalid'],
  ['quoted chunked', `${GET}Host: a\r\nTransfer-Encoding: "chunked"\r\n\r\n`, 'transfer-encoding-invalid'],
  [
    'chunked with a vertical tab',
    `${GET}Host: a\r\nTransfer-Encoding: \x0bchunked\r\n\r\n`,
    'control-in-value',
  ],
  [
    'chunked with a comma',
    `${GET}Host: a\r\nTransfer-Encoding: chunked,\r\n\r\n`,
    'transfer-encoding-invalid',
  ],
  [
    'chunked in HTTP/1.0',
    'GET / HTTP/1.0\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n',
    'transfer-encoding-before-http-1.1',
  ],
  ['Connection with a quote', `${GET}Host: a\r\nConnection: "close"\r\n\r\n`, 'connection-invalid'],
  ['another expectation', `${GET}Host: a\r\nExpect: 200-ok\r\n\r\n`, 'expectation-unknown'],
  ['a head too large', `${GET}Host: a\r\nX: ${'a'.repeat(40000)}\r\n\r\n`, 'head-too-large'],
  ['a head too large that never ends', `${GET}Host: a\r\nX: ${'a'.repeat(40000)}`, 'head-too-large'],
  ['too many fields', `${GET}Host: a\r\n${'X: y\r\n'.repeat(200)}\r\n`, 'too-many-fields'],
]

for (const [name, text, fault] of REFUSED) {
  t.test(`refuses ${name}`, async (t) => t.equal(request(text).verdict, fault))
}

t.test('every prefix of a request is incomplete, and nothing after the head is read', async (t) => {
  const text = '\r\nPUT http://a/x HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\nConnection: x\r\nX: y\r\n\r\n'
  for (let length = 0; length < text.length; length++) {
    t.equal(request(text.slice(0, length)).verdict, 'incomplete', `${length} octets`)
  }
  const whole = request(`${text}\0\0\0`)
  t.equal(whole.verdict, 'complete')
  t.equal(whole.head.end, text.length)
})

t.test('a response is copied with its facts', async (t) => {
  const { verdict, head, kept } = response(
    'HTTP/1.0 200 All is well\r\nServer: x\r\nContent-Length: 5\r\nConnection: keep-alive\r\n\r\nhello',
  )
  t.equal(verdict, 'complete')
  t.match(head, { status: 200, contentLength: 5, close: false, minorVersion: 0 })
  t.equal(kept, 'HTTP/1.1 200 All is well\r\nServer: x\r\nContent-Length: 5\r\n')
})

t.test('a response may leave its reason out', async (t) => {
  t.equal(response('HTTP/1.1 200\r\n\r\n').kept, 'HTTP/1.1 200 \r\n')
  t.equal(response('HTTP/1.1 200 \r\n\r\n').kept, 'HTTP/1.1 200 \r\n')
})

t.test('a response without body has no Content-Length where the RFC forbids it', async (t) => {
  t.equal(response('HTTP/1.1 204 x\r\nContent-Length: 5\r\nA: b\r\n\r\n').kept, 'HTTP/1.1 204 x\r\nA: b\r\n')
  t.equal(response('HTTP/1.1 103 x\r\nContent-Length: 5\r\nA: b\r\n\r\n').kept, 'HTTP/1.1 103 x\r\nA: b\r\n')
  t.equal(
    response('HTTP/1.1 304 x\r\nContent-Length: 5\r\n\r\n').kept,
    'HTTP/1.1 304 x\r\nContent-Length: 5\r\n',
  )
})

const REFUSED_RESPONSES: [name: string, text: string, fault: Fault][] = [
  ['another protocol', 'ICY 200 OK\r\n\r\n', 'version-invalid'],
  ['HTTP/2', 'HTTP/2.0 200 OK\r\n\r\n', 'version-invalid'],
  ['a status of two digits', 'HTTP/1.1 20 OK\r\n\r\n', 'status-line-invalid'],
  ['a status of four digits', 'HTTP/1.1 2000 OK\r\n\r\n', 'status-line-invalid'],
  ['status 600', 'HTTP/1.1 600 OK\r\n\r\n', 'status-line-invalid'],
  ['a control in the reason', 'HTTP/1.1 200 \x01\r\n\r\n', 'line-ending-invalid'],
  [
    'Content-Length and chunked',
    'HTTP/1.1 200 OK\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n',
    'transfer-encoding-with-content-length',
  ],
  [
    'two Content-Lengths',
    'HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 1\r\n\r\n',
    'content-length-repeated',
  ],
  [
    'gzip as transfer coding',
    'HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\n\r\n',
    'transfer-encoding-invalid',
  ],
  ['a folded line', 'HTTP/1.1 200 OK\r\nX: y\r\n z\r\n\r\n', 'line-folded'],
  ['a bare LF', 'HTTP/1.1 200 OK\nX: y\r\n\r\n', 'line-ending-invalid'],
]

for (const [name, text, fault] of REFUSED_RESPONSES) {
  t.test(`refuses a response with ${name}`, async (t) => t.equal(response(text).verdict, fault))
}

t.test('every prefix of a response is incomplete', async (t) => {
  const text = 'HTTP/1.1 200 OK\r\nContent-Length: 3\r\nConnection: x\r\nX: y\r\n\r\n'
  for (let length = 0; length < text.length; length++) {
    t.equal(response(text.slice(0, length)).verdict, 'incomplete', `${length} octets`)
  }
  t.equal(response(text).verdict, 'complete')
})
