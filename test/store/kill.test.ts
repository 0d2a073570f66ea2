import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { readdir } from 'node:fs/promises'
import { join } from 'node:path'
import { createInterface } from 'node:readline'
import t from 'tap'
import { silentLog } from '../../src/log.ts'
import { openFileStore } from '../../src/store/fs.ts'
import { Records } from '../../src/store/records.ts'
import { MINUTE } from '../../src/time.ts'
import { keepAlive } from '../support/alive.ts'
import { makeCertificate } from '../support/certificates.ts'
import { memoryLog } from '../support/log.ts'

const ROUNDS = 50
/** A write takes 1 to 20 ms: within that, after it began, the kill falls. */
const LONGEST_WRITE_MS = 20
const KINDS = ['certificate', 'account', 'job'] as const
type Kind = (typeof KINDS)[number]

// Under 30 s on two idle cores; starting fifty processes takes its time on busy ones.
t.setTimeout(5 * MINUTE)

/** The last version of each kind that was written whole, and the one that was begun after it. */
type Progress = Map<Kind, { done: number; begun: number }>

t.test('kill -9 at any point leaves each record whole, old or new, and nothing else', async (t) => {
  keepAlive(t)
  const folder = join(t.testdir(), 'data')
  await layFirstVersion(folder)
  const progress: Progress = new Map(KINDS.map((kind) => [kind, { done: 0, begun: 0 }]))
  for (let round = 0; round < ROUNDS; round++) {
    await writeUntilKilled(folder, progress)
    const { log, lines } = memoryLog()
    const store = await openFileStore(folder, silentLog())
    const records = new Records(store, log)
    for (const [kind, version] of await versionsOf(records)) {
      const { done, begun } = progress.get(kind)!
      t.ok(version === done || version === begun, `round ${round}: ${kind} ${version} of ${done} or ${begun}`)
      progress.set(kind, { done: version, begun: version })
    }
    await (await records.lock('a.example', AbortSignal.timeout(10_000))).release()
    t.same(lines, [], `round ${round}: nothing is damaged`)
    t.same(
      (await readdir(folder, { recursive: true })).sort(),
      LEFT,
      `round ${round}: nothing is left behind`,
    )
    await store.close()
  }
})

const LEFT = [
  ',locks',
  'accounts',
  'accounts/ca',
  'certificates',
  'certificates/a.example',
  'certificates/a.example/live.pem',
  'state',
  'state/jobs',
  'state/jobs/a.example',
]

async function layFirstVersion(folder: string): Promise<void> {
  const records = new Records(await openFileStore(folder, silentLog()), silentLog())
  const certificate = await makeCertificate({ names: ['a.example'], source: '0' })
  await records.saveCertificate('a.example', 'live', certificate)
  await records.saveAccount('ca', { url: '0', keyPem: certificate.keyPem, directory: 'https://ca.example' })
  await records.saveState('jobs', 'a.example', { version: 0 })
}

/** Kills the writer after some of its writes, wherever it is by then. */
async function writeUntilKilled(folder: string, progress: Progress): Promise<void> {
  const first = 1 + Math.max(...Array.from(progress.values(), ({ begun }) => begun))
  const child = spawn(process.execPath, [join(import.meta.dirname, 'writer.ts'), folder, String(first)], {
    stdio: ['ignore', 'pipe', 'inherit'],
    // Starting is most of what a round costs.
    env: { NODE_COMPILE_CACHE: join(folder, '../cache') },
  })
  const exited = once(child, 'exit')
  let writes = 1 + Math.floor(Math.random() * 6)
  for await (const line of createInterface(child.stdout)) {
    const [kind, version] = line.split(' ') as [Kind, string]
    progress.set(kind, { done: progress.get(kind)!.begun, begun: Number(version) })
    if (--writes === 0) setTimeout(() => child.kill('SIGKILL'), Math.random() * LONGEST_WRITE_MS)
  }
  await exited
}

async function versionsOf(records: Records): Promise<Map<Kind, number>> {
  const [stored] = await records.loadCertificates()
  const account = await records.loadAccount('ca')
  const job = (await records.loadState('jobs', 'a.example')) as { version: number } | undefined
  return new Map<Kind, number>([
    ['certificate', Number(stored?.certificate.source)],
    ['account', Number(account?.url)],
    ['job', Number(job?.version)],
  ])
}
