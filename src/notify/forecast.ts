/**
 * What would be lost if a CA never came back: pure. A host is exposed when no other CA of its policy can stand in before
 * the last of its certificates ends; it lives until then.
 */
import { MINUTE } from '../time.ts'

/** A host as far as the forecast cares. Times are milliseconds since the epoch. */
export interface Supplied {
  readonly host: string
  /** The CAs of its policy; none for a certificate from files, which no CA's outage touches. */
  readonly cas: readonly string[]
  /** When each certificate that may be served (live, standby) ends; condemned ones are left out. */
  readonly notAfters: readonly number[]
}

export interface Exposure {
  readonly host: string
  /** From when on it has nothing valid to serve, milliseconds since the epoch; in the past: it has nothing now. */
  readonly from: number
}

/**
 * The hosts that expire if `ca` stays down, the first to expire first.
 * @param canIssue can that other CA issue for the host by then, which may be over? Asked for the most urgent host first,
 * so that each yes may use up what is left for the others
 */
export function forecast(
  ca: string,
  hosts: Iterable<Supplied>,
  canIssue: (ca: string, host: string, by: number) => boolean,
): Exposure[] {
  return [...hosts]
    .filter(({ cas }) => cas.includes(ca))
    .map(({ host, cas, notAfters }) => ({ host, from: Math.max(0, ...notAfters), cas }))
    .sort((a, b) => a.from - b.from || a.host.localeCompare(b.host))
    .filter(({ host, from, cas }) => !cas.some((other) => other !== ca && canIssue(other, host, from)))
    .map(({ host, from }) => ({ host, from }))
}

/** `12 hosts expire from Tue 2026-11-24 14:00 UTC`; empty when nothing is exposed. */
export function describeExposure(exposures: readonly Exposure[], now: number): string {
  const over = exposures.filter(({ from }) => from <= now).length
  const next = exposures.find(({ from }) => from > now)
  const parts = [
    ...(over === 0
      ? []
      : [`${countHosts(over)} ${over === 1 ? 'has' : 'have'} no valid certificate already`]),
    ...(next === undefined ? [] : [expiring(exposures.length - over, next.from)]),
  ]
  return parts.join(', ')
}

/** `1 host`, `12 hosts`. */
export function countHosts(count: number): string {
  return `${count} ${count === 1 ? 'host' : 'hosts'}`
}

function expiring(count: number, from: number): string {
  return count === 1
    ? `1 host expires on ${formatTime(from)}`
    : `${countHosts(count)} expire from ${formatTime(from)} on`
}

const WEEKDAYS = ['Sun', 'Mon', 'Tue', 'Wed', 'Thu', 'Fri', 'Sat']

/** To the minute and never late: `Tue 2026-11-24 14:00 UTC`. */
function formatTime(time: number): string {
  const date = new Date(Math.floor(time / MINUTE) * MINUTE)
  return `${WEEKDAYS[date.getUTCDay()]} ${date.toISOString().slice(0, 16).replace('T', ' ')} UTC`
}
