/**
 * What browsers ask of a leaf below a root that they ship, beyond RFC 5280: a short life and Certificate Transparency.
 * Below other roots, as a company's own, they ask for neither. Not judged: which logs a browser knows. A list of them
 * within a program goes stale, and would then refuse what every browser accepts.
 */
import type { X509Certificate } from 'node:crypto'
import { DAY } from '../time.ts'
import { TAG, unwrap } from './der.ts'
import type { Profile } from './profile.ts'

/** Issued from when on, and how long it may last: CA/Browser Forum Baseline Requirements section 6.3.2, latest first. */
const LIFETIMES: readonly { readonly from: number; readonly days: number }[] = [
  { from: Date.UTC(2029, 2, 15), days: 47 },
  { from: Date.UTC(2027, 2, 15), days: 100 },
  { from: Date.UTC(2026, 2, 15), days: 200 },
  { from: Number.NEGATIVE_INFINITY, days: 398 },
]
/** The policies of Chrome, Firefox and Safari ask for more logs above it. */
const FEW_LOGS_LIFETIME_MS = 180 * DAY
/** 1.3.6.1.4.1.11129.2.4.2, RFC 6962 section 3.3. */
const TIMESTAMPS_ID = '2b06010401d679020402'
const LOG_ID_BYTES = 32
const VERSION_1 = 0

/** Why browsers would refuse it, as a clause with `the leaf` for its subject; throws a RangeError when it is malformed. */
export function faultInBrowsers(leaf: X509Certificate, profile: Profile): string | undefined {
  const from = Date.parse(leaf.validFrom)
  const lifetimeMs = Date.parse(leaf.validTo) - from
  const longest = LIFETIMES.find((each) => from >= each.from)?.days ?? 0
  if (lifetimeMs > longest * DAY) {
    const days = Math.ceil(lifetimeMs / DAY)
    return `the leaf is valid for ${days} days, and browsers allow ${longest} to one issued then`
  }
  const wanted = lifetimeMs > FEW_LOGS_LIFETIME_MS ? 3 : 2
  const logs = logsOf(profile).size
  if (logs >= wanted) return undefined
  return `the leaf has SCTs from ${logs} Certificate Transparency logs, and browsers want ${wanted}`
}

/** The logs that have signed a timestamp for it: a SignedCertificateTimestampList of RFC 6962 section 3.3. */
function logsOf({ extensions }: Profile): ReadonlySet<string> {
  const extension = extensions.get(TIMESTAMPS_ID)
  if (extension === undefined) return new Set()
  const [list] = vectorsIn(unwrap(extension.value, TAG.octetString))
  return new Set(
    vectorsIn(list ?? Buffer.alloc(0))
      .filter((timestamp) => timestamp[0] === VERSION_1 && timestamp.length > LOG_ID_BYTES)
      .map((timestamp) => timestamp.toString('hex', 1, 1 + LOG_ID_BYTES)),
  )
}

/** The vectors, with a length of two octets each, that fill `bytes` (RFC 8446 section 3.4). */
function vectorsIn(bytes: Buffer): Buffer[] {
  const vectors: Buffer[] = []
  for (let offset = 0; offset < bytes.length; ) {
    const start = offset + 2
    offset = start + bytes.readUInt16BE(offset)
    if (offset > bytes.length) throw new RangeError('the list of SCTs is cut short')
    vectors.push(bytes.subarray(start, offset))
  }
  return vectors
}
