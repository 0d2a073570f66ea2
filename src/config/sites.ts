/**
 * What is served, with every default applied, so that no engine reads a default or a preset of its own.
 * Receives a checked `Config` from `load.ts`; hands `Site` to `http/` and `renew/`, `Ca` to `ca/`, through `server.ts`.
 */
import { type Ca, canServe, INTERNAL, resolveCa } from './cas.ts'
import type { Config, RouteConfig, SiteConfig } from './schema.ts'

/** Certificates are ordered and renewed, one a host and role. */
export interface IssuedPolicy {
  readonly kind: 'issued'
  /** Names of CAs in order of preference; at least one, and each can serve every host of the site. */
  readonly cas: readonly string[]
  readonly standby: Config['tls']['standby']
  /** In order of preference, and only those that a listener can answer. */
  readonly challenges: Config['tls']['challenges']
  readonly keyType: Config['tls']['keyType']
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

export type TlsPolicy = IssuedPolicy | FilePolicy

export interface Site {
  /** A-labels, `*.` wildcards and canonical IP addresses; no host is in two sites. */
  readonly hosts: readonly string[]
  /** One for all its hosts. */
  readonly tls: TlsPolicy
  /** Longest path first; the site's own upstreams are the route `/`. At least one. */
  readonly routes: readonly RouteConfig[]
  readonly hsts: SiteConfig['hsts']
  /** Redirect plain HTTP to HTTPS? Otherwise plain HTTP is proxied too. */
  readonly redirect: boolean
  readonly upstreamTls: SiteConfig['upstreamTls']
}

/**
 * The sites in the config's order. A site whose hosts need different CAs (`app.example.com` and `localhost`) comes
 * as one `Site` for each list of CAs; these share their `routes` array.
 */
export function resolveSites(config: Config): Site[] {
  return config.sites.flatMap((site) => {
    const rest = {
      routes: routesOf(site),
      hsts: site.hsts,
      redirect: site.redirect,
      upstreamTls: site.upstreamTls,
    }
    return policiesOf(site, config).map(({ hosts, tls }) => ({ hosts, tls, ...rest }))
  })
}

/** Every CA that the config holds or that a site uses, and always `internal`; by name. */
export function resolveCas(config: Config): ReadonlyMap<string, Ca> {
  const used = resolveSites(config).flatMap((site) => (site.tls.kind === 'issued' ? site.tls.cas : []))
  const cas = new Map<string, Ca>()
  for (const name of [...Object.keys(config.cas), ...used, INTERNAL]) {
    const ca = resolveCa(name, config.cas)
    if (ca !== undefined) cas.set(name, ca)
  }
  return cas
}

/** The CAs that a site may use, as listed: its own list, the list of the top `tls`, or the ACME CAs of `cas`. */
export function listedCas(site: SiteConfig, config: Pick<Config, 'cas' | 'tls'>): readonly string[] {
  const listed = site.tls.cas ?? config.tls.cas
  if (listed !== undefined) return listed
  const acme = Object.keys(config.cas).filter((name) => resolveCa(name, config.cas)?.type === 'acme')
  return acme.length === 0 ? ['letsencrypt'] : acme
}

/** Of the listed CAs those that can serve the host; the internal one where the list, not made for this site, has none. */
export function casFor(
  host: string,
  site: SiteConfig,
  config: Pick<Config, 'cas' | 'tls'>,
): readonly string[] {
  const able = listedCas(site, config).filter((name) => {
    const ca = resolveCa(name, config.cas)
    return ca !== undefined && canServe(ca, host)
  })
  return able.length === 0 ? [INTERNAL] : able
}

function policiesOf(site: SiteConfig, config: Config): { hosts: string[]; tls: TlsPolicy }[] {
  const { certificate, key, passphrase } = site.tls
  if (certificate !== undefined)
    return [{ hosts: site.hosts, tls: { kind: 'file', certificate, key, passphrase } }]
  const hostsByCas = Map.groupBy(site.hosts, (host) => casFor(host, site, config).join())
  return [...hostsByCas.entries()].map(([cas, hosts]) => ({
    hosts,
    tls: {
      kind: 'issued',
      cas: cas.split(','),
      standby: site.tls.standby ?? config.tls.standby,
      challenges: (site.tls.challenges ?? config.tls.challenges).filter((type) =>
        type === 'http-01' ? config.listen.http.length > 0 : config.listen.https.length > 0,
      ),
      keyType: site.tls.keyType ?? config.tls.keyType,
      interim: site.tls.interim ?? config.tls.interim,
    },
  }))
}

function routesOf(site: SiteConfig): RouteConfig[] {
  const own = site.upstreams === undefined ? [] : [{ path: '/', upstreams: site.upstreams }]
  return [...site.routes, ...own].sort((a, b) => b.path.length - a.path.length)
}
