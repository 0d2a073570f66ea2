/** What the admin API tells, as JSON: no keys, no tokens, times in ISO 8601. `status` and the status page read it. */
import type { CaSnapshot } from '../ca/health.ts'
import type { Certificate } from '../cert/certificate.ts'
import { keyTypeOf } from '../cert/x509.ts'
import { describeExposure, type Exposure } from '../notify/forecast.ts'

export interface CertificateView {
  /** The CA in the config that issued it; `file` or `import` for one of the operator's own. */
  readonly source: string
  readonly issuer: string
  readonly names: readonly string[]
  readonly notBefore: string
  readonly notAfter: string
  readonly serial: string
  readonly fingerprint: string
  readonly keyType: string | undefined
}

/** `valid` is served and fine; `interim` fills in; `expired` and `missing` need somebody's attention; `passthrough`: not ours. */
export type HostState = 'valid' | 'interim' | 'expired' | 'missing' | 'passthrough'

export interface HostView {
  readonly host: string
  readonly state: HostState
  readonly live: CertificateView | undefined
  readonly standby: CertificateView | undefined
  /** When Holdfast next looks after it; absent for certificates from files. */
  readonly nextAt: string | undefined
  readonly lastError: string | undefined
}

export interface CaView {
  readonly id: string
  readonly state: CaSnapshot['state']
  readonly troubled: boolean
  readonly since: string
  readonly lastAnswerAt: string | undefined
  readonly lastFailure: { readonly at: string; readonly reason: string; readonly message: string } | undefined
  readonly retryAt: string | undefined
}

/** A host as the engines know it; times in milliseconds since the epoch. */
export interface HostFacts {
  readonly host: string
  readonly live: Certificate | undefined
  readonly standby: Certificate | undefined
  readonly interim: Certificate | undefined
  readonly nextAt: number | undefined
  readonly lastError: string | undefined
}

/** What is lost if a CA never comes back. */
export interface ForecastView {
  readonly ca: string
  readonly state: CaSnapshot['state']
  /** In words, such as `12 hosts expire from Tue 2026-11-24 14:00 UTC on`; empty when nothing is lost. */
  readonly summary: string
  /** From when on each host has nothing valid to serve, the first first; absent: already. */
  readonly hosts: readonly { readonly host: string; readonly from: string | undefined }[]
}

export function viewHost(facts: HostFacts, now: number): HostView {
  return {
    host: facts.host,
    state: stateOf(facts, now),
    live: facts.live && viewCertificate(facts.live),
    standby: facts.standby && viewCertificate(facts.standby),
    nextAt: facts.nextAt === undefined ? undefined : isoTime(facts.nextAt),
    lastError: facts.lastError,
  }
}

/** A host whose certificate is its upstream's. */
export function viewPassthrough(host: string): HostView {
  const none = { live: undefined, standby: undefined, nextAt: undefined, lastError: undefined }
  return { host, state: 'passthrough', ...none }
}

export function viewCa(snapshot: CaSnapshot): CaView {
  const { id, state, troubled, since, lastAnswerAt, lastFailure, retryAt } = snapshot
  return {
    id,
    state,
    troubled,
    since: isoTime(since),
    lastAnswerAt: lastAnswerAt === undefined ? undefined : isoTime(lastAnswerAt),
    lastFailure: lastFailure && { ...lastFailure, at: isoTime(lastFailure.at) },
    retryAt: retryAt === undefined ? undefined : isoTime(retryAt),
  }
}

export function viewForecast(
  { id: ca, state }: CaSnapshot,
  exposures: readonly Exposure[],
  now: number,
): ForecastView {
  const hosts = exposures.map(({ host, from }) => ({ host, from: from > now ? isoTime(from) : undefined }))
  return { ca, state, summary: describeExposure(exposures, now), hosts }
}

export function viewCertificate(certificate: Certificate): CertificateView {
  return {
    source: certificate.source,
    issuer: certificate.issuer,
    names: certificate.names,
    notBefore: isoTime(certificate.notBefore),
    notAfter: isoTime(certificate.notAfter),
    serial: certificate.serial,
    fingerprint: certificate.fingerprint,
    keyType: keyTypeOf(certificate.keyPem),
  }
}

function stateOf({ live, standby, interim }: HostFacts, now: number): HostState {
  if (live?.isValidAt(now) || standby?.isValidAt(now)) return 'valid'
  if (interim?.isValidAt(now)) return 'interim'
  return live === undefined && standby === undefined ? 'missing' : 'expired'
}

/** To the second: nobody needs more of a certificate. */
function isoTime(time: number): string {
  return `${new Date(time).toISOString().slice(0, 19)}Z`
}
