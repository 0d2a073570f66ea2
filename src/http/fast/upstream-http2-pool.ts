/**
 * Which HTTP/2 connection carries a request: one with room for another stream, or a new one. When a backend is retired,
 * its connections close once their streams have ended.
 *
 * `upstream.ts` asks for a stream; the connections are `upstream-http2.ts`.
 */
import type { Backend } from '../../upstreams/backend.ts'
import type { Engine } from './engine.ts'
import type { UpstreamUser } from './upstream-connection.ts'
import { type Http2Pool, MAX_STREAMS, UpstreamHttp2 } from './upstream-http2.ts'
import type { UpstreamHttp2Stream } from './upstream-http2-stream.ts'

export class Http2Upstreams {
  readonly #engine: Engine
  readonly #pools = new Map<Backend, Http2Pool>()

  constructor(engine: Engine) {
    this.#engine = engine
  }

  /** Never waits: a stream may be handed out before its connection is there. */
  acquire(backend: Backend, user: UpstreamUser): UpstreamHttp2Stream {
    const pool = this.#pools.get(backend) ?? this.#watch(backend)
    for (const connection of pool.connections) if (connection.hasRoom) return connection.stream(user)
    const connection = new UpstreamHttp2(this.#engine, backend, pool)
    pool.connections.add(connection)
    return connection.stream(user)
  }

  /** Closes connections once their streams have ended. */
  close(): void {
    for (const backend of [...this.#pools.keys()]) this.#retire(backend)
  }

  #watch(backend: Backend): Http2Pool {
    const pool: Http2Pool = { connections: new Set(), maxStreams: MAX_STREAMS }
    // A request that was decided before a reload may still ask for a retired one.
    if (backend.retired.aborted) return pool
    this.#pools.set(backend, pool)
    backend.retired.addEventListener('abort', () => this.#retire(backend), { once: true })
    return pool
  }

  #retire(backend: Backend): void {
    const connections = [...(this.#pools.get(backend)?.connections ?? [])]
    this.#pools.delete(backend)
    for (const connection of connections) connection.drain()
  }
}
