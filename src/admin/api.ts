/**
 * The admin endpoint: health, metrics, state as JSON, the status page, and the few things an operator may ask for.
 * It has no authentication and listens on loopback by default, so it refuses what a web page could make a browser send:
 * a foreign Host (DNS rebinding) and any Origin on a POST.
 */
import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http'
import { isIP } from 'node:net'
import { REVOCATION_REASONS, type RevocationReason } from '../ca/issuer.ts'
import type { Address } from '../config/schema.ts'
import { ConfigError, IssueError, messageOf, StoreError } from '../errors.ts'
import type { DatedEvent } from '../events.ts'
import type { UpstreamStatus } from '../http/gateway.ts'
import type { Log } from '../log.ts'
import { type Duty, isDuty } from '../renew/plan.ts'
import type { Clock } from '../time.ts'
import { explainListening } from '../tls/endpoint.ts'
import { DrillRefusedError, type Drills } from './drill.ts'
import { readDrillRequest, streamDrill } from './drill-stream.ts'
import { STATUS_PAGE } from './status-page.ts'
import type { CaView, ClockView, ForecastView, HostView } from './views.ts'

/** What the API shows and does; `server.ts` joins it to the engines. */
export interface AdminState {
  hosts(): readonly HostView[]
  cas(): readonly CaView[]
  upstreams(): Promise<readonly UpstreamStatus[]>
  events(): readonly DatedEvent[]
  /** What would be lost if a CA never came back, by CA. */
  forecast(): readonly ForecastView[]
  clock(): ClockView
  /** Is it taking connections? False while starting and while draining. */
  isReady(): boolean
  reachProof(): ReachProof
  /** Orders a new certificate now. False: no such host, or not one that a CA supplies, or that has no standby. */
  renew(host: string, role: Duty): boolean
  /** Reads a host's certificates from the store again. False: no such host. Rejects with a `StoreError`. */
  reload(host: string): Promise<boolean>
  /** The operator's word on a CA. False: no such CA, or one that the config distrusts all the same. */
  setDistrusted(ca: string, distrusted: boolean): Promise<boolean>
  /** Takes over the pinned roots of the store. False: no such CA. */
  reloadRoots(ca: string): Promise<boolean>
  /** Gives our account at a CA a new key. False: no such CA, or one without accounts. Rejects with an `IssueError`. */
  changeAccountKey(ca: string): Promise<boolean>
  /** Ends our account at a CA. As `changeAccountKey`. */
  deactivateAccount(ca: string): Promise<boolean>
  /** The key of the live certificate is compromised: it is never served again. False: there is none. */
  condemn(host: string): Promise<boolean>
  /** Revokes a certificate, which gives way to others. undefined: there is none. Rejects with an `IssueError`. */
  revoke(host: string, role: Duty, reason: RevocationReason): Promise<Revocation | undefined>
}

/** What came of a revocation beyond this instance, which has given the certificate up in any case. */
export interface Revocation {
  /** The CA that issued it, or `import` or `file`. */
  readonly source: string
  /** Did a CA revoke it? There is none to ask for one of the operator's own or of a CA that the config has no more, and an internal one revokes nothing. */
  readonly byCa: boolean
}

/** Of an action: done, perhaps with something to tell, or not, for there is no such thing. */
type Outcome = boolean | Revocation | undefined

/** What nobody but this instance answers on port 80: the answer to a challenge that no CA has made. */
export interface ReachProof {
  readonly token: string
  readonly answer: string
}

export interface AdminOptions {
  readonly address: Address
  readonly state: AdminState
  readonly drills: Drills
  readonly clock: Clock
  /** What `/metrics` says. */
  readonly expose: () => Promise<{ readonly text: string; readonly contentType: string }>
  readonly log: Log
}

interface Answer {
  readonly status: number
  readonly contentType: string
  readonly body: string
}

export class Admin {
  readonly #options: AdminOptions
  readonly #server: Server

