/**
 * Connections that are passed on octet by octet: of sites whose mode is `tcp` (TLS is done here) or `passthrough` (it is
 * the upstream's). Hides which upstream takes one, and what becomes of it when none does. Receives sockets from `tls/`
 * through `front.ts`.
 */
import { connect, type Socket } from 'node:net'
import type { Timeouts, Upstream } from '../config/schema.ts'
import type { Stream } from '../config/sites.ts'
import type { Log } from '../log.ts'
import { proxyHeader } from '../proxy-protocol.ts'
import { type Clock, DeadlineError } from '../time.ts'
import { tunnel } from './tunnel.ts'

/** What is known of a connection before its first octet. */
export interface StreamConnection {
  /** SNI in lower case; undefined when the client sent none. */
  readonly serverName: string | undefined
  readonly clientAddress: string
  readonly clientPort: number
  /** Where the client has connected to. */
  readonly localAddress: string
  readonly localPort: number
}

export interface StreamsOptions {
  readonly clock: Clock
  readonly log: Log
  /** For each connection anew, since a reload may change them. */
  readonly timeouts: () => Pick<Timeouts, 'connect' | 'upgrade'>
  /** Log all, none, or this share of the connections; those that found no upstream are logged in any case. */
  readonly access: () => boolean | number
  /** Between 0 and 1, as Math.random. */
  readonly random: () => number
}

export class Streams {
  readonly #options: StreamsOptions
  /** Which upstream is next. */
  readonly #turns = new WeakMap<Stream, number>()
  /** Each resolves when its connection is over. */
  readonly #open = new Map<Socket, Promise<void>>()

  constructor(options: StreamsOptions) {
    this.#options = options
  }

  /** Takes the socket over, with nothing read from it yet. Never throws. */
  accept(client: Socket, connection: StreamConnection, stream: Stream): void {
    // 'close' comes too, and is enough.
    client.on('error', () => {})
    const over = this.#serve(client, connection, stream).finally(() => this.#open.delete(client))
    this.#open.set(client, over)
  }

  /** Resolves when no connection is left. What is still open when the signal aborts is destroyed. */
  async drain(signal: AbortSignal): Promise<void> {
    const destroy = (): void => {
      for (const client of this.#open.keys()) client.destroy()
    }
    signal.addEventListener('abort', destroy, { once: true })
    while (this.#open.size > 0) await Promise.all(this.#open.values())
    signal.removeEventListener('abort', destroy)
  }

  async #serve(client: Socket, connection: StreamConnection, stream: Stream): Promise<void> {
    const { access, clock, log, random, timeouts } = this.#options
    const { serverName, clientAddress, clientPort, localAddress, localPort } = connection
    const startedAt = clock.monotonic()
    const about = { host: serverName, client: clientAddress }
    const reached = await this.#reach(client, stream, about)
    if (reached === undefined || client.destroyed) {
      reached?.socket.destroy()
      client.destroy()
      return
    }
    if (stream.proxyProtocol !== undefined)
      reached.socket.write(
        proxyHeader(stream.proxyProtocol, { clientAddress, clientPort, localAddress, localPort }),
      )
    const transfer = await tunnel(client, reached.socket, { clock, idleMs: timeouts().upgrade })
    if (random() >= Number(access())) return
    const ms = Math.round((clock.monotonic() - startedAt) * 10) / 10
    log.info({ ...about, mode: stream.mode, upstream: reached.upstream.url, ...transfer, ms }, 'stream')
  }

  /** The first that can be connected to, beginning with the one whose turn it is; undefined: none, which is logged. */
  async #reach(
    client: Socket,
    stream: Stream,
    about: object,
  ): Promise<{ upstream: Upstream; socket: Socket } | undefined> {
    const { clock, log, timeouts } = this.#options
    const { upstreams } = stream
    const turn = this.#turns.get(stream) ?? 0
    this.#turns.set(stream, (turn + 1) % upstreams.length)
    for (const upstream of [...upstreams.slice(turn), ...upstreams.slice(0, turn)]) {
      if (client.destroyed) return undefined
      try {
        return { upstream, socket: await dial(upstream, clock, timeouts().connect) }
      } catch (err) {
        log.warn({ ...about, upstream: upstream.url, err }, 'an upstream could not be connected to')
      }
    }
    log.warn(about, 'no upstream took the connection: closed it')
    return undefined
  }
}

/** Rejects with the socket's error, or with a DeadlineError. */
function dial({ host, port, socketPath }: Upstream, clock: Clock, limitMs: number): Promise<Socket> {
  return new Promise((resolve, reject) => {
    const address = socketPath === undefined ? { host, port } : { path: socketPath }
    const socket = connect({ ...address, allowHalfOpen: true, noDelay: true })
    const cancel = clock.after(limitMs, () => socket.destroy(new DeadlineError('connecting', limitMs)))
    socket.on('error', reject).once('close', cancel)
    socket.once('connect', () => {
      cancel()
      resolve(socket)
    })
  })
}
