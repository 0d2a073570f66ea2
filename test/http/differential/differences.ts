/**
 * Every way in which the fast engine may differ from node:http's parser with http-proxy behind it, and why. What is not
 * here must agree.
 */
import { METHODS } from 'node:http'
import { HOST } from '../front.ts'
import type { Exchange } from './exchanges.ts'
import { LAST, type Message, type Observation } from './observer.ts'

interface Difference {
  readonly what: string
  readonly because: string
  readonly where: (exchange: Exchange) => boolean
  /** One that shows it. */
  readonly example: Exchange
}

const CHUNKED = 'Transfer-Encoding: chunked'
const OK = 'HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok'

/** `lines` after the request line: fields, and what follows the head. */
function asked(start: string, ...lines: string[]): Exchange {
  const tail = lines.length === 0 ? ['', ''] : lines
  return { request: [start, `Host: ${HOST}`, ...tail].join('\r\n'), response: OK, closes: false }
}

function answered(response: string, version = '1.1', ...fields: string[]): Exchange {
  return { ...asked(`GET /x HTTP/${version}`, ...fields, '', ''), response, closes: true }
}

/** The fast engine answers for itself, with an error, what the other one sends on. */
export const STRICTER: readonly Difference[] = [
  {
    what: 'more than one space, or other whitespace, in the request line',
    because: 'RFC 9112 section 3: exactly one SP; a server that splits on whitespace would see other parts',
    example: asked('GET  /x HTTP/1.1'),
    where: ({ request }) => /^\s*[^\r\n]*(?: {2}|[\t\v]|\r(?!\n))/.test(request),
  },
  {
    what: 'empty lines before the request line, other than one that ends in CRLF',
    because: 'RFC 9112 section 2.2 asks to overlook one; a bare LF ends no line for us',
    example: asked('\n\r\nGET /x HTTP/1.1'),
    where: ({ request }) => /^(?:\n|\r\n\r\n)/.test(request),
  },
  {
    what: 'an empty line before the status line',
    because: 'RFC 9112 section 4 has none: the upstream is out of step',
    example: answered(`\r\n${OK}`),
    where: ({ response }) => /(?:^|\r\n\r\n)\r?\n/.test(response),
  },
  {
    what: 'a tab after Content-Length or Transfer-Encoding',
    because: 'parsers disagree on whether it belongs to the value, and the message’s framing depends on it',
    example: asked('POST /x HTTP/1.1', 'Content-Length: 4\t', '', 'body'),
    where: (exchange) => /^(?:content-length|transfer-encoding):[^\r\n]*\t[ \t]*\r$/im.test(sent(exchange)),
  },
  {
    what: 'an Upgrade field that is empty or comes twice',
    example: asked('GET /x HTTP/1.1', 'Upgrade: ', '', ''),
    because:
      'RFC 9110 section 7.8: a protocol’s name; whether the connection changes its protocol must not be a guess',
    where: ({ request }) =>
      /^upgrade:[ \t]*\r$/im.test(request) || (request.match(/^upgrade:/gim)?.length ?? 0) > 1,
  },
  {
    what: 'a Connection field that is no list of tokens',
    because: 'RFC 9110 section 7.6.1: it cannot be told which fields it names, and so which to drop',
    example: asked('GET /x HTTP/1.1', 'Connection: a b', '', ''),
    where: (exchange) => /^connection:[ \t]*[^\s,]+[ \t]+[^\s,]/im.test(sent(exchange)),
  },
  {
    what: 'a chunk size of more than 16 digits',
    because: 'RFC 9112 section 7.1 warns of sizes that overflow; leading zeros serve nobody else',
    example: asked(
      'PUT /x HTTP/1.1',
      'Transfer-Encoding: chunked',
      '',
      `${'0'.repeat(20)}4`,
      'body',
      '0',
      '',
      '',
    ),
    where: (exchange) => /\r\n[\da-f]{17,}/i.test(sent(exchange)),
  },
  {
    what: 'a status line of another version than HTTP/1.0 and 1.1',
    because: 'RFC 9112 section 2.3: an upstream that says so is not understood by guessing',
    example: answered(OK.replace('1.1', '2.0')),
    where: ({ response }) => /^HTTP\/(?!1\.[01] )/m.test(response),
  },
  {
    what: 'Transfer-Encoding in a response of HTTP/1.0',
    because: 'RFC 9112 section 6.1: its framing is faulty, since that version knows no such field',
    example: answered(`HTTP/1.0 200 OK\r\n${CHUNKED}\r\n\r\n2\r\nok\r\n0\r\n\r\n`),
    where: ({ response }) => /^HTTP\/1\.0 /m.test(response) && /^transfer-encoding:/im.test(response),
  },
  {
    what: 'a 101 to a request without Upgrade',
    because: 'RFC 9110 section 15.2.2 answers an Upgrade with it; nobody knows what follows',
    example: {
      ...asked('HEAD /x HTTP/1.1'),
      response: 'HTTP/1.1 101 OK\r\nContent-Length: 4\r\n\r\nbody',
      closes: true,
    },
    where: ({ request, response }) => /^HTTP\/1\.1 101 /m.test(response) && !/^upgrade:/im.test(request),
  },
  {
    what: 'a status that is not from 100 to 599',
    because: 'RFC 9110 section 15: no such status is valid, nor is it known whether content follows',
    example: answered(OK.replace('200', '999')),
    where: ({ response }) => /^HTTP\/1\.[01] (?![1-5]\d\d[ \r])/m.test(response),
  },
  {
    what: 'a field in the trailers of a response that frames messages',
    because: 'RFC 9110 section 6.5.1 forbids it; whoever merges trailers into the head reads another length',
    example: answered(`HTTP/1.1 200 OK\r\n${CHUNKED}\r\n\r\n0\r\n${CHUNKED}\r\n\r\n`),
    where: ({ response }) =>
      /\r\n0+\r\n(?:[^\r\n]+\r\n)*(?:transfer-encoding|content-length):/i.test(response),
  },
  {
    what: 'an Expect field that is empty',
    because: 'RFC 9110 section 10.1.1: 100-continue is the only expectation there is; others get 417',
    example: asked('GET /x HTTP/1.1', 'Expect: ', '', ''),
    where: ({ request }) => /^expect:[ \t]*\r$/im.test(request),
  },
  {
    what: 'a Content-Length with a leading zero',
    because: 'RFC 9110 section 8.6 lets it pass; who reads it as octal sees another length',
    example: asked('POST /x HTTP/1.1', 'Content-Length: 04', '', 'body'),
    where: (exchange) => /^content-length:[ \t]*0\d/im.test(sent(exchange)),
  },
  {
    what: 'a Host with a colon and no port',
    because:
      'RFC 3986 section 3.2.3 asks to leave the colon out; a name with it is another key to caches and routers',
    example: { request: `GET /x HTTP/1.1\r\nHost: ${HOST}:\r\n\r\n`, response: OK, closes: false },
    where: ({ request }) => /^host:[^\r\n]*:[ \t]*\r$/im.test(request),
  },
]

