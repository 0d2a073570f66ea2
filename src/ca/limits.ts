/** Rate limits that CAs publish. Source: https://letsencrypt.org/docs/rate-limits/ */
import { CA_PRESETS } from '../config/presets.ts'
import { DAY, HOUR } from '../time.ts'
import type { RateLimit } from './ledger.ts'

/** Let's Encrypt's. */
const LETS_ENCRYPT: readonly RateLimit[] = [
  { scope: 'account', limit: 300, windowMs: 3 * HOUR },
  { scope: 'domain', limit: 50, windowMs: 7 * DAY },
  { scope: 'names', limit: 5, windowMs: 7 * DAY },
  { scope: 'failures', limit: 5, windowMs: HOUR },
]

export interface CaLimits {
  readonly limits: readonly RateLimit[]
  /** Are renewals that name their predecessor (RFC 9773) outside the limits? */
  readonly exemptsRenewals: boolean
}

/**
 * What to keep to at a CA. Other public CAs publish no figures, so they are treated as Let's Encrypt is, which none is
 * known to be stricter than; a private CA sets no limits unless it answers 429.
 * @param directory URL of its ACME directory; the CA may have any name in the config
 */
export function limitsOf(directory: string | undefined, isPublic: boolean): CaLimits {
  const exemptsRenewals = directory === CA_PRESETS.letsencrypt?.directory
  return { limits: isPublic ? LETS_ENCRYPT : [], exemptsRenewals }
}
