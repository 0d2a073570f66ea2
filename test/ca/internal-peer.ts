/** A process of its own with an internal CA over a shared store: issues once, prints its root, and ends. */
import { InternalIssuer } from '../../src/ca/internal.ts'
import { silentLog } from '../../src/log.ts'
import { openFileStore } from '../../src/store/fs.ts'
import { Records } from '../../src/store/records.ts'
import { DAY, SystemClock } from '../../src/time.ts'

const [folder = ''] = process.argv.slice(2)
const log = silentLog()
const records = new Records(await openFileStore(folder, log), log)
const clock = new SystemClock()
const issuer = new InternalIssuer({ id: 'internal', records, clock, lifetimeMs: 7 * DAY, log })
const request = { names: ['app.example.com'], keyType: 'ecdsa-p256', challenges: [] } as const
// Leases and clocks keep no process alive.
const alive = setInterval(() => {}, 1000)
await issuer.issue(request, new AbortController().signal)
process.stdout.write(await issuer.rootPem())
clearInterval(alive)
await records.close()
