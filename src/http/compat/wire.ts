/**
 * The conservative engine: Node's own HTTP servers in front, http-proxy behind. Receives accepted sockets from the
 * listener; hands each request to an `Exchange`. Slow and well understood; the oracle that the fast engine is tested by.
 */
import type { Socket } from 'node:net'
import { plainAddress } from '../../config/addresses.ts'
import type { ProxyError } from '../../errors.ts'
import { errorPage, titleOf } from '../pages.ts'
import type { Connection, Wire, WireOptions } from '../wire.ts'
import type { Downstream, Peer } from './downstream.ts'
import { Exchange } from './exchange.ts'
import { Forwarder } from './forwarder.ts'
import { Http1Server } from './http1.ts'
import { Http2Server } from './http2.ts'

export class CompatWire implements Wire {
  readonly #options: WireOptions
  readonly #forwarder: Forwarder
  readonly #http1: Http1Server
  readonly #http2: Http2Server
  readonly #sockets = new Set<Socket>()

  constructor(options: WireOptions) {
    this.#options = options
    this.#forwarder = new Forwarder(options.clock)
    const handle = (client: Downstream): void => new Exchange(client, options, this.#forwarder).start()
    const refuse = (peer: Peer, error: ProxyError): string => this.#refuse(peer, error)
    this.#http1 = new Http1Server({ clock: options.clock, handle, refuse })
    this.#http2 = new Http2Server(handle)
  }

  accept(socket: Socket, connection: Connection): void {
    if (socket.destroyed) return
    const { gateway } = this.#options
    const { head, keepAlive } = gateway.timeouts
    const clientAddress = plainAddress(connection.clientAddress)
    const { secure, serverName, client } = connection
    const peer = { secure, serverName, client, clientAddress, trusted: gateway.trusts(clientAddress) }
    this.#sockets.add(socket)
    socket.once('close', () => this.#sockets.delete(socket))
    socket.setNoDelay(true)
    if (connection.protocol === 'h2') this.#http2.accept(socket, peer, keepAlive)
    else this.#http1.accept(socket, peer, { headMs: head, keepAliveMs: keepAlive })
  }

  retire(isStale: (connection: Pick<Connection, 'client' | 'serverName'>) => boolean): void {
    this.#http1.retire(isStale)
    this.#http2.retire(isStale)
  }

  async drain(signal: AbortSignal): Promise<void> {
    this.#http1.drain()
    this.#http2.drain()
    const destroyAll = (): void => {
      for (const socket of this.#sockets) socket.destroy()
    }
    signal.addEventListener('abort', destroyAll, { once: true })
    if (signal.aborted) destroyAll()
    const closed = [...this.#sockets].map((socket) => new Promise((resolve) => socket.once('close', resolve)))
    await Promise.all(closed)
    signal.removeEventListener('abort', destroyAll)
    this.#http1.close()
    this.#forwarder.close()
  }

  /** Answers bytes that are no request, and logs them. */
  #refuse(peer: Peer, error: ProxyError): string {
    const { requestIds, accessLog, clock } = this.#options
    const id = requestIds.next()
    const { contentType, body } = errorPage(error.status, id, undefined)
    accessLog.record({
      id,
      method: '',
      host: undefined,
      target: '',
      status: error.status,
      bodyBytes: body.length,
      durationMs: 0,
      upstream: undefined,
      clientAddress: peer.clientAddress,
      protocol: 'HTTP/1.1',
      error,
    })
    const head = [
      `HTTP/1.1 ${error.status} ${titleOf(error.status)}`,
      `Date: ${new Date(clock.now()).toUTCString()}`,
      `Content-Type: ${contentType}`,
      `Content-Length: ${body.length}`,
      'Connection: close',
    ]
    return `${head.join('\r\n')}\r\n\r\n${body}`
  }
}
