/**
 * One upstream server as every wire sees it: where it is, how to verify it, and whether it failed lately.
 * `Backends` keeps these objects over reloads, so that connections to an unchanged upstream stay open.
 */
import { readFileSync } from 'node:fs'
import { isIP } from 'node:net'
import { createSecureContext, getCACertificates, type SecureContext } from 'node:tls'
import { type ClientCredentials, readClientCredentials } from '../cert/client-credentials.ts'
import type { Upstream } from '../config/schema.ts'
import type { Site } from '../config/sites.ts'
import { ConfigError, messageOf } from '../errors.ts'

/** For `tls.connect` to an `https://` or `h2://` upstream. */
export interface BackendTls {
  /** Empty for an IP address, which has no SNI; its certificate is checked against the address then. */
  readonly servername: string
  readonly rejectUnauthorized: boolean
  /** Whom to trust, and what to show. Undefined: the runtime's own roots, and nothing. */
  readonly secureContext: SecureContext | undefined
}

export class Backend {
  /** As in the configuration, for logs. */
  readonly url: string
  readonly host: string
  readonly port: number
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
  /** Called when a request is done; empty unless some wait for that. */
  readonly onRelease = new Set<() => void>()
  readonly #retire = new AbortController()

  constructor(upstream: Upstream, tls: BackendTls | undefined) {
    this.url = upstream.url
    this.host = upstream.host
    this.port = upstream.port
    this.authority = upstream.url.slice(upstream.url.indexOf('//') + 2)
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

  retire(): void {
    this.#retire.abort()
  }
}

/** The backends in use, by what makes them different: address and the way of verifying. */
export class Backends {
  #byKey = new Map<string, Backend>()

  /**
   * Builds a table with `build`, which asks for backends; those that it did not ask for are retired. Throws what
   * `build` throws, and keeps everything then.
   */
  renew(build: (find: (upstream: Upstream, tls: Site['upstreamTls']) => Backend) => void): void {
    const next = new Map<string, Backend>()
    build((upstream, tls) => {
      const roots = tls.roots === undefined || !upstream.secure ? undefined : readRoots(tls.roots)
      const own = upstream.secure ? readOwn(tls) : undefined
      const key = JSON.stringify([upstream.url, upstream.secure && tls, roots, own?.id])
      const backend = this.#byKey.get(key) ?? next.get(key) ?? createBackend(upstream, tls, roots, own)
      next.set(key, backend)
      return backend
    })
    for (const [key, backend] of this.#byKey) if (!next.has(key)) backend.retire()
    this.#byKey = next
  }
}

function createBackend(
  upstream: Upstream,
  tls: Site['upstreamTls'],
  roots: string | undefined,
  own: ClientCredentials | undefined,
): Backend {
  if (!upstream.secure) return new Backend(upstream, undefined)
  const name = tls.serverName ?? upstream.host
  return new Backend(upstream, {
    servername: isIP(name) === 0 ? name : '',
    rejectUnauthorized: tls.verify,
    secureContext: roots === undefined && own === undefined ? undefined : contextOf(roots, own),
  })
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

function readRoots(path: string): string {
  try {
    return readFileSync(path, 'utf8')
  } catch (error) {
    const problem = { path: 'sites.upstreamTls.roots', message: `cannot read ${path}: ${messageOf(error)}` }
    throw new ConfigError([problem], { cause: error })
  }
}
