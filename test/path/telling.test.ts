/** What an outage leaves behind for others to know: people by webhook, Prometheus by /metrics, the next start by the store. */
import t, { type Test } from 'tap'
import type { HostView } from '../../src/admin/views.ts'
import { SECOND } from '../../src/time.ts'
import { startReceiver } from '../support/webhook-receiver.ts'
import { type Rig, type RigOptions, startRig } from './rig.ts'

const HOST = 'app.example.com'

/** Both CAs have issued to the host; then `a` answers every order with a 503, and one has met it. */
async function startOutage(t: Test, options: Omit<RigOptions, 'sites'> = {}): Promise<Rig> {
  const rig = await startRig(t, {
    ...options,
    tls: { standby: 'always' },
    sites: (upstream) => [{ hosts: [HOST], upstreams: [upstream] }],
  })
  await rig.server.start()
  for (const ca of ['a', 'b'])
    await rig.log.logged(({ msg }) => msg === `${HOST}: certificate issued by ${ca}`)
  await rig.faults.a.setFault('503')
  await renew(rig)
  return rig
}

/** Resolves with the CA that has issued. */
async function renew({ admin, log }: Rig): Promise<string | undefined> {
  const seen = log.lines.length
  const issued = log.logged(
    (line) => line.msg.startsWith(`${HOST}: certificate issued by`) && log.lines.indexOf(line) >= seen,
  )
  await admin(`/api/certificates/${HOST}/renew`, 'POST')
  return /issued by (\w+)/.exec((await issued).msg)?.[1]
}

t.test('an outage is posted to a webhook, and seen in the metrics', async (t) => {
  const receiver = await startReceiver(t)
  const { admin } = await startOutage(t, { notify: [{ url: receiver.url }] })
  const metrics = await (await admin('/metrics')).text()
  const [view] = (await (await admin('/api/certificates')).json()) as [HostView]
  const sample = (name: string): string | undefined =>
    metrics
      .split('\n')
      .find((line) => line.startsWith(`${name} `))
      ?.slice(name.length + 1)

  t.equal(sample('holdfast_ca_up{ca="a"}'), '0')
  t.equal(sample('holdfast_ca_up{ca="b"}'), '1')
  t.ok(Number(sample('holdfast_ca_failures_total{ca="a",reason="CA_UNAVAILABLE"}')) >= 1)
  t.equal(view.live?.source, 'b')
  for (const role of ['live', 'standby'] as const) {
    const endsAt = Date.parse(view[role]?.notAfter ?? '') / SECOND
    t.equal(
      Number(sample(`holdfast_certificate_not_after_seconds{host="${HOST}",role="${role}"}`)),
      endsAt,
      role,
    )
  }
  t.match(await receiver.received('ca.degraded'), {
    event: { ca: 'a', reason: 'CA_UNAVAILABLE' },
  })
  t.match(await receiver.received('failover.started'), { event: { ca: 'a', instead: ['b'] } })
})

t.test('a CA that was down at the stop is down at the start: no order goes there', async (t) => {
  const rig = await startOutage(t)
  await rig.server.stop()
  await rig.faults.a.setFault(undefined)
  rig.faults.a.requests.length = 0
  const again = await rig.restart()
  await again.start()
  t.equal(await renew(rig), 'b')
  t.match(await (await rig.admin('/api/cas')).json(), [
    { id: 'a', state: 'down' },
    { id: 'b', state: 'up' },
  ])
  t.same(
    rig.faults.a.requests.filter(({ method }) => method === 'POST'),
    [],
    'it is probed only',
  )
})
