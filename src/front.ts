/**
 * The fast world in one piece: whatever accepts connections and carries requests. It reads the inventory, which
 * `supply.ts` writes.
 *
 * SEAM `Front`, for `server.ts`: in this process (`LocalFront`), or in several that share the ports (`workers.ts`).
 */
import type { AttestedClock } from './attested-clock.ts'
import type { Certificate } from './cert/certificate.ts'
import { type GuardedSite, guardSites } from './cert/client-policy.ts'
import type { Inventory } from './cert/inventory.ts'
import type { Verdicts } from './cert/verdicts.ts'
import { Http01Solver } from './challenge/http-01.ts'
import type { Solver } from './challenge/solver.ts'
import { TlsAlpn01Solver } from './challenge/tls-alpn-01.ts'
import { findByHost } from './config/addresses.ts'
import type { Address, Config } from './config/schema.ts'
import { resolveSites } from './config/sites.ts'
import { AccessLog } from './http/access-log.ts'
import { CompatWire } from './http/compat/wire.ts'
import { FastWire } from './http/fast/wire.ts'
import { Gateway, type Policy, type UpstreamStatus } from './http/gateway.ts'
import { RequestIds } from './http/request-id.ts'
import type { Wire } from './http/wire.ts'
import type { Log } from './log.ts'
import type { Metrics, MetricsSnapshot } from './metrics.ts'
import { Streams } from './tcp/streams.ts'
import { type Clock, withDeadline } from './time.ts'
import { Contexts } from './tls/contexts.ts'
import { Listener, type ListenerPolicy } from './tls/listener.ts'
import { stateOf } from './upstreams/balancer.ts'
import { Names } from './upstreams/names.ts'

/** Where a front listens, with the real port for port 0. */
export interface Addresses {
  readonly https: readonly Address[]
  readonly http: readonly Address[]
}

/** What a front is made of. */
export interface FrontParts {
  readonly config: Config
  readonly clock: AttestedClock
  readonly log: Log
  readonly metrics: Metrics
  readonly inventory: Inventory
  readonly verdicts: Verdicts
  /** For session tickets: 48 bytes. Secret. */
  readonly ticketKeys: Buffer
  /** For the cookies of sticky routes; the same in every process and after a restart. Secret. */
  readonly stickyKey: Buffer
}

export interface Front {
  /** Answer the challenges that CAs put to the listeners. */
  readonly solvers: readonly Solver[]
  /** Listens; or rejects with a ConfigError, and nothing does. */
  start(): Promise<void>
  /** Takes over another config without dropping a connection; or rejects with a ConfigError and keeps the old one. */
  update(config: Config): Promise<void>
  /** Resolves once new connections get what has been published so far. */
  settled(): Promise<void>
  /** Readies a certificate that is about to be published. Throws CertificateError when it cannot be served. */
  warm(certificate: Certificate): void
  /** From now on tickets are made and read with these 48 bytes. */
  setTicketKeys(ticketKeys: Buffer): void
  /** The addresses are free when this returns; connections live on. */
  stopAccepting(): void
  /** Lets what is in flight finish within the drain limit, then lets go of everything. Also after a start that failed. */
  stop(): Promise<void>
  addresses(): Addresses
  /** For `/api/upstreams`. */
  upstreams(): Promise<readonly UpstreamStatus[]>
  /** Of other processes, to be added to those of this one. */
  metrics(): Promise<readonly MetricsSnapshot[]>
}

export interface LocalFrontOptions extends FrontParts {
  /** Do other processes listen on the same addresses? */
  readonly sharesPorts?: boolean
}

export class LocalFront implements Front {
  readonly solvers: readonly Solver[]
  readonly #clock: Clock
  readonly #log: Log
  readonly #contexts = new Contexts()
  readonly #gateway: Gateway
  readonly #wire: Wire
  readonly #streams: Streams
  readonly #listener: Listener
  #config: Config
  /** Those of the config, with what their files hold. */
  #sites: readonly GuardedSite[]

