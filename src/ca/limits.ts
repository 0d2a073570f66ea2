/** Rate limits that CAs publish. Source: https://letsencrypt.org/docs/rate-limits/ */
import type { AcmeCa, InternalCa } from '../config/cas.ts'
import { CA_PRESETS } from '../config/presets.ts'
import { DAY, HOUR } from '../time.ts'
import { LIMIT_SCOPES, type LimitScope, type RateLimit } from './ledger.ts'

/** Let's Encrypt's. */
const LETS_ENCRYPT: Readonly<Record<LimitScope, Figures>> = {
  account: { limit: 300, per: 3 * HOUR },
  domain: { limit: 50, per: 7 * DAY },
  names: { limit: 5, per: 7 * DAY },
  failures: { limit: 5, per: HOUR },
}

/** So many in a sliding window of `per` milliseconds. */
interface Figures {
  readonly limit: number
  readonly per: number
}

export interface CaLimits {
  readonly limits: readonly RateLimit[]
  /** Are renewals that name their predecessor (RFC 9773) outside the limits? */
  readonly exemptsRenewals: boolean
}

/**
 * What to keep to at a CA. Other public CAs publish no figures, so they are treated as Let's Encrypt is, which none is
 * known to be stricter than; a private CA sets no limits unless it answers 429. The config knows better, scope by scope.
 */
export function limitsOf(
  ca: InternalCa | Pick<AcmeCa, 'type' | 'directory' | 'public' | 'rateLimits'>,
): CaLimits {
  if (ca.type !== 'acme') return { limits: [], exemptsRenewals: false }
  // By its directory, since it may have any name in the config.
  const exemptsRenewals = ca.directory === CA_PRESETS.letsencrypt?.directory
  const limits = LIMIT_SCOPES.flatMap((scope): RateLimit[] => {
    const figures = ca.rateLimits[scope] ?? (ca.public && LETS_ENCRYPT[scope])
    return figures === false ? [] : [{ scope, limit: figures.limit, windowMs: figures.per }]
  })
  return { limits, exemptsRenewals }
}
