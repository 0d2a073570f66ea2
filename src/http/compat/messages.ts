/**
 * From the client's request head to the upstream's, and from the upstream's response head to the client's: what is
 * refused, what is dropped, what is added. Pure. Node's parser is strict already; here is what it lets pass.
 */
import type { IncomingMessage } from 'node:http'
import { ProxyError } from '../../errors.ts'
import { originForm } from '../authority.ts'
import type { FieldEdits } from '../edits.ts'
import { forwardingFields, isForwardingField } from '../forwarded.ts'
import {
  connectionOptions,
  HOP_BY_HOP,
  isMethod,
  MAX_FIELDS,
  NOT_IN_TRAILERS,
  REQUEST_ONLY_HERE,
  viaValue,
} from '../headers.ts'
import type { Route } from '../verdict.ts'
import { type Downstream, type Field, pairs, type ResponseHead } from './downstream.ts'

export interface RequestHead {
  /** The Host field or :authority as sent; undefined when there is none. */
  readonly authority: string | undefined
  /** Origin-form; empty for CONNECT. */
  readonly target: string
  readonly expectsContinue: boolean
}

/** The head if it means the same to everybody; otherwise why it is refused. */
export function readHead(client: Downstream): RequestHead | ProxyError {
  const { fields } = client
  // Node's own parser has refused it over HTTP/1.1.
  if (!isMethod(client.method)) return invalid('a method that is none to pass on')
  if (fields.length > MAX_FIELDS) return invalid('more than 200 fields', 431)
  const hosts = valuesOf(fields, 'host')
  if (hosts.length > 1) return invalid('more than one Host field')
  const [host] = hosts
  if (client.authority !== undefined && host !== undefined && host !== client.authority)
    return invalid('Host disagrees with :authority')
  const authority = client.authority ?? host

  const framing = checkFraming(client)
  if (framing !== undefined) return framing

  if (client.method === 'CONNECT') return { authority, target: '', expectsContinue: false }
  const target = originForm(client.target, authority ?? '')
  if (target === undefined) return invalid('the target is not a path, or is a URL of another host')

  const expect = valuesOf(fields, 'expect').join()
  if (expect === '' || client.version === '1.0') return { authority, target, expectsContinue: false }
  if (expect.toLowerCase() !== '100-continue') return invalid('an expectation that nobody here can meet', 417)
  return { authority, target, expectsContinue: true }
}

/** RFC 9112 section 6.1 and 6.2, and nothing that a lenient upstream could read otherwise. */
function checkFraming(client: Downstream): ProxyError | undefined {
  const lengths = valuesOf(client.fields, 'content-length')
  if (lengths.length > 1) return invalid('more than one Content-Length')
  if (lengths[0] !== undefined && !(/^\d+$/.test(lengths[0]) && Number.isSafeInteger(Number(lengths[0]))))
    return invalid('Content-Length is not a length')

  const codings = valuesOf(client.fields, 'transfer-encoding')
  if (codings.length === 0) return undefined
  if (client.version !== '1.1') return invalid('Transfer-Encoding in HTTP/1.0')
  if (lengths.length > 0) return invalid('both Content-Length and Transfer-Encoding')
  if (codings.length > 1 || codings[0]?.toLowerCase() !== 'chunked')
    return invalid('Transfer-Encoding is not "chunked"')
  return undefined
}

/** Rewritten for trusted peers too, from what they sent. */
const REWRITTEN: ReadonlySet<string> = new Set([
  'x-forwarded-for',
  'x-forwarded-proto',
  'x-forwarded-host',
  'forwarded',
  'x-request-id',
])

/** Sent by us from what the message is, not copied. */
const REBUILT: ReadonlySet<string> = new Set(['host', 'via', 'content-length'])

