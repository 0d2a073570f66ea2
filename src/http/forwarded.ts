/**
 * What the upstream is told of the client: X-Forwarded-For, -Proto and -Host, Forwarded (RFC 7239) and X-Request-Id.
 * What clients say of themselves is believed only when they are trusted proxies. Wire-neutral.
 */
import { BlockList, isIP } from 'node:net'
import { plainAddress } from '../config/addresses.ts'

/** The fields of a request that trust decides upon, as they came; a repeated field is joined with `, `. */
export interface ForwardedFields {
  readonly for: string | undefined
  readonly proto: string | undefined
  readonly host: string | undefined
  readonly forwarded: string | undefined
}

export const NO_FORWARDED_FIELDS: ForwardedFields = {
  for: undefined,
  proto: undefined,
  host: undefined,
  forwarded: undefined,
}

const MAX_KNOWN = 1000

/** A set of addresses: the proxies that are trusted, or the clients that may ask. */
export class AddressRanges {
  readonly #ranges = new BlockList()
  readonly #empty: boolean
  /** A client asks again and again. */
  readonly #known = new Map<string, boolean>()

  /** Addresses and CIDR ranges as the config holds them, checked. */
  constructor(ranges: readonly string[]) {
    this.#empty = ranges.length === 0
    for (const range of ranges) {
      const [base = '', bits] = range.split('/')
      const family = familyOf(base)
      if (bits === undefined) this.#ranges.addAddress(base, family)
      else this.#ranges.addSubnet(base, Number(bits), family)
    }
  }

  contains(address: string): boolean {
    if (this.#empty) return false
    const known = this.#known.get(address)
    if (known !== undefined) return known
    if (isIP(address) === 0) return false
    const contained = this.#ranges.check(address, familyOf(address))
    if (this.#known.size === MAX_KNOWN) this.#known.clear()
    this.#known.set(address, contained)
    return contained
  }
}

/** A client whose proxy does not say where it is: in no range, so that what is open to some only is closed to it. */
const UNKNOWN = 'unknown'

/**
 * Who asks: of the hops that X-Forwarded-For names and the peer itself, the last that is no trusted proxy. The peer is
 * one: of others nothing is believed. A hop that is no address ends the search, and is nobody that is known.
 */
export function clientBehind(peerAddress: string, forwardedFor: string, trusted: AddressRanges): string {
  let client = peerAddress
  let rest = forwardedFor
  while (rest !== '') {
    const comma = rest.lastIndexOf(',')
    const hop = rest.slice(comma + 1).trim()
    rest = rest.slice(0, Math.max(comma, 0))
    // RFC 9110 section 5.6.1: empty elements of a list count for nothing.
    if (hop === '') continue
    const address = addressOf(hop)
    if (address === undefined) return UNKNOWN
    client = address
    if (!trusted.contains(address)) break
  }
  return client
}

/** Of `192.0.2.1`, `192.0.2.1:80`, `2001:db8::1`, `[2001:db8::1]` or `[2001:db8::1]:80`: proxies write all of them. */
function addressOf(hop: string): string | undefined {
  const address = plainAddress(hop.replace(/^\[([^\]]*)\](?::\d*)?$/, '$1').replace(/^([\d.]+):\d*$/, '$1'))
  return isIP(address) === 0 ? undefined : address
}

/**
 * May only proxies say this? Then an untrusted client's field is dropped: the X-Forwarded family, Forwarded, X-Real-IP
 * and X-Request-Id, also where `_` stands for `-`, since CGI and WSGI cannot tell these apart. `name` is in lower case.
 */
export function isForwardingField(name: string): boolean {
  if (name.charCodeAt(0) !== LOWER_X) return name === 'forwarded'
  const dashed = name.includes('_') ? name.replaceAll('_', '-') : name
  return dashed.startsWith('x-forwarded-') || dashed === 'x-real-ip' || dashed === 'x-request-id'
}

const LOWER_X = 'x'.charCodeAt(0)

export interface Hop {
  /** Of our peer; see `plainAddress`. */
  readonly clientAddress: string
  readonly secure: boolean
  /** The Host field as it was sent, checked by the gateway. */
  readonly host: string
}

/**
 * Names and values to send to the upstream. `received` are the fields of a trusted proxy, which are continued:
 * the first proxy's word for scheme and host, and our peer's address added to the chains.
 */
export function forwardingFields(
  hop: Hop,
  received: ForwardedFields = NO_FORWARDED_FIELDS,
): [string, string][] {
  const scheme = hop.secure ? 'https' : 'http'
  const element = `for=${node(hop.clientAddress)};host=${tokenOrQuoted(hop.host)};proto=${scheme}`
  return [
    ['X-Forwarded-For', append(received.for, hop.clientAddress)],
    ['X-Forwarded-Proto', received.proto ?? scheme],
    ['X-Forwarded-Host', received.host ?? hop.host],
    ['Forwarded', append(received.forwarded, element)],
  ]
}

function append(received: string | undefined, own: string): string {
  return received === undefined || received === '' ? own : `${received}, ${own}`
}

/** RFC 7239 section 6: an IPv6 address in brackets, and so quoted. */
function node(address: string): string {
  return address.includes(':') ? `"[${address}]"` : address
}

/** A host with a port is no token (RFC 7239 section 4). A checked Host holds nothing that needs a backslash. */
function tokenOrQuoted(host: string): string {
  return /^[A-Za-z0-9._-]+$/.test(host) ? host : `"${host}"`
}

function familyOf(address: string): 'ipv4' | 'ipv6' {
  return isIP(address) === 6 ? 'ipv6' : 'ipv4'
}
