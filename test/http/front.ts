/**
 * A proxy in front of upstreams, as a test needs it: TLS and plain ports on loopback whose sockets are fed to the wire
 * under test, with everything behind it real.
 */
import { once } from 'node:events'
import { type AddressInfo, createServer, type Server } from 'node:net'
import type { Writable } from 'node:stream'
import { createServer as createTlsServer, type TLSSocket } from 'node:tls'
import type { Test } from 'tap'
import type { GuardedSite } from '../../src/cert/client-policy.ts'
import { type Balancing, DEFAULT_BALANCING } from '../../src/config/balancing.ts'
import { parseUpstream, type Timeouts, type UpstreamConfig } from '../../src/config/schema.ts'
import { type Shaping, shapingOf } from '../../src/config/shaping.ts'
import { AccessLog } from '../../src/http/access-log.ts'
import type { Client } from '../../src/http/client-fields.ts'
import { Gateway, type Policy } from '../../src/http/gateway.ts'
import { RequestIds } from '../../src/http/request-id.ts'
import type { Wire, WireOptions } from '../../src/http/wire.ts'
import { Metrics } from '../../src/metrics.ts'
import { type Clock, SystemClock } from '../../src/time.ts'
import { Names } from '../../src/upstreams/names.ts'
import { makeAuthority, makeCertificate } from '../support/certificates.ts'
import { type MemoryLog, memoryLog } from '../support/log.ts'

export type MakeWire = (options: WireOptions) => Wire

export const HOST = 'app.example.com'

/** One key for all fronts and upstreams of a test run, and the root that clients trust. */
const authority = await makeAuthority()
export const ROOT_PEM = authority.rootPem
export const CREDENTIALS = await makeCertificate({
  names: [HOST, '*.wild.example.com', 'two.example.com', 'other.example.com', 'localhost', '127.0.0.1'],
  authority,
})

export const TIMEOUTS: Timeouts = {
  head: 10_000,
  body: 10_000,
  connect: 5_000,
  response: 10_000,
  keepAlive: 30_000,
  upgrade: 30_000,
  drain: 10_000,
}

/** A URL, or with its part in the balancing. */
export type UpstreamOptions = string | (Partial<UpstreamConfig> & { readonly url: string })

interface RouteOptions {
  readonly path: string
  readonly upstreams?: readonly UpstreamOptions[]
  readonly shaping?: Partial<Shaping>
}

export interface SiteOptions extends Partial<Omit<GuardedSite, 'routes'>> {
  readonly upstreams?: readonly UpstreamOptions[]
  readonly routes?: readonly RouteOptions[]
  /** As the keys of a site: its own answers, and what the routes take over. */
  readonly shaping?: Partial<Shaping>
  readonly balancing?: Partial<Balancing>
}

export interface FrontOptions {
  /** One site of `HOST` when absent. */
  readonly sites?: readonly SiteOptions[]
  /** Of the one site; URLs. */
  readonly upstreams?: readonly string[]
  readonly timeouts?: Partial<Timeouts>
  readonly trustedProxies?: readonly string[]
  readonly challenges?: Readonly<Record<string, string>>
  /** Who is at the other end of connections to the TLS port; absent: they were not asked. */
  readonly client?: Client
  /** The system's when absent, as `names`. */
  readonly clock?: Clock
  readonly names?: Names
}

export function makeUpstream(options: UpstreamOptions): UpstreamConfig {
  const { url, ...part } = typeof options === 'string' ? { url: options } : options
  return { ...parseUpstream(url)!, weight: 1, backup: false, maxConnections: undefined, ...part }
}

/** A site with what a test leaves out. */
export function makeSite({
  upstreams,
  routes = [],
  shaping = {},
  balancing,
  ...rest
}: SiteOptions): GuardedSite {
  const { redirectTo, respond } = shaping
  const answers = redirectTo !== undefined || respond !== undefined
  const own: RouteOptions[] =
    upstreams === undefined && !answers
      ? []
      : [{ path: '/', upstreams: upstreams ?? [], shaping: { redirectTo, respond } }]
  return {
    hosts: [HOST],
    tls: { kind: 'file', certificate: '/unused', key: undefined, passphrase: undefined },
    deliver: [],
    hsts: false,
    redirect: false,
    upstreamTls: { verify: true },
    routes: [...routes, ...own].map((route) => ({
      path: route.path,
      upstreams: (route.upstreams ?? []).map(makeUpstream),
      balancing: { ...DEFAULT_BALANCING, ...balancing },
      ...withShaping(shapingOf(shaping, route.shaping ?? {})),
    })),
    ...rest,
  }
}

