/**
 * The fast HTTP engine: HTTP/1.1 and HTTP/2 on our own lexers over pooled upstream sockets.
 * Receives sockets from the TLS and plain listeners; the counterpart of `compat/`, held to the same contract.
 */
import type { Socket } from 'node:net'
import type { Connection, Wire, WireOptions } from '../wire.ts'
import { ClientHttp1 } from './client-http1.ts'
import { ClientHttp2 } from './client-http2.ts'
import { Engine } from './engine.ts'
import { Upstreams } from './upstream.ts'

type Client = ClientHttp1 | ClientHttp2

export class FastWire implements Wire {
  readonly #engine: Engine
  readonly #upstreams: Upstreams
  readonly #clients = new Set<Client>()
  #draining = false
  #onEmpty: (() => void) | undefined

  constructor(options: WireOptions) {
    this.#engine = new Engine(options)
    this.#upstreams = new Upstreams(this.#engine)
  }

  accept(socket: Socket, connection: Connection): void {
    if (socket.destroyed) return
    const ClientOf = connection.protocol === 'h2' ? ClientHttp2 : ClientHttp1
    const client = new ClientOf(this.#engine, this.#upstreams, socket, connection, (closed) =>
      this.#remove(closed),
    )
    this.#clients.add(client)
    // One that was on its way when draining began is served once.
    if (this.#draining) client.lastCall()
  }

  retire(isStale: (connection: Connection) => boolean): void {
    for (const client of this.#clients) if (isStale(client.connection)) client.drain()
  }

  async drain(signal: AbortSignal): Promise<void> {
    this.#draining = true
    for (const client of this.#clients) client.drain()
    const destroy = (): void => {
      for (const client of this.#clients) client.destroy()
    }
    if (signal.aborted) destroy()
    signal.addEventListener('abort', destroy, { once: true })
    if (this.#clients.size > 0) {
      await new Promise<void>((resolve) => {
        this.#onEmpty = resolve
      })
    }
    signal.removeEventListener('abort', destroy)
    this.#upstreams.close()
  }

  #remove(client: Client): void {
    this.#clients.delete(client)
    if (this.#clients.size === 0) this.#onEmpty?.()
  }
}
