/** Certificates switch under clients that keep connecting: no handshake may fail, whatever moment it meets. */
import t from 'tap'
import { Inventory } from '../../src/cert/inventory.ts'
import { Verdicts } from '../../src/cert/verdicts.ts'
import { SystemClock } from '../../src/time.ts'
import { makeCertificate } from '../support/certificates.ts'
import { startThread } from '../support/thread.ts'
import type { DiallerOptions, Tally } from './dialler.ts'
import { startRig } from './rig.ts'

const HOST = 'app.example.com'
const SWITCHES = 1000
/** New handshakes a second. */
const OFFERED = 200

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
  const options: DiallerOptions = {
    port: rig.port,
    servername: HOST,
    rootPem: rig.authority.rootPem,
    perSecond: OFFERED,
  }
  const client = startThread(new URL('dialler.ts', import.meta.url), options)
  t.teardown(() => client.terminate())
  let done = 0
  const tally = await new Promise<Tally>((resolve, reject) => {
    client.once('error', reject)
    client.on('message', (message: 'done' | Tally) => {
      if (message !== 'done') return resolve(message)
      // Others are under way.
      if (done < SWITCHES) switches[done++ % switches.length]?.()
      if (done === SWITCHES) client.postMessage('stop')
    })
  })

  t.comment(`${tally.handshakes} handshakes, ${tally.perSecond} a second, ${tally.resumed} of them resumed`)
  t.same(tally.failures, [])
  t.ok(tally.handshakes >= SWITCHES)
  t.ok(tally.resumed > 0, 'some were resumed')
  for (const { leaf, source } of [first, second, standby])
    t.ok(tally.fingerprints.includes(leaf.fingerprint256), `one of ${source} was served`)
  t.match((await rig.metrics.expose()).text, 'holdfast_tls_handshakes_total{result="failed"} 0')
})
