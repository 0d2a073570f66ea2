/**
 * Connections that are passed on octet by octet: of sites whose mode is `tcp` (TLS is done here) or `passthrough` (it is
 * the upstream's). Hides which upstream takes one, and what becomes of it when none does. Receives sockets from `tls/`
 * through `front.ts`.
 */
import { connect, type Socket } from 'node:net'
import type { Timeouts } from '../config/schema.ts'
import type { Site, Stream } from '../config/sites.ts'
import { messageOf } from '../errors.ts'
import type { Log } from '../log.ts'
import { proxyHeader } from '../proxy-protocol.ts'
import { type Clock, DeadlineError } from '../time.ts'
import type { Backend, BackendAddress } from '../upstreams/backend.ts'
import { Balancer, type MemberStatus } from '../upstreams/balancer.ts'
import { Members } from '../upstreams/members.ts'
import type { Names } from '../upstreams/names.ts'
import type { BalancedRequest } from '../upstreams/strategies.ts'
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
  /** Of upstreams. */
  readonly names: Names
  /** For each connection anew, since a reload may change them. */
  readonly timeouts: () => Pick<Timeouts, 'connect' | 'upgrade'>
  /** Log all, none, or this share of the connections; those that found no upstream are logged in any case. */
  readonly access: () => boolean | number
  /** Between 0 and 1, as Math.random. */
  readonly random: () => number
}

export class Streams {
  readonly #options: StreamsOptions
  readonly #members: Members
  /** Of a stream that a reload has left, as long as connections are on their way to it. */
  readonly #balancers = new WeakMap<Stream, Balancer>()
  #hosts: readonly (readonly [host: string, balancer: Balancer])[] = []
  /** Each resolves when its connection is over. */
  readonly #open = new Map<Socket, Promise<void>>()

  constructor(options: StreamsOptions) {
    this.#options = options
    const { clock, log, names, random } = options
    this.#members = new Members(names, { clock, log, random })
  }

  /** Takes over the streams of sites; what did not change stays connected and known. Before any is accepted. */
  replace(sites: readonly Pick<Site, 'hosts' | 'stream'>[]): void {
    const { clock, log, random } = this.#options
    const fresh = new Map<Stream, Balancer>()
    this.#members.renew((membersOf) => {
      for (const { stream } of sites) {
        if (stream === undefined || fresh.has(stream)) continue
        const { balancing, upstreams } = stream
        const members = membersOf(upstreams, balancing, { verify: true })
        fresh.set(stream, new Balancer(members, balancing, { clock, log, random }))
      }
    })
    for (const [stream, balancer] of fresh) this.#balancers.set(stream, balancer)
    this.#hosts = sites.flatMap(({ hosts, stream }) => {
      const balancer = stream && fresh.get(stream)
      return balancer === undefined ? [] : hosts.map((host) => [host, balancer] as const)
    })
  }

  /** For `/api/upstreams`. */
  upstreams(): (MemberStatus & { readonly host: string })[] {
    return this.#hosts.flatMap(([host, balancer]) =>
      balancer.statuses().map((status) => ({ host, ...status })),
    )
  }

  /** Ends the health checks. */
  close(): void {
    this.#members.stop()
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
    const balancer = this.#balancers.get(stream)
    const reached = balancer && (await this.#reach(client, balancer, about, clientAddress))
    if (balancer === undefined || reached === undefined || client.destroyed) {
      reached?.socket.destroy()
      client.destroy()
      if (reached !== undefined) balancer?.release(reached.backend)
      return
    }
    if (stream.proxyProtocol !== undefined)
      reached.socket.write(
        proxyHeader(stream.proxyProtocol, { clientAddress, clientPort, localAddress, localPort }),
      )
    const transfer = await tunnel(client, reached.socket, { clock, idleMs: timeouts().upgrade })
    balancer.release(reached.backend)
    if (random() >= Number(access())) return
    const ms = Math.round((clock.monotonic() - startedAt) * 10) / 10
    log.info({ ...about, mode: stream.mode, upstream: reached.backend.url, ...transfer, ms }, 'stream')
  }

  /** By the balancer's choice, then the next ones until one can be connected to; undefined: none, which is logged. */
  async #reach(
    client: Socket,
    balancer: Balancer,
    about: object,
    clientAddress: string,
  ): Promise<{ backend: Backend; socket: Socket } | undefined> {
    const { clock, log, timeouts } = this.#options
    const request = { clientAddress, field: () => undefined }
    const tried: Backend[] = []
    let backend = await choose(client, balancer, request, tried)
    while (backend !== undefined && !client.destroyed) {
      try {
        const socket = await dial(backend.address, clock, timeouts().connect)
        balancer.succeeded(backend)
        return { backend, socket }
      } catch (err) {
        log.warn({ ...about, upstream: backend.url, err }, 'an upstream could not be connected to')
        tried.push(backend)
        balancer.connectFailed(backend, messageOf(err))
        balancer.release(backend)
        backend = await choose(client, balancer, request, tried)
      }
    }
    if (backend !== undefined) balancer.release(backend)
    else if (!client.destroyed) log.warn(about, 'no upstream took the connection: closed it')
    return undefined
  }
}

/** Waits in the queue where there is one; undefined: there is no room, or the client is gone. */
function choose(
  client: Socket,
  balancer: Balancer,
  request: BalancedRequest,
  tried: readonly Backend[],
): Promise<Backend | undefined> {
  return new Promise((resolve) => {
    const leave = (): void => {
      balancer.leave(waiter)
      resolve(undefined)
    }
    const waiter = {
      onTurn(): void {
        const backend = balancer.pick(request, tried)
        if (backend === undefined && balancer.wait(waiter)) return
        client.off('close', leave)
        resolve(backend)
      },
      onWaitedTooLong(): void {
        client.off('close', leave)
        resolve(undefined)
      },
    }
    if (client.destroyed) {
      resolve(undefined)
      return
    }
    client.once('close', leave)
    waiter.onTurn()
  })
}

/** Rejects with the socket's error, or with a DeadlineError. */
function dial(address: BackendAddress, clock: Clock, limitMs: number): Promise<Socket> {
  return new Promise((resolve, reject) => {
    const socket = connect({ ...address, allowHalfOpen: true, noDelay: true })
    const cancel = clock.after(limitMs, () => socket.destroy(new DeadlineError('connecting', limitMs)))
    socket.on('error', reject).once('close', cancel)
    socket.once('connect', () => {
      cancel()
      resolve(socket)
    })
  })
}