/** The fields to send to the upstream, one entry a name, as the route wants them. `authority` was checked by the gateway. */
export function upstreamFields(
  client: Downstream,
  authority: string,
  requestId: string,
  { clientFields, requestEdits: edits }: Pick<Route, 'clientFields' | 'requestEdits'>,
): [string, string | string[]][] {
  const { fields, peer } = client
  const received = (name: string): string | undefined => valuesOf(fields, name).join(', ') || undefined
  const length = received('content-length')
  const chunked = client.body !== undefined && length === undefined

  const sent = new Map<string, [name: string, values: string[]]>()
  const add = (name: string, value: string): void => {
    const lower = name.toLowerCase()
    const same = sent.get(lower)
    if (same === undefined) sent.set(lower, [name, [value]])
    else same[1].push(value)
  }

  add('Host', authority)
  for (const [name, value] of endToEnd(fields)) {
    const lower = name.toLowerCase()
    if (REQUEST_ONLY_HERE.has(lower) || REBUILT.has(lower)) continue
    if (isForwardingField(lower) && (!peer.trusted || REWRITTEN.has(lower))) continue
    if (lower === 'trailer' && !chunked) continue
    if (clientFields?.owns(lower) === true) continue
    add(name, value)
  }
  if (length !== undefined) add('Content-Length', length)
  else if (chunked) add('Transfer-Encoding', 'chunked')
  if (client.upgrade !== undefined) {
    add('Connection', 'Upgrade')
    add('Upgrade', client.upgrade.protocol)
  }
  const said = {
    for: received('x-forwarded-for'),
    proto: received('x-forwarded-proto'),
    host: received('x-forwarded-host'),
    forwarded: received('forwarded'),
  }
  const hop = { clientAddress: peer.clientAddress, secure: peer.secure, host: authority }
  for (const [name, value] of forwardingFields(hop, peer.trusted ? said : undefined)) add(name, value)
  for (const [name, value] of clientFields?.fields(peer.client) ?? []) add(name, value)
  add('X-Request-Id', requestId)
  add('Via', viaValue(received('via'), client.version))
  for (const name of edits?.dropped ?? []) sent.delete(name)
  for (const [name, value] of edits?.added ?? []) add(name, value)
  return [...sent.values()].map(([name, values]) => [name, values.length === 1 ? (values[0] ?? '') : values])
}

/** The id that a trusted peer gave the request. */
export function receivedRequestId(client: Downstream): string | undefined {
  return client.peer.trusted ? valuesOf(client.fields, 'x-request-id')[0] : undefined
}

/** May the response to this request with this status have content? RFC 9112 section 6.3. */
export function hasContent(method: string, status: number): boolean {
  return method !== 'HEAD' && status !== 204 && status !== 304
}

/**
 * The head to send to the client, as its route wants it; `hsts` is what the site says to clients over TLS. Throws when the client could not
 * understand the content.
 */
export function clientHead(
  response: IncomingMessage,
  client: Downstream,
  hsts: string | undefined,
  edits: FieldEdits | undefined,
): ResponseHead {
  const status = response.statusCode ?? 0
  const received = pairs(response.rawHeaders)
  const codings = valuesOf(received, 'transfer-encoding')
  if (codings.length > 1 || (codings[0] ?? 'chunked').toLowerCase() !== 'chunked')
    throw new Error('Transfer-Encoding is not "chunked"')

  const trailers = codings.length > 0 && client.version !== '1.0' && hasContent(client.method, status)
  const own = endToEnd(received).filter(([name]) => {
    const lower = name.toLowerCase()
    if (lower === 'via' || (lower === 'trailer' && !trailers)) return false
    if (lower === 'content-length' && status === 204) return false
    return !(lower === 'strict-transport-security' && hsts !== undefined)
  })
  const fields = edits === undefined ? own : editedFields(own, edits)
  fields.push(['Via', viaOf(response)])
  if (hsts !== undefined) fields.push(['Strict-Transport-Security', hsts])
  return { status, reason: response.statusMessage ?? '', fields, trailers, last: false }
}

export function editedFields(fields: readonly Field[], { dropped, added }: FieldEdits): Field[] {
  const kept = fields.filter(([name]) => !dropped.includes(name.toLowerCase()))
  return [...kept, ...added.map(([name, value]): Field => [name, value])]
}

/** The fields of a 101, with which the client's connection changes its protocol. */
export function switchingFields(response: IncomingMessage): Field[] {
  const fields = endToEnd(pairs(response.rawHeaders)).filter(([name]) => name.toLowerCase() !== 'via')
  const protocol: Field = ['Upgrade', response.headers.upgrade ?? '']
  return [...fields, ['Connection', 'Upgrade'], protocol, ['Via', viaOf(response)]]
}

/** The trailers that may be sent on, in either direction. */
export function endToEndTrailers(received: readonly Field[]): [string, string][] {
  return received.flatMap(([name, value]) => (NOT_IN_TRAILERS.has(name.toLowerCase()) ? [] : [[name, value]]))
}

/** Without hop-by-hop fields and what Connection names (RFC 9110 section 7.6.1). */
export function endToEnd(fields: readonly Field[]): Field[] {
  const nominated = new Set(valuesOf(fields, 'connection').flatMap(connectionOptions))
  return fields.filter(([name]) => {
    const lower = name.toLowerCase()
    return !HOP_BY_HOP.has(lower) && !nominated.has(lower)
  })
}

export function valuesOf(fields: readonly Field[], name: string): string[] {
  return fields.flatMap(([other, value]) => (other.toLowerCase() === name ? [value] : []))
}

function viaOf(response: IncomingMessage): string {
  const received = valuesOf(pairs(response.rawHeaders), 'via').join(', ')
  return viaValue(received, response.httpVersion === '1.0' ? '1.0' : '1.1')
}

function invalid(what: string, status = 400): ProxyError {
  return new ProxyError('REQUEST_INVALID', status, `the request has ${what}`)
}
