/** The renewal and the handshake path over several processes: what one knows, all know. */
import { readFile } from 'node:fs/promises'
import { setImmediate as otherWork } from 'node:timers/promises'
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
  await rig.server.whenSupplied(0)
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
  await rig.server.whenSupplied(0)
  const roots = (await rig.a.root()) + (await rig.b.root())
  const condemned = await rig.handshake('app.example.com', roots)
  await rig.admin('/api/certificates/app.example.com/condemn', 'POST')
  await rig.server.whenSupplied(0)
  for (let round = 0; round < 10; round++) {
    const { fingerprint } = await rig.handshake('app.example.com', roots)
    t.not(fingerprint, condemned.fingerprint)
  }
})

t.test('a server is supplied once every worker serves what was published', async (t) => {
  const rig = await startRig(t, {
    workers: 2,
    sites: (upstream) => [
      { hosts: ['app.example.com'], upstreams: [upstream], tls: { cas: ['a'], interim: true } },
    ],
  })
  const { pid } = process
  const children = async () => (await readFile(`/proc/${pid}/task/${pid}/children`, 'utf8')).trim().split(' ')
  const before = await children()
  await rig.server.start()
  const [stopped] = (await children()).filter((child) => !before.includes(child)).map(Number)
  if (stopped === undefined) throw new Error('no worker was started')
  process.kill(stopped, 'SIGSTOP')
  t.teardown(() => process.kill(stopped, 'SIGCONT'))
  let supplied = false
  const waiting = rig.server.whenSupplied(0).then(() => {
    supplied = true
  })
  for (let turn = 0; turn < 1000; turn++) await otherWork()
  t.notOk(supplied, 'one does not answer')
  process.kill(stopped, 'SIGCONT')
  await waiting
  await rig.handshake('app.example.com', (await rig.internalRoot()) + (await rig.a.root()))
})
