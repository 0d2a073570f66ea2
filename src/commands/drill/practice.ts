/**
 * `holdfast drill --practice`: the whole story of an outage in seconds, without a real CA and without a running
 * instance. A server of its own on loopback with two practice CAs and a store in a temporary folder, a client that
 * keeps connecting, a renewal that falls due while the first CA fails. Nothing is left behind, also at Ctrl-C.
 */
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import type { DrillLine, DrillReport } from '../../admin/drill.ts'
import type { HostView } from '../../admin/views.ts'
import type { Outage } from '../../ca/rehearsal.ts'
import { loadConfig } from '../../config/load.ts'
import { silentLog } from '../../log.ts'
import { Server } from '../../server.ts'
import { type Clock, MINUTE, SECOND, SystemClock, sleep } from '../../time.ts'
import { AdminClient } from '../admin-client.ts'
import { paint, print } from '../terminal.ts'
import { PracticeClient, type Tally } from './practice-client.ts'
import { describeLine, describeReport, entry } from './story.ts'

const HOST = 'app.example.com'
const CAS = ['first', 'second'] as const
const LOOK_AGAIN_MS = 20
/** How long the client connects before the fault, and after the switch. */
const CALM_MS = 1500

interface Practice {
  readonly report: DrillReport
  readonly client: Tally
  /** From the fault to the first handshake with the other CA's certificate. */
  readonly switchedAfterMs: number | undefined
}

/** @returns 0 when the host never failed a client, 1 otherwise, 130 when it was interrupted */
export async function practise(outage: Outage, asJson: boolean): Promise<number> {
  const stop = new AbortController()
  const onSignal = (): void => stop.abort(new Error('interrupted'))
  for (const signal of ['SIGINT', 'SIGTERM'] as const) process.once(signal, onSignal)
  const folder = await mkdtemp(join(tmpdir(), 'holdfast-practice-'))
  try {
    const practice = await play(folder, outage, asJson ? () => {} : print, stop.signal)
    if (asJson) print(JSON.stringify(practice, undefined, 2))
    const { client, report } = practice
    return client.failed + report.lost.length + report.failed.length === 0 ? 0 : 1
  } catch (error) {
    if (!stop.signal.aborted) throw error
    return 130
  } finally {
    for (const signal of ['SIGINT', 'SIGTERM'] as const) process.off(signal, onSignal)
    await rm(folder, { recursive: true, force: true })
  }
}

async function play(
  folder: string,
  outage: Outage,
  tell: (text: string) => void,
  signal: AbortSignal,
): Promise<Practice> {
  const clock = new SystemClock()
  const loaded = await loadConfig(await writeConfig(folder), {})
  const server = await Server.create(loaded, silentLog())
  try {
    await server.start()
    const { listen } = loaded.config
    const admin = new AdminClient({
      ...loaded.config,
      listen: { ...listen, admin: { host: '127.0.0.1', port: server.adminPort ?? 0 } },
    })
    tell(`Two practice CAs, ${CAS.join(' and ')}, and an instance of Holdfast that serves ${HOST}.`)
    await untilSupplied(admin, clock, signal)
    const roots = await Promise.all(
      CAS.map((ca) => readFile(join(folder, `data/authorities/${ca}/root.pem`), 'utf8')),
    )
    const port = server.addresses().https[0]?.port ?? 0
    const client = new PracticeClient({ clock, port, host: HOST, roots })
    client.start()
    try {
      // While the first CA hangs there is no line to wake the story at an interrupt.
      const story = rehearse(admin, client, outage, { clock, tell, signal })
      return await Promise.race([story, rejectedBy(signal)])
    } finally {
      await client.stop()
    }
  } finally {
    await server.stop()
  }
}

async function rehearse(
  admin: AdminClient,
  client: PracticeClient,
  outage: Outage,
  { clock, tell, signal }: { clock: Clock; tell: (text: string) => void; signal: AbortSignal },
): Promise<Practice> {
  const [ca] = CAS
  tell(
    'It holds a live certificate from the first and a standby from the second. A client connects all the time.',
  )
  await sleep(clock, CALM_MS, signal)
  const before = client.issuer
  tell(`  ${client.tally().handshakes} handshakes, served from ${before}.\n`)
  tell(paint('bold', `Now ${ca} fails (${outage}), and a renewal of the live certificate falls due.`))
  const parameters = new URLSearchParams({ ca, mode: outage, forMs: String(MINUTE), canary: 'none' })
  let switchedAfterMs: number | undefined
  let startedAt = 0
  for await (const line of admin.postForLines<DrillLine>(`/api/drill?${parameters}`)) {
    if (line.type === 'drill.ended') {
      tell(describeReport({ ...line.report, noCanary: 'the renewal above took its place' }))
      const tally = client.tally()
      const verdict = `The client: ${tally.handshakes} handshakes, ${tally.failed} failed.`
      tell(paint(tally.failed === 0 ? 'green' : 'red', verdict))
      return { report: line.report, client: tally, switchedAfterMs }
    }
    if (line.type === 'drill.started') {
      startedAt = Date.parse(line.at)
      await admin.post(`/api/certificates/${HOST}/renew`)
      continue
    }
    tell(describeLine(line, startedAt))
    if (line.type !== 'certificate.renewed' || line.ca === before || switchedAfterMs !== undefined) continue
    await client.untilServedBy(line.ca, signal)
    switchedAfterMs = clock.now() - startedAt
    tell(entry(switchedAfterMs, `the client is served from ${line.ca}, at its next handshake`))
    await sleep(clock, CALM_MS, signal)
    await admin.post('/api/drill/end')
  }
  throw new Error('the practice ended before its story did: please report this')
}

function rejectedBy(signal: AbortSignal): Promise<never> {
  return new Promise((_, reject) => {
    signal.addEventListener('abort', () => reject(signal.reason), { once: true })
  })
}

async function untilSupplied(admin: AdminClient, clock: Clock, signal: AbortSignal): Promise<void> {
  const endAt = clock.monotonic() + 20 * SECOND
  while (clock.monotonic() < endAt) {
    const [host] = await admin.get<HostView[]>('/api/certificates')
    if (host?.live !== undefined && host.standby !== undefined) return
    await sleep(clock, LOOK_AGAIN_MS, signal)
  }
  throw new Error('the practice CAs gave no certificates within 20s: is the machine overloaded?')
}

/** @returns the file */
async function writeConfig(folder: string): Promise<string> {
  const file = join(folder, 'proxy.config.json')
  const config = {
    listen: { https: ['127.0.0.1:0'], http: [], admin: '127.0.0.1:0' },
    store: 'file:./data',
    workers: 1,
    cas: Object.fromEntries(CAS.map((ca) => [ca, { type: 'internal' }])),
    tls: { cas: CAS, standby: 'always' },
    sites: [{ hosts: [HOST], upstreams: ['http://127.0.0.1:9'] }],
  }
  await writeFile(file, JSON.stringify(config))
  return file
}
