/** Certificates switch under clients that keep connecting: no handshake may fail, whatever moment it meets. */
import t from 'tap'
import { Inventory } from '../../src/cert/inventory.ts'
import { Verdicts } from '../../src/cert/verdicts.ts'
import { SystemClock } from '../../src/time.ts'
import { makeCertificate } from '../support/certificates.ts'
import { startThread } from '../support/thread.ts'
import { type DiallerOptions, MOST_AT_ONCE, type Tally } from './dialler.ts'
import { handshakes, startRig } from './rig.ts'

const HOST = 'app.example.com'
const SWITCHES = 1200
/** Full handshakes a second, and others beside them that resume a session. */
const FULL = 200
const RESUMING = 50

t.test(`${SWITCHES} switches between certificates of two CAs fail no handshake`, async (t) => {
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
    // One before each switch.
    full: SWITCHES,
    fullPerSecond: FULL,
    resumingPerSecond: RESUMING,
  }
  const client = startThread(new URL('dialler.ts', import.meta.url), options)
  t.teardown(() => client.terminate())
  let switched = 0
  /** How many handshakes were done at each switch: those that had none since the one before count once. */
  const doneAtSwitches = new Set<number>()
  const tally = await new Promise<Tally>((resolve, reject) => {
    client.once('error', reject)
    client.on('message', (message: 'done' | Tally) => {
      if (message !== 'done') return resolve(message)
      // Others are under way.
      doneAtSwitches.add(rig.handedOn.length)
      switches[switched++ % switches.length]?.()
    })
  })

  const { full, fullPerSecond, resumed } = tally
  t.comment(
    `${full} full handshakes, ${fullPerSecond} a second, and ${resumed} resumed; ${switched} switches`,
  )
  t.same(tally.failures, [])
  t.equal(full, SWITCHES, 'all full handshakes that were due')
  t.equal(switched, SWITCHES)
  // Most have, but on a busy machine they come in bursts: of all that are under way, and of all that are done and not told.
  t.ok(
    doneAtSwitches.size > SWITCHES / (2 * MOST_AT_ONCE),
    `${doneAtSwitches.size} switches had a handshake since the one before`,
  )
  t.ok(resumed > 0, 'and some were resumed')
  for (const { leaf, source } of [first, second, standby])
    t.ok(tally.fingerprints.includes(leaf.fingerprint256), `one of ${source} was served`)
  const told = await handshakes(rig)
  t.equal(told.failed, 0)
  t.ok((told.full ?? 0) >= SWITCHES, 'the listener tells of as many')
})
