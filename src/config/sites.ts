/**
 * What is served, with every default applied, so that no engine reads a default or a preset of its own.
 * Receives a checked `Config` from `load.ts`; hands `Site` to `http/` and `renew/`, `Ca` to `ca/`, through `server.ts`.
 */
import { isPrivateHost } from './addresses.ts'
import { type Balancing, balancingOf, streamBalancingOf } from './balancing.ts'
import { type Ca, canServe, INTERNAL, operatorOf, resolveCa, typeOf } from './cas.ts'
import { type Delivery, deliveryOf } from './deliver.ts'
import type { CaConfig, Config, RouteConfig, SiteConfig, UpstreamConfig } from './schema.ts'
import { answerOf, type Shaping, shapingOf } from './shaping.ts'
import { spreadCas } from './spread.ts'

/** Certificates are ordered and renewed, one a host and role. */
export interface IssuedPolicy {
  readonly kind: 'issued'
  /** Names of CAs in order of preference; at least one, and each can serve every host of the site. */
  readonly cas: readonly string[]
  /** Who runs each of them. */
  readonly operators: ReadonlyMap<string, string>
  readonly standby: Config['tls']['standby']
  /** In order of preference, and only those that a listener can answer. */
  readonly challenges: Config['tls']['challenges']
  readonly keyType: Config['tls']['keyType']
  /** Keep the key when a certificate is renewed? */
  readonly reuseKey: boolean
  /** Serve a certificate of the internal CA until the first one is there? */
  readonly interim: boolean
}

/** One certificate of the operator's own, for all hosts of the site. */
export interface FilePolicy {
  readonly kind: 'file'
  /** Absolute path: a PEM chain, or PKCS#12. */
  readonly certificate: string
  /** Absolute path; undefined: the key is in `certificate`. */
  readonly key: string | undefined
  /** Secret. */
  readonly passphrase: string | undefined
}

/** TLS is the upstream's, and so are the certificates. */
export interface PassthroughPolicy {
  readonly kind: 'passthrough'
}

export type TlsPolicy = IssuedPolicy | FilePolicy | PassthroughPolicy

/** Where connections go that are not taken for HTTP. */
export interface Stream {
  /** `tcp`: TLS ends here. */
  readonly mode: 'tcp' | 'passthrough'
  /** Protocols for ALPN, in order of preference. */
  readonly alpn: readonly string[]
  /** At least one. */
  readonly upstreams: readonly UpstreamConfig[]
  /** Of connections, where others are of requests. */
  readonly balancing: Balancing
  /** Which PROXY header the upstreams get. */
  readonly proxyProtocol: 'v1' | 'v2' | undefined
}

/** Where requests below one path go, and how they are spread. */
export interface SiteRoute {
  readonly path: string
  /** None where the route answers by itself. */
  readonly upstreams: readonly UpstreamConfig[]
  readonly balancing: Balancing
  /** Absent: every request goes to an upstream. */
  readonly shaping?: Shaping
}

export interface Site {
  /** A-labels, `*.` wildcards and canonical IP addresses; no host is in two sites. */
  readonly hosts: readonly string[]
  /** One for all its hosts. */
  readonly tls: TlsPolicy
  /** Longest path first; the site's own upstreams are the route `/`. At least one, but none where there is a `stream`. */
  readonly routes: readonly SiteRoute[]
  /** Absent: the site speaks HTTP. */
  readonly stream?: Stream
  /** Each rule for each host. */
  readonly deliver: readonly Delivery[]
  readonly hsts: SiteConfig['hsts']
  /** Redirect plain HTTP to HTTPS? Otherwise plain HTTP is proxied too. */
  readonly redirect: boolean
  readonly upstreamTls: SiteConfig['upstreamTls']
  /** Absent: clients are not asked for a certificate. */
  readonly clientCertificates?: ClientCertificates
}

/** Names of fields by what they tell upstreams. */
export type ClientFieldNames = NonNullable<ClientConfig['headers']>

