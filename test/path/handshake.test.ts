/** The handshake path: listener → inventory.find → contexts, in memory; challenges are answered on the way. */
import t from 'tap'
import { startRig } from './rig.ts'

t.test(
  'hosts get their certificates over both inline challenges, from the CA that their site names',
  async (t) => {
    const rig = await startRig(t, {
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

    const alpn = await rig.handshake('alpn.example.com', await rig.a.root())
    t.match(alpn, { protocol: 'TLSv1.3', alpn: 'h2' })
    await rig.handshake('http.example.com', await rig.b.root())
    await t.rejects(
      rig.handshake('http.example.com', await rig.a.root()),
      { code: /UNABLE_TO/ },
      'not by the other root',
    )
  },
)

t.test('a name that no site has is refused with the alert that says so', async (t) => {
  const rig = await startRig(t, {
    sites: (upstream) => [{ hosts: ['app.example.com'], upstreams: [upstream] }],
  })
  await rig.server.start()
  await t.rejects(rig.handshake('unknown.example.com', await rig.a.root()), {
    code: 'ERR_SSL_TLSV1_UNRECOGNIZED_NAME',
  })
})

t.test(
  'a host without a certificate yet is served by the internal CA where its site allows, else refused',
  async (t) => {
    const rig = await startRig(t, {
      sites: (upstream) => [
        { hosts: ['interim.example.com'], upstreams: [upstream], tls: { cas: ['a'], interim: true } },
        { hosts: ['strict.example.com'], upstreams: [upstream], tls: { cas: ['a'] } },
      ],
    })
    await rig.faults.a.setFault({ kind: 'hang' })
    await rig.server.start()
    const root = await rig.internalRoot()
    await rig.handshake('interim.example.com', root)
    await t.rejects(rig.handshake('strict.example.com', root), { code: 'ERR_SSL_TLSV1_UNRECOGNIZED_NAME' })
  },
)

t.test('serving starts from the store while no CA answers, with the certificate of before', async (t) => {
  const rig = await startRig(t, {
    sites: (upstream) => [{ hosts: ['app.example.com'], upstreams: [upstream] }],
  })
  await rig.server.start()
  await rig.log.logged(({ msg }) => msg.startsWith('app.example.com: certificate issued'))
  const root = await rig.a.root()
  const before = await rig.handshake('app.example.com', root)
  await rig.server.stop()
  await Promise.all([rig.a.stop(), rig.b.stop()])
  const again = await rig.restart()
  await again.start()
  t.equal((await rig.handshake('app.example.com', root)).fingerprint, before.fingerprint)
})
