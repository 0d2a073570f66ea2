/**
 * CAA: which CAs may issue for a name (RFC 8659), with which account and by which challenges (RFC 8657). Looking up the
 * relevant records is apart from judging them, which is pure. `doctor` asks here before a CA does.
 */
import type { CaaRecord } from 'node:dns'
import type { Resolver } from 'node:dns/promises'
import { isIP } from 'node:net'
import type { ChallengeType } from '../challenge/solver.ts'

/** One property of RFC 8659 section 4.1. */
export interface CaaProperty {
  /** Lower case: `issue`, `issuewild`, `iodef` or whatever was invented since. */
  readonly tag: string
  readonly value: string
  /** Must a CA that does not know the tag refuse to issue? */
  readonly critical: boolean
}

/** The relevant resource record set of a name (RFC 8659 section 3). */
export interface CaaSet {
  /** Where it was found, so where it is to be changed. */
  readonly domain: string
  /** None: everything is allowed. */
  readonly properties: readonly CaaProperty[]
}

/** Who would issue, and how. */
export interface CaaQuestion {
  /** For a name that begins with `*.`? */
  readonly wildcard: boolean
  /** Issuer domain names that the CA recognizes as its own. */
  readonly identities: readonly string[]
  /** undefined: there is no account yet, so none that a record could name. */
  readonly accountUri: string | undefined
  /** Those that may be used. */
  readonly challenges: readonly ChallengeType[]
}

export type CaaVerdict =
  | { readonly permits: true; readonly challenges: readonly ChallengeType[] }
  | { readonly permits: false; readonly because: CaaRefusal; readonly property: CaaProperty }

/** The first of these that holds; what comes later came nearer to a permission. */
export type CaaRefusal =
  /** A critical property that no CA is known to understand. */
  | 'critical'
  /** No property names the CA. */
  | 'issuer'
  /** The CA is named with another account. */
  | 'account'
  /** The CA is named with other challenges. */
  | 'challenge'

export type CaaLookup = Pick<Resolver, 'resolveCaa' | 'resolveCname'>

const KNOWN_TAGS: ReadonlySet<string> = new Set(['issue', 'issuewild', 'iodef'])
const NEARNESS: readonly CaaRefusal[] = ['issuer', 'account', 'challenge']
/** As many as resolvers follow. */
const LONGEST_ALIAS_CHAIN = 8

/**
 * Climbs from the name to the first ancestor that has CAA records, itself or by an alias; a CNAME does not lead into
 * the tree above its target (RFC 8659 section 3). Rejects as `lookup` does when a name server fails: CAs then refuse.
 *
 * @param host a DNS name, with or without `*.`
 */
export async function loadCaa(host: string, lookup: CaaLookup): Promise<CaaSet> {
  if (isIP(host) !== 0) throw new RangeError(`${host} is an address, and CAA is about names`)
  let domain = host.replace(/^\*\./, '')
  while (domain !== '') {
    const properties = await propertiesAt(domain, lookup)
    if (properties.length > 0) return { domain, properties }
    domain = domain.split('.').slice(1).join('.')
  }
  return { domain: host, properties: [] }
}

/** A resolver follows aliases by itself; a name server that is asked directly may not. */
async function propertiesAt(domain: string, lookup: CaaLookup): Promise<CaaProperty[]> {
  let name: string | undefined = domain
  for (let length = 0; name !== undefined && length <= LONGEST_ALIAS_CHAIN; length++) {
    const alias: string = name
    const records = (await orNothing(lookup.resolveCaa(alias))) ?? []
    if (records.length > 0) return records.map(propertyOf)
    name = (await orNothing(lookup.resolveCname(alias)))?.[0]
  }
  return []
}

async function orNothing<T>(answer: Promise<T>): Promise<T | undefined> {
  try {
    return await answer
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException
    if (code === 'ENODATA' || code === 'ENOTFOUND') return undefined
    throw error
  }
}

/** Node gives the tag as the name of a field. */
function propertyOf({ critical, ...fields }: CaaRecord): CaaProperty {
  const [tag = '', value] = Object.entries(fields).find(([name]) => name !== 'type') ?? []
  return { tag: tag.toLowerCase(), value: String(value ?? ''), critical: critical !== 0 }
}

