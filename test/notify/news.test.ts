/** Who is told what: each thing that the engines say reaches the metrics, `/api/events` and the targets of `notify`. */
import t, { type Test } from 'tap'
import { CaHealth } from '../../src/ca/health.ts'
import { Inventory } from '../../src/cert/inventory.ts'
import { Verdicts } from '../../src/cert/verdicts.ts'
import { VirtualClock } from '../../src/commands/simulate/virtual-clock.ts'
import { memoryRecords, SimulatedCa } from '../../src/commands/simulate/world.ts'
import { configSchema } from '../../src/config/schema.ts'
import { IssueError } from '../../src/errors.ts'
import type { DatedEvent, RefusedBy } from '../../src/events.ts'
import { silentLog } from '../../src/log.ts'
import { Metrics } from '../../src/metrics.ts'
import { News } from '../../src/notify/news.ts'
import { Outlook } from '../../src/notify/outlook.ts'
import { DAY, SECOND } from '../../src/time.ts'
import { makeCertificate } from '../support/certificates.ts'
import { startReceiver } from '../support/webhook-receiver.ts'

const HOST = 'app.example.com'

function makeNews(t: Test) {
  const clock = new VirtualClock()
  const shared = { clock, random: () => 0.5, log: silentLog() }
  const verdicts = new Verdicts()
  const inventory = new Inventory(clock, verdicts)
  const health = new CaHealth({ ...shared, onChange: (snapshot) => news.caChanged(snapshot) })
  for (const id of ['a', 'b', 'c']) health.add(new SimulatedCa({ ...shared, id, lifetimeMs: 45 * DAY }))
  const holdings = { inventory, verdicts, health }
  const metrics = new Metrics()
  const kept: DatedEvent[] = []
  const news = new News({
    ...shared,
    ...holdings,
    metrics,
    records: memoryRecords(),
    isRehearsed: () => false,
    outlook: new Outlook({
      clock,
      ...holdings,
      access: () => undefined,
      hosts: () => [{ host: HOST, cas: ['a'] }],
    }),
    environment: {},
    keep: (event) => kept.push(event),
  })
  t.teardown(() => news.stop())
  /** A CA's breaker opens, as an order finds it. */
  const fail = async (ca: string): Promise<void> => {
    const admission = await health.admit(ca, new AbortController().signal)
    admission?.failed(new IssueError('CA_UNAVAILABLE', 'answered 503', { blame: 'ca', retry: 'now' }))
  }
  /** The samples of one metric. */
  const samples = async (name: string): Promise<string[]> =>
    (await metrics.expose()).text.split('\n').filter((line) => line.startsWith(name))
  return { clock, fail, inventory, kept, news, samples }
}

t.test('what happens is counted, kept, and posted to who asked for it', async (t) => {
  const { clock, fail, kept, news, samples } = makeNews(t)
  const receiver = await startReceiver(t)
  await news.update(
    configSchema.parse({ sites: [{ hosts: [HOST] }], notify: [{ url: receiver.url }] }).notify,
  )
  await fail('a')
  t.match(kept, [{ type: 'ca.degraded', ca: 'a', reason: 'CA_UNAVAILABLE', exposure: /^1 host has no/ }])
  t.same(await samples('holdfast_events_total'), ['holdfast_events_total{type="ca.degraded"} 1'])
  await clock.advance(10 * SECOND)
  t.match(await receiver.received('ca.degraded'), { count: 1, event: kept[0] })
})

t.test('a CA that refused an order is counted by the reason, whoever issued in the end', async (t) => {
  const { news, samples } = makeNews(t)
  const about = { host: HOST, role: 'live' } as const
  const refused: RefusedBy[] = [
    { ca: 'a', reason: 'CA_TIMEOUT' },
    { ca: 'b', reason: 'CA_SKIPPED' },
  ]
  const obtained = {
    ...about,
    type: 'certificate.issued',
    ca: 'c',
    notAfter: '2026-09-01T00:00:00Z',
  } as const
  news.renewal({ ...obtained, refused })
  const failed = { ...about, type: 'certificate.failed', retryAt: '2026-06-19T01:00:00Z' } as const
  news.renewal({
    ...failed,
    reason: 'CA_TIMEOUT',
    message: 'a: did not answer',
    refused: [...refused, { ca: 'c', reason: 'CA_RATE_LIMITED' }],
  })
  t.same(await samples('holdfast_ca_failures_total'), [
    'holdfast_ca_failures_total{ca="a",reason="CA_TIMEOUT"} 2',
    'holdfast_ca_failures_total{ca="c",reason="CA_RATE_LIMITED"} 1',
  ])
  t.same(await samples('holdfast_certificates_issued_total'), [
    'holdfast_certificates_issued_total{ca="c"} 1',
  ])
})

t.test(
  'a verdict is told of the hosts that hold the certificate, and of no other of its names',
  async (t) => {
    const { inventory, kept, news } = makeNews(t)
    const certificate = await makeCertificate({ names: [HOST, 'www.example.com'], source: 'a' })
    inventory.publish(HOST, 'standby', certificate)
    news.verdict(certificate, 'revoked')
    t.match(kept, [{ type: 'certificate.revoked', host: HOST, source: 'a', fault: 'revoked' }])
  },
)
