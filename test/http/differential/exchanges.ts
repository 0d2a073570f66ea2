/**
 * Generated exchanges, valid and hostile: what a client sends and what an upstream answers, as octets. One of the two is
 * hostile at most, since a request that is refused gets no answer.
 */
import fc from 'fast-check'
import { HOST } from '../front.ts'

export interface Exchange {
  /** As latin1. */
  readonly request: string
  readonly response: string
  /** Does the upstream end its connection after the response? */
  readonly closes: boolean
}

/** Mostly what is right, sometimes what is not. */
function mostly(right: string, ...wrong: string[]): fc.Arbitrary<string> {
  return fc.oneof(
    { weight: 40, arbitrary: fc.constant(right) },
    { weight: 1, arbitrary: fc.constantFrom(...wrong) },
  )
}

function joined(...parts: fc.Arbitrary<string>[]): fc.Arbitrary<string> {
  return fc.tuple(...parts).map((texts) => texts.join(''))
}

/** Up to so many, one after another. */
function several(part: fc.Arbitrary<string>, maxLength: number): fc.Arbitrary<string> {
  return fc.array(part, { maxLength }).map((texts) => texts.join(''))
}

const eol = mostly('\r\n', '\n', '\r', '\r\n ', '\r\n\t', '\r\r\n', '\n\r', '\0\r\n')
const colon = mostly(': ', ':', ' :', '\t: ', ':\t', ':  \t', ': \x0b', ':\x0c', '')
const gap = mostly(' ', '  ', '\t', '', '\x0b', '\r')

function line(name: fc.Arbitrary<string>, value: fc.Arbitrary<string>): fc.Arbitrary<string> {
  return joined(name, colon, value, mostly('', ' ', '\t', ' \t'), eol)
}

const freight = line(
  mostly('X-Freight', 'x-freight', 'X Freight', 'X\0', 'X\xe9', 'X@', '', '__proto__', 'X_Under'),
  mostly('a b', '', '\xe4', 'a\0b', 'a\x7fb', 'a\x01b', '"q"', 'a\tb', 'a\rb', 'a\nb', 'a:b'),
)
const random = line(fc.constant('X-Other'), fc.string({ maxLength: 10 }))
const length = line(
  mostly('Content-Length', 'content-length', 'Content_Length', 'Content-Length\0'),
  mostly(
    '4',
    '+4',
    '-4',
    '4, 4',
    '4,4',
    '04',
    '0x4',
    '4.0',
    '',
    '4 4',
    '4;',
    '1e1',
    '5',
    '3',
    '0',
    '18446744073709551620',
  ),
)
const coding = line(
  mostly('Transfer-Encoding', 'transfer-encoding', 'Transfer_Encoding'),
  mostly(
    'chunked',
    'Chunked',
    'gzip, chunked',
    'chunked, gzip',
    'chunked, chunked',
    'xchunked',
    'chunkedx',
    'identity',
    '',
    '"chunked"',
    '\x0bchunked',
    'chunked;q=1',
    'chunked,',
    ',chunked',
  ),
)
const connection = line(
  mostly('Connection', 'connection', 'Proxy-Connection'),
  mostly(
    'keep-alive',
    'close',
    'Close',
    'X-Freight',
    'close, X-Freight',
    'content-length',
    'transfer-encoding',
    'Host',
    'upgrade',
    'a b',
    '',
    ',',
    'te',
    'keep-alive, x-other, content-length',
  ),
)

