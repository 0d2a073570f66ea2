/** What the admin API tells, as JSON: no keys, no tokens, times in ISO 8601. `status` and the status page read it. */
import type { CaSnapshot } from '../ca/health.ts'
import type { Certificate } from '../cert/certificate.ts'
import type { Fault, Verdicts } from '../cert/verdicts.ts'
import { keyTypeOf } from '../cert/x509.ts'
import { describeExposure, type Exposure } from '../notify/forecast.ts'

/** What this instance takes for the time. */
export interface ClockView {
  readonly now: string
  /** How far the clock of the machine is ahead of it, by what the CAs say; 0: it is right, or nobody knows better. */
  readonly errorSeconds: number
}

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
  /** Why it must not be relied upon, whatever its dates say; absent: it may. */
  readonly fault: Fault | undefined
}

/**
 * `valid` is served and fine; `interim` fills in; `condemned` (nothing but what is revoked, distrusted and the like),
 * `expired` and `missing` need somebody's attention; `passthrough`: not ours.
 */
export const HOST_STATES = ['valid', 'interim', 'condemned', 'expired', 'missing', 'passthrough'] as const
export type HostState = (typeof HOST_STATES)[number]

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
  /** Asked for nothing: by the config, or by `certs distrust`. */
  readonly distrusted: boolean
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

export function viewHost(facts: HostFacts, verdicts: Verdicts, now: number): HostView {
  const view = (certificate: Certificate | undefined): CertificateView | undefined =>
    certificate && viewCertificate(certificate, verdicts.faultOf(certificate))
  return {
    host: facts.host,
    state: stateOf(facts, verdicts, now),
    live: view(facts.live),
    standby: view(facts.standby),
    nextAt: facts.nextAt === undefined ? undefined : isoTime(facts.nextAt),
    lastError: facts.lastError,
  }
}

/** A host whose certificate is its upstream's. */
export function viewPassthrough(host: string): HostView {
  const none = { live: undefined, standby: undefined, nextAt: undefined, lastError: undefined }
  return { host, state: 'passthrough', ...none }
}

export function viewCa(snapshot: CaSnapshot, distrusted: boolean): CaView {
  const { id, state, troubled, since, lastAnswerAt, lastFailure, retryAt } = snapshot
  return {
    id,
    state,
    troubled,
    distrusted,
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

function viewCertificate(certificate: Certificate, fault: Fault | undefined): CertificateView {
  return {
    source: certificate.source,
    issuer: certificate.issuer,
    names: certificate.names,
    notBefore: isoTime(certificate.notBefore),
    notAfter: isoTime(certificate.notAfter),
    serial: certificate.serial,
    fingerprint: certificate.fingerprint,
    keyType: keyTypeOf(certificate.keyPem),
    fault,
  }
}

function stateOf({ live, standby, interim }: HostFacts, verdicts: Verdicts, now: number): HostState {
  const current = [live, standby].filter((each) => each?.isValidAt(now))
  if (current.some((each) => each !== undefined && verdicts.faultOf(each) === undefined)) return 'valid'
  if (interim?.isValidAt(now)) return 'interim'
  if (current.length > 0) return 'condemned'
  return live === undefined && standby === undefined ? 'missing' : 'expired'
}

/** To the second: nobody needs more of a certificate. */
function isoTime(time: number): string {
  return `${new Date(time).toISOString().slice(0, 19)}Z`
}
