/** A drill on a running instance between two Pebbles: what it shows, and that nothing of it is left. */
import { readdir, readFile, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import t, { type Test } from 'tap'
import type { DrillReport } from '../../src/admin/drill.ts'
import type { CaView, HostView } from '../../src/admin/views.ts'
import { OUTAGES } from '../../src/ca/rehearsal.ts'
import { loadConfig } from '../../src/config/load.ts'
import { MINUTE } from '../../src/time.ts'
import { type Rig, startRig } from '../path/rig.ts'
import { admin, launch, prepare, type Setup, serve, startApp, until, writeConfig } from './program.ts'

t.setTimeout(4 * MINUTE)

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

/** Long enough, on a machine that has other work, for the orders that the canary takes: one at the second CA, or one at each. */
const LASTS = { '503': '6s', refuse: '6s', hang: '12s', 'rate-limit': '6s', untrusted: '12s' }

t.test('each mode, one after the other, on one instance', async (t) => {
  const rig = await begin(t, (upstream) => [{ hosts: [HOST], upstreams: [upstream] }])
  const [before] = await hostsOf(rig)
  for (const mode of OUTAGES) {
    const { code, err, out } = await drill(t, rig, '--mode', mode, '--for', LASTS[mode], '--json').finished
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
    t.match(await drill(t, rig).finished, { code: 2, err: /a drill with a is under way: wait for its end/ })
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

t.test('a reload ends the drill and restores all, whether it changes the CA or not', async (t) => {
  const rig = await begin(t, (upstream) => [{ hosts: [HOST], upstreams: [upstream] }])
  const [before] = await hostsOf(rig)
  const file = join(rig.directory, 'proxy.config.json')
  const config = JSON.parse(await readFile(file, 'utf8'))
  const a = { ...config.cas.a, contact: ['mailto:ops@example.com'] }
  for (const cas of [config.cas, { ...config.cas, a }]) {
    await writeFile(file, JSON.stringify({ ...config, cas }))
    const running = drill(t, rig, '--for', '1h')
    await running.said('failover: b in place of a')
    t.match(await caOf(rig, 'a'), { state: 'down' })
    await rig.server.reload(await loadConfig(file, {}))
    const { code, out } = await running.finished
    t.equal(code, 0)
    t.match(out, /The drill is over after \S+: the config was reloaded\. a is asked again\./)
    t.match(await caOf(rig, 'a'), { state: 'up', lastFailure: undefined })
  }
  const [after] = await hostsOf(rig)
  t.equal(after?.live?.fingerprint, before?.live?.fingerprint)
  t.equal(after?.lastError, undefined)
  await rig.admin(`/api/certificates/${HOST}/renew`, 'POST')
  await until(async () => (await hostsOf(rig))[0]?.live?.fingerprint !== before?.live?.fingerprint)
  t.equal((await hostsOf(rig))[0]?.live?.source, 'a', 'orders go to the CA again')
})

for (const signal of ['SIGKILL', 'SIGTERM'] as const) {
  // The one opens the breaker, the other is kept in the ledger.
  for (const mode of ['503', 'rate-limit']) {
    t.test(`${signal} amid a drill (${mode}) leaves nothing of it`, async (t) => {
      const setup = await prepare(t, await startApp(t))
      const cas = { first: { type: 'internal' }, second: { type: 'internal' } }
      const [site] = setup.config.sites
      await writeConfig(setup, {
        ...setup.config,
        cas,
        tls: { cas: ['first', 'second'], standby: 'always' },
        sites: [{ ...site, tls: {} }],
      })
      const program = await serve(t, setup)
      const viewOf = async (): Promise<HostView | undefined> =>
        ((await (await admin(setup, '/api/certificates')).json()) as HostView[])[0]
      await until(async () => (await viewOf())?.standby !== undefined)
      // They are written a second after the first orders.
      const ledgers = async (): Promise<string[]> =>
        Object.keys(await filesOf(setup)).filter((name) => /ledgers\/(first|second)\./.test(name))
      await until(async () => (await ledgers()).length === 2)
      const [stored, before] = [await filesOf(setup), await viewOf()]

      const running = launch(setup.folder, ['drill', '--ca', 'first', '--mode', mode, '--for', '1h'])
      t.teardown(() => running.end('SIGKILL'))
      await running.said('standby certificate from second')
      await program.end(signal)
      await running.finished
      t.same(await filesOf(setup), stored, 'nothing of it is in the store')

      await serve(t, setup)
      const [ca] = (await (await admin(setup, '/api/cas')).json()) as CaView[]
      t.match(ca, { id: 'first', state: 'up', lastFailure: undefined })
      t.equal((await viewOf())?.live?.fingerprint, before?.live?.fingerprint)
      t.equal((await viewOf())?.lastError, undefined)
      await admin(setup, '/api/certificates/localhost/renew', { method: 'POST' })
      await until(async () => (await viewOf())?.live?.fingerprint !== before?.live?.fingerprint)
      t.equal((await viewOf())?.live?.source, 'first', 'orders go to the CA')
    })
  }
}

/** What the store holds, but for the standby, which the canary has renewed for good. */
async function filesOf({ folder }: Setup): Promise<Record<string, string>> {
  const data = join(folder, 'data')
  const names = (await readdir(data, { recursive: true, withFileTypes: true }))
    .filter(
      (entry) =>
        entry.isFile() && entry.name !== 'standby.pem' && !join(entry.parentPath, entry.name).includes(','),
    )
    .map((entry) => join(entry.parentPath, entry.name))
  return Object.fromEntries(
    await Promise.all(names.sort().map(async (name) => [name, await readFile(name, 'utf8')] as const)),
  )
}

t.test('a canary that is not done when the drill ends has proved nothing: exit code 1', async (t) => {
  const rig = await begin(t, (upstream) => [{ hosts: [HOST], upstreams: [upstream] }])
  const { code, out } = await drill(t, rig, '--mode', 'hang', '--for', '1s').finished
  t.equal(code, 1)
  t.match(out, /canary +app\.example\.com had no certificate by then/)
  t.match(
    out,
    /failed +app\.example\.com: the order of the canary had not ended by then: let the drill last longer/,
  )
})

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
})

t.test('a drill that is refused is no host that would be lost: one line, exit code 2', async (t) => {
  const rig = await begin(t, (upstream) => [{ hosts: [HOST], upstreams: [upstream] }])
  const refusals = [
    await drill(t, rig, '--ca', 'nobody').finished,
    await drill(t, rig, '--canary', 'nohost').finished,
  ]
  t.strictSame(
    refusals.map(({ code, err, out }) => `${code} ${out}${err}`),
    ['2 holdfast: no CA nobody in the config\n', '2 holdfast: no host nohost that a CA supplies\n'],
  )
  t.match(await caOf(rig, 'a'), { state: 'up' })
})
