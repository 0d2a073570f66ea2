/** The renewal path: clock → plan → renewer → issuer → solver → records → inventory, and no handshake notices. */
import t from 'tap'
import { type Rig, startRig } from './rig.ts'

const HOSTS = ['alpn.example.com', 'http.example.com']

t.test('a CA stops; the renewals come from the other, and no handshake fails meanwhile', async (t) => {
  const rig = await startRig(t, {
    // Due at half of their life: in twenty seconds.
    lifetimeSeconds: 40,
    sites: (upstream) => [
      { hosts: ['alpn.example.com'], upstreams: [upstream], tls: { challenges: ['tls-alpn-01'] } },
      { hosts: ['http.example.com'], upstreams: [upstream], tls: { challenges: ['http-01'] } },
    ],
  })
  await rig.server.start()
  for (const host of HOSTS) await rig.log.logged(({ msg }) => msg === `${host}: certificate issued by a`)
  const roots = (await rig.a.root()) + (await rig.b.root())
  const before = await Promise.all(HOSTS.map((host) => rig.handshake(host, roots)))

  const client = connectAllTheTime(rig, roots)
  await rig.a.stop()
  for (const host of HOSTS)
    await rig.log.logged(({ msg }) => msg.startsWith(`${host}: certificate issued by b`))
  const rootOfB = await rig.b.root()
  const after = await Promise.all(HOSTS.map((host) => rig.handshake(host, rootOfB)))
  const { handshakes, failures } = await client.stop()

  t.same(failures, [])
  t.ok(handshakes > 20, `${handshakes} handshakes`)
  for (const [index, host] of HOSTS.entries()) {
    t.not(after[index]?.fingerprint, before[index]?.fingerprint, `${host} has another certificate`)
  }
})

/** One handshake after the other, over both hosts, each verified. */
function connectAllTheTime(
  rig: Rig,
  roots: string,
): { stop(): Promise<{ handshakes: number; failures: unknown[] }> } {
  let stopped = false
  let handshakes = 0
  const failures: unknown[] = []
  const running = (async () => {
    while (!stopped) {
      for (const host of HOSTS) {
        handshakes++
        await rig.handshake(host, roots).catch((error: unknown) => failures.push(error))
      }
    }
  })()
  return {
    stop: async () => {
      stopped = true
      await running
      return { handshakes, failures }
    },
  }
}
