/**
 * One upstream server as every wire sees it: where it is, how to verify it, and whether it failed lately.
 * `Backends` keeps these objects over reloads, so that connections to an unchanged upstream stay open.
 */
import { isIP, type TcpNetConnectOpts } from 'node:net'
import { createSecureContext, getCACertificates, type SecureContext } from 'node:tls'
import { type ClientCredentials, readClientCredentials } from '../cert/client-credentials.ts'
import { readTextOf } from '../config/named-files.ts'
import type { Upstream } from '../config/schema.ts'
import type { Site } from '../config/sites.ts'
import { ConfigError, messageOf } from '../errors.ts'
import { MINUTE } from '../time.ts'
import type { Names } from './names.ts'

/** For `tls.connect` to an `https://` or `h2://` upstream. */
export interface BackendTls {
  /** Empty for an IP address, which has no SNI; its certificate is checked against the address then. */
  readonly servername: string
  readonly rejectUnauthorized: boolean
  /** Whom to trust, and what to show. Absent: the runtime's own roots, and nothing. */
  readonly secureContext?: SecureContext
}

/** For `net.connect` and `tls.connect`: a name is resolved anew each time. */
export type BackendAddress = Pick<TcpNetConnectOpts, 'host' | 'port' | 'lookup'> | { readonly path: string }

/** How long connections to a name are kept in use, which may have moved in the meantime. */
const NAMED_AGE_MS = MINUTE

export class Backend {
  /** As in the configuration, for logs. */
  readonly url: string
  readonly address: BackendAddress
  /** After how long a connection takes no further requests. Infinity where the address cannot change. */
  readonly maxAgeMs: number
  /** As Host and :authority name it: without the default port, IPv6 in brackets. */
  readonly authority: string
  readonly protocol: Upstream['protocol']
  /** Undefined for an `http://` or `h2c://` upstream. */
  readonly tls: BackendTls | undefined
  /** Aborts when a reload has left the backend unused: close what is idle; requests in flight may finish. */
  readonly retired: AbortSignal
  /** Requests in progress, of all routes. */
  active = 0
  /** Requests since the start. */
  requests = 0
  failures = 0
  failuresInRow = 0
  /** On the clock's monotonic scale: until then others are preferred. 0: it has not failed, or is back. */
  ejectedUntil = 0
  /** What went wrong last. */
  problem: string | undefined
  /** When it came back, on the same scale. */
  upSince = Number.NEGATIVE_INFINITY
  /** Called when it may take a request that it did not take before; empty unless some wait for that. */
  readonly onRoom = new Set<() => void>()
  readonly #retire = new AbortController()

  constructor(upstream: Upstream, tls: BackendTls | undefined, names: Names) {
    const { url, host, port, socketPath } = upstream
    const isName = socketPath === undefined && isIP(host) === 0
    this.url = url
    this.address = socketPath === undefined ? { host, port, lookup: names.lookup } : { path: socketPath }
    this.maxAgeMs = isName ? NAMED_AGE_MS : Number.POSITIVE_INFINITY
    this.authority = socketPath === undefined ? url.slice(url.indexOf('//') + 2) : host
    this.protocol = upstream.protocol
    this.tls = tls
    this.retired = this.#retire.signal
  }

  /** @param problem what went wrong, for people */
  failed(problem: string): void {
    this.problem = problem
    this.failures++
    this.failuresInRow++
  }

  tellOfRoom(): void {
    for (const tell of this.onRoom) tell()
  }

  retire(): void {
    this.#retire.abort()
  }
}

/** The backends in use, by what makes them different: address and the way of verifying. */
export class Backends {
  readonly #names: Names
  #byKey = new Map<string, Backend>()

  constructor(names: Names) {
    this.#names = names
  }

  /**
   * Builds a table with `build`, which asks for backends; those that it did not ask for are retired. Throws what
   * `build` throws, and keeps everything then.
   */
  renew(build: (find: (upstream: Upstream, tls: Site['upstreamTls']) => Backend) => void): void {
    const next = new Map<string, Backend>()
    build((upstream, tls) => {
      const roots =
        tls.roots === undefined || !upstream.secure
          ? undefined
          : readTextOf('sites.upstreamTls.roots', tls.roots)
      const own = upstream.secure ? readOwn(tls) : undefined
      const key = JSON.stringify([upstream.url, upstream.secure && tls, roots, own?.id])
      const backend = this.#byKey.get(key) ?? next.get(key) ?? this.#create(upstream, tls, roots, own)
      next.set(key, backend)
      return backend
    })
    for (const [key, backend] of this.#byKey) if (!next.has(key)) backend.retire()
    this.#byKey = next
  }

  #create(
    upstream: Upstream,
    tls: Site['upstreamTls'],
    roots: string | undefined,
    own: ClientCredentials | undefined,
  ): Backend {
    return new Backend(upstream, upstream.secure ? tlsFor(upstream, tls, roots, own) : undefined, this.#names)
  }
}

function tlsFor(
  { host }: Upstream,
  tls: Site['upstreamTls'],
  roots: string | undefined,
  own: ClientCredentials | undefined,
): BackendTls {
  const name = tls.serverName ?? host
  return {
    servername: isIP(name) === 0 ? name : '',
    rejectUnauthorized: tls.verify,
    ...(roots === undefined && own === undefined ? {} : { secureContext: contextOf(roots, own) }),
  }
}

function contextOf(roots: string | undefined, own: ClientCredentials | undefined): SecureContext {
  return createSecureContext({
    ...(roots && { ca: [...getCACertificates('default'), roots] }),
    ...(own && { cert: own.chainPem, key: own.keyPem }),
  })
}

function readOwn({ certificate, key }: Site['upstreamTls']): ClientCredentials | undefined {
  if (certificate === undefined) return undefined
  try {
    return readClientCredentials(certificate, key)
  } catch (error) {
    const problem = { path: 'sites.upstreamTls.certificate', message: messageOf(error) }
    throw new ConfigError([problem], { cause: error })
  }
}
