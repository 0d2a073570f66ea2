import { randomBytes } from 'node:crypto'
import { once } from 'node:events'
import { connect } from 'node:tls'
import t from 'tap'
import { AttestedClock } from '../src/attested-clock.ts'
import { Inventory } from '../src/cert/inventory.ts'
import { Verdicts } from '../src/cert/verdicts.ts'
import { loadConfig } from '../src/config/load.ts'
import { silentLog } from '../src/log.ts'
import { Metrics } from '../src/metrics.ts'
import { DAY, SystemClock } from '../src/time.ts'
import { Workers } from '../src/workers.ts'
import { makeAuthority, makeCertificate } from './support/certificates.ts'

const HOST = 'app.example.com'
const DAYS_OFF = 30

t.test('workers go by the time that the main process has learnt, those that start later too', async (t) => {
  const folder = t.testdir({
    'proxy.config.json': JSON.stringify({
      listen: { https: ['127.0.0.1:0'], http: [], admin: false },
      sites: [{ hosts: [HOST], respond: {} }],
    }),
  })
  const { config } = await loadConfig(`${folder}/proxy.config.json`, {})
  const clock = new AttestedClock(new SystemClock())
  const inventory = new Inventory(clock)
  const parts = {
    config,
    clock,
    log: silentLog(),
    metrics: new Metrics(),
    inventory,
    verdicts: new Verdicts(),
    ticketKeys: randomBytes(48),
    stickyKey: randomBytes(32),
  }
  const start = async (): Promise<Workers> => {
    const workers = new Workers(parts, 1)
    t.teardown(() => workers.stop())
    await workers.start()
    return workers
  }
  const authority = await makeAuthority()
  const notBefore = Date.now() - DAYS_OFF * DAY - DAY
  const past = await makeCertificate({ names: [HOST], authority, notBefore, days: 5 })
  const present = await makeCertificate({ names: [HOST], authority })
  inventory.publish(HOST, 'live', past)
  inventory.publish(HOST, 'standby', present)
  const servedBy = async (workers: Workers): Promise<string> => {
    await workers.settled()
    const port = workers.addresses().https[0]?.port ?? 0
    const socket = connect({ port, host: '127.0.0.1', servername: HOST, rejectUnauthorized: false })
    await once(socket, 'secureConnect')
    const { fingerprint256 } = socket.getPeerCertificate()
    socket.destroy()
    return fingerprint256
  }

  const early = await start()
  t.equal(await servedBy(early), present.leaf.fingerprint256)
  clock.adopt(Date.now() - DAYS_OFF * DAY)
  t.equal(await servedBy(early), past.leaf.fingerprint256)
  t.equal(await servedBy(await start()), past.leaf.fingerprint256)
})
