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
import { TLSSocket } from 'node:tls'
import httpProxy from 'http-proxy'
import { messageOf, ProxyError } from '../../errors.ts'
import { type Clock, formatDuration, SECOND } from '../../time.ts'
import type { Backend } from '../backend.ts'

/** Idle connections to an upstream are closed after this; most servers close theirs later. */
const IDLE_MS = 60 * SECOND
const MAX_IDLE_CONNECTIONS = 256

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

  constructor(clock: Clock) {
    this.#clock = clock
  }

  /** Throws on a method or field that cannot be sent. Calls back later, never before it returns. */
  open(backend: Backend, outgoing: OutgoingRequest, outcome: Outcome): http.ClientRequest {
    let request: http.ClientRequest | undefined
    /** All that http-proxy looks at in a request. It calls `pipe` at once, with the request it has made. */
    const source = {
      url: '/',
      headers: {},
      socket: { destroyed: false },
      on: () => source,
      pipe: (made: http.ClientRequest) => {
        request = made
      },
    }
    const progress = { stage: 'connecting' as FailureStage, timedOut: false }
    const onError = (error: Error): void => {
      outcome.failed(describe(error, backend, progress.timedOut), progress.stage)
    }
    this.#proxy.web(
      source as unknown as http.IncomingMessage,
      { finished: true } as http.ServerResponse,
      {
        target: {
          protocol: backend.tls === undefined ? 'http:' : 'https:',
          host: backend.host,
          hostname: backend.host,
          port: String(backend.port),
        } as httpProxy.ServerOptions['target'] & object,
        agent: this.#agentOf(backend),
        method: outgoing.method,
        secure: backend.tls?.rejectUnauthorized ?? true,
        selfHandleResponse: true,
        toProxy: true,
      },
      onError,
    )
    if (request === undefined) throw new Error('http-proxy made no request')
    const made = prepare(request, outgoing)

    const cancelTimer = this.#clock.after(outgoing.connectTimeoutMs, () => {
      progress.timedOut = true
      made.destroy(new Error(`not connected after ${formatDuration(outgoing.connectTimeoutMs)}`))
    })
    made.once('close', cancelTimer)
    made.once('socket', (socket) => {
      const connected = (): void => {
        cancelTimer()
        if (made.destroyed) return
        progress.stage = made.reusedSocket ? 'reused' : 'exchanging'
        outcome.connected()
      }
      if (!socket.connecting) connected()
      else socket.once(socket instanceof TLSSocket ? 'secureConnect' : 'connect', connected)
    })
    made.on('information', ({ statusCode, rawHeaders }) => outcome.informed(statusCode, rawHeaders))
    made.once('response', (response) => outcome.responded(response))
    made.once('upgrade', (response, socket, head) => outcome.switched(response, socket, head))
    return made
  }

  /** Closes the idle connections. */
  close(): void {
    for (const agent of this.#agents.values()) closeIdle(agent)
    this.#agents.clear()
  }

  #agentOf(backend: Backend): http.Agent {
    const known = this.#agents.get(backend)
    if (known !== undefined) return known
    const options = { keepAlive: true, maxFreeSockets: MAX_IDLE_CONNECTIONS, timeout: IDLE_MS }
    const agent =
      backend.tls === undefined ? new http.Agent(options) : new https.Agent({ ...options, ...backend.tls })
    if (backend.retired.aborted) return agent
    this.#agents.set(backend, agent)
    backend.retired.addEventListener('abort', () => {
      this.#agents.delete(backend)
      closeIdle(agent)
    })
    return agent
  }
}

function prepare(request: http.ClientRequest, outgoing: OutgoingRequest): http.ClientRequest {
  try {
    request.path = outgoing.target
    // Node would drop the fields beyond a limit, unseen; the size of the head is limited anyway.
    request.maxHeadersCount = 0
    for (const [name, value] of outgoing.fields) request.setHeader(name, value)
    return request
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
  const message = `${backend.url}: ${messageOf(error)}`
  if (timedOut) return new ProxyError('UPSTREAM_TIMEOUT', 504, message, { cause: error })
  if (code.startsWith('HPE_')) return new ProxyError('UPSTREAM_INVALID', 502, message, { cause: error })
  return new ProxyError('UPSTREAM_UNREACHABLE', 502, message, { cause: error })
}
