/** A process that takes a lock and keeps it until it is killed: `holder.ts URL NAME TTL_MS`. Says `held` once it has it. */
import { silentLog } from '../../src/log.ts'
import { openStore } from '../../src/store/open.ts'

const [url = '', name = '', ttlMs] = process.argv.slice(2)
const store = await openStore(url, '/', silentLog())
await store.lock(name, Number(ttlMs), new AbortController().signal)
process.stdout.write('held\n')
// A lease's timers keep no process alive.
setInterval(() => {}, 1000)
