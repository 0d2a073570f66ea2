/** `holdfast status`: hosts, their certificates, the CAs' health and the upstreams', from the running instance. */
import { type ParseArgsOptionsConfig, parseArgs } from 'node:util'
import type { CaView, CertificateView, ClockView, ForecastView, HostView } from '../admin/views.ts'
import { loadChosenConfig } from '../config/load.ts'
import type { UpstreamStatus } from '../http/gateway.ts'
import { formatClockError, formatDuration, SECOND } from '../time.ts'
import { stateOf } from '../upstreams/balancer.ts'
import { AdminClient } from './admin-client.ts'
import { type Command, count, paint, print, table } from './terminal.ts'

const OPTIONS = {
  config: { type: 'string', short: 'c' },
  json: { type: 'boolean', default: false },
} satisfies ParseArgsOptionsConfig

export const command: Command = {
  usage: `Usage: holdfast status [--config FILE] [--json]

Hosts, their certificates, CAs and upstreams, as the running instance has them.

  -c, --config FILE  that of the instance; default: proxy.config.json, or the HOLDFAST_* environment
  --json             for programs

Exit code 0 when every host has a valid certificate, else 1, also when no instance runs.`,
  options: OPTIONS,
  run: status,
}

/** @returns 0 when every host has a valid certificate, 1 when one has none */
async function status(args: string[], env: NodeJS.ProcessEnv): Promise<number> {
  const { values } = parseArgs({ args, options: OPTIONS })
  const { config } = await loadChosenConfig(values.config, env)
  const admin = new AdminClient(config)
  const [hosts, cas, forecasts, upstreams, clock] = await Promise.all([
    admin.get<HostView[]>('/api/certificates'),
    admin.get<CaView[]>('/api/cas'),
    admin.get<ForecastView[]>('/api/forecast'),
    admin.get<UpstreamStatus[]>('/api/upstreams'),
    admin.get<ClockView>('/api/clock'),
  ])
  if (values.json) print(JSON.stringify({ hosts, cas, forecasts, upstreams, clock }, undefined, 2))
  else print(describe(hosts, cas, forecasts, upstreams, clock))
  return hosts.every(isWell) ? 0 : 1
}

function describe(
  hosts: readonly HostView[],
  cas: readonly CaView[],
  forecasts: readonly ForecastView[],
  upstreams: readonly UpstreamStatus[],
  clock: ClockView,
): string {
  const left = (time: string): string => {
    const ms = Date.parse(time) - Date.parse(clock.now)
    return ms < 0 ? `ended ${formatDuration(-ms)} ago` : `${formatDuration(ms)} left`
  }
  const certificate = (view: CertificateView | undefined): string =>
    view === undefined ? '-' : `${view.source}, ${view.fault ?? left(view.notAfter)}`
  const hostRows = hosts.map((host) => [
    host.host,
    host.state,
    certificate(host.live),
    certificate(host.standby),
    host.lastError ?? '',
  ])
  const caRows = cas.map((ca) => [
    ca.id,
    ca.distrusted ? 'distrusted' : ca.state,
    ca.lastFailure === undefined ? '' : `${ca.lastFailure.at} ${ca.lastFailure.message}`,
  ])
  const bad = hosts.filter((host) => !isWell(host)).length
  const verdict =
    bad === 0
      ? paint('green', 'Every host has a valid certificate.')
      : paint('red', `${bad} of ${count(hosts.length, 'host')} without a valid certificate.`)
  return [
    table(['HOST', 'STATE', 'LIVE', 'STANDBY', 'LAST ERROR'], hostRows),
    '',
    table(['CA', 'STATE', 'LAST FAILURE'], caRows),
    '',
    table(['UPSTREAM', 'STATE', 'ACTIVE', 'REQUESTS', 'FAILURES', 'PROBLEM'], upstreamRows(upstreams)),
    '',
    ...forecasts.flatMap(warning),
    ...warningOfClock(clock),
    verdict,
  ].join('\n')
}

function warningOfClock({ errorSeconds }: ClockView): string[] {
  if (errorSeconds === 0) return []
  const off = formatClockError(errorSeconds * SECOND)
  return [paint('yellow', `The clock of this machine is ${off}: Holdfast goes by that of the CAs.`)]
}

function isWell({ state }: HostView): boolean {
  return state === 'valid' || state === 'passthrough'
}

/** Each upstream once, however many routes lead to it: what is counted is of all of them. */
function upstreamRows(statuses: readonly UpstreamStatus[]): string[][] {
  return [...Map.groupBy(statuses, ({ url }) => url)].map(([url, of]) => {
    const inState = (state: string) => of.find((status) => stateOf(status) === state)
    const worst = inState('down') ?? inState('ejected') ?? of[0]
    if (worst === undefined) return []
    const { active, requests, failures, problem = '' } = worst
    return [url, stateOf(worst), String(active), String(requests), String(failures), problem]
  })
}

/** Only of a CA that is in trouble: which hosts depend on one CA alone, `doctor` says. */
function warning({ ca, state, summary }: ForecastView): string[] {
  return state === 'up' || summary === '' ? [] : [paint('red', `If ${ca} stays down: ${summary}.`)]
}
