/**
 * How the path of a request may be read. RFC 3986 section 6.2 lets one path be spelled in many ways, and programs differ
 * in which of them they take for the same: what is said of a path must hold for all of them.
 *
 * A reading is unescaped, one character an octet.
 */

/** What nobody escapes: the characters of segments (RFC 3986 section 3.3) but `;`, and the slash. */
const BARE = "A-Za-z0-9\\-._~!$&'()*+,=:@/"
const ESCAPED = new RegExp(`[^${BARE}]`, 'g')

/** What one program or another escapes, takes out, undoes or resolves: all else, and empty and dot segments. */
const AMBIGUOUS = new RegExp(`[^${BARE}]|//|/\\.\\.?(?:/|$)`)

/** Where the parameter ends hangs on what is undone first. */
const SLASH_IN_PARAMETER = /(?:;|%3b)[^/]*(?:\\|%(?:2f|5c))/i

/** RFC 3986 section 4.2: who takes the target for a reference, as `new URL(target, base)` does, reads a host in front of the path. */
const HOST_IN_FRONT = /^\/(?:;[^/\\]*)?[/\\]/

/** Does everybody read it as it stands? */
export function isPlain(path: string): boolean {
  return !AMBIGUOUS.test(path)
}

export interface Reading {
  readonly path: string
  /** Could it lead somewhere else for a reader that undoes but some of what may be undone? */
  readonly isTreacherous: boolean
}

/**
 * As the most lenient reader takes it: unescaped, without parameters (`;x`, as Java's servlets do), with backslashes for
 * slashes, slashes merged and dot segments resolved. Undefined where these climb above the root.
 *
 * @param path in latin1
 */
export function readPath(path: string): Reading | undefined {
  const segments = withoutParameters(unescapeOctets(withoutParameters(path))).split(/[/\\]/)
  const kept: string[] = []
  for (const segment of segments) {
    if (segment === '..') {
      if (kept.pop() === undefined) return undefined
    } else if (segment !== '' && segment !== '.') kept.push(segment)
  }
  const isFolder = kept.length > 0 && /^\.{0,2}$/.test(segments.at(-1) ?? '')
  const isTreacherous =
    segments.some((segment) => segment === '.' || segment === '..') ||
    SLASH_IN_PARAMETER.test(path) ||
    HOST_IN_FRONT.test(path)
  return { path: `/${kept.join('/')}${isFolder ? '/' : ''}`, isTreacherous }
}

/** The plain spelling of a reading, and the only one: everything is escaped that is not a character of a segment. */
export function writePath(reading: string): string {
  return reading.replace(
    ESCAPED,
    (octet) => `%${octet.charCodeAt(0).toString(16).toUpperCase().padStart(2, '0')}`,
  )
}

/** The plain spelling of a path that a person wrote, in Unicode; undefined for one that no reading can be. */
export function plainPath(text: string): string | undefined {
  const octets = Buffer.from(text).toString('latin1')
  if (!/^\/[^?#\s]*$/.test(text) || /[;*\\]|\/\/|%(?:2f|3b|5c)/i.test(text)) return undefined
  const reading = readPath(octets)
  return reading === undefined || reading.isTreacherous ? undefined : writePath(reading.path)
}

/** Of a path, or of a part to put in front of one. */
export function withoutSlash(path: string): string {
  return path.endsWith('/') ? path.slice(0, -1) : path
}

function withoutParameters(path: string): string {
  return path.replace(/;[^/\\]*/g, '')
}

/** Once: an escape that shows only then is what a reader sees. */
function unescapeOctets(path: string): string {
  return path.replace(/%([0-9A-Fa-f]{2})/g, (_, digits) => String.fromCharCode(Number.parseInt(digits, 16)))
}
