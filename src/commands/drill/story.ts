/** A drill in words: each line as it comes, and the report. */
import type { DrillLine, DrillReport } from '../../admin/drill.ts'
import type { DatedEvent } from '../../events.ts'
import { formatDuration } from '../../time.ts'
import { count, paint } from '../terminal.ts'

/** Hosts that a report names; `--json` has them all. */
const MOST_NAMES = 10

/** @param startedAt of the fault, milliseconds since the epoch */
export function describeLine(line: Exclude<DrillLine, { type: 'drill.ended' }>, startedAt: number): string {
  if (line.type !== 'drill.started') return entry(Date.parse(line.at) - startedAt, describeEvent(line))
  const { canary, endsAt, noCanary, standbys } = line
  const [, ...others] = canary?.cas ?? []
  return [
    paint(
      'bold',
      `The drill has begun, and lasts until ${endsAt}. Ctrl-C ends it; everything is restored then.`,
    ),
    canary === undefined
      ? `No canary: ${noCanary}.`
      : `Canary: a new standby for ${canary.host}; the live certificate stays. It costs one certificate at ${others.join(' or ')}, within the limits there.`,
    ...(standbys === 0
      ? []
      : [`As in a real outage, ${count(standbys, 'host')} with \`standby: on-degraded\` may order one too.`]),
  ].join('\n')
}

/** `  +0.31s  letsencrypt is down` */
export function entry(afterMs: number, says: string): string {
  return `  ${`+${(afterMs / 1000).toFixed(2)}s`.padStart(8)}  ${says}`
}

export function describeReport(report: DrillReport): string {
  const { breakerOpenedAfterMs, canary, ca, endedBecause, failed, lastedMs, lost, noCanary, switched } =
    report
  const canaryOrder = switched.find(({ host }) => host === canary?.host)
  const rows: [string, string][] = [
    [
      'breaker',
      breakerOpenedAfterMs === undefined ? 'stayed closed' : `open after ${exactly(breakerOpenedAfterMs)}`,
    ],
    [
      'canary',
      canaryOrder !== undefined
        ? `${canaryOrder.host} got its certificate from ${canaryOrder.ca}, ${exactly(canaryOrder.afterMs)} after the fault`
        : canary === undefined
          ? `none: ${noCanary}`
          : paint('red', `${canary.host} had no certificate by then`),
    ],
    ['switched', `${count(switched.length, 'order')} to other CAs`],
    ...failed.map(({ host, message }): [string, string] => ['failed', paint('red', `${host}: ${message}`)]),
    ...lost
      .slice(0, MOST_NAMES)
      .map(({ host, from }): [string, string] => ['lost', paint('red', `${host}, from ${from} on`)]),
    ...(lost.length > MOST_NAMES
      ? [['lost', paint('red', `and ${lost.length - MOST_NAMES} more`)] satisfies [string, string]]
      : []),
  ]
  const verdict =
    lost.length === 0
      ? paint('green', `Nothing would have been lost without ${ca}.`)
      : paint('red', `Without ${ca} ${count(lost.length, 'host')} would have been lost.`)
  return [
    paint(
      'bold',
      `The drill is over after ${formatDuration(lastedMs)}: ${endedBecause}. ${ca} is asked again.`,
    ),
    ...rows.map(([what, says]) => `  ${what.padEnd(8)}  ${says}`),
    verdict,
  ].join('\n')
}

function describeEvent(event: DatedEvent): string {
  switch (event.type) {
    case 'ca.degraded':
      return `${event.ca} is down, its breaker is open: ${event.message}`
    case 'ca.recovered':
      return `${event.ca} issues again`
    case 'failover.started':
      return `failover: ${event.instead.join(', ')} in place of ${event.ca}`
    case 'failover.ended':
      return `the failover of ${event.ca} is over`
    case 'certificate.issued':
    case 'certificate.renewed':
      return `${event.host}: ${event.role} certificate from ${event.ca}`
    case 'certificate.failed':
      return paint('red', `${event.host}: no ${event.role} certificate: ${event.message}`)
    case 'certificate.switched':
      return `${event.host}: served is now the ${event.to?.role} one from ${event.to?.source}`
    case 'certificate.expiring':
      return `${event.host}: its certificate ends on ${event.notAfter}`
    case 'certificate.revoked':
      return `${event.host}: its certificate is ${event.fault}`
  }
}

/** `312ms`, `8.04s` */
function exactly(ms: number): string {
  return ms < 1000 ? `${ms}ms` : `${(ms / 1000).toFixed(2)}s`
}
