/**
 * Certificate revocation lists (RFC 5280 section 5): which a certificate names, and which serial numbers one lists.
 * Believes only complete lists that the issuer itself signed: no delta CRLs, no indirect ones, none for some reasons
 * only. Fetches nothing: `ca/revocation.ts` does.
 */
import type { X509Certificate } from 'node:crypto'
import { setImmediate } from 'node:timers/promises'
import { type Element, elementsIn, numberOf, spanAt, TAG, timeOf, unwrap } from './der.ts'
import { type Extensions, extensionsIn, sequenceIn } from './extensions.ts'
import { type Profile, profileOf } from './profile.ts'
import { isSignedBy, signedIn } from './signed.ts'

/** Read, with the issuer's signature on it. Milliseconds since the epoch. */
export interface Crl {
  readonly thisUpdate: number
  readonly nextUpdate: number
  /** Where it says to be published; undefined: it speaks for every certificate of its issuer. */
  readonly scope: readonly string[] | undefined
  /** @param serial of a profile */
  lists(serial: Buffer): boolean
}

/** Object identifiers are compared as the hex of their DER content. */
const ID = {
  reasonCode: '551d15',
  invalidityDate: '551d18',
  issuingDistributionPoint: '551d1c',
  crlDistributionPoints: '551d1f',
} as const

const KNOWN_IN_LIST: ReadonlySet<string> = new Set([ID.issuingDistributionPoint])
const KNOWN_IN_ENTRY: ReadonlySet<string> = new Set([ID.reasonCode, ID.invalidityDate])

/** RFC 5280 section 5.3.1. */
const REMOVE_FROM_CRL = 8

/** Entries that are read before others in the process get their turn: about a millisecond. */
const ENTRIES_AT_ONCE = 5000

/**
 * The URLs of each distribution point, any of which publishes the one list that is complete for this certificate (RFC
 * 5280 section 4.2.1.13). Throws a RangeError when the extension is malformed.
 */
export function crlPointsOf(profile: Profile): string[][] {
  const points = sequenceIn(profile.extensions, ID.crlDistributionPoints) ?? []
  return points.flatMap(({ content }) => {
    const [name, ...limits] = elementsIn(content)
    // Limits are reasons `[1]` and another issuer `[2]`.
    return name?.tag === 0xa0 && limits.length === 0 ? [urlsIn(name)] : []
  })
}

/**
 * Reads a list, DER or PEM, that `issuer` signed. Takes turns with other work: 100,000 entries are 20 turns.
 *
 * @throws Error when nothing can be believed of it; the message says why
 */
export async function readCrl(bytes: Buffer, issuer: X509Certificate): Promise<Crl> {
  const signed = signedIn(derOf(bytes))
  const authority = profileOf(issuer)
  const fields = elementsIn(signed.content.content)
  const isVersion2 = fields[0]?.tag === TAG.integer
  const [algorithm, name, thisUpdate, ...rest] = isVersion2 ? fields.slice(1) : fields
  if (algorithm === undefined || name === undefined || thisUpdate === undefined)
    throw new RangeError('CRL: fields are missing')
  if (!algorithm.raw.equals(signed.algorithm)) throw new RangeError('CRL: it names two signature algorithms')
  if (!name.raw.equals(authority.subject)) throw new RangeError('CRL: it is by another issuer')
  if (authority.keyUsage?.cRLSign === false) throw new RangeError('CRL: its issuer may not sign CRLs')
  if (!(await isSignedBy(issuer.publicKey, signed)))
    throw new RangeError('CRL: its signature is not by the issuer')
  const nextUpdate = rest[0]
  if (nextUpdate === undefined || !isTime(nextUpdate.tag)) throw new RangeError('CRL: it has no nextUpdate')
  const entries = rest[1]?.tag === TAG.sequence ? rest[1] : undefined
  const [explicit, stranger] = rest.slice(entries === undefined ? 1 : 2)
  if (stranger !== undefined || (explicit !== undefined && explicit.tag !== 0xa0))
    throw new RangeError('CRL: it has a field that RFC 5280 does not know')
  const extensions = extensionsIn(explicit?.content)
  requireKnown(extensions, KNOWN_IN_LIST)
  const scope = scopeIn(extensions)
  const revoked = await serialsIn(entries?.content ?? Buffer.alloc(0))
  return {
    thisUpdate: timeOf(thisUpdate),
    nextUpdate: timeOf(nextUpdate),
    scope,
    lists: (serial) => revoked.has(serial.toString('latin1')),
  }
}

