/** `holdfast simulate`: plays an outage over a fleet on a virtual clock, with the real planner, health and ledgers. */
import { writeFileSync } from 'node:fs'
import { type ParseArgsOptionsConfig, parseArgs } from 'node:util'
import { DAY, formatDuration, parseDuration } from '../time.ts'
import { playHoldfast, type Scenario } from './simulate/fleet.ts'
import { type Report, reportOf } from './simulate/report.ts'
import { playRival, RIVALS } from './simulate/rivals.ts'
import { type Run, timeline } from './simulate/timeline.ts'
import { type Outage, simulatedLimits } from './simulate/world.ts'
import { type Command, print, table, UsageError } from './terminal.ts'

const DEFAULT_CAS = 'letsencrypt,zerossl'
const KINDS: readonly Outage['kind'][] = ['503', 'hang', '429']
/** The same fleet on the same days, whenever it is played. */
const START = Date.parse('2026-06-01T00:00:00Z')

const OUTAGE_FORM = `CA:DURATION[:${KINDS.join('|')}][@dayN]`

const OPTIONS = {
  hosts: { type: 'string', default: '1000' },
  lifetime: { type: 'string', default: '45d' },
  cas: { type: 'string', default: DEFAULT_CAS },
  outage: { type: 'string', multiple: true },
  standby: { type: 'string', default: 'always' },
  days: { type: 'string', default: '90' },
  seed: { type: 'string', default: '1' },
  svg: { type: 'string', default: 'holdfast-simulation.svg' },
  compare: { type: 'boolean', default: false },
  json: { type: 'boolean', default: false },
} satisfies ParseArgsOptionsConfig

export const command: Command = {
  usage: `Usage: holdfast simulate [options]

Plays outages of CAs over a fleet of hosts on a virtual clock, with the planner of the proxy and the rate limits of the
CAs. Asks nobody, and needs no config.

  --hosts N            how many; default: 1000
  --lifetime DURATION  of the certificates; default: 45d
  --cas CA,CA          in order of preference; default: ${DEFAULT_CAS}
  --outage OUTAGE      ${OUTAGE_FORM}, such as letsencrypt:16h or letsencrypt:3d:hang@day30;
                       default: 503, in the middle of the time; may be given several times
  --standby WHEN       always, on-degraded or off; default: always
  --days N             how long it is played; default: 90
  --seed N             of chance: the same gives the same; default: 1
  --svg FILE           where the timeline is written; default: holdfast-simulation.svg
  --compare            beside it, other ways to renew
  --json               for programs

Exit code 0 when no host was ever without a certificate, else 1.`,
  options: OPTIONS,
  run: simulate,
}

/** @returns 0 when no host was ever without a certificate, else 1 */
async function simulate(args: string[]): Promise<number> {
  const { values } = parseArgs({ args, options: OPTIONS })
  const days = wholeNumber('days', values.days)
  const cas = values.cas.split(',')
  const scenario: Scenario = {
    hosts: wholeNumber('hosts', values.hosts),
    lifetimeMs: duration('lifetime', values.lifetime),
    cas,
    outages: readOutages(values.outage ?? [], cas, days),
    standby: readStandby(values.standby),
    start: START,
    days,
    seed: wholeNumber('seed', values.seed),
  }
  const runs: Run[] = [{ name: 'holdfast', played: await playHoldfast(scenario) }]
  if (values.compare)
    runs.push(...RIVALS.map((rival) => ({ name: rival.name, played: playRival(rival, scenario) })))
  const reports = runs.map(({ name, played }) => ({ name, ...reportOf(played, scenario) }))
  writeFileSync(values.svg, timeline(runs, scenario))
  if (values.json) print(JSON.stringify(reports, undefined, 2))
  else print(describe(scenario, reports, values.svg, values.compare))
  return reports[0]?.expiredHosts === 0 ? 0 : 1
}

function describe(
  scenario: Scenario,
  reports: readonly (Report & { name: string })[],
  svg: string,
  compared: boolean,
): string {
  const { cas, days, hosts, lifetimeMs } = scenario
  const rows = reports.map((report) => [
    report.name,
    String(report.expiredHosts),
    report.longestGapMs === 0 ? 'none' : formatDuration(report.longestGapMs),
    formatDuration(report.closestCallMs),
    ...report.cas.flatMap(({ orders, inVain, peakPerHour }) => [
      String(orders),
      String(inVain),
      String(peakPerHour),
    ]),
  ])
  const header = [
    '',
    'EXPIRED HOSTS',
    'LONGEST GAP',
    'CLOSEST CALL',
    ...cas.flatMap((id) => [`ORDERS ${id}`, 'IN VAIN', 'PEAK/H']),
  ]
  return [
    `${hosts} hosts with certificates of ${formatDuration(lifetimeMs)}, over ${days} days:`,
    '',
    table(header, rows),
    '',
    ...cas.map((id) => `${id}: ${describeLimits(id)}`),
    ...(compared ? RIVALS.map(({ name, source }) => `${name}: ${source}`) : []),
    `The timeline is in ${svg}.`,
  ].join('\n')
}

/** What the orders keep to. */
function describeLimits(ca: string): string {
  const limits = simulatedLimits(ca).limits.map(
    ({ scope, limit, windowMs }) => `${limit} in ${formatDuration(windowMs)} by ${scope}`,
  )
  return `at most ${limits.join(', ')}`
}

/** `letsencrypt:16h`, `letsencrypt:16h:hang`, `letsencrypt:16h:503@day30`; in the middle of the time when no day is given. */
function readOutages(texts: readonly string[], cas: readonly string[], days: number): Scenario['outages'] {
  const outages: Record<string, Outage[]> = {}
  for (const text of texts) {
    const [, ca = '', length = '', kind = '503', day = String(Math.floor(days / 2))] =
      /^([^:@]+):([^:@]+)(?::([^@]+))?(?:@day(\d+))?$/.exec(text) ?? []
    if (!cas.includes(ca))
      throw new UsageError(`--outage ${text}: write ${OUTAGE_FORM} with a CA of ${cas.join(', ')}`)
    const found = KINDS.find((each) => each === kind)
    if (found === undefined)
      throw new UsageError(`--outage ${text}: no kind "${kind}": there are ${KINDS.join(', ')}`)
    const start = START + Number(day) * DAY
    const outage = { start, end: start + duration('outage', length), kind: found }
    outages[ca] = [...(outages[ca] ?? []), outage]
  }
  return outages
}

function readStandby(text: string): Scenario['standby'] {
  if (text === 'always' || text === 'on-degraded' || text === 'off') return text
  throw new UsageError(`--standby ${text}: there are always, on-degraded, off`)
}

function wholeNumber(name: string, text: string): number {
  if (/^\d{1,7}$/.test(text)) return Number(text)
  throw new UsageError(`--${name} ${text}: write a whole number`)
}

function duration(name: string, text: string): number {
  const ms = parseDuration(text)
  if (ms === undefined || ms === 0)
    throw new UsageError(`--${name} ${text}: write a duration such as 16h or 45d`)
  return ms
}
