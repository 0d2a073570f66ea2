/**
 * The text forms of hosts, listening addresses, upstreams and address ranges, each in one canonical form.
 * Pure; `schema.ts` validates with it. A function that parses gives undefined for what it does not understand.
 */
import { BlockList, isIP } from 'node:net'
import { domainToASCII } from 'node:url'

/** Lower-case A-label form of a DNS name or the canonical form of an IP address; undefined when it is neither. */
export function normalizeHost(text: string): string | undefined {
  const bare = text.replace(/^\[(.*)\]$/, '$1')
  if (isIP(bare) === 4) return bare
  if (isIP(bare) === 6) return canonicalIPv6(bare)
  const wildcard = text.startsWith('*.')
  const written = (wildcard ? text.slice(2) : text).replace(/\.$/, '')
  // domainToASCII reads as a URL does: it would drop a path, and undo percent-encoding.
  if (!/^[\w.\-\u{80}-\u{10ffff}]+$/u.test(written)) return undefined
  const name = domainToASCII(written)
  if (name === '' || name.length > 253 || isIP(name) !== 0) return undefined
  const labels = name.split('.')
  if (!labels.every((label) => /^[a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9_])?$/.test(label))) return undefined
  return wildcard ? `*.${name}` : name
}

/** RFC 5952; undefined when it has a zone, which names nothing outside this machine. */
function canonicalIPv6(text: string): string | undefined {
  return text.includes('%') ? undefined : new URL(`http://[${text}]/`).hostname.slice(1, -1)
}

/** `0.0.0.0:443`, `[::1]:8443`, `:443` (every address, IPv6 and IPv4). */
export interface Address {
  /** undefined: every address of the machine. */
  readonly host: string | undefined
  readonly port: number
}

export function parseAddress(text: string): Address | undefined {
  const match = /^(?:\[([0-9a-fA-F:.]+)\]|([^:[\]]*)):(\d{1,5})$/.exec(text)
  if (match === null) return undefined
  const [, ipv6, other] = match
  const port = Number(match[3])
  if (port > 65535) return undefined
  if (ipv6 !== undefined) return isIP(ipv6) === 6 ? { host: ipv6, port } : undefined
  if (other === undefined || other === '') return { host: undefined, port }
  return isIP(other) === 4 || other === 'localhost' ? { host: other, port } : undefined
}

/** `127.0.0.1:443`, `[::1]:8443`, `:443`: what `parseAddress` reads. */
export function formatAddress({ host, port }: Address): string {
  return `${host === undefined ? '' : isIP(host) === 6 ? `[${host}]` : host}:${port}`
}

/**
 * Where to connect, and what is spoken there: `http://host:port`, `https://…`, `h2c://…`, `h2://…` or `tcp://…`; of unix
 * sockets `unix:/path` or, for HTTP/2, `unix+h2c:/path`.
 */
export interface Upstream {
  /** Canonical: lower case, no default port, no path. */
  readonly url: string
  readonly secure: boolean
  /**
   * `h2`: HTTP/2, without asking first on a plain connection (RFC 9113 section 3.3), and by ALPN over TLS.
   * `tcp`: whatever the clients speak. A unix socket without `h2c` says `http/1.1`, and may stand for `tcp` too.
   */
  readonly protocol: 'http/1.1' | 'h2' | 'tcp'
  /** DNS name or IP address, without brackets; `localhost` for a unix socket. */
  readonly host: string
  readonly port: number
  /** Of a unix socket, instead of host and port. */
  readonly socketPath: string | undefined
}

/** A scheme of HTTP/2 reads as the one of HTTP/1.1 that has its default port. */
const EQUIVALENT_SCHEME: ReadonlyMap<string, 'http' | 'https'> = new Map([
  ['http', 'http'],
  ['https', 'https'],
  ['h2c', 'http'],
  ['h2', 'https'],
])

export function parseUpstream(text: string): Upstream | undefined {
  if (/^tcp:/i.test(text)) return parseTcpUpstream(text)
  if (/^unix\b/i.test(text)) return parseUnixUpstream(text)
  const [, written = '', rest = ''] = /^(\w+)(:\/\/[^/].*)$/.exec(text) ?? []
  const scheme = written.toLowerCase()
  const equivalent = EQUIVALENT_SCHEME.get(scheme)
  if (equivalent === undefined || !URL.canParse(equivalent + rest)) return undefined
  const url = new URL(equivalent + rest)
  const bare = url.username === '' && url.password === '' && url.pathname === '/'
  if (!bare || url.search !== '' || url.hash !== '' || url.port === '0') return undefined
  const secure = equivalent === 'https'
  return {
    url: `${scheme}://${url.host}`,
    secure,
    protocol: scheme === equivalent ? 'http/1.1' : 'h2',
    host: url.hostname.replace(/^\[(.*)\]$/, '$1'),
    port: url.port === '' ? (secure ? 443 : 80) : Number(url.port),
    socketPath: undefined,
  }
}