  constructor(options: AdminOptions) {
    this.#options = options
    this.#server = createServer((request, response) => {
      this.#respond(request, response).catch((error: unknown) => {
        options.log.error(
          { err: error },
          `admin: ${request.method} ${request.url} failed: ${messageOf(error)}`,
        )
        send(response, json(500, { error: 'internal error' }))
      })
    })
  }

  /** @throws ConfigError when the address cannot be had */
  start(): Promise<void> {
    const { address } = this.#options
    return new Promise((resolve, reject) => {
      this.#server.once('error', (cause) => {
        reject(new ConfigError([explainListening({ address, path: 'listen.admin' }, cause)], { cause }))
      })
      this.#server.listen(address.port, address.host, resolve)
    })
  }

  /** The port it listens on. */
  get port(): number {
    const address = this.#server.address()
    return typeof address === 'object' && address !== null ? address.port : this.#options.address.port
  }

  stop(): Promise<void> {
    return new Promise((resolve) => {
      this.#server.close(() => resolve())
      this.#server.closeAllConnections()
    })
  }

  async #respond(request: IncomingMessage, response: ServerResponse): Promise<void> {
    if (!isOwnHost(request.headers.host, this.#options.address)) {
      return send(response, json(403, { error: 'this Host is not an address of the admin endpoint' }))
    }
    const { pathname: path, searchParams } = new URL(request.url ?? '/', 'http://admin')
    if (request.method === 'GET' || request.method === 'HEAD') return send(response, await this.#read(path))
    if (request.method !== 'POST') return send(response, json(405, { error: 'only GET and POST' }))
    if (request.headers.origin !== undefined)
      return send(response, json(403, { error: 'not from a web page' }))
    if (path === '/api/drill') return this.#drill(searchParams, response)
    send(response, await this.#act(path, searchParams))
  }

  async #drill(parameters: URLSearchParams, response: ServerResponse): Promise<void> {
    const { clock, drills } = this.#options
    const asked = readDrillRequest(parameters)
    if (typeof asked === 'string') return send(response, json(400, { error: asked }))
    try {
      await streamDrill(asked, drills, clock, response)
    } catch (error) {
      if (!(error instanceof DrillRefusedError)) throw error
      send(response, json(409, { error: error.message }))
    }
  }

  async #read(path: string): Promise<Answer> {
    const { expose, state } = this.#options
    switch (path) {
      case '/healthz':
        return text(200, 'ok\n')
      case '/readyz':
        return state.isReady() ? text(200, 'ready\n') : text(503, 'not ready\n')
      case '/metrics': {
        const { text: body, contentType } = await expose()
        return { status: 200, contentType, body }
      }
      case '/api/certificates':
        return json(200, state.hosts())
      case '/api/cas':
        return json(200, state.cas())
      case '/api/upstreams':
        return json(200, await state.upstreams())
      case '/api/reach':
        return json(200, state.reachProof())
      case '/api/events':
        return json(200, state.events())
      case '/api/forecast':
        return json(200, state.forecast())
      case '/api/clock':
        return json(200, state.clock())
      case '/':
        return { status: 200, contentType: 'text/html; charset=utf-8', body: STATUS_PAGE }
      default:
        return json(404, { error: 'no such path' })
    }
  }

  async #act(path: string, parameters: URLSearchParams): Promise<Answer> {
    const { drills, state } = this.#options
    if (path === '/api/drill/end') {
      drills.end('it was asked to end')
      return json(202, {})
    }
    const reason = parameters.get('reason') ?? 'unspecified'
    if (!isRevocationReason(reason)) return json(400, { error: 'no such reason' })
    const role = parameters.get('role') ?? 'live'
    if (!isDuty(role)) return json(400, { error: 'no such role' })
    const actions: Readonly<Record<string, (id: string) => Outcome | Promise<Outcome>>> = {
      'certificates renew': (host) => state.renew(host, role),
      'certificates reload': (host) => state.reload(host),
      'certificates condemn': (host) => state.condemn(host),
      'certificates revoke': (host) => state.revoke(host, role, reason),
      'cas distrust': (ca) => state.setDistrusted(ca, true),
      'cas trust': (ca) => state.setDistrusted(ca, false),
      'cas roots': (ca) => state.reloadRoots(ca),
      'cas rollover': (ca) => state.changeAccountKey(ca),
      'cas deactivate': (ca) => state.deactivateAccount(ca),
    }
    const [, kind, encoded = '', verb] = /^\/api\/(certificates|cas)\/([^/]+)\/([a-z]+)$/.exec(path) ?? []
    const act = actions[`${kind} ${verb}`]
    const id = decodeSegment(encoded)
    if (act === undefined || id === undefined) return json(404, { error: 'no such path' })
    try {
      const outcome = await act(id)
      if (outcome) return json(202, { id, ...(outcome === true ? {} : outcome) })
    } catch (error) {
      if (error instanceof IssueError) return json(502, { error: error.message })
      if (error instanceof StoreError) return json(500, { error: error.message })
      throw error
    }
    return json(404, { error: kind === 'cas' ? `no CA ${id}` : `no host ${id} that a CA supplies` })
  }
}

function decodeSegment(encoded: string): string | undefined {
  try {
    return decodeURIComponent(encoded)
  } catch {
    return undefined
  }
}

/** An IP address cannot be rebound; a name must be the one that is configured, or localhost. */
function isOwnHost(header: string | undefined, address: Address): boolean {
  if (header === undefined || !URL.canParse(`http://${header}/`)) return false
  const name = new URL(`http://${header}/`).hostname.replace(/^\[(.*)\]$/, '$1')
  return isIP(name) !== 0 || name === 'localhost' || name === address.host
}

function isRevocationReason(text: string): text is RevocationReason {
  return Object.hasOwn(REVOCATION_REASONS, text)
}

function text(status: number, body: string): Answer {
  return { status, contentType: 'text/plain; charset=utf-8', body }
}

function json(status: number, value: unknown): Answer {
  return { status, contentType: 'application/json', body: `${JSON.stringify(value, undefined, 2)}\n` }
}

function send(response: ServerResponse, { status, contentType, body }: Answer): void {
  response.writeHead(status, {
    'content-type': contentType,
    'cache-control': 'no-store',
    'content-security-policy': "default-src 'self' 'unsafe-inline'; img-src data:",
    'x-content-type-options': 'nosniff',
  })
  response.end(body)
}
