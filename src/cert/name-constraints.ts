/**
 * Name constraints (RFC 5280 section 4.2.1.10): which names a CA may vouch for. For the two kinds of names that a
 * server has, DNS and IP; the others do not speak for hosts. Used by `profile.ts` to read and by `verify.ts` to judge.
 */
import { BlockList, isIP } from 'node:net'
import { type Element, elementsIn } from './der.ts'

export interface NameConstraints {
  /** Undefined: names of that kind are not limited to a list. */
  readonly permittedDns: readonly string[] | undefined
  readonly permittedIp: BlockList | undefined
  readonly excludedDns: readonly string[]
  readonly excludedIp: BlockList
}

/** @param fields the elements of the extension's SEQUENCE. Throws a RangeError when they are malformed. */
export function nameConstraintsIn(fields: readonly Element[]): NameConstraints {
  const permitted = subtreesIn(fields.find(({ tag }) => tag === 0xa0))
  const excluded = subtreesIn(fields.find(({ tag }) => tag === 0xa1))
  return {
    permittedDns: permitted.dns.length > 0 ? permitted.dns : undefined,
    permittedIp: permitted.ip.length > 0 ? subnetsOf(permitted.ip) : undefined,
    excludedDns: excluded.dns,
    excludedIp: subnetsOf(excluded.ip),
  }
}

/** May a CA with these constraints vouch for the name: a lower-case DNS name, a wildcard, or an IP address? */
export function permits(constraints: NameConstraints, name: string): boolean {
  const { permittedDns, permittedIp, excludedDns, excludedIp } = constraints
  const version = isIP(name)
  if (version !== 0) {
    const family = version === 4 ? 'ipv4' : 'ipv6'
    return (permittedIp?.check(name, family) ?? true) && !excludedIp.check(name, family)
  }
  const isPermitted = permittedDns?.some((domain) => isWithin(name, domain)) ?? true
  return isPermitted && !excludedDns.some((domain) => isWithin(name, domain) || mayStandFor(name, domain))
}

/** The domain itself or anything below it; with a leading dot only what is below; the empty domain is all. */
function isWithin(name: string, domain: string): boolean {
  if (domain === '') return true
  if (domain.startsWith('.')) return name.endsWith(domain)
  return name === domain || name.endsWith(`.${domain}`)
}

/** `*.example.com` stands for `secret.example.com` too. */
function mayStandFor(name: string, domain: string): boolean {
  if (!name.startsWith('*.')) return false
  const bare = domain.replace(/^\./, '')
  return bare.slice(bare.indexOf('.') + 1) === name.slice(2)
}

/** `SEQUENCE OF SEQUENCE { base GeneralName, … }`; dNSName is `[2]`, iPAddress `[7]`. */
function subtreesIn(subtrees: Element | undefined): { dns: string[]; ip: Buffer[] } {
  const bases = elementsIn(subtrees?.content ?? Buffer.alloc(0)).flatMap(({ content }) =>
    elementsIn(content).slice(0, 1),
  )
  return {
    dns: bases
      .filter(({ tag }) => tag === 0x82)
      .map(({ content }) => content.toString('latin1').toLowerCase()),
    ip: bases.filter(({ tag }) => tag === 0x87).map(({ content }) => content),
  }
}

/** Each range is an address and a mask of the same length. */
function subnetsOf(ranges: readonly Buffer[]): BlockList {
  const subnets = new BlockList()
  for (const range of ranges) {
    const half = range.length / 2
    const bits = [...range.subarray(half)].map((byte) => byte.toString(2).padStart(8, '0')).join('')
    if ((half !== 4 && half !== 16) || !/^1*0*$/.test(bits))
      throw new RangeError('X.509: malformed IP constraint')
    const address = range.subarray(0, half)
    const prefix = bits.lastIndexOf('1') + 1
    if (half === 4) subnets.addSubnet(address.join('.'), prefix, 'ipv4')
    else subnets.addSubnet((address.toString('hex').match(/.{4}/g) ?? []).join(':'), prefix, 'ipv6')
  }
  return subnets
}