const chunks = joined(
  mostly(
    '4\r\nbody\r\n',
    '4;x=y\r\nbody\r\n',
    '4;x="\r"\r\nbody\r\n',
    '4 \r\nbody\r\n',
    ' 4\r\nbody\r\n',
    '4\nbody\r\n',
    '4\r\nbody\n',
    '4\r\nbody',
    '0x4\r\nbody\r\n',
    '+4\r\nbody\r\n',
    '5\r\nbody\r\n',
    '3\r\nbody\r\n',
    '4_\r\nbody\r\n',
    '\r\nbody\r\n',
    'g\r\nbody\r\n',
    '10000000000000004\r\nbody\r\n',
    '0000000000000000000004\r\nbody\r\n',
    '04\r\nbody\r\n',
    '4;\nx\r\nbody\r\n',
    'A\r\n0123456789\r\n',
    '',
  ),
  mostly('0\r\n', '0;x\r\n', '00\r\n', '0\n', '0\r', '-0\r\n', '0 \r\n', ''),
  several(
    joined(
      mostly(
        'X-Sum: 1',
        'Content-Length: 9',
        'Transfer-Encoding: chunked',
        'Host: b',
        'X-Sum : 1',
        'X-Sum',
        ' X: 1',
        'X: \0',
        'x-Sum:',
      ),
      mostly('\r\n', '\n', '\r'),
    ),
    1,
  ),
  mostly('\r\n', '\n', '\r', ''),
)
const plain = mostly('body', 'bod', 'body\r\n', 'GET /smuggled HTTP/1.1\r\n\r\n')

/* Requests */

const requestFields = several(
  fc.oneof(
    { weight: 3, arbitrary: freight },
    { weight: 2, arbitrary: random },
    { weight: 2, arbitrary: connection },
    line(fc.constant('Host'), fc.constantFrom('b', HOST)),
    line(fc.constantFrom('Expect', 'expect'), mostly('100-continue', '100-Continue', 'other', '')),
    line(fc.constant('TE'), fc.constantFrom('trailers', 'gzip, trailers', '')),
    line(fc.constant('Trailer'), fc.constantFrom('X-Sum', 'Content-Length')),
    line(fc.constant('Upgrade'), fc.constantFrom('websocket', 'h2c', 'a, b', '')),
    line(
      fc.constantFrom(
        'X-Forwarded-For',
        'Forwarded',
        'X-Request-Id',
        'Via',
        'Proxy',
        'Keep-Alive',
        'HTTP2-Settings',
        'Cookie',
      ),
      fc.constantFrom('1', 'for=1', '1.0 a', 'timeout=5'),
    ),
    length,
    coding,
  ),
  2,
)

function requestHead(framing: fc.Arbitrary<string>): fc.Arbitrary<string> {
  return joined(
    mostly('', '\r\n', '\r\n\r\n', '\n', ' ', '\0'),
    fc.oneof(
      mostly('POST', 'post', 'P OST', '', 'P\0ST', 'POSTX', 'CONNECT', 'PRI'),
      fc.constantFrom('GET', 'PUT', 'DELETE', 'HEAD', 'OPTIONS', 'PURGE', 'QUERY'),
    ),
    gap,
    mostly(
      '/x?y',
      '/',
      `http://${HOST}/z`,
      `HTTP://${HOST}?q`,
      'http://b/z',
      `http://u@${HOST}/`,
      '*',
      'x',
      '/#f',
      '/\xe4',
      '/\0',
      '//a//b',
      '/..%2f',
      '/a|b',
      `${HOST}:80`,
    ),
    gap,
    mostly(
      'HTTP/1.1',
      'HTTP/1.0',
      'HTTP/1.2',
      'HTTP/2.0',
      'HTTP/0.9',
      'http/1.1',
      'HTTP/1.1 ',
      'HTTP/01.1',
      'HTTP/1.10',
      'HTTP/1.',
      'XTTP/1.1',
      '',
    ),
    eol,
    mostly(
      `Host: ${HOST}\r\n`,
      `host:${HOST}\r\n`,
      `HOST: ${HOST.toUpperCase()}\r\n`,
      '',
      `Host : ${HOST}\r\n`,
      `Host: ${HOST}, b\r\n`,
      'Host:\r\n',
      `Host: ${HOST}:80\r\n`,
      `Host: ${HOST}:\r\n`,
      `Host: u@${HOST}\r\n`,
      `Host: ${HOST}\0\r\n`,
      `Host: ${HOST}.\r\n`,
    ),
    requestFields,
    framing,
    requestFields,
    eol,
  )
}

