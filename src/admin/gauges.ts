/** The gauges of `/metrics` that mirror the admin API. */
import type { Metrics } from '../metrics.ts'
import type { AdminState } from './api.ts'
import { HOST_STATES } from './views.ts'

export function exposeGauges(metrics: Metrics, state: Pick<AdminState, 'hosts' | 'cas' | 'clock'>): void {
  metrics.gauge(
    'holdfast_certificate_not_after_seconds',
    'When a certificate ends, in seconds since the epoch.',
    ['host', 'role'],
    function* () {
      for (const { host, live, standby } of state.hosts()) {
        if (live !== undefined) yield [{ host, role: 'live' }, Date.parse(live.notAfter) / 1000]
        if (standby !== undefined) yield [{ host, role: 'standby' }, Date.parse(standby.notAfter) / 1000]
      }
    },
  )
  metrics.gauge('holdfast_hosts', 'Hosts, by the state of their certificate.', ['state'], function* () {
    const byState = Map.groupBy(state.hosts(), (host) => host.state)
    for (const each of HOST_STATES) yield [{ state: each }, byState.get(each)?.length ?? 0]
  })
  metrics.gauge(
    'holdfast_ca_up',
    'Does the CA take orders? 1: yes, 0: its breaker is open.',
    ['ca'],
    function* () {
      for (const { id, state: caState } of state.cas()) yield [{ ca: id }, caState === 'down' ? 0 : 1]
    },
  )
  metrics.gauge(
    'holdfast_clock_error_seconds',
    'How far the clock of the machine is ahead of the right time, by what the CAs say.',
    [],
    function* () {
      yield [{}, state.clock().errorSeconds]
    },
  )
}