/** RFC 8659 section 4, RFC 8657 sections 3 and 4. */
export function judgeCaa(properties: readonly CaaProperty[], question: CaaQuestion): CaaVerdict {
  const unknown = properties.find(({ tag, critical }) => critical && !KNOWN_TAGS.has(tag))
  if (unknown !== undefined) return { permits: false, because: 'critical', property: unknown }
  const decisive = decisiveOf(properties, question.wildcard)
  const [first] = decisive
  if (first === undefined) return { permits: true, challenges: question.challenges }
  const judged = decisive.map((property) => ({ property, ...judge(property, question) }))
  const challenges = question.challenges.filter((type) => judged.some((each) => each.allowed.includes(type)))
  if (challenges.length > 0) return { permits: true, challenges }
  const nearest = NEARNESS.findLast((because) => judged.some((each) => each.because === because)) ?? 'issuer'
  const property = judged.find(({ because }) => because === nearest)?.property ?? first
  return { permits: false, because: nearest, property }
}

/** `issuewild` takes the place of `issue` for wildcards (RFC 8659 section 4.3). */
function decisiveOf(properties: readonly CaaProperty[], wildcard: boolean): readonly CaaProperty[] {
  const tagged = (wanted: string) => properties.filter(({ tag }) => tag === wanted)
  const wild = wildcard ? tagged('issuewild') : []
  return wild.length > 0 ? wild : tagged('issue')
}

interface Judgement {
  readonly allowed: readonly ChallengeType[]
  /** Why nothing is allowed. */
  readonly because?: CaaRefusal
}

function judge({ value }: CaaProperty, question: CaaQuestion): Judgement {
  const { issuer, parameters } = parseIssueValue(value)
  const isNamed = question.identities.some((identity) => identity.toLowerCase() === issuer)
  if (!isNamed) return { allowed: [], because: 'issuer' }
  const accounts = parameters.filter(({ tag }) => tag === 'accounturi')
  const isOurs = accounts.length === 1 && accounts[0]?.value === question.accountUri
  if (accounts.length > 0 && !isOurs) return { allowed: [], because: 'account' }
  const methods = parameters.filter(({ tag }) => tag === 'validationmethods')
  if (methods.length === 0) return { allowed: question.challenges }
  // Said twice, nothing satisfies it.
  const listed = methods.length === 1 ? (methods[0]?.value.split(',') ?? []) : []
  const allowed = question.challenges.filter((type) => listed.includes(type))
  return allowed.length === 0 ? { allowed, because: 'challenge' } : { allowed }
}

export interface IssueValue {
  /** Lower case; '' allows nobody. */
  readonly issuer: string
  /** Tags in lower case. */
  readonly parameters: readonly { readonly tag: string; readonly value: string }[]
}

const WORD = '[A-Za-z0-9](?:-*[A-Za-z0-9])*'
const ISSUE_VALUE = new RegExp(`^[ \\t]*(${WORD}(?:\\.${WORD})*)?[ \\t]*(?:;(.*))?$`)
const PARAMETER = new RegExp(`^(${WORD})[ \\t]*=[ \\t]*([\\x21-\\x3a\\x3c-\\x7e]*)$`)

/** RFC 8659 section 4.2. A value that does not fit the grammar allows nobody. */
export function parseIssueValue(text: string): IssueValue {
  const nobody: IssueValue = { issuer: '', parameters: [] }
  const match = ISSUE_VALUE.exec(text)
  if (match === null) return nobody
  const [, issuer = '', tail = ''] = match
  const written = trimBlanks(tail)
  if (written === '') return { issuer: issuer.toLowerCase(), parameters: [] }
  const parameters = written.split(';').map((each) => PARAMETER.exec(trimBlanks(each)))
  if (parameters.includes(null)) return nobody
  return {
    issuer: issuer.toLowerCase(),
    parameters: parameters.map((each) => ({ tag: each?.[1]?.toLowerCase() ?? '', value: each?.[2] ?? '' })),
  }
}

function trimBlanks(text: string): string {
  return text.replace(/^[ \t]+|[ \t]+$/g, '')
}