/** What `sun_path` holds (unix(7)), without its final NUL. */
const MAX_SOCKET_PATH_BYTES = 107

function parseUnixUpstream(text: string): Upstream | undefined {
  const [, h2c, socketPath] = /^unix(\+h2c)?:(\/\P{Cc}*[^\p{Cc}/])$/iu.exec(text) ?? []
  if (socketPath === undefined || Buffer.byteLength(socketPath) > MAX_SOCKET_PATH_BYTES) return undefined
  return {
    url: `unix${h2c === undefined ? '' : '+h2c'}:${socketPath}`,
    secure: false,
    protocol: h2c === undefined ? 'http/1.1' : 'h2',
    host: 'localhost',
    port: 0,
    socketPath,
  }
}

/** No port is the usual one of `tcp://`, so that it has to be there, and stays. */
function parseTcpUpstream(text: string): Upstream | undefined {
  const port = Number(/:(\d{1,5})$/.exec(text)?.[1] ?? 0)
  const http = port === 0 ? undefined : parseUpstream(text.replace(/^tcp:/i, 'http:'))
  if (http === undefined) return undefined
  const host = isIP(http.host) === 6 ? `[${http.host}]` : http.host
  return { ...http, url: `tcp://${host}:${port}`, protocol: 'tcp' }
}

/** What a table by host holds for a name: by the name itself, else by the wildcard that stands for its first label. */
export function findByHost<T>(table: ReadonlyMap<string, T>, name: string): T | undefined {
  const exact = table.get(name)
  if (exact !== undefined) return exact
  const dot = name.indexOf('.')
  return dot === -1 ? undefined : table.get(`*${name.slice(dot)}`)
}

/** `10.0.0.0/8`, `fd00::/8`, or a single IP address. */
export function isAddressRange(text: string): boolean {
  const match = /^([^/]+)(?:\/(\d{1,3}))?$/.exec(text)
  const family = isIP(match?.[1] ?? '')
  return family !== 0 && Number(match?.[2] ?? 0) <= (family === 4 ? 32 : 128)
}

/** RFC 6761, RFC 6762 (with appendix G), RFC 8375 and what ICANN has set aside: no public CA may issue for these. */
const PRIVATE_DOMAINS =
  /(^|\.)(localhost|local|internal|home\.arpa|test|example|invalid|intranet|private|corp|home|lan)$/

/** RFC 6890: addresses that mean something in some network only. */
const PRIVATE_RANGES = [
  ['0.0.0.0', 8, 'ipv4'],
  ['10.0.0.0', 8, 'ipv4'],
  ['100.64.0.0', 10, 'ipv4'],
  ['127.0.0.0', 8, 'ipv4'],
  ['169.254.0.0', 16, 'ipv4'],
  ['172.16.0.0', 12, 'ipv4'],
  ['192.168.0.0', 16, 'ipv4'],
  ['::', 127, 'ipv6'],
  ['fc00::', 7, 'ipv6'],
  ['fe80::', 10, 'ipv6'],
] as const

/**
 * Does the host (in the form of `normalizeHost`) mean something in some network only, so that no public CA can check
 * it? Single labels, set-aside domains, private and loopback addresses, and wildcards below them.
 */
export function isPrivateHost(host: string): boolean {
  const family = isIP(host)
  if (family !== 0) return privateAddresses().check(host, family === 4 ? 'ipv4' : 'ipv6')
  const name = host.replace(/^\*\./, '')
  return !name.includes('.') || PRIVATE_DOMAINS.test(name)
}

function privateAddresses(): BlockList {
  const list = new BlockList()
  for (const [base, bits, family] of PRIVATE_RANGES) list.addSubnet(base, bits, family)
  return list
}

/**
 * As everything but a socket knows an address: a dual-stack one tells IPv4 addresses as `::ffff:192.0.2.1`, and a link-local
 * address comes with a zone, which names nothing outside this machine.
 */
export function plainAddress(address: string): string {
  const zone = address.indexOf('%')
  const bare = zone === -1 ? address : address.slice(0, zone)
  return bare.startsWith('::ffff:') && isIP(bare.slice(7)) === 4 ? bare.slice(7) : bare
}

/** The eight groups of an IPv6 address, in lower-case hexadecimal without leading zeros; one of IPv4 at the end stays as it is. */
export function groupsOf(address: string): string[] {
  const [before = [], after = []] = address.split('::').map((half) => half.split(':').filter(Boolean))
  const zeros = Array.from({ length: 8 - before.length - after.length }, () => '0')
  return [...before, ...zeros, ...after].map((group) =>
    group.includes('.') ? group : Number.parseInt(group, 16).toString(16),
  )
}

/** What one customer has, so that who has one of its addresses has them all: an IPv4 address by itself, of IPv6 the /64. */
export function networkOf(address: string): string {
  return address.includes(':') ? `${groupsOf(address).slice(0, 4).join(':')}::/64` : address
}
