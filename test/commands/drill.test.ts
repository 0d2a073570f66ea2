/** A drill on a running instance between two Pebbles: what it shows, and that nothing of it is left. */
import t, { type Test } from 'tap'
import type { DrillReport } from '../../src/admin/drill.ts'
import type { CaView, HostView } from '../../src/admin/views.ts'
import { OUTAGES } from '../../src/ca/rehearsal.ts'
import { type Rig, startRig } from '../path/rig.ts'
import { launch, until } from './program.ts'

const HOST = 'app.example.com'
const ALONE = 'alone.example.com'

async function hostsOf(rig: Rig): Promise<HostView[]> {
  return (await rig.admin('/api/certificates')).json() as Promise<HostView[]>
}

async function caOf(rig: Rig, id: string): Promise<CaView | undefined> {
  const cas = (await (await rig.admin('/api/cas')).json()) as CaView[]
  return cas.find((ca) => ca.id === id)
}

async function begin(t: Test, sites: (upstream: string) => readonly object[]): Promise<Rig> {
  const rig = await startRig(t, { tls: { standby: 'always', cas: ['a', 'b'] }, sites })
  await rig.server.start()
  await until(async () =>
    (await hostsOf(rig)).every(
      ({ host, live, standby }) => live !== undefined && (standby !== undefined || host === ALONE),
    ),
  )
  return rig
}

function drill(t: Test, rig: Rig, ...args: string[]) {
  const program = launch(rig.directory, ['drill', '--ca', 'a', ...args])
  t.teardown(() => program.end('SIGKILL'))
  return program
}

t.test('each mode, one after the other, on one instance', async (t) => {
  const rig = await begin(t, (upstream) => [{ hosts: [HOST], upstreams: [upstream] }])
  const [before] = await hostsOf(rig)
  for (const mode of OUTAGES) {
    const lasts = mode === 'hang' ? '12s' : '3s'
    const { code, err, out } = await drill(t, rig, '--mode', mode, '--for', lasts, '--json').finished
    t.strictSame([code, err], [0, ''], mode)
    const report = JSON.parse(out) as DrillReport
    t.match(report, {
      outage: mode,
      endedBecause: 'its time was over',
      canary: { host: HOST, cas: ['a', 'b'] },
      switched: [{ host: HOST, role: 'standby', ca: 'b', afterMs: Number }],
      failed: [],
      lost: [],
    })
    t.equal(report.breakerOpenedAfterMs !== undefined, mode !== 'rate-limit', 'a rate limit opens no breaker')
    t.match(await caOf(rig, 'a'), { state: 'up', lastFailure: undefined })
  }
  const [after] = await hostsOf(rig)
  t.equal(after?.live?.fingerprint, before?.live?.fingerprint, 'the live certificate is the same')
  t.not(after?.standby?.fingerprint, before?.standby?.fingerprint, 'the standby is a new one')
  t.equal(after?.lastError, undefined)
  await rig.admin(`/api/certificates/${HOST}/renew`, 'POST')
  await until(async () => (await hostsOf(rig))[0]?.live?.fingerprint !== before?.live?.fingerprint)
  t.equal((await hostsOf(rig))[0]?.live?.source, 'a', 'orders go to the CA again')
})

t.test(
  'Ctrl-C restores all, and so does the loss of the connection; there is one drill at a time',
  async (t) => {
    const rig = await begin(t, (upstream) => [{ hosts: [HOST], upstreams: [upstream] }])
    const isUp = async () => (await caOf(rig, 'a'))?.state === 'up'

    const interrupted = drill(t, rig, '--for', '1h')
    await interrupted.said('failover: b in place of a')
    t.notOk(await isUp())
    t.match(await drill(t, rig).finished, { code: 1, err: /a drill with a is under way: wait for its end/ })
    const { code, out } = await interrupted.end('SIGINT')
    t.equal(code, 0)
    t.match(out, /The drill is over after \S+: it was asked to end\. a is asked again\./)
    t.ok(await isUp())

    const killed = drill(t, rig, '--for', '1h', '--canary', HOST)
    await killed.said('failover: b in place of a')
    t.notOk(await isUp())
    await killed.end('SIGKILL')
    await until(isUp)
    t.match(rig.log.lines.at(-1), { msg: 'drill: over, a is asked again' })
  },
)

t.test('an instance that ends amid a drill knows nothing of it at its next start', async (t) => {
  const rig = await begin(t, (upstream) => [{ hosts: [HOST], upstreams: [upstream] }])
  const running = drill(t, rig, '--for', '1h')
  await running.said('failover: b in place of a')
  t.equal((await caOf(rig, 'a'))?.state, 'down')
  await rig.server.stop()
  t.match(await running.finished, { out: /Holdfast is stopping/ })
  const again = await rig.restart()
  await again.start()
  t.match(await caOf(rig, 'a'), { state: 'up', lastFailure: undefined })
})

t.test('a host that depends on the CA alone would be lost: exit code 1', async (t) => {
  const rig = await begin(t, (upstream) => [
    { hosts: [HOST], upstreams: [upstream] },
    { hosts: [ALONE], upstreams: [upstream], tls: { cas: ['a'], standby: 'off' } },
  ])
  const { code, out } = await drill(t, rig, '--for', '1s', '--canary', 'none').finished
  t.equal(code, 1)
  t.match(out, /No canary: none was asked for\./)
  t.match(out, /lost +alone\.example\.com, from 20\S+ on\nWithout a 1 host would have been lost\.\n$/)
  t.match(await drill(t, rig, '--canary', ALONE, '--for', '1s').finished, {
    out: /No canary: alone\.example\.com lacks a and another CA/,
  })
  t.match(await drill(t, rig, '--ca', 'nobody').finished, { code: 1, err: /no CA nobody in the config/ })
})