/** The fast engine sends on what the other one answers for itself, with an error. */
export const WIDER: readonly Difference[] = [
  {
    what: 'a method that Node does not know',
    because:
      'RFC 9110 section 9.1: it is for the upstream to know; Node’s parser has a list that it does not leave',
    example: asked('LIST /x HTTP/1.1'),
    where: ({ request }) => hasUnknownMethod(request) || hasUnknownMethod(askedNext(request)),
  },
]

/** Both do right, in different ways: what remains must be equal once `forgive` has been applied to both. */
export const ALIKE: readonly (Difference & { readonly forgive: (seen: Observation) => Observation })[] = [
  {
    what: 'which of two faults is answered',
    example: asked('POST /x HTTP/1.1', 'Expect: more', 'Content-Length: 4', 'Content-Length: 4', '', 'body'),
    because:
      'RFC 9110 section 15.5 orders none; fields are read in their order by the one, all at once by the other',
    where: () => true,
    forgive: (seen) =>
      mapClient(seen, (m) => ({ ...m, start: m.start.replace(/^own (?:4\d\d|501)$/, 'refused') })),
  },
  {
    what: 'how a response is cut off',
    example: answered('HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nbo'),
    because:
      'RFC 9112 section 8: by a close where a length or chunks tell that something is missing; Node always resets',
    where: ({ closes }) => closes,
    forgive: cutOff,
  },
  {
    what: 'several Cookie fields are sent on as they came',
    because: 'RFC 6265 section 5.4 has one, which Node makes of them; the upstream reads the same',
    example: asked('GET /x HTTP/1.1', 'Cookie: a=b', 'Cookie: c=d', '', ''),
    where: ({ request }) => (request.match(/^cookie:/gim)?.length ?? 0) > 1,
    forgive: (seen) => ({
      ...seen,
      upstream: seen.upstream.map((m) => ({ ...m, fields: joinCookies(m.fields) })),
    }),
  },
  {
    what: 'Content-Length: 0 for a method that may have content and has none',
    example: asked('PURGE /x HTTP/1.1'),
    because:
      'RFC 9110 section 8.6: it should be sent where the method anticipates content, which is POST, PUT and PATCH',
    where: ({ request }) => !/^\s*(?:POST|PUT|PATCH) /.test(request),
    forgive: (seen) => ({
      ...seen,
      upstream: seen.upstream.map((m) => ({
        ...m,
        fields: m.fields.filter((f) => f !== 'content-length: 0'),
      })),
    }),
  },
  {
    what: 'a connection is kept after an Expect without content',
    example: asked('GET /x HTTP/1.1', 'Expect: 100-continue', '', ''),
    because:
      'RFC 9110 section 10.1.1 forbids it to clients; the request’s end is clear all the same, but Node closes',
    where: ({ request }) => /^expect:/im.test(request),
    forgive: alone,
  },
  {
    what: 'a connection is kept after an Upgrade to what cannot be tunnelled',
    because: 'RFC 9110 section 7.8: a server may ignore Upgrade; Node stops reading, and closes in time',
    example: asked('GET /x HTTP/1.1', 'Connection: upgrade', 'Upgrade: h2c', '', ''),
    where: ({ request }) => /^upgrade:/im.test(request),
    forgive: alone,
  },
  {
    what: 'a connection of HTTP/1.0 is kept after a response without content',
    because: 'RFC 9112 section 9.3: where Connection: keep-alive was asked for, it may be; Node closes',
    example: answered('HTTP/1.1 204 OK\r\n\r\n', '1.0', 'Connection: keep-alive'),
    where: ({ request }) => / HTTP\/1\.0\r/.test(request),
    forgive: alone,
  },
]

