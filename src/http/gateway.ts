/**
 * What becomes of a request, decided from its head alone: synchronous, no I/O, for every wire.
 * Receives sites from `server.ts` (at start and at reload), facts from a wire; hands back a verdict that the wire carries out.
 */
import type { GuardedSite } from '../cert/client-policy.ts'
import { isPlain, readPath, withoutSlash, writePath } from '../config/paths.ts'
import type { Timeouts } from '../config/schema.ts'
import type { SiteRoute } from '../config/sites.ts'
import { ProxyError } from '../errors.ts'
import type { Log } from '../log.ts'
import type { Clock } from '../time.ts'
import { Balancer, type MemberStatus } from '../upstreams/balancer.ts'
import { Members } from '../upstreams/members.ts'
import type { Names } from '../upstreams/names.ts'
import { Sticky } from '../upstreams/sticky.ts'
import { authorityOf, hostOf } from './authority.ts'
import { believedNames, type ClientFields, clientFieldsOf } from './client-fields.ts'
import { compileEdits } from './edits.ts'
import { AddressRanges, clientBehind } from './forwarded.ts'
import { hstsValue } from './headers.ts'
import { type Shaper, Shapers } from './shaping.ts'
import type { Forward, RequestFacts, Verdict } from './verdict.ts'

/** One upstream of one route, for `/api/upstreams`. */
export interface UpstreamStatus extends MemberStatus {
  readonly host: string
  /** Undefined: connections go there as they are. */
  readonly path: string | undefined
}

/** What a reload can change. */
export interface Policy {
  /** Those that speak HTTP, and those that are passed through, whose clients may come by plain HTTP first. */
  readonly sites: readonly GuardedSite[]
  readonly timeouts: Timeouts
  /** Addresses and CIDR ranges. */
  readonly trustedProxies: readonly string[]
  /** The port where clients reach the TLS listener, for redirects. */
  readonly httpsPort: number
  /** Those that plain HTTP is listened for on. */
  readonly httpPorts: readonly number[]
}

export interface GatewayOptions {
  readonly clock: Clock
  readonly log: Log
  /** Of upstreams. */
  readonly names: Names
  /** For the cookies of sticky routes. Secret. */
  readonly stickyKey: Buffer
  /** The answer to an HTTP-01 challenge (RFC 8555 section 8.3) by its whole path; undefined when it is not ours. */
  readonly challenge: (path: string) => string | undefined
}

const CHALLENGE_PREFIX = '/.well-known/acme-challenge/'

const BAD_HOST = refuse(new ProxyError('REQUEST_INVALID', 400, 'the Host field is absent or not a host'))
const NO_TUNNELS = refuse(new ProxyError('REQUEST_INVALID', 501, 'CONNECT is not supported'))
const MISDIRECTED = refuse(
  new ProxyError(
    'MISDIRECTED',
    421,
    'the Host field does not belong to the name that the TLS connection is for',
  ),
)
const CLIENT_TOO_LARGE = refuse(
  new ProxyError(
    'REQUEST_INVALID',
    431,
    'the client certificate is too large for the fields that tell of it',
  ),
)
const UNKNOWN_HOST = refuse(new ProxyError('NO_ROUTE', 404, 'no site has this host'))
const NO_ROUTE = refuse(new ProxyError('NO_ROUTE', 404, 'no route of the site has this path'))
const CLIMBS = refuse(new ProxyError('REQUEST_INVALID', 400, 'the path leads above its root'))
const NO_CHALLENGE = refuse(new ProxyError('NO_ROUTE', 404, 'no challenge is pending for this path'))

/** What a Host field says, and whose it is. */
interface LookedUp {
  readonly authority: string | undefined
  /** Undefined: it names no host. */
  readonly host: string | undefined
  readonly site: SiteEntry | undefined
}

const NOBODY: LookedUp = { authority: undefined, host: undefined, site: undefined }

export class Gateway {
  readonly #options: GatewayOptions
  readonly #members: Members
  #sites: ReadonlyMap<string, SiteEntry> = new Map()
  #policy: Policy
  #trusted = new AddressRanges([])
  #recent: LookedUp = NOBODY

  /** Throws `ConfigError` as `replace` does. */
  constructor(policy: Policy, options: GatewayOptions) {
    const { clock, log, names } = options
    this.#options = options
    this.#members = new Members(names, { clock, log, random: Math.random })
    this.#policy = policy
    this.replace(policy)
  }

  /** In milliseconds; read them for each request, since a reload may change them. */
  get timeouts(): Timeouts {
    return this.#policy.timeouts
  }

