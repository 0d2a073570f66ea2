/** An upstream that answers by what it is asked for, and can be restarted in the middle of everything. */
import { once } from 'node:events'
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http'
import { createServer as createHttp2Server } from 'node:http2'
import type { Server, Socket } from 'node:net'
import { setTimeout as delay } from 'node:timers/promises'
import { portOf } from '../http/front.ts'

const PIECE_BYTES = 16 * 1024

/** So many octets that belong to one request only. */
export function contentOf(id: string, bytes: number): Buffer {
  return Buffer.alloc(bytes, `${id}.`)
}

export class App {
  readonly url: string
  readonly #protocol: 'http' | 'h2c'
  readonly #port: number
  readonly #sockets = new Set<Socket>()
  #server: Server
  /** When it was away, by `performance.now()`. */
  readonly outages: { readonly fromMs: number; toMs: number }[] = []

  private constructor(protocol: 'http' | 'h2c', server: Server) {
    this.#protocol = protocol
    this.#server = server
    this.#port = portOf(server)
    this.url = `${protocol}://127.0.0.1:${this.#port}`
  }

  static async start(protocol: 'http' | 'h2c'): Promise<App> {
    const server = makeServer(protocol)
    await once(server.listen(0, '127.0.0.1'), 'listening')
    const app = new App(protocol, server)
    app.#watch()
    return app
  }

  #watch(): void {
    this.#server.on('connection', (socket: Socket) => {
      this.#sockets.add(socket)
      socket.on('error', () => {})
      socket.once('close', () => this.#sockets.delete(socket))
    })
  }

  /** Every connection is cut, and for a while none is accepted. */
  async restart(awayMs: number): Promise<void> {
    const outage = { fromMs: performance.now(), toMs: Number.POSITIVE_INFINITY }
    this.outages.push(outage)
    this.stop()
    await delay(awayMs)
    this.#server = makeServer(this.#protocol)
    await once(this.#server.listen(this.#port, '127.0.0.1'), 'listening')
    this.#watch()
    outage.toMs = performance.now()
  }

  stop(): void {
    this.#server.close()
    for (const socket of this.#sockets) socket.destroy()
  }
}

function makeServer(protocol: 'http' | 'h2c'): Server {
  if (protocol === 'http') return createServer({ keepAliveTimeout: 0 }, (req, res) => answer(req, res))
  // Its requests and responses behave as those of node:http for what is used here.
  // By default it refuses streams while much waits to be sent.
  const server = createHttp2Server({ maxSessionMemory: 1000 }, (req, res) =>
    answer(req as unknown as IncomingMessage, res as unknown as ServerResponse),
  )
  server.on('sessionError', () => {})
  return server as unknown as Server
}

function answer(req: IncomingMessage, res: ServerResponse): void {
  const url = new URL(req.url ?? '/', 'http://localhost')
  const id = url.searchParams.get('id') ?? ''
  const bytes = Number(url.searchParams.get('bytes'))
  req.on('error', () => {})
  res.on('error', () => {})
  res.setHeader('x-soak-id', id)
  if (req.method === 'POST') {
    req.pipe(res)
    return
  }
  // node:http2 resets a stream whose request nobody has read (with NO_ERROR) once its response is written, and on a busy
  // machine before the END_STREAM of that.
  req.resume()
  if (url.searchParams.has('sized')) res.setHeader('content-length', bytes)
  const content = contentOf(id, bytes)
  // Half of it, and then the connection or the stream breaks.
  const end = url.searchParams.has('abort') ? Math.max(1, bytes >> 1) : bytes
  const send = (start: number): void => {
    if (start < end) {
      const next = Math.min(end, start + PIECE_BYTES)
      res.write(content.subarray(start, next))
      setImmediate(() => send(next))
    } else if (end < bytes) res.destroy()
    else res.end()
  }
  send(0)
}
