/**
 * Requests to upstreams, by http-proxy; its only user. http-proxy sets the request up (target, TLS, agent) and reports
 * its failure. Bodies, aborts and responses are ours: it would leak aborted requests, re-frame bodies of DELETE and
 * OPTIONS, squeeze `//` in paths, and take a refused upgrade's chunked body for plain bytes.
 *
 * Receives a backend and fields from `exchange.ts`; hands back Node's ClientRequest and what becomes of it.
 * On its first request http-proxy makes Node print one deprecation warning (DEP0060).
 */
import http from 'node:http'
import https from 'node:https'
import type { Socket } from 'node:net'
import type { Duplex } from 'node:stream'
import { TLSSocket } from 'node:tls'
import httpProxy from 'http-proxy'
import { ProxyError } from '../../errors.ts'
import { type Clock, formatDuration, SECOND } from '../../time.ts'
import type { Backend } from '../../upstreams/backend.ts'
import { connectProblem } from '../../upstreams/connect-problem.ts'

/** Idle connections to an upstream are closed after this; most servers close theirs later. */
const IDLE_MS = 60 * SECOND
const MAX_IDLE_CONNECTIONS = 256

/** http-proxy would put in a port of its own. */
const NO_PORT = '0'

export interface OutgoingRequest {
  readonly method: string
  /** Path and query, sent as they are. */
  readonly target: string
  readonly fields: readonly [string, string | string[]][]
  readonly connectTimeoutMs: number
}

/** What becomes of a request. One of `failed`, `responded` and `switched` ends it, except that an open response can fail by itself. */
export interface Outcome {
  /** Connected and, with TLS, verified: now the body may be written. */
  connected(): void
  informed(status: number, rawHeaders: readonly string[]): void
  responded(response: http.IncomingMessage): void
  switched(response: http.IncomingMessage, socket: Socket, head: Buffer): void
  failed(error: ProxyError, stage: FailureStage): void
}

/**
 * `connecting`: nothing was sent. `reused`: on a kept connection, before any answer; most likely the upstream closed
 * it at that moment. `exchanging`: on a new connection.
 */
export type FailureStage = 'connecting' | 'reused' | 'exchanging'

export class Forwarder {
  readonly #clock: Clock
  readonly #proxy = httpProxy.createProxyServer()
  readonly #agents = new Map<Backend, http.Agent>()
  /** From when on each connection takes no further requests, on the clock's monotonic scale. */
  readonly #renewAt = new WeakMap<Duplex, number>()

  constructor(clock: Clock) {
    this.#clock = clock
  }

  /** Throws on a method or field that cannot be sent. Calls back later, never before it returns. */
  open(backend: Backend, outgoing: OutgoingRequest, outcome: Outcome): http.ClientRequest {
    let stage: FailureStage = 'connecting'
    let timedOut = false
    const request = this.#make(backend, outgoing.method, (error) =>
      outcome.failed(describe(error, backend, timedOut), stage),
    )
    fill(request, outgoing)
    const cancelTimer = this.#clock.after(outgoing.connectTimeoutMs, () => {
      timedOut = true
      request.destroy(new Error(`not connected after ${formatDuration(outgoing.connectTimeoutMs)}`))
    })
    const connected = (): void => {
      cancelTimer()
      if (request.destroyed) return
      stage = request.reusedSocket ? 'reused' : 'exchanging'
      outcome.connected()
    }
    request.once('close', cancelTimer)
    request.once('socket', (socket) => {
      if (!socket.connecting) {
        connected()
        return
      }
      this.#renewAt.set(socket, this.#clock.monotonic() + backend.maxAgeMs)
      socket.once(socket instanceof TLSSocket ? 'secureConnect' : 'connect', connected)
    })
    request.on('information', ({ statusCode, rawHeaders }) => outcome.informed(statusCode, rawHeaders))
    request.once('response', (response) => outcome.responded(response))
    request.once('upgrade', (response, socket, head) => outcome.switched(response, socket, head))
    return request
  }

  /** Closes the idle connections. */
  close(): void {
    for (const agent of this.#agents.values()) closeIdle(agent)
    this.#agents.clear()
  }

  /** Has http-proxy make the request, and takes it over before anything is sent. */
  #make(backend: Backend, method: string, onError: (error: Error) => void): http.ClientRequest {
    let request: http.ClientRequest | undefined
    // All that http-proxy looks at in a client's request. It calls `pipe` at once, with the request it has made.
    const source = {
      url: '/',
      headers: {},
      socket: { destroyed: false },
      on: () => source,
      pipe: (made: http.ClientRequest) => {
        request = made
      },
    }
    const { address, tls } = backend
    const protocol = tls === undefined ? 'http:' : 'https:'
    const place =
      'path' in address
        ? { socketPath: address.path, port: NO_PORT }
        : { host: address.host, hostname: address.host, port: String(address.port) }
    this.#proxy.web(
      source as unknown as http.IncomingMessage,
      { finished: true } as http.ServerResponse,
      {
        target: { protocol, ...place } as httpProxy.ServerOptions['target'] & object,
        agent: this.#agentOf(backend),
        method,
        secure: tls?.rejectUnauthorized ?? true,
        selfHandleResponse: true,
        toProxy: true,
      },
      onError,
    )
    if (request === undefined) throw new Error('http-proxy made no request')
    return request
  }

  #agentOf(backend: Backend): http.Agent {
    const known = this.#agents.get(backend)
    if (known !== undefined) return known
    const { address, tls } = backend
    const lookup = 'path' in address ? {} : { lookup: address.lookup }
    const options = { keepAlive: true, maxFreeSockets: MAX_IDLE_CONNECTIONS, timeout: IDLE_MS, ...lookup }
    const agent = tls === undefined ? new http.Agent(options) : new https.Agent({ ...options, ...tls })
    const keep = agent.keepSocketAlive.bind(agent)
    // Node closes the socket where this is false.
    agent.keepSocketAlive = (socket) =>
      this.#clock.monotonic() < (this.#renewAt.get(socket) ?? 0) && keep(socket)
    if (backend.retired.aborted) return agent
    this.#agents.set(backend, agent)
    backend.retired.addEventListener('abort', () => {
      this.#agents.delete(backend)
      closeIdle(agent)
    })
    return agent
  }
}

function fill(request: http.ClientRequest, outgoing: OutgoingRequest): void {
  try {
    request.path = outgoing.target
    // Node would drop the fields beyond a limit, unseen; the size of the head is limited anyway.
    request.maxHeadersCount = 0
    for (const [name, value] of outgoing.fields) request.setHeader(name, value)
  } catch (error) {
    request.destroy()
    throw error
  }
}

/** `agent.destroy()` would also cut what is in flight. */
function closeIdle(agent: http.Agent): void {
  for (const sockets of Object.values(agent.freeSockets)) for (const socket of sockets ?? []) socket.destroy()
}

function describe(error: Error, backend: Backend, timedOut: boolean): ProxyError {
  const code = 'code' in error ? String(error.code) : ''
  const message = `${backend.url}: ${connectProblem(error)}`
  if (timedOut) return new ProxyError('UPSTREAM_TIMEOUT', 504, message, { cause: error })
  if (code.startsWith('HPE_')) return new ProxyError('UPSTREAM_INVALID', 502, message, { cause: error })
  return new ProxyError('UPSTREAM_UNREACHABLE', 502, message, { cause: error })
}