/** Heads with each framing that a message can claim, and a body for it. */
function hostile(headWith: (framing: fc.Arbitrary<string>) => fc.Arbitrary<string>): fc.Arbitrary<string> {
  return fc.oneof(
    joined(headWith(fc.constant('')), mostly('', 'body')),
    joined(headWith(length), plain),
    joined(headWith(coding), chunks),
    joined(headWith(joined(length, coding)), chunks),
  )
}

const hostileRequest = hostile(requestHead)

const validRequest = fc.constantFrom(
  `GET /x HTTP/1.1\r\nHost: ${HOST}\r\n\r\n`,
  `GET /x HTTP/1.1\r\nHost: ${HOST}\r\nTE: trailers\r\nConnection: TE\r\n\r\n`,
  `GET /x HTTP/1.0\r\nHost: ${HOST}\r\n\r\n`,
  `GET /x HTTP/1.0\r\nHost: ${HOST}\r\nConnection: keep-alive\r\n\r\n`,
  `HEAD /x HTTP/1.1\r\nHost: ${HOST}\r\n\r\n`,
  `POST /x HTTP/1.1\r\nHost: ${HOST}\r\nContent-Length: 4\r\n\r\nbody`,
  `PUT /x HTTP/1.1\r\nHost: ${HOST}\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nbody\r\n0\r\nX-Sum: 1\r\n\r\n`,
)

/* Responses */

const responseFields = several(
  fc.oneof(
    { weight: 3, arbitrary: freight },
    { weight: 2, arbitrary: random },
    { weight: 2, arbitrary: connection },
    line(
      fc.constantFrom('Date', 'Server', 'Via', 'Set-Cookie', 'Keep-Alive', 'Trailer', 'Upgrade', 'Location'),
      fc.constantFrom('a', 'timeout=5', '1.0 a', 'X-Sum'),
    ),
    length,
    coding,
  ),
  2,
)

function responseHead(framing: fc.Arbitrary<string>): fc.Arbitrary<string> {
  return joined(
    mostly(
      '',
      'HTTP/1.1 103 Early\r\nLink: </a>\r\n\r\n',
      'HTTP/1.1 100 Continue\r\n\r\n',
      'HTTP/1.1 102 \r\n\r\n',
      '\r\n',
      '\n',
      ' ',
    ),
    mostly('HTTP/1.1', 'HTTP/1.0', 'HTTP/1.2', 'HTTP/2.0', 'http/1.1', 'HTTP/1.', 'ICY', ''),
    gap,
    fc.oneof(
      mostly('200', '20', '2000', '2x0', '', '099', '999', '600', '+20', '101', '099'),
      fc.constantFrom('204', '304', '404', '500', '503', '205'),
    ),
    mostly(' OK', '', ' ', ' Very \xe4 well', ' a\0b', ' a\tb', '\t', ' a\x7fb', 'OK', ' a\rb'),
    eol,
    responseFields,
    framing,
    responseFields,
    eol,
  )
}

const hostileResponse = hostile(responseHead)

const validResponse = fc.constantFrom(
  'HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nanswer',
  'HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n6\r\nanswer\r\n0\r\n\r\n',
  'HTTP/1.1 204 No Content\r\n\r\n',
  'HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n',
)

export const exchanges: fc.Arbitrary<Exchange> = fc.oneof(
  {
    weight: 3,
    arbitrary: fc.record({ request: hostileRequest, response: validResponse, closes: fc.constant(false) }),
  },
  {
    weight: 2,
    arbitrary: fc.record({ request: validRequest, response: hostileResponse, closes: fc.constant(true) }),
  },
)