  /** May the peer of this address say for whom it asks? Ask once a connection. */
  trusts(address: string): boolean {
    return this.#trusted.contains(address)
  }

  /** Who asks, by the word of a peer that is trusted; of others do not ask: it is themselves. */
  clientOf(peerAddress: string, forwardedFor: string): string {
    return clientBehind(peerAddress, forwardedFor, this.#trusted)
  }

  /**
   * Swaps everything at once: a request sees the old policy or the new one. Upstreams that did not change keep their
   * backend. Reads the files of `upstreamTls` (blocking); throws `ConfigError` and keeps the old policy when one
   * cannot be read.
   */
  replace(policy: Policy): void {
    const { clock, log, stickyKey: key } = this.#options
    const { sites, trustedProxies } = policy
    const table = new Map<string, SiteEntry>()
    const trusted = new AddressRanges(trustedProxies)
    const shapers = new Shapers(clock)
    const believed = believedNames(sites)
    this.#members.renew((membersOf) => {
      for (const site of sites) {
        const balance = ({ path, upstreams, balancing }: SiteRoute): Balancer => {
          const { sticky: cookie } = balancing
          const members = membersOf(upstreams, balancing, site.upstreamTls)
          const sticky = cookie === undefined ? undefined : new Sticky(members, { cookie, path, key })
          return new Balancer(members, balancing, { clock, log, random: Math.random, sticky })
        }
        const entry = new SiteEntry(site, clientFieldsOf(site, believed), shapers, balance)
        for (const host of site.hosts) table.set(host, entry)
      }
    })
    this.#sites = table
    this.#recent = NOBODY
    this.#policy = policy
    this.#trusted = trusted
  }

  /** For `/api/upstreams`: where each site's routes lead. */
  upstreams(): UpstreamStatus[] {
    return [...this.#sites].flatMap(([host, site]) => site.upstreams().map((status) => ({ host, ...status })))
  }

  /** Ends the health checks. */
  close(): void {
    this.#members.stop()
  }

  decide(facts: RequestFacts): Verdict {
    const challenge = facts.secure ? undefined : this.#answerChallenge(facts)
    if (challenge !== undefined) return challenge
    if (facts.method === 'CONNECT') return NO_TUNNELS

    const { host, site } = this.#lookUp(facts.host)
    if (host === undefined) return BAD_HOST
    if (facts.secure) {
      if (facts.serverName !== undefined && facts.serverName !== host) {
        if (site === undefined || this.#find(facts.serverName) !== site) return MISDIRECTED
      }
      // RFC 9110 section 7.4: also from a client that has asked under another name, or none, to be let in here.
      if (site === undefined || site.passedThrough || site.clientPolicy !== facts.client?.policy)
        return MISDIRECTED
      if (site.clientFields?.fits(facts.client) === false) return CLIENT_TOO_LARGE
      return site.route(facts) ?? NO_ROUTE
    }

    if (site === undefined) return UNKNOWN_HOST
    if (!site.redirect && site.clientPolicy === undefined) return site.route(facts) ?? NO_ROUTE
    // A CA that validates a site that is passed through follows the redirect to where its certificates are ordered.
    if (!site.passedThrough && facts.target.startsWith(CHALLENGE_PREFIX)) return NO_CHALLENGE
    return redirect(`https://${authorityOf(host, this.#portFor(facts.host), 443)}${facts.target}`)
  }

  /** Who came to port 80, where we do not listen, came by ports that are mapped, as a container's are: the other one is 443. */
  #portFor(authority = ''): number {
    const cameToPort80 = !/:\d*$/.test(authority) || /:(?:80)?$/.test(authority)
    const { httpPorts, httpsPort } = this.#policy
    return cameToPort80 && !httpPorts.includes(80) ? 443 : httpsPort
  }

  #answerChallenge({ method, target }: RequestFacts): Verdict | undefined {
    if (!target.startsWith(CHALLENGE_PREFIX) || (method !== 'GET' && method !== 'HEAD')) return undefined
    const body = this.#options.challenge(target)
    if (body === undefined) return undefined
    return { action: 'answer', status: 200, headers: [['content-type', 'application/octet-stream']], body }
  }

  /** Most requests ask for the host that the one before asked for. */
  #lookUp(authority: string | undefined): LookedUp {
    if (authority !== this.#recent.authority) {
      const host = authority === undefined ? undefined : hostOf(authority)
      this.#recent = { authority, host, site: host === undefined ? undefined : this.#find(host) }
    }
    return this.#recent
  }

  /** The site of a host: by its own name, else by the wildcard that stands for its first label. */
  #find(host: string): SiteEntry | undefined {
    const exact = this.#sites.get(host)
    if (exact !== undefined) return exact
    const dot = host.indexOf('.')
    return dot === -1 ? undefined : this.#sites.get(`*${host.slice(dot)}`)
  }
}

