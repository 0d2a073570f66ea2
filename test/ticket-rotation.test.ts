/** The keys of session tickets, from the server's clock to every process that makes and reads tickets. */
import { once } from 'node:events'
import { connect, type TLSSocket } from 'node:tls'
import t from 'tap'
import { VirtualClock } from '../src/commands/simulate/virtual-clock.ts'
import { loadConfig } from '../src/config/load.ts'
import { LocalFront } from '../src/front.ts'
import { silentLog } from '../src/log.ts'
import { Server, type ServerOptions } from '../src/server.ts'
import { HOUR, SECOND } from '../src/time.ts'
import { Workers } from '../src/workers.ts'
import { until } from './commands/program.ts'

const FRONTS = {
  'one process': (parts) => new LocalFront(parts),
  'two workers': (parts) => new Workers(parts, 2),
} as const satisfies Record<string, ServerOptions['createFront']>

/** So many reach both workers. */
const CONNECTIONS = 12

for (const [what, createFront] of Object.entries(FRONTS))
  t.test(`the keys of session tickets change every twelve hours: ${what}`, async (t) => {
    const folder = t.testdir({
      'proxy.config.json': JSON.stringify({
        listen: { https: ['127.0.0.1:0'], http: [], admin: false },
        sites: [{ hosts: ['localhost'], tls: { cas: ['internal'] }, respond: {} }],
      }),
    })
    const clock = new VirtualClock(Date.now())
    const loaded = await loadConfig(`${folder}/proxy.config.json`, {})
    const server = await Server.create(loaded, silentLog(), { clock, createFront })
    t.teardown(() => server.stop())
    await server.start()
    let isSupplied = false
    const supplied = server.whenSupplied(HOUR).then(() => {
      isSupplied = true
    })
    await until(async () => {
      await clock.advance(SECOND)
      return isSupplied
    })
    await supplied
    const port = server.addresses().https[0]?.port ?? 0

    const dial = (maxVersion: 'TLSv1.2' | 'TLSv1.3', session?: Buffer): TLSSocket => {
      const options = { port, servername: 'localhost', rejectUnauthorized: false, maxVersion }
      const socket = connect({ ...options, host: '127.0.0.1', ...(session && { session }) })
      t.teardown(() => socket.destroy())
      return socket
    }
    const pass = async (ms: number): Promise<void> => {
      await clock.advance(ms)
      // Every worker has heard of it.
      await server.whenSupplied(0)
    }
    for (const version of ['TLSv1.2', 'TLSv1.3'] as const) {
      const newSession = async (): Promise<Buffer> => (await once(dial(version), 'session'))[0]
      const areResumed = async (session: Buffer): Promise<boolean[]> => {
        const sockets = Array.from({ length: CONNECTIONS }, () => dial(version, session))
        await Promise.all(sockets.map((socket) => once(socket, 'secureConnect')))
        return sockets.map((socket) => socket.isSessionReused())
      }
      const before = await newSession()
      await pass(11 * HOUR)
      t.strictSame(new Set(await areResumed(before)), new Set([true]), `${version}, until then`)
      await pass(HOUR)
      t.strictSame(new Set(await areResumed(before)), new Set([false]), `${version}, a session of before`)
      const after = await newSession()
      t.strictSame(new Set(await areResumed(after)), new Set([true]), `${version}, a session of after`)
    }
  })
