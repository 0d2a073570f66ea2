/**
 * What the upstreams of a site learn of a client's certificate: RFC 9440's Client-Cert, or fields of the site's choice.
 * Of clients no field of these names passes, whether they gave a certificate or not. Wire-neutral.
 */
import type { X509Certificate } from 'node:crypto'
import type { ClientFieldNames, Site } from '../config/sites.ts'

/** A client that was asked who it is. */
export interface Client {
  /** The `id` of the policy that it was let in by. */
  readonly policy: string
  /** Verified; undefined: it gave none, and the policy takes that. */
  readonly certificate: X509Certificate | undefined
}

/** Upstreams take heads of 8 to 64 KB; the wires have room for as much beside what a client sends. */
export const MAX_CLIENT_FIELD_BYTES = 12 * 1024

/** RFC 9440 section 4: a proxy that ends TLS sanitizes these, whatever it tells itself. */
const STANDARD = ['Client-Cert', 'Client-Cert-Chain']

interface Told {
  readonly fields: readonly [name: string, value: string][]
  /** The same as field lines, each with CRLF. ASCII. */
  readonly lines: string
}

const NOTHING: Told = { fields: [], lines: '' }

export class ClientFields {
  readonly #names: ClientFieldNames
  readonly #owned: ReadonlySet<string>
  /** Of the owned names: nearly every other name is told apart by its length. */
  readonly #lengths: ReadonlySet<number>
  /** A connection asks for the same at each request. */
  readonly #told = new WeakMap<X509Certificate, Told>()

  /** @param believed names that no client may say either */
  constructor(names: ClientFieldNames, believed: Iterable<string> = []) {
    this.#names = names
    this.#owned = new Set([...ownedBy(names), ...believed].map(canonical))
    this.#lengths = new Set(Array.from(this.#owned, ({ length }) => length))
  }

  /** May nobody but us say this? CGI and WSGI cannot tell `-` from `_`, nor some from a dot: these names are one. */
  owns(name: string): boolean {
    return this.#lengths.has(name.length) && this.#owned.has(canonical(name))
  }

  /** False: no upstream would take it. */
  fits(client: Client | undefined): boolean {
    return this.#of(client).lines.length <= MAX_CLIENT_FIELD_BYTES
  }

  /** What is known of the client, in ASCII. */
  fields(client: Client | undefined): Told['fields'] {
    return this.#of(client).fields
  }

  /** Field lines, each with CRLF, without what clients may not say. */
  withoutOwned(lines: string): string {
    let kept = ''
    let keptFrom = 0
    for (let start = 0; start < lines.length; ) {
      const end = lines.indexOf('\n', start) + 1
      if (this.owns(lines.slice(start, lines.indexOf(':', start)))) {
        kept += lines.slice(keptFrom, start)
        keptFrom = end
      }
      start = end
    }
    return kept + lines.slice(keptFrom)
  }

  /** The same, with what is known of the client. */
  over(lines: string, client: Client | undefined): string {
    return this.withoutOwned(lines) + this.#of(client).lines
  }

  #of(client: Client | undefined): Told {
    const certificate = client?.certificate
    if (certificate === undefined) return NOTHING
    const known = this.#told.get(certificate)
    if (known !== undefined) return known
    const fields = fieldsOf(certificate, this.#names)
    const told = { fields, lines: fields.map(([name, value]) => `${name}: ${value}\r\n`).join('') }
    this.#told.set(certificate, told)
    return told
  }
}

/** What each upstream is told by some site, and so may believe of any: names by its URL. */
export type BelievedNames = ReadonlyMap<string, ReadonlySet<string>>

export function believedNames(sites: readonly Site[]): BelievedNames {
  const believed = new Map<string, Set<string>>()
  for (const site of sites) {
    if (site.clientCertificates === undefined) continue
    const names = ownedBy(site.clientCertificates.headers)
    for (const url of upstreamsOf(site)) believed.set(url, new Set([...(believed.get(url) ?? []), ...names]))
  }
  return believed
}

/** Undefined where nobody is asked for a certificate, and no other site asks for the same upstreams. */
export function clientFieldsOf(site: Site, believed: BelievedNames): ClientFields | undefined {
  const names = upstreamsOf(site).flatMap((url) => [...(believed.get(url) ?? [])])
  const { clientCertificates } = site
  if (clientCertificates === undefined && names.length === 0) return undefined
  return new ClientFields(clientCertificates?.headers ?? {}, names)
}

function upstreamsOf({ routes }: Site): string[] {
  return routes.flatMap(({ upstreams }) => upstreams.map(({ url }) => url))
}

function ownedBy(names: ClientFieldNames): string[] {
  return [...STANDARD, ...Object.values(names).filter((name) => name !== undefined)]
}

function fieldsOf(certificate: X509Certificate, names: ClientFieldNames): [string, string][] {
  const values: Record<keyof ClientFieldNames, string | undefined> = {
    // RFC 9440 section 2.1: a byte sequence of RFC 8941.
    certificate: `:${certificate.raw.toString('base64')}:`,
    pem: encodeURIComponent(certificate.toString()),
    subject: certificate.subject && subjectOf(certificate.subject),
    sans: certificate.subjectAltName && inAscii(certificate.subjectAltName),
    serial: certificate.serialNumber,
    fingerprint: certificate.fingerprint256.replaceAll(':', '').toLowerCase(),
  }
  return Object.entries(names).flatMap(([what, name]): [string, string][] => {
    const value = values[what as keyof ClientFieldNames]
    return name === undefined || value === undefined ? [] : [[name, value]]
  })
}

/**
 * Node's text of a name has a line for each part, the first one first, escaped as RFC 2253 wants it but for what is no
 * ASCII; in RFC 2253 (section 2.1) the last part is first. A space at the end, which has a backslash before it, would be
 * lost in a field.
 */
function subjectOf(subject: string): string {
  const parts = subject.split('\n').map((part) => part.split(' + ').reverse().join('+'))
  return parts
    .reverse()
    .join(',')
    .replace(/[^\x20-\x7e]/gu, (character) =>
      [...Buffer.from(character)].map((octet) => `\\${hex(octet, 2)}`).join(''),
    )
    .replace(/ $/, '20')
}

/** Node writes values that could confuse as JSON strings: so are these escaped. */
function inAscii(text: string): string {
  return text.replace(/[^\x20-\x7e]/g, (unit) => `\\u${hex(unit.charCodeAt(0), 4)}`)
}

function hex(value: number, digits: number): string {
  return value.toString(16).toUpperCase().padStart(digits, '0')
}

function canonical(name: string): string {
  return name.toLowerCase().replace(/[^a-z0-9]/g, '-')
}
