/** Events as `notify/` gets them. */
import type { DatedEvent } from '../../src/events.ts'

export const AT = '2026-06-19T00:00:00.000Z'

export function degraded(ca = 'letsencrypt'): DatedEvent {
  return {
    type: 'ca.degraded',
    ca,
    reason: 'CA_UNAVAILABLE',
    message: `${ca}: answered 503`,
    exposure: '',
    at: AT,
  }
}

export function recovered(ca = 'letsencrypt'): DatedEvent {
  return { type: 'ca.recovered', ca, at: AT }
}

export function failed(host: string): DatedEvent {
  return {
    type: 'certificate.failed',
    host,
    role: 'live',
    reason: 'CA_UNAVAILABLE',
    message: 'a: answered 503',
    retryAt: '2026-06-19T01:00:00.000Z',
    refused: [{ ca: 'a', reason: 'CA_UNAVAILABLE' }],
    at: AT,
  }
}
