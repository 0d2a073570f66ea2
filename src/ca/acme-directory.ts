/**
 * What a CA tells anybody: its directory (RFC 8555 section 7.1.1), a nonce (section 7.2), when it wishes a certificate to
 * be renewed (RFC 9773). The CA is not believed: what is malformed is a `CA_BAD_ANSWER`.
 */
import { DAY, HOUR, MINUTE, SECOND } from '../time.ts'
import { type CaHttp, fieldsOf, type Purpose } from './acme-http.ts'
import { cleanText, failure } from './acme-problem.ts'
import type { RenewalInfo } from './issuer.ts'

/** https URLs, and what the CA can do. */
export interface Directory {
  readonly newNonce: string
  readonly newAccount: string
  readonly newOrder: string
  readonly revokeCert: string
  /** Undefined: the CA changes no account keys. */
  readonly keyChange: string | undefined
  /** RFC 9773; undefined: the CA has none. */
  readonly renewalInfo: string | undefined
  /** Names of the certificate profiles that may be asked for. */
  readonly profiles: readonly string[]
  /** The issuer domain names that CAA records use for it (RFC 8659 section 4.2); none where it does not say. */
  readonly caaIdentities: readonly string[]
  /** Must a new account be bound to one outside of ACME? */
  readonly externalAccountRequired: boolean
  /** The CA's clock as it answered, in milliseconds since the epoch; undefined: it did not say. */
  readonly date: number | undefined
}

/** Whoever asks for a nonce has not said who he is. */
export const NONCE_PURPOSE: Purpose = { doing: 'nonce', refused: 'anonymous' }

const SHORTEST_POLL_MS = MINUTE
const LONGEST_POLL_MS = DAY
/** RFC 9773 section 4.3.2: where the CA does not say. */
const USUAL_POLL_MS = 6 * HOUR

/** Never from a cache. */
export async function fetchDirectory(http: CaHttp, url: string, signal: AbortSignal): Promise<Directory> {
  const purpose: Purpose = { doing: 'directory', refused: 'anonymous' }
  const { body, headers } = await http.exchange({ method: 'GET', url }, purpose, signal)
  const fields = fieldsOf(body)
  const meta = fieldsOf(fields.meta)
  // A shared cache on the way tells how old its answer is (RFC 9111 section 5.1).
  const date = Date.parse(headers.date ?? '') + Number(headers.age ?? 0) * SECOND
  const required = (name: string): string => {
    const value = fields[name]
    if (!isHttps(value)) throw malformed(http, purpose, `${name} is no https URL`)
    return value
  }
  return {
    newNonce: required('newNonce'),
    newAccount: required('newAccount'),
    newOrder: required('newOrder'),
    revokeCert: required('revokeCert'),
    keyChange: fields.keyChange === undefined ? undefined : required('keyChange'),
    renewalInfo: fields.renewalInfo === undefined ? undefined : required('renewalInfo'),
    profiles: Object.keys(fieldsOf(meta.profiles)),
    caaIdentities: Array.isArray(meta.caaIdentities) ? meta.caaIdentities.map(String) : [],
    externalAccountRequired: meta.externalAccountRequired === true,
    date: Number.isNaN(date) ? undefined : date,
  }
}

/** Proves that the CA would take a signed request. */
export async function fetchNonce(http: CaHttp, directory: Directory, signal: AbortSignal): Promise<void> {
  const request = { method: 'HEAD', url: directory.newNonce } as const
  const { headers } = await http.exchange(request, NONCE_PURPOSE, signal)
  if (headers['replay-nonce'] === undefined) throw malformed(http, NONCE_PURPOSE, 'there is none')
}

/** RFC 9773 section 4. @param ariId of the certificate */
export async function fetchRenewalInfo(
  http: CaHttp,
  renewalInfo: string,
  ariId: string,
  signal: AbortSignal,
): Promise<RenewalInfo> {
  const purpose: Purpose = { doing: 'renewal information', refused: 'anonymous' }
  const url = `${renewalInfo.replace(/\/$/, '')}/${ariId}`
  const { body, retryAfterMs = USUAL_POLL_MS } = await http.exchange({ method: 'GET', url }, purpose, signal)
  const { suggestedWindow, explanationURL } = fieldsOf(body)
  const { start, end } = fieldsOf(suggestedWindow)
  const window = { windowStart: Date.parse(String(start)), windowEnd: Date.parse(String(end)) }
  // Also false where one of them is no date. RFC 9773 section 4.2 forbids believing such a window.
  if (!(window.windowStart < window.windowEnd)) throw malformed(http, purpose, 'suggestedWindow is no window')
  return {
    ...window,
    ...(isHttps(explanationURL) ? { explanationUrl: cleanText(explanationURL) } : {}),
    pollAgainMs: Math.min(Math.max(retryAfterMs, SHORTEST_POLL_MS), LONGEST_POLL_MS),
  }
}

function malformed(http: CaHttp, { doing }: Purpose, what: string): Error {
  return failure({ code: 'CA_BAD_ANSWER', ca: http.ca, doing, what })
}

function isHttps(value: unknown): value is string {
  return typeof value === 'string' && URL.canParse(value) && new URL(value).protocol === 'https:'
}