/** A path, with or without a slash at its end, and what is below it. */
class Prefix {
  readonly path: string
  readonly #bare: string
  readonly #below: string

  constructor(path: string) {
    this.path = path
    this.#bare = withoutSlash(path)
    this.#below = `${this.#bare}/`
  }

  covers(path: string): boolean {
    return path === this.#bare || path.startsWith(this.#below)
  }
}

interface RouteEntry {
  /** In its plain spelling, as nearly every request has it. */
  readonly sent: Prefix
  /** As it is read. */
  readonly read: Prefix
  readonly shaper: Shaper | undefined
  readonly verdict: Forward
}

class SiteEntry {
  readonly redirect: boolean
  /** TLS is its upstreams': only plain HTTP comes here. */
  readonly passedThrough: boolean
  readonly clientPolicy: string | undefined
  readonly clientFields: ClientFields | undefined
  /** Longest path first. */
  readonly #routes: readonly RouteEntry[]
  /** Is it the same for it how a path is read? */
  readonly #takesAll: boolean

  constructor(
    site: GuardedSite,
    clientFields: ClientFields | undefined,
    shapers: Shapers,
    balance: (route: SiteRoute) => Balancer,
  ) {
    this.redirect = site.redirect
    this.passedThrough = site.stream !== undefined
    this.clientPolicy = site.clientPolicy?.id
    this.clientFields = clientFields
    const hsts = hstsValue(site.hsts)
    this.#routes = site.routes
      .map((route) => ({
        sent: new Prefix(route.path),
        read: new Prefix(readPath(route.path)?.path ?? route.path),
        shaper: route.shaping && shapers.compile(route.shaping, hsts),
        verdict: {
          action: 'forward',
          route: {
            path: route.path,
            balancer: balance(route),
            hsts,
            clientFields,
            maxBodyBytes: route.shaping?.maxBody ?? Number.POSITIVE_INFINITY,
            rewrite: route.shaping?.rewrite,
            target: undefined,
            requestEdits: compileEdits(route.shaping?.requestHeaders),
            responseEdits: compileEdits(route.shaping?.responseHeaders),
            compress: route.shaping?.compress ?? false,
          },
        } as const,
      }))
      .sort((a, b) => b.read.path.length - a.read.path.length)
    const [first] = this.#routes
    this.#takesAll =
      this.#routes.length === 1 && first?.sent.path === '/' && first.verdict.route.rewrite === undefined
  }

  upstreams(): Omit<UpstreamStatus, 'host'>[] {
    return this.#routes.flatMap(({ sent: { path }, verdict }) =>
      verdict.route.balancer.statuses().map((status) => ({ path, ...status })),
    )
  }

  /**
   * By the longest prefix that ends where a segment ends. A path that another program could read as one of another route
   * goes by that reading, and on in the plain spelling of it, so that nobody below reads anything else. What would take
   * the same route either way goes on as it was sent: an app may tell `%2F` from a slash.
   */
  route(facts: RequestFacts): Verdict | undefined {
    const { target } = facts
    const query = target.indexOf('?')
    const path = query === -1 ? target : target.slice(0, query)
    const asSent = this.#sentTo(path)
    if (this.#takesAll || isPlain(path)) return asSent && verdictOf(asSent, facts)
    const reading = readPath(path)
    if (reading === undefined) return CLIMBS
    const asRead = this.#routes.find(({ read }) => read.covers(reading.path))
    if (asRead === undefined) return undefined
    // Between the path as it is and this reading of it, no other can take another route either.
    if (asRead === asSent && !reading.isTreacherous) return verdictOf(asRead, facts)
    const plain = writePath(reading.path) + target.slice(path.length)
    const route = { ...asRead.verdict.route, target: plain }
    return verdictOf({ ...asRead, verdict: { action: 'forward', route } }, facts)
  }

  #sentTo(path: string): RouteEntry | undefined {
    for (const route of this.#routes) if (route.sent.covers(path)) return route
    return undefined
  }
}

function verdictOf({ shaper, verdict }: RouteEntry, facts: RequestFacts): Verdict {
  return shaper === undefined ? verdict : shaper.decide(facts, verdict)
}

function refuse(error: ProxyError): Verdict {
  return { action: 'refuse', error }
}

function redirect(location: string): Verdict {
  return { action: 'answer', status: 308, headers: [['location', location]], body: '' }
}
