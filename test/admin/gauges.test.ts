/** What `/metrics` says of the state; that it is valid text is `test/commands/running.test.ts`' business. */
import t from 'tap'
import { exposeGauges } from '../../src/admin/gauges.ts'
import { type HostFacts, viewCa, viewHost, viewPassthrough } from '../../src/admin/views.ts'
import type { CaState } from '../../src/ca/health.ts'
import { Verdicts } from '../../src/cert/verdicts.ts'
import { Metrics } from '../../src/metrics.ts'
import { DAY, SECOND } from '../../src/time.ts'
import { makeCertificate } from '../support/certificates.ts'

const NOW = Date.parse('2026-06-19T00:00:00Z')

const nothing: Omit<HostFacts, 'host'> = {
  live: undefined,
  standby: undefined,
  interim: undefined,
  nextAt: undefined,
  lastError: undefined,
}

function ca(id: string, state: CaState) {
  const unknown = { lastAnswerAt: undefined, lastFailure: undefined, retryAt: undefined }
  return viewCa({ id, state, troubled: false, since: NOW, usualMs: 5 * SECOND, ...unknown }, false)
}

/** The samples of one metric. */
async function samples(metrics: Metrics, name: string): Promise<string[]> {
  const { text } = await metrics.expose()
  return text.split('\n').filter((line) => line.startsWith(name))
}

const live = await makeCertificate({ names: ['two.example'], notBefore: NOW - DAY, days: 45 })
const standby = await makeCertificate({ names: ['two.example'], notBefore: NOW - DAY, days: 90 })
const expired = await makeCertificate({ names: ['old.example'], notBefore: NOW - 9 * DAY, days: 7 })
const verdicts = new Verdicts()
const hosts = [
  viewHost({ ...nothing, host: 'two.example', live, standby }, verdicts, NOW),
  viewHost({ ...nothing, host: 'old.example', live: expired }, verdicts, NOW),
  viewHost({ ...nothing, host: 'new.example' }, verdicts, NOW),
  viewPassthrough('through.example'),
]
const metrics = new Metrics()
exposeGauges(metrics, {
  hosts: () => hosts,
  cas: () => [ca('well', 'up'), ca('dead', 'down'), ca('back', 'trial')],
  clock: () => ({ now: new Date(NOW).toISOString(), errorSeconds: -3600 }),
})

t.test(
  'the end of each certificate that a host has, live or standby, whether it is over or not',
  async (t) => {
    const sample = (host: string, role: string, time: number): string =>
      `holdfast_certificate_not_after_seconds{host="${host}",role="${role}"} ${time / SECOND}`
    t.same(await samples(metrics, 'holdfast_certificate_not_after_seconds'), [
      sample('two.example', 'live', NOW + 44 * DAY),
      sample('two.example', 'standby', NOW + 89 * DAY),
      sample('old.example', 'live', NOW - 2 * DAY),
    ])
  },
)

t.test('how many hosts are in each state, also where none is', async (t) => {
  t.same(await samples(metrics, 'holdfast_hosts'), [
    'holdfast_hosts{state="valid"} 1',
    'holdfast_hosts{state="interim"} 0',
    'holdfast_hosts{state="condemned"} 0',
    'holdfast_hosts{state="expired"} 1',
    'holdfast_hosts{state="missing"} 1',
    'holdfast_hosts{state="passthrough"} 1',
  ])
})

t.test('a CA is up that takes orders, if only to be tried', async (t) => {
  t.same(await samples(metrics, 'holdfast_ca_up'), [
    'holdfast_ca_up{ca="well"} 1',
    'holdfast_ca_up{ca="dead"} 0',
    'holdfast_ca_up{ca="back"} 1',
  ])
})

t.test('how far the clock of the machine is off', async (t) => {
  t.same(await samples(metrics, 'holdfast_clock_error_seconds'), ['holdfast_clock_error_seconds -3600'])
})
