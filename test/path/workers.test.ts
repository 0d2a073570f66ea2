/** The renewal and the handshake path over several processes: what one knows, all know. */
import t from 'tap'
import { startRig } from './rig.ts'

t.test('challenges are answered, and certificates served, by whichever worker is asked', async (t) => {
  const rig = await startRig(t, {
    workers: 2,
    sites: (upstream) => [
      {
        hosts: ['alpn.example.com'],
        upstreams: [upstream],
        tls: { cas: ['a'], challenges: ['tls-alpn-01'] },
      },
      { hosts: ['http.example.com'], upstreams: [upstream], tls: { cas: ['b'], challenges: ['http-01'] } },
    ],
  })
  await rig.server.start()
  await rig.log.logged(({ msg }) => msg === 'alpn.example.com: certificate issued by a')
  await rig.log.logged(({ msg }) => msg === 'http.example.com: certificate issued by b')
  const [rootA, rootB] = [await rig.a.root(), await rig.b.root()]
  for (let round = 0; round < 10; round++) {
    await rig.handshake('alpn.example.com', rootA)
    await rig.handshake('http.example.com', rootB)
  }
})

t.test('a certificate that is condemned gives way to the standby on every worker', async (t) => {
  const rig = await startRig(t, {
    workers: 2,
    tls: { standby: 'always' },
    sites: (upstream) => [{ hosts: ['app.example.com'], upstreams: [upstream] }],
  })
  await rig.server.start()
  for (const ca of ['a', 'b'])
    await rig.log.logged(({ msg }) => msg === `app.example.com: certificate issued by ${ca}`)
  const roots = (await rig.a.root()) + (await rig.b.root())
  const condemned = await rig.handshake('app.example.com', roots)
  await rig.admin('/api/certificates/app.example.com/condemn', 'POST')
  for (let round = 0; round < 10; round++) {
    const { fingerprint } = await rig.handshake('app.example.com', roots)
    t.not(fingerprint, condemned.fingerprint)
  }
})
