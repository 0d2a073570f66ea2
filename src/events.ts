/**
 * The events that people and scripts are told of, by stable names. Told, not computed with: times are ISO 8601 texts,
 * and nothing in them is secret. Made by `renew/` and `notify/`; kept by `admin/`, sent by `notify/`.
 */
import type { Fault } from './cert/verdicts.ts'
import type { IssueCode } from './errors.ts'

export const EVENT_TYPES = [
  'ca.degraded',
  'ca.recovered',
  'failover.started',
  'failover.ended',
  'certificate.issued',
  'certificate.renewed',
  'certificate.failed',
  'certificate.expiring',
  'certificate.switched',
  'certificate.revoked',
] as const

export type EventType = (typeof EVENT_TYPES)[number]

/** A CA that did not issue, and why. */
export interface RefusedBy {
  readonly ca: string
  readonly reason: IssueCode
}

/** Which certificate answers for a host; `source` is its CA in the config, `file` or `import`. */
export interface Served {
  readonly role: 'live' | 'standby' | 'interim'
  readonly source: string
  readonly fingerprint: string
  readonly notAfter: string
}

interface About<Type extends EventType> {
  readonly type: Type
}

/** An order is done: `issued` where there was no certificate for that role, `renewed` where it replaces one. */
export interface CertificateObtained extends About<'certificate.issued' | 'certificate.renewed'> {
  readonly host: string
  readonly role: 'live' | 'standby'
  readonly ca: string
  readonly notAfter: string
  /** The CAs that were asked before, or skipped. */
  readonly refused: readonly RefusedBy[]
}

/** No CA issued. */
export interface CertificateFailed extends About<'certificate.failed'> {
  readonly host: string
  readonly role: 'live' | 'standby'
  readonly reason: IssueCode
  readonly message: string
  readonly retryAt: string
  readonly refused: readonly RefusedBy[]
}

/**
 * The best certificate that a host has is in the last tenth of its life, or over, and no other one takes its place:
 * renewals, due after a half or two thirds of it, have failed ever since. Told once a day while it lasts.
 */
export interface CertificateExpiring extends About<'certificate.expiring'> {
  readonly host: string
  readonly source: string
  readonly notAfter: string
}

/** From the next handshake on a certificate of another role is served: live to standby, and back. */
export interface CertificateSwitched extends About<'certificate.switched'> {
  readonly host: string
  readonly from: Served | undefined
  readonly to: Served | undefined
}

/** A certificate must not be relied upon any more, whatever its dates say. */
export interface CertificateRevoked extends About<'certificate.revoked'> {
  readonly host: string
  readonly source: string
  readonly serial: string
  readonly fault: Fault
}

/** A CA takes no orders: its breaker has opened. */
export interface CaDegraded extends About<'ca.degraded'> {
  readonly ca: string
  readonly reason: IssueCode | undefined
  readonly message: string | undefined
  /** What is lost if it stays down; empty when other CAs can stand in for every host. */
  readonly exposure: string
}

/** A CA issues again. */
export interface CaRecovered extends About<'ca.recovered'> {
  readonly ca: string
}

/** Other CAs supply hosts because this one is down. One pair of events an outage, not a host. */
export interface Failover extends About<'failover.started' | 'failover.ended'> {
  /** The CA that is, or was, down. */
  readonly ca: string
  /** The CAs that supply hosts in its place. */
  readonly instead: readonly string[]
  /** How many certificates came from them so far. */
  readonly certificates: number
}

export type HoldfastEvent =
  | CertificateObtained
  | CertificateFailed
  | CertificateExpiring
  | CertificateSwitched
  | CertificateRevoked
  | CaDegraded
  | CaRecovered
  | Failover

/** As it is kept and told: `at` says when, in ISO 8601. */
export type DatedEvent = HoldfastEvent & { readonly at: string }

/** The host that an event is about, where it is about one. */
export function hostOf(event: HoldfastEvent): string | undefined {
  return 'host' in event ? event.host : undefined
}

/** The CA that an event is about, where it is about one. */
export function caOf(event: HoldfastEvent): string | undefined {
  return 'ca' in event ? event.ca : undefined
}
