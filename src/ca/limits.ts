/** Rate limits that CAs publish. Source: https://letsencrypt.org/docs/rate-limits/ */
import type { AcmeCa, InternalCa } from '../config/cas.ts'
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
 */
export function limitsOf(ca: InternalCa | Pick<AcmeCa, 'type' | 'directory' | 'public'>): CaLimits {
  if (ca.type !== 'acme') return { limits: [], exemptsRenewals: false }
  // By its directory, since it may have any name in the config.
  const exemptsRenewals = ca.directory === CA_PRESETS.letsencrypt?.directory
  return { limits: ca.public ? LETS_ENCRYPT : [], exemptsRenewals }
}