/** Paths are absolute. */
export interface ClientCertificates extends Omit<ClientConfig, 'headers'> {
  readonly headers: ClientFieldNames
}

type ClientConfig = NonNullable<SiteConfig['tls']['clientCertificates']>

/** RFC 9440. */
const CLIENT_FIELD_NAMES: ClientFieldNames = { certificate: 'Client-Cert' }

/**
 * The sites in the config's order. A site whose hosts need different CAs (`app.example.com` and `localhost`) comes
 * as one `Site` for each list of CAs; these share their `routes` array.
 */
export function resolveSites(config: Config): Site[] {
  return config.sites.flatMap((site) => {
    const { hsts, redirect, upstreamTls } = site
    const { clientCertificates } = site.tls
    const stream = streamOf(site)
    const ways = stream === undefined ? { routes: routesOf(site) } : { routes: [], stream }
    const clients =
      clientCertificates === undefined ? {} : { clientCertificates: clientsOf(clientCertificates) }
    const rest = { ...ways, ...clients, hsts, redirect, upstreamTls }
    return policiesOf(site, config).map(({ hosts, tls }) => {
      const deliver = hosts.flatMap((host) => site.deliver.map((rule) => deliveryOf(host, rule)))
      return { hosts, tls, deliver, ...rest }
    })
  })
}

function clientsOf({ headers = CLIENT_FIELD_NAMES, ...rest }: ClientConfig): ClientCertificates {
  return { ...rest, headers }
}

/** Every CA that the config holds or that a site uses, and always `internal`; by name. */
export function resolveCas(config: Config): ReadonlyMap<string, Ca> {
  const used = resolveSites(config).flatMap(({ tls }) => (tls.kind === 'issued' ? tls.cas : []))
  const configured = new Map(Object.entries(config.cas))
  const names = new Set([...configured.keys(), ...used, INTERNAL])
  const cas = [...names].map((name) => resolveCa(name, configured.get(name)))
  return new Map(cas.filter((ca) => ca !== undefined).map((ca) => [ca.name, ca]))
}

/** The entries of `cas` by name. An entry that does not parse is undefined. */
export type CaConfigs = ReadonlyMap<string, CaConfig | undefined>

/**
 * The CAs for a host before asking which can serve it: what the site lists, else what the top `tls` lists, else the
 * ACME CAs of `cas` (a private one serves public names only where there is no public one), else Let's Encrypt.
 */
export function listedCas(
  host: string,
  site: SiteConfig,
  globalTls: Config['tls'],
  configured: CaConfigs,
): readonly string[] {
  const listed = site.tls.cas ?? globalTls.cas
  if (listed !== undefined) return listed
  const acme = [...configured].filter(([name, config]) => typeOf(name, config) === 'acme')
  const known = acme.filter(([name, config]) => isPublic(resolveCa(name, config)))
  const chosen = known.length === 0 || isPrivateHost(host) ? acme : known
  return chosen.length === 0 ? ['letsencrypt'] : chosen.map(([name]) => name)
}

function isPublic(ca: Ca | undefined): boolean {
  return ca?.type === 'acme' && ca.public
}

function policiesOf(site: SiteConfig, config: Config): { hosts: string[]; tls: TlsPolicy }[] {
  if (site.mode === 'passthrough') return [{ hosts: site.hosts, tls: { kind: 'passthrough' } }]
  const { certificate, key, passphrase } = site.tls
  if (certificate !== undefined)
    return [{ hosts: site.hosts, tls: { kind: 'file', certificate, key, passphrase } }]
  const policy = {
    kind: 'issued',
    standby: site.tls.standby ?? config.tls.standby,
    challenges: answerable(site.tls.challenges ?? config.tls.challenges, config.listen),
    keyType: site.tls.keyType ?? config.tls.keyType,
    reuseKey: site.tls.reuseKey ?? config.tls.reuseKey,
    interim: site.tls.interim ?? config.tls.interim,
  } as const
  const hostsByCas = Map.groupBy(site.hosts, (host) => servingCas(host, site, config).join())
  return [...hostsByCas].map(([list, hosts]) => {
    const cas = list.split(',')
    return { hosts, tls: { ...policy, cas, operators: operatorsOf(cas, config) } }
  })
}

