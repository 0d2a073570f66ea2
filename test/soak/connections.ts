/**
 * `npm run soak:connections`: ten thousand TLS connections to one instance, served, left idle all at once, served once more,
 * and closed; then, whether memory and handles fall back. This process is the clients' side.
 *
 *   node test/soak/connections.ts [--count 10000]
 */
import { once } from 'node:events'
import { connect as connectTcp } from 'node:net'
import { setTimeout as delay } from 'node:timers/promises'
import { connect, type TLSSocket } from 'node:tls'
import { parseArgs } from 'node:util'
import { HOST, ROOT_PEM } from '../http/front.ts'
import { App, contentOf } from './app.ts'
import { Instance } from './instance.ts'

const { values } = parseArgs({ options: { count: { type: 'string', default: '10000' } } })
const count = Number(values.count)

/** Handshakes at a time: fewer than a listening socket's queue. */
const AT_ONCE = 64
const IDLE_MS = 5_000
const ANSWER_MS = 90_000
const BYTES = 100
/** An allocator keeps some of what it was given back; what a connection held must be gone. */
const KEPT_BYTES_A_CONNECTION = 4 * 1024
const HANDLE_MARGIN = 3

async function open(port: number, index: number): Promise<TLSSocket> {
  // From several addresses, so that their ports suffice.
  const tcp = connectTcp({ host: '127.0.0.1', port, localAddress: `127.0.0.${1 + (index % 8)}` })
  const socket = connect({ socket: tcp, servername: HOST, ca: ROOT_PEM, ALPNProtocols: ['http/1.1'] })
  await once(socket, 'secureConnect')
  return socket
}

/** @throws when the answer is not its own, or does not come */
async function ask(socket: TLSSocket, id: string): Promise<void> {
  const expected = contentOf(id, BYTES).toString()
  socket.write(`GET /?id=${id}&bytes=${BYTES}&sized HTTP/1.1\r\nHost: ${HOST}\r\n\r\n`)
  let received = ''
  while (!received.endsWith(expected)) {
    const [data] = await once(socket, 'data', { signal: AbortSignal.timeout(ANSWER_MS) })
    received += data.toString('latin1')
    if (received.length > 2_000) throw new Error(`${id}: ${received.slice(0, 500)}`)
  }
  if (!received.startsWith('HTTP/1.1 200 ')) throw new Error(`${id}: ${received.slice(0, 100)}`)
}

/** Each in its turn, `AT_ONCE` at a time. */
async function forEach(indices: number, act: (index: number) => Promise<void>): Promise<void> {
  let next = 0
  const line = async (): Promise<void> => {
    while (next < indices) await act(next++)
  }
  await Promise.all(Array.from({ length: AT_ONCE }, line))
}

const mib = (bytes: number): string => `${(bytes / 2 ** 20).toFixed(1)} MiB`
const app = await App.start('http')
const instance = await Instance.start({ '/': [app.url] })
const sockets: TLSSocket[] = []

// Code is compiled and buffers are made by the first few.
const early = await open(instance.port, 0)
for (let i = 0; i < 500; i++) await ask(early, `early-${i}`)
early.destroy()
await app.restart(0)
const before = await instance.settled(0)

const startMs = performance.now()
await forEach(count, async (index) => {
  const socket = await open(instance.port, index)
  sockets[index] = socket
  await ask(socket, `first-${index}`)
})
const full = await instance.held()
const seconds = ((performance.now() - startMs) / 1000).toFixed(0)
console.log(`${count} connections in ${seconds} s: resident ${mib(full.rssBytes)}, ${full.handles} handles`)
await delay(IDLE_MS)
await forEach(count, (index) => ask(sockets[index] as TLSSocket, `again-${index}`))
console.log('each was served once more')

for (const socket of sockets) socket.destroy()
await app.restart(0)
const after = await instance.settled(before.handles + HANDLE_MARGIN)
console.log(
  `before: heap ${mib(before.heapBytes)}, resident ${mib(before.rssBytes)}, ${before.handles} handles`,
)
console.log(`after: heap ${mib(after.heapBytes)}, resident ${mib(after.rssBytes)}, ${after.handles} handles`)
const failures = [
  after.heapBytes > before.heapBytes + KEPT_BYTES_A_CONNECTION * count ? 'memory is held' : '',
  after.handles > before.handles + HANDLE_MARGIN ? 'handles are held' : '',
].filter((failure) => failure !== '')
console.log(failures.length === 0 ? 'nothing is left' : `FAILED: ${failures.join('; ')}`)
await instance.stop()
app.stop()
process.exitCode = failures.length === 0 ? 0 : 1
