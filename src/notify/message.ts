/** One message about one or many events of a kind, in words for a person and as data for a script. Pure. */
import { type DatedEvent, type EventType, hostOf, type Served } from '../events.ts'
import { countHosts } from './forecast.ts'

export interface Message {
  /** Stays the same when a delivery is repeated. */
  readonly id: string
  readonly type: EventType
  /** When the last of the events happened, ISO 8601. */
  readonly at: string
  readonly title: string
  readonly text: string
  /** Events that this message stands for. */
  readonly count: number
  /** The hosts that they are about, the first hundred. */
  readonly hosts: readonly string[]
  readonly hostCount: number
  /** The last of the events. */
  readonly event: DatedEvent
}

/** Events of one topic, newest last. */
export interface Bundle {
  readonly last: DatedEvent
  readonly count: number
  /** When the first of them happened, ISO 8601. */
  readonly since: string
  readonly hosts: ReadonlySet<string>
}

const HOSTS_SHOWN = 100
const HOSTS_IN_TEXT = 5

/** Does somebody have to look? Some channels ring louder then. */
export function isAlarm(type: EventType): boolean {
  return ALARMS.has(type)
}

const ALARMS: ReadonlySet<EventType> = new Set<EventType>([
  'ca.degraded',
  'certificate.failed',
  'certificate.expiring',
  'certificate.switched',
  'certificate.revoked',
])

export function composeMessage(id: string, bundle: Bundle): Message {
  const { last, count, hosts } = bundle
  return {
    id,
    type: last.type,
    at: last.at,
    title: titleOf(last, subjectOf(last, hosts)),
    text: [detailOf(last), listOf(hosts), repetitionOf(bundle)].filter((part) => part !== '').join(' '),
    count,
    hosts: [...hosts].slice(0, HOSTS_SHOWN),
    hostCount: hosts.size,
    event: last,
  }
}

function subjectOf(event: DatedEvent, hosts: ReadonlySet<string>): string {
  return hosts.size > 1 ? countHosts(hosts.size) : (hostOf(event) ?? '')
}

function titleOf(event: DatedEvent, subject: string): string {
  switch (event.type) {
    case 'ca.degraded':
      return `${event.ca} is down`
    case 'ca.recovered':
      return `${event.ca} issues again`
    case 'failover.started':
      return `${event.instead.join(', ')} supplies certificates while ${event.ca} is down`
    case 'failover.ended':
      return `${event.ca} supplies certificates again`
    case 'certificate.issued':
      return `${subject}: certificate issued by ${event.ca}`
    case 'certificate.renewed':
      return `${subject}: certificate renewed by ${event.ca}`
    case 'certificate.failed':
      return `${subject}: no CA issues a certificate`
    case 'certificate.expiring':
      return `${subject}: certificate is about to expire`
    case 'certificate.switched':
      return `${subject}: another certificate is served`
    case 'certificate.revoked':
      return `${subject}: certificate is ${event.fault}`
  }
}

function detailOf(event: DatedEvent): string {
  switch (event.type) {
    case 'ca.degraded': {
      const loss =
        event.exposure === ''
          ? 'Other CAs can stand in for every host.'
          : `If ${event.ca} stays down: ${event.exposure}.`
      return event.message === undefined ? loss : `${event.message}. ${loss}`
    }
    case 'ca.recovered':
      return ''
    case 'failover.started':
      return 'Hosts stay supplied; nothing is to be done.'
    case 'failover.ended':
      return `${event.certificates} ${event.certificates === 1 ? 'certificate' : 'certificates'} came from ${event.instead.join(', ')} meanwhile.`
    case 'certificate.issued':
    case 'certificate.renewed':
      return `The ${event.role} certificate is valid until ${event.notAfter}.`
    case 'certificate.failed':
      return `The last reason: ${event.message}. Next attempt at ${event.retryAt}.`
    case 'certificate.expiring':
      return `It ends at ${event.notAfter}, and no other one takes its place: see \`holdfast status\`.`
    case 'certificate.switched':
      return `From ${describeServed(event.from)} to ${describeServed(event.to)}.`
    case 'certificate.revoked':
      return `The certificate from ${event.source}, serial ${event.serial}, is not served any more where there is another one.`
  }
}

function describeServed(served: Served | undefined): string {
  return served === undefined ? 'nothing' : `the ${served.role} certificate (${served.source})`
}

function listOf(hosts: ReadonlySet<string>): string {
  if (hosts.size < 2) return ''
  const shown = [...hosts].slice(0, HOSTS_IN_TEXT).join(', ')
  return hosts.size > HOSTS_IN_TEXT
    ? `Hosts: ${shown}, and ${hosts.size - HOSTS_IN_TEXT} more.`
    : `Hosts: ${shown}.`
}

/** Only where events repeat: one each for many hosts is told by their number. */
function repetitionOf({ count, since, hosts }: Bundle): string {
  return count > Math.max(1, hosts.size) ? `${count} such events since ${since}.` : ''
}
