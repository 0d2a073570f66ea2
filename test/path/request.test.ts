/** The request path: wire → gateway → router → upstream → log, metrics. */
import t from 'tap'
import { startRig } from './rig.ts'

const HOST = 'app.example.com'

t.test('a request goes to the app by its route, and leaves a log line and a metric', async (t) => {
  const rig = await startRig(t, {
    sites: (upstream) => [{ hosts: [HOST], upstreams: [upstream] }],
  })
  await rig.server.start()
  await rig.log.logged(({ msg }) => msg.startsWith(`${HOST}: certificate issued`))
  const answer = await rig.get(HOST, '/hello?x=1', await rig.a.root())
  t.match(answer, { status: 200, body: 'app: /hello?x=1' })
  const line = await rig.log.logged(({ msg }) => msg === 'request')
  t.match(line, { method: 'GET', host: HOST, path: '/hello', status: 200, protocol: 'HTTP/1.1' })
  const metrics = await (await rig.admin('/metrics')).text()
  t.match(metrics, 'holdfast_requests_total{code="200"} 1')
})

t.test(
  'plain HTTP is redirected, and a host that the name of the connection does not cover is refused',
  async (t) => {
    const rig = await startRig(t, {
      sites: (upstream) => [
        { hosts: [HOST], upstreams: [upstream] },
        { hosts: ['other.example.com'], upstreams: [upstream] },
      ],
    })
    await rig.server.start()
    await rig.log.logged(({ msg }) => msg.startsWith(`${HOST}: certificate issued`))
    t.match(await rig.getPlain(HOST, '/x?y'), {
      status: 308,
      location: `https://${HOST}:${rig.ports.https}/x?y`,
    })
    const { status } = await rig.get(HOST, '/', await rig.a.root(), 'other.example.com')
    t.equal(status, 421)
  },
)
