/** Certificates switch under clients that keep connecting: no handshake may fail, whatever moment it meets. */
import t from 'tap'
import { Inventory } from '../../src/cert/inventory.ts'
import { Verdicts } from '../../src/cert/verdicts.ts'
import { SystemClock } from '../../src/time.ts'
import { makeCertificate } from '../support/certificates.ts'
import { dial, startRig, textOf } from './rig.ts'

const HOST = 'app.example.com'
const SWITCHES = 1000
/** Handshakes under way at each switch: full ones and resumed ones, of both versions. */
const CLIENTS = 8

t.test('a thousand switches between certificates of two CAs fail no handshake', async (t) => {
  const verdicts = new Verdicts()
  const inventory = new Inventory(new SystemClock(), verdicts)
  const rig = await startRig(t, { inventory })
  const issue = (source: string, keyType: 'ecdsa-p256' | 'rsa-2048' = 'ecdsa-p256') =>
    makeCertificate({ names: [HOST], authority: rig.authority, source, keyType })
  const [first, second, standby] = await Promise.all([issue('a'), issue('a', 'rsa-2048'), issue('b')])
  inventory.publish(HOST, 'live', first)
  inventory.publish(HOST, 'standby', standby)

  /** Each changes what is served: a renewal, a distrusted CA, its return, a live one that is gone. */
  const switches = [
    () => inventory.publish(HOST, 'live', second),
    () => verdicts.setDistrusted('a', true),
    () => verdicts.setDistrusted('a', false),
    () => inventory.withdraw(HOST, 'live'),
    () => inventory.publish(HOST, 'live', first),
  ]
  let done = 0
  let resumed = 0
  const served = new Set<string>()
  const connectAgainAndAgain = async (client: number): Promise<void> => {
    const maxVersion = client % 2 === 0 ? 'TLSv1.3' : 'TLSv1.2'
    let session: Buffer | undefined
    while (done < SWITCHES) {
      switches[done++ % switches.length]?.()
      const known = session === undefined || client % 4 < 2 ? {} : { session }
      const socket = await dial(rig, { servername: HOST, maxVersion, ...known })
      served.add(socket.getPeerCertificate().fingerprint256)
      if (socket.isSessionReused()) resumed++
      session = socket.getSession()
      socket.on('session', (ticket) => {
        session = ticket
      })
      await textOf(socket)
    }
  }
  await Promise.all(Array.from({ length: CLIENTS }, (_, client) => connectAgainAndAgain(client)))

  t.equal(rig.handedOn.length, SWITCHES, 'every handshake was finished')
  t.ok(resumed > 0, 'some were resumed')
  for (const { leaf, source } of [first, second, standby])
    t.ok(served.has(leaf.fingerprint256), `one of ${source} was served`)
  t.match((await rig.metrics.expose()).text, 'holdfast_tls_handshakes_total{result="failed"} 0')
})