/** What a list says of itself. */
export interface CrlFacts {
  /** DER of the name. */
  readonly issuer: Buffer
  /** Milliseconds since the epoch. */
  readonly nextUpdate: number
}

/** Of a list in DER, whoever signed it: nothing to base trust on. Throws a RangeError when it is malformed. */
export function crlFactsOf(der: Buffer): CrlFacts {
  const fields = elementsIn(signedIn(der).content.content)
  const [, name, , nextUpdate] = fields[0]?.tag === TAG.integer ? fields.slice(1) : fields
  if (name === undefined || nextUpdate === undefined || !isTime(nextUpdate.tag))
    throw new RangeError('CRL: it has no nextUpdate')
  return { issuer: name.raw, nextUpdate: timeOf(nextUpdate) }
}

function derOf(bytes: Buffer): Buffer {
  if (bytes[0] === TAG.sequence) return bytes
  const [, base64] = /-----BEGIN X509 CRL-----([\w+/=\s]+)-----END/.exec(bytes.toString('latin1')) ?? []
  if (base64 === undefined) throw new RangeError('CRL: neither DER nor PEM')
  return Buffer.from(base64, 'base64')
}

/** RFC 5280 section 5.2.5. Throws when the list does not hold all revocations of servers' certificates. */
function scopeIn(extensions: Extensions): string[] | undefined {
  const fields = sequenceIn(extensions, ID.issuingDistributionPoint) ?? []
  // `[0]` is where, and `[1]` says that it is for certificates that are no CA's. The rest limits what it may hold.
  if (fields.some(({ tag }) => tag !== 0xa0 && tag !== 0x81))
    throw new RangeError('CRL: it is indirect, or for some certificates or reasons only')
  const name = fields.find(({ tag }) => tag === 0xa0)
  return name && urlsIn(name)
}

/** Of a DistributionPointName `[0]`: its fullName `[0]`, whose uniformResourceIdentifiers are `[6]`. */
function urlsIn(distributionPoint: Element): string[] {
  const fullName = elementsIn(distributionPoint.content).find(({ tag }) => tag === 0xa0)
  return elementsIn(fullName?.content ?? Buffer.alloc(0))
    .filter(({ tag }) => tag === 0x86)
    .map(({ content }) => content.toString('latin1'))
}

/** The octets of each serial as latin1. Throws on an entry that is malformed or has a critical unknown extension. */
async function serialsIn(list: Buffer): Promise<Set<string>> {
  const serials = new Set<string>()
  // A list has few kinds of extensions, one for each reason, and many entries of each.
  const removals = new Map<string, boolean>()
  const isRemoval = (from: number, end: number): boolean => {
    const key = list.toString('latin1', from, end)
    const known = removals.get(key)
    if (known !== undefined) return known
    const removal = isRemoved(extensionsIn(list.subarray(from, end)))
    removals.set(key, removal)
    return removal
  }
  let left = ENTRIES_AT_ONCE
  for (let at = 0; at < list.length; left--) {
    if (left === 0) {
      await setImmediate()
      left = ENTRIES_AT_ONCE
    }
    const entry = spanAt(list, at, list.length)
    const serial = spanAt(list, entry.from, entry.end)
    const date = spanAt(list, serial.end, entry.end)
    if (entry.tag !== TAG.sequence || serial.tag !== TAG.integer || !isTime(date.tag))
      throw new RangeError('CRL: malformed entry')
    if (date.end === entry.end || !isRemoval(date.end, entry.end))
      serials.add(list.toString('latin1', serial.from, serial.end))
    at = entry.end
  }
  return serials
}

function isRemoved(extensions: Extensions): boolean {
  requireKnown(extensions, KNOWN_IN_ENTRY)
  const reason = extensions.get(ID.reasonCode)
  return reason !== undefined && numberOf(unwrap(reason.value, TAG.enumerated)) === REMOVE_FROM_CRL
}

function requireKnown(extensions: Extensions, known: ReadonlySet<string>): void {
  for (const [id, { critical }] of extensions)
    if (critical && !known.has(id)) throw new RangeError(`CRL: unknown critical extension ${id}`)
}

function isTime(tag: number): boolean {
  return tag === TAG.utcTime || tag === TAG.generalizedTime
}