function withShaping(shaping: Shaping | undefined): { shaping?: Shaping } {
  return shaping === undefined ? {} : { shaping }
}

function makePolicy(options: FrontOptions): Policy {
  const sites = options.sites ?? [{ upstreams: options.upstreams ?? [] }]
  return {
    sites: sites.map(makeSite),
    timeouts: { ...TIMEOUTS, ...options.timeouts },
    trustedProxies: options.trustedProxies ?? [],
    httpsPort: 8443,
    httpPorts: [80],
  }
}

export class Front {
  readonly gateway: Gateway
  readonly wire: Wire
  readonly log: MemoryLog
  readonly #servers: Server[]

  private constructor(gateway: Gateway, wire: Wire, log: MemoryLog, servers: Server[]) {
    this.gateway = gateway
    this.wire = wire
    this.log = log
    this.#servers = servers
  }

  /** Started; drained and stopped with the test. */
  static async start(t: Test, makeWire: MakeWire, options: FrontOptions): Promise<Front> {
    const { clock = new SystemClock(), names = new Names() } = options
    const log = memoryLog()
    const gateway = new Gateway(makePolicy(options), {
      clock,
      log: log.log,
      names,
      stickyKey: Buffer.alloc(32, 'k'),
      challenge: (path) => options.challenges?.[path],
    })
    const accessLog = new AccessLog({
      clock,
      log: log.log,
      metrics: new Metrics(),
      access: () => true,
      random: () => 0,
    })
    const wire = makeWire({ gateway, accessLog, requestIds: new RequestIds(), clock })

    const secure = createTlsServer({
      cert: CREDENTIALS.chainPem,
      key: CREDENTIALS.keyPem,
      ALPNProtocols: ['h2', 'http/1.1'],
    })
    secure.on('secureConnection', (socket: TLSSocket & { servername?: string | false }) =>
      wire.accept(socket, {
        secure: true,
        serverName: socket.servername || undefined,
        protocol: socket.alpnProtocol === 'h2' ? 'h2' : 'http/1.1',
        clientAddress: socket.remoteAddress ?? '',
        localPort: socket.localPort ?? 0,
        ...(options.client && { client: options.client }),
      }),
    )
    const plain = createServer((socket) =>
      wire.accept(socket, {
        secure: false,
        serverName: undefined,
        protocol: 'http/1.1',
        clientAddress: socket.remoteAddress ?? '',
        localPort: socket.localPort ?? 0,
      }),
    )
    const servers = [secure, plain]
    for (const server of servers) await once(server.listen(0, '127.0.0.1'), 'listening')
    const front = new Front(gateway, wire, log, servers)
    t.teardown(() => front.stop())
    return front
  }

  get tlsPort(): number {
    return portOf(this.#servers[0]!)
  }

  get plainPort(): number {
    return portOf(this.#servers[1]!)
  }

  reload(options: FrontOptions): void {
    this.gateway.replace(makePolicy(options))
  }

  /** Cuts what is left. */
  async stop(): Promise<void> {
    for (const server of this.#servers) server.close()
    await this.wire.drain(AbortSignal.abort())
    this.gateway.close()
  }

  /** The access lines so far. */
  get requests(): MemoryLog['lines'] {
    return this.log.lines.filter((line) => line.msg.startsWith('request'))
  }
}

export function portOf(server: Server): number {
  return (server.address() as AddressInfo).port
}

/** Resolves once `condition` holds: looked at whenever the event loop has turned. The test's own timeout ends it. */
export async function until(condition: () => boolean): Promise<void> {
  while (!condition()) await new Promise((resolve) => setTimeout(resolve, 2))
}

/** Resolves with the count once it has not changed for a while. */
export async function stalled(count: () => number): Promise<number> {
  let last = count()
  for (let quiet = 0; quiet < 25; quiet++) {
    await new Promise((resolve) => setTimeout(resolve, 10))
    if (count() !== last) quiet = 0
    last = count()
  }
  return last
}

/** Writes so many MiB for as long as they are taken; the function returned says how many were. */
export function pour(socket: Writable, totalMib: number, piece = Buffer.alloc(2 ** 20, 'x')): () => number {
  let taken = 0
  const offer = (): void => {
    while (taken < totalMib && !socket.destroyed) {
      taken++
      if (!socket.write(piece)) break
    }
  }
  socket.on('drain', offer)
  offer()
  return () => taken
}