  /** @throws ConfigError when a file that the config names cannot be used */
  constructor(options: LocalFrontOptions) {
    const { clock, config, inventory, log, metrics, sharesPorts = false, stickyKey, ticketKeys } = options
    this.#clock = clock
    this.#log = log
    this.#config = config
    this.#sites = guardSites(resolveSites(config))
    const http01 = new Http01Solver()
    const tlsAlpn01 = new TlsAlpn01Solver(clock)
    this.solvers = [http01, tlsAlpn01]
    const names = new Names()
    this.#gateway = new Gateway(policyOf(config, this.#sites), {
      clock,
      log,
      names,
      stickyKey,
      challenge: (path) => http01.answer(path),
    })
    metrics.gauge(
      'holdfast_upstream_up',
      'Does the upstream take requests? 0: a process finds that it fails its health check, or has failed.',
      ['upstream'],
      () => upness(this.#upstreams()),
      'min',
    )
    const access = (): boolean | number => this.#config.log.access
    const accessLog = new AccessLog({ clock, log, metrics, access, random: Math.random })
    const wireOptions = { gateway: this.#gateway, accessLog, requestIds: new RequestIds(), clock }
    this.#wire = config.forwarder === 'fast' ? new FastWire(wireOptions) : new CompatWire(wireOptions)
    this.#streams = new Streams({
      clock,
      log,
      names,
      timeouts: () => this.#config.timeouts,
      access,
      random: Math.random,
    })
    this.#streams.replace(this.#sites)
    this.#listener = new Listener({
      policy: listenerPolicyOf(config, this.#sites),
      clock,
      log,
      metrics,
      contexts: this.#contexts,
      inventory,
      ticketKeys,
      sharesPorts,
      challenge: (serverName, keyType) => tlsAlpn01.find(serverName, keyType),
      onConnection: (socket, connection) => {
        const { stream } = connection
        if (stream === undefined) this.#wire.accept(socket, connection)
        else this.#streams.accept(socket, connection, stream)
      },
    })
  }

  start(): Promise<void> {
    return this.#listener.start()
  }

  async update(config: Config): Promise<void> {
    const sites = guardSites(resolveSites(config))
    this.#gateway.replace(policyOf(config, sites))
    this.#streams.replace(sites)
    try {
      await this.#listener.update(listenerPolicyOf(config, sites))
    } catch (error) {
      this.#gateway.replace(policyOf(this.#config, this.#sites))
      this.#streams.replace(this.#sites)
      throw error
    }
    this.#config = config
    this.#sites = sites
    this.#wire.retire(stalenessBy(sites))
  }

  async settled(): Promise<void> {}

  warm(certificate: Certificate): void {
    this.#contexts.warm(certificate)
  }

  setTicketKeys(ticketKeys: Buffer): void {
    this.#listener.setTicketKeys(ticketKeys)
  }

  stopAccepting(): void {
    this.#listener.stopAccepting()
  }

  async stop(): Promise<void> {
    this.#listener.stopAccepting()
    const limitMs = this.#config.timeouts.drain
    await withDeadline(this.#clock, limitMs, 'draining', undefined, (signal) =>
      Promise.all([this.#wire.drain(signal), this.#streams.drain(signal)]),
    ).catch(() => this.#log.warn('the drain limit is over: closed what was still open'))
    this.#listener.stop()
    this.#gateway.close()
    this.#streams.close()
  }

  addresses(): Addresses {
    return this.#listener.addresses()
  }

  async upstreams(): Promise<readonly UpstreamStatus[]> {
    return this.#upstreams()
  }

  #upstreams(): UpstreamStatus[] {
    const ofStreams = this.#streams.upstreams().map((status) => ({ ...status, path: undefined }))
    return [...this.#gateway.upstreams(), ...ofStreams]
  }

  async metrics(): Promise<readonly MetricsSnapshot[]> {
    return []
  }
}

/** Each upstream once: 1, or 0 where any route finds it down. */
function* upness(statuses: readonly UpstreamStatus[]): Generator<[{ upstream: string }, number]> {
  for (const [upstream, of] of Map.groupBy(statuses, ({ url }) => url))
    yield [{ upstream }, of.every((status) => stateOf(status) === 'up') ? 1 : 0]
}

function policyOf(config: Config, all: readonly GuardedSite[]): Policy {
  const sites = all.filter(({ stream }) => stream?.mode !== 'tcp')
  const { listen, timeouts, trustedProxies } = config
  const httpPorts = listen.http.map(({ port }) => port)
  return { sites, timeouts, trustedProxies, httpsPort: listen.https[0]?.port ?? 443, httpPorts }
}

function listenerPolicyOf(config: Config, all: readonly GuardedSite[]): ListenerPolicy {
  const { https, http, proxyProtocol } = config.listen
  const { defaultHost, minVersion } = config.tls
  const sites = sitesByHost(all)
  return {
    https,
    http,
    proxyProtocol,
    sites,
    minVersion,
    defaultHost,
    handshakeTimeoutMs: config.timeouts.head,
  }
}

/**
 * Is a connection by other rules for client certificates than now? It would get 421 from now on, and few clients try again
 * by themselves.
 */
function stalenessBy(sites: readonly GuardedSite[]): Parameters<Wire['retire']>[0] {
  const byHost = sitesByHost(sites)
  const policies = new Set(sites.map(({ clientPolicy }) => clientPolicy?.id))
  return ({ client, serverName = '' }) =>
    client === undefined
      ? findByHost(byHost, serverName)?.clientPolicy !== undefined
      : !policies.has(client.policy)
}

/** None where all speak HTTP, with whoever comes. */
function sitesByHost(sites: readonly GuardedSite[]): ReadonlyMap<string, GuardedSite> {
  const alike = ({ stream, clientPolicy }: GuardedSite) => stream === undefined && clientPolicy === undefined
  if (sites.every(alike)) return new Map()
  return new Map(sites.flatMap((site) => site.hosts.map((host) => [host, site] as const)))
}