function operatorsOf(cas: readonly string[], config: Config): ReadonlyMap<string, string> {
  const resolved = cas.flatMap((name) => resolveCa(name, config.cas[name]) ?? [])
  return new Map(resolved.map((ca) => [ca.name, operatorOf(ca)]))
}

/** Of the listed CAs those that can serve the host; the internal one where none can (`consistency.ts` says when not). */
function servingCas(host: string, site: SiteConfig, config: Config): readonly string[] {
  const configured = new Map(Object.entries(config.cas))
  const able = listedCas(host, site, config.tls, configured).filter((name) => {
    const ca = resolveCa(name, configured.get(name))
    return ca !== undefined && canServe(ca, host)
  })
  if (able.length === 0) return [INTERNAL]
  if (!config.tls.spread) return able
  return spreadCas(host, able, (name) => isPublic(resolveCa(name, configured.get(name))))
}

/**
 * By host, of the CAs that the operator lists for it those that cannot serve it. A private name gives none up that are
 * listed for every host: there each is for the hosts that it can serve.
 */
export function givenUpCas(config: Config): ReadonlyMap<string, readonly Ca[]> {
  const issued = config.sites.filter(
    ({ mode, tls }) => mode !== 'passthrough' && tls.certificate === undefined,
  )
  return new Map(
    issued.flatMap((site) =>
      site.hosts.map((host) => {
        const listed = site.tls.cas ?? (isPrivateHost(host) ? [] : (config.tls.cas ?? []))
        const cas = listed.flatMap((name) => resolveCa(name, config.cas[name]) ?? [])
        return [host, cas.filter((ca) => !canServe(ca, host))] as const
      }),
    ),
  )
}

/**
 * Hosts that no other can issue for while one public CA, or the one company of several, is down; by the names of these CAs.
 * What the internal CA would issue instead is good for nobody who trusts public CAs only.
 */
export function hostsOfOneCa(config: Config): ReadonlyMap<string, readonly string[]> {
  const cas = resolveCas(config)
  const alone = resolveSites(config).flatMap(({ hosts, tls }) => {
    if (tls.kind !== 'issued') return []
    const able = tls.cas.flatMap((name) => cas.get(name) ?? [])
    const asked = able.filter((ca) => ca.type === 'acme' && !ca.distrusted)
    if (!asked.some(isPublic) || new Set(asked.map((ca) => operatorOf(ca))).size > 1) return []
    return [{ names: asked.map(({ name }) => name).join(', '), hosts }]
  })
  const byNames = Map.groupBy(alone, ({ names }) => names)
  return new Map([...byNames].map(([names, sites]) => [names, sites.flatMap(({ hosts }) => hosts)]))
}

/** The challenges that a listener of ours can answer. */
export function answerable(
  challenges: Config['tls']['challenges'],
  listen: Config['listen'],
): Config['tls']['challenges'] {
  return challenges.filter((type) => (type === 'http-01' ? listen.http : listen.https).length > 0)
}

function streamOf(site: SiteConfig): Stream | undefined {
  const { mode, alpn = [], upstreams = [], proxyProtocol } = site
  if (mode === 'http') return undefined
  return { mode, alpn, upstreams, balancing: streamBalancingOf(site), proxyProtocol }
}

function routesOf(site: SiteConfig): SiteRoute[] {
  const { upstreams, redirectTo, respond, rewrite } = site
  const own: RouteConfig[] =
    answerOf(site) === undefined ? [] : [{ path: '/', upstreams, redirectTo, respond, rewrite }]
  return [...site.routes, ...own]
    .map((route) => {
      const shaping = shapingOf(site, route)
      return {
        path: route.path,
        upstreams: route.upstreams ?? [],
        balancing: balancingOf(site, route),
        ...(shaping && { shaping }),
      }
    })
    .sort((a, b) => b.path.length - a.path.length)
}
