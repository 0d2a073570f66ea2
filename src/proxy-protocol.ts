/**
 * The PROXY protocol, versions 1 and 2: how a proxy that passes TCP on tells the next one who the client is (HAProxy's
 * `proxy-protocol.txt`). Pure and bounded. `tls/` reads it from those who are in front of us, `tcp/` writes it to upstreams.
 */
import { isIP, SocketAddress } from 'node:net'

/** Both ends of a connection as the client sees it: canonical IP addresses, of one family or of two. */
export interface Endpoints {
  readonly clientAddress: string
  readonly clientPort: number
  readonly localAddress: string
  readonly localPort: number
}

/** What connections begin with: `size` octets, and then what the client itself sends. */
export interface ProxyHeader {
  readonly size: number
  /** Absent: the proxy speaks for itself (a health check), or for a client whose address it does not know. */
  readonly endpoints?: Endpoints
}

export type ProxyVersion = 'v1' | 'v2'

const SIGNATURE = Buffer.from('\r\n\r\n\0\r\nQUIT\n', 'latin1')

/** Section 2.1: the longest line of version 1, with its CRLF. */
const MAX_LINE_BYTES = 107

/** Section 2.2: signature, version and command, family, length. */
const FIXED_BYTES = 16

/** With it, TLVs too; room for a client certificate among them. */
const MAX_HEADER_BYTES = 16 * 1024

/** Octets of the addresses and ports, by the octet that tells family and transport. */
const ADDRESS_BYTES: ReadonlyMap<number, number> = new Map([
  [0x11, 4],
  [0x21, 16],
])

/** @returns undefined while more octets are needed; `invalid` when they can become no header. Never throws. */
export function readProxyHeader(bytes: Buffer): ProxyHeader | 'invalid' | undefined {
  if (startsAlike(bytes, SIGNATURE)) return readBinary(bytes)
  return startsAlike(bytes, Buffer.from('PROXY ')) ? readLine(bytes) : 'invalid'
}

/** As far as both go. */
function startsAlike(bytes: Buffer, expected: Buffer): boolean {
  const length = Math.min(bytes.length, expected.length)
  return bytes.subarray(0, length).equals(expected.subarray(0, length))
}

/** Section 2.1. */
function readLine(bytes: Buffer): ProxyHeader | 'invalid' | undefined {
  const end = bytes.subarray(0, MAX_LINE_BYTES).indexOf('\r\n')
  if (end === -1) return bytes.length >= MAX_LINE_BYTES ? 'invalid' : undefined
  const size = end + 2
  const [, family, from = '', to = '', fromPort = '', toPort = '', ...rest] = bytes
    .toString('latin1', 0, end)
    .split(' ')
  if (family === 'UNKNOWN') return { size }
  const version = family === 'TCP4' ? 4 : family === 'TCP6' ? 6 : undefined
  const isValid = isIP(from) === version && isIP(to) === version && isPort(fromPort) && isPort(toPort)
  if (!isValid || rest.length > 0) return 'invalid'
  return {
    size,
    endpoints: {
      clientAddress: canonical(from),
      clientPort: Number(fromPort),
      localAddress: canonical(to),
      localPort: Number(toPort),
    },
  }
}

/** Section 2.2. */
function readBinary(bytes: Buffer): ProxyHeader | 'invalid' | undefined {
  if (bytes.length < FIXED_BYTES) return undefined
  const command = bytes.readUInt8(12)
  const family = bytes.readUInt8(13)
  const size = FIXED_BYTES + bytes.readUInt16BE(14)
  if ((command !== 0x20 && command !== 0x21) || size > MAX_HEADER_BYTES) return 'invalid'
  if (bytes.length < size) return undefined
  const width = ADDRESS_BYTES.get(family)
  // LOCAL, and families that say nothing of an IP address. TLVs need not be understood.
  if (command === 0x20 || width === undefined) return { size }
  const ports = FIXED_BYTES + 2 * width
  if (ports + 4 > size) return 'invalid'
  return {
    size,
    endpoints: {
      clientAddress: addressIn(bytes.subarray(FIXED_BYTES, FIXED_BYTES + width)),
      clientPort: bytes.readUInt16BE(ports),
      localAddress: addressIn(bytes.subarray(FIXED_BYTES + width, ports)),
      localPort: bytes.readUInt16BE(ports + 2),
    },
  }
}

/** The header to send before anything else. Where the two addresses are of two families, IPv4 is sent as mapped IPv6. */
export function proxyHeader(version: ProxyVersion, endpoints: Endpoints): Buffer {
  const { clientAddress, clientPort, localAddress, localPort } = endpoints
  const isIPv4 = isIP(clientAddress) === 4 && isIP(localAddress) === 4
  const [from, to] = isIPv4 ? [clientAddress, localAddress] : [mapped(clientAddress), mapped(localAddress)]
  if (version === 'v1')
    return Buffer.from(`PROXY TCP${isIPv4 ? 4 : 6} ${from} ${to} ${clientPort} ${localPort}\r\n`, 'latin1')
  const addresses = Buffer.concat([octetsOf(from), octetsOf(to)])
  const header = Buffer.alloc(FIXED_BYTES + addresses.length + 4)
  SIGNATURE.copy(header)
  header.writeUInt8(0x21, 12)
  header.writeUInt8(isIPv4 ? 0x11 : 0x21, 13)
  header.writeUInt16BE(addresses.length + 4, 14)
  addresses.copy(header, FIXED_BYTES)
  header.writeUInt16BE(clientPort, FIXED_BYTES + addresses.length)
  header.writeUInt16BE(localPort, FIXED_BYTES + addresses.length + 2)
  return header
}

function isPort(digits: string): boolean {
  return /^(0|[1-9]\d{0,4})$/.test(digits) && Number(digits) <= 65_535
}

function mapped(address: string): string {
  return isIP(address) === 4 ? `::ffff:${address}` : address
}

/** An IPv4-mapped address in its IPv4 form; a zone, which means something on one machine only, is left out. */
function canonical(address: string): string {
  if (isIP(address) === 4) return address
  const ipv6 = new SocketAddress({ address: address.replace(/%.*/, ''), family: 'ipv6' }).address
  const ipv4 = ipv6.startsWith('::ffff:') ? ipv6.slice('::ffff:'.length) : ''
  return isIP(ipv4) === 4 ? ipv4 : ipv6
}

function addressIn(octets: Buffer): string {
  if (octets.length === 4) return octets.join('.')
  return canonical(octets.toString('hex').replace(/(.{4})(?!$)/g, '$1:'))
}

function octetsOf(address: string): Buffer {
  if (isIP(address) === 4) return Buffer.from(address.split('.').map(Number))
  // A tail in dotted form stands for two groups.
  const groups = address.replace(/(\d+)\.(\d+)\.(\d+)\.(\d+)$/, (_, ...octets: string[]) =>
    Buffer.from(octets.slice(0, 4).map(Number))
      .toString('hex')
      .replace(/^(.{4})/, '$1:'),
  )
  const [head = [], tail = []] = groups
    .split('::')
    .map((half) => half.split(':').filter((group) => group !== ''))
  const zeros = new Array<string>(8 - head.length - tail.length).fill('0')
  return Buffer.from([...head, ...zeros, ...tail].map((group) => group.padStart(4, '0')).join(''), 'hex')
}
