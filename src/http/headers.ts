/**
 * Which methods and fields pass a proxy, and the fields of its own that do not depend on trust: hop-by-hop (RFC 9110
 * section 7.6.1), Via (section 7.6.3) and Strict-Transport-Security (RFC 6797). Names of fields are in lower case
 * throughout. Wire-neutral.
 */
import type { SiteConfig } from '../config/schema.ts'
import { SECOND } from '../time.ts'

/** The received-by of our Via entries. */
const PSEUDONYM = 'holdfast'

/** More than this many in one head is no honest message (431). */
export const MAX_FIELDS = 200

export const MAX_METHOD_BYTES = 32

/**
 * Is it a method to pass on? Whether anybody here knows it does not matter (RFC 9110 section 9.1). Lower case is refused, as
 * by nginx: to an upstream that overlooks case, `head` has a response without content, which nobody here would expect.
 */
export function isMethod(name: string): boolean {
  return name.length <= MAX_METHOD_BYTES && /^[A-Z\d_-]+$/.test(name)
}

/** Fields that are meant for one connection and never forwarded, in either direction. */
export const HOP_BY_HOP: ReadonlySet<string> = new Set([
  'connection',
  'keep-alive',
  'proxy-connection',
  'proxy-authenticate',
  'proxy-authorization',
  'te',
  'transfer-encoding',
  'upgrade',
  'http2-settings',
])

/**
 * Fields of requests that the proxy answers for itself: `expect`, and `proxy`, which CGI programs would read as the
 * variable HTTP_PROXY.
 */
export const REQUEST_ONLY_HERE: ReadonlySet<string> = new Set(['expect', 'proxy'])

/** Trailers must not change how the message was framed or routed (RFC 9110 section 6.5.1). */
export const NOT_IN_TRAILERS: ReadonlySet<string> = new Set([
  ...HOP_BY_HOP,
  'authorization',
  'content-encoding',
  'content-length',
  'content-range',
  'content-type',
  'cookie',
  'expect',
  'forwarded',
  'host',
  'max-forwards',
  'set-cookie',
  'trailer',
  'via',
  'x-forwarded-for',
  'x-forwarded-host',
  'x-forwarded-proto',
  'x-request-id',
])

/** The options of a Connection field: its tokens in lower case, which name further hop-by-hop fields. */
export function connectionOptions(value: string): string[] {
  return value
    .split(',')
    .map((token) => token.trim().toLowerCase())
    .filter((token) => token !== '')
}

/** One value of several lines of a field (RFC 9110 section 5.3, RFC 6265 section 5.4); undefined for none. */
export function joinedValues(name: string, values: readonly string[]): string | undefined {
  return values.length === 0 ? undefined : values.join(name === 'cookie' ? '; ' : ', ')
}

/** The lines of a head as text, in which fields are looked up. */
export class FieldLines {
  readonly #text: string
  /** Where each line begins, and where it ends. */
  readonly #bounds: number[] = []

  constructor(text: string) {
    this.#text = text
    for (let start = 0; start < text.length; ) {
      const found = text.indexOf('\r\n', start)
      const end = found === -1 ? text.length : found
      this.#bounds.push(start, end)
      start = end + 2
    }
  }

  /** The value of a field, its lines joined. `name` in lower case. */
  field(name: string): string | undefined {
    const text = this.#text
    let values: string[] | undefined
    for (let i = 0; i < this.#bounds.length; i += 2) {
      const start = this.#bounds[i] as number
      const colon = start + name.length
      if (text.charCodeAt(colon) !== COLON || text.slice(start, colon).toLowerCase() !== name) continue
      values ??= []
      values.push(text.slice(colon + 1, this.#bounds[i + 1]).trim())
    }
    return values === undefined ? undefined : joinedValues(name, values)
  }
}

const COLON = 0x3a

/** The Via value to send on: ours appended to what came. `version` is that of the message received. */
export function viaValue(received: string | undefined, version: '1.0' | '1.1' | '2.0'): string {
  const own = `${version} ${PSEUDONYM}`
  return received === undefined || received === '' ? own : `${received}, ${own}`
}

/** The value of Strict-Transport-Security; undefined when the site does not want it. */
export function hstsValue(hsts: SiteConfig['hsts']): string | undefined {
  if (hsts === false) return undefined
  const directives = [`max-age=${Math.floor(hsts.maxAge / SECOND)}`]
  if (hsts.includeSubDomains) directives.push('includeSubDomains')
  if (hsts.preload) directives.push('preload')
  return directives.join('; ')
}
