/** `serve` with several processes that share the ports. */
import { once } from 'node:events'
import { connect } from 'node:tls'
import t from 'tap'
import {
  accepts,
  admin,
  get,
  prepare,
  rootOf,
  type Setup,
  serve,
  startApp,
  until,
  writeConfig,
} from './program.ts'

async function prepareWorkers(t: Parameters<typeof prepare>[0], workers: number): Promise<Setup> {
  const setup = await prepare(t, await startApp(t))
  await writeConfig(setup, { ...setup.config, workers })
  return setup
}

t.test('a worker that dies is replaced, and no connection is refused meanwhile', async (t) => {
  const setup = await prepareWorkers(t, 2)
  const program = await serve(t, setup)
  const before = await program.workers()
  t.equal(before.length, 2)
  process.kill(before[0] as number, 'SIGKILL')
  await program.said('another takes its place')
  for (let n = 0; n < 30; n++) t.equal((await get(setup, '/')).status, 200)
  await until(async () => (await program.workers()).length === 2)
  const after = await program.workers()
  t.ok(after.includes(before[1] as number), 'the other one lives on')
  // The one that lived on would answer all by itself: only the new one can, once it is alone.
  process.kill(before[1] as number, 'SIGKILL')
  await until(async () => (await get(setup, '/').catch(() => undefined))?.status === 200)
})

t.test('a session is resumed by whichever worker gets the connection', async (t) => {
  const setup = await prepareWorkers(t, 4)
  await serve(t, setup)
  const ca = await rootOf(setup)
  const options = { port: setup.ports.https, host: '127.0.0.1', servername: 'localhost', ca }
  const first = connect(options)
  const [session] = (await once(first, 'session')) as [Buffer]
  first.destroy()
  for (let n = 0; n < 24; n++) {
    const socket = connect({ ...options, session })
    await once(socket, 'secureConnect')
    t.ok(socket.isSessionReused())
    socket.destroy()
  }
})

t.test('what the workers counted is summed in the metrics', async (t) => {
  const setup = await prepareWorkers(t, 2)
  await serve(t, setup)
  for (let n = 0; n < 8; n++) await get(setup, '/')
  t.match(await (await admin(setup, '/metrics')).text(), 'holdfast_requests_total{code="200"} 8\n')
  t.match(await (await admin(setup, '/api/upstreams')).json(), [{ requests: 8 }])
})

t.test('a reload reaches every worker, and one that cannot be had changes none', async (t) => {
  const setup = await prepareWorkers(t, 2)
  const program = await serve(t, setup)
  const other = await startApp(t, (_request, response) => response.end('other'))
  const [site] = setup.config.sites as [object]
  await writeConfig(setup, { ...setup.config, workers: 2, sites: [{ ...site, upstreams: [other] }] })
  program.signal('SIGHUP')
  await program.said('config reloaded')
  for (let n = 0; n < 10; n++) t.equal((await get(setup, '/')).body, 'other')

  const heard = program.out.length
  const listen = { ...setup.config.listen, http: [`127.0.0.1:${new URL(other).port}`] }
  await writeConfig(setup, { ...setup.config, workers: 2, listen })
  program.signal('SIGHUP')
  await program.said('is in use by another program', heard)
  for (let n = 0; n < 10; n++) t.equal((await get(setup, '/')).body, 'other')
})

t.test('a second Holdfast is told that the ports are taken', async (t) => {
  const setup = await prepareWorkers(t, 2)
  await serve(t, setup)
  const second = await prepare(t, await startApp(t))
  const listen = { ...setup.config.listen, admin: false }
  await writeConfig(second, { ...second.config, workers: 2, listen })
  await t.rejects(serve(t, second), { message: /listen\.https\[0\].*is in use by another program/ })
})

t.test('workers whose main process is killed let the ports go', async (t) => {
  const setup = await prepareWorkers(t, 2)
  const program = await serve(t, setup)
  await program.end('SIGKILL')
  await until(async () => !(await accepts(setup.ports.https)))
})

t.test('a second SIGTERM does not wait for the workers either', async (t) => {
  const setup = await prepare(t, await startApp(t, () => {}))
  await writeConfig(setup, { ...setup.config, workers: 2 })
  const program = await serve(t, setup)
  const hanging = get(setup, '/').catch(() => 'cut off')
  await until(async () => {
    const upstreams = (await (await admin(setup, '/api/upstreams')).json()) as { active: number }[]
    return upstreams[0]?.active === 1
  })
  program.signal('SIGTERM')
  await program.said('draining what is in flight')
  // Its output ends with the last process that writes to it.
  t.equal((await program.end('SIGTERM')).code, 1)
  t.equal(await hanging, 'cut off')
})