function hasUnknownMethod(request: string): boolean {
  const [, method] = /^\s*([A-Z\d_-]+) /.exec(request) ?? []
  return method !== undefined && !METHODS.includes(method)
}

/** What the client asks after a request: without the octets that its content is short of. */
function askedNext(request: string): string {
  const length = Number(/^content-length:[ \t]*(\d+)/im.exec(request)?.[1] ?? 0)
  return (request + LAST).slice(request.indexOf('\r\n\r\n') + 4 + length)
}

/** All that was sent by either side. */
function sent({ request, response }: Exchange): string {
  return `${request}\n${response}`
}

function mapClient(seen: Observation, map: (message: Message) => Message): Observation {
  return { ...seen, client: seen.client.map(map) }
}

function joinCookies(fields: readonly string[]): string[] {
  const isCookie = (field: string): boolean => field.startsWith('cookie: ')
  const cookies = fields.filter(isCookie).map((field) => field.slice('cookie: '.length))
  return [...fields.filter((field) => !isCookie(field)), `cookie: ${cookies.join('; ')}`]
}

/** However much of it came. */
export function cutOff(seen: Observation): Observation {
  return { ...seen, clientRest: seen.clientRest.replace(/^(?:reset$|HTTP\/1\.1 [\s\S]*)/, 'cut off') }
}

/** Without what was asked after it on the same connection. */
export function alone(seen: Observation): Observation {
  const first = seen.client.findIndex(({ start }) => !/^(?:own )?1/.test(start))
  return {
    ...seen,
    upstream: seen.upstream.filter(({ start }) => !start.startsWith('GET /last ')),
    client: seen.client.slice(0, first + 1),
  }
}

/** The names of the differences that explain an exchange; undefined when something is not explained. */
export function explain(exchange: Exchange, fast: Observation, compat: Observation): string[] | undefined {
  if (equal(fast, compat)) return []
  const used: string[] = []
  let [left, right] = [fast, compat]
  for (const { what, where, forgive } of ALIKE) {
    if (!where(exchange)) continue
    const [forgivenLeft, forgivenRight] = [forgive(left), forgive(right)]
    if (equal(left, forgivenLeft) && equal(right, forgivenRight)) continue
    used.push(what)
    left = forgivenLeft
    right = forgivenRight
  }
  if (equal(left, right)) return used
  const wide = WIDER.filter(({ where }) => where(exchange)).map(({ what }) => what)
  if (wide.length > 0 && compat.client.some(({ start }) => start === 'own 400')) return wide
  const strict = STRICTER.filter(({ where }) => where(exchange)).map(({ what }) => what)
  return strict.length > 0 && refuses(fast) ? strict : undefined
}

/** The client was told that it failed, or sees that the response is cut off; of a refused request the upstream saw nothing. */
function refuses({ upstream, client, clientRest }: Observation): boolean {
  const [first] = client
  if (first === undefined) return clientRest !== ''
  if (first.start === 'own 502') return true
  return /^own 4/.test(first.start) && upstream.length === 0
}

function equal(a: Observation, b: Observation): boolean {
  return JSON.stringify(a) === JSON.stringify(b)
}

/** Is there a request that nobody asked for, or anything that is no request? */
export function smuggles({ upstream, upstreamRubbish }: Observation): boolean {
  const asked = upstream.filter(({ start }) => !/^[A-Z\d_-]+ \/last /.test(start))
  return upstreamRubbish !== '' || asked.length > 1 || upstream.some(({ fields }) => !fields.some(isOurHost))
}

function isOurHost(field: string): boolean {
  return field.toLowerCase().startsWith(`host: ${HOST}`)
}
