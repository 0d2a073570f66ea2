/** What a site of each mode may say: HTTP keys for HTTP only, streams to `tcp://`. Pure; part of `consistency.ts`. */
import { isIP } from 'node:net'
import type { ConfigProblem } from '../errors.ts'
import type { RouteConfig, SiteConfig, UpstreamConfig } from './schema.ts'

export function checkMode(site: SiteConfig, path: string): ConfigProblem[] {
  if (site.mode === 'http') return checkHttp(site, path)
  return [...checkStream(site, path), ...(site.mode === 'passthrough' ? checkPassthrough(site, path) : [])]
}

function checkHttp(site: SiteConfig, path: string): ConfigProblem[] {
  return [
    ...upstreamsOf(site, path).flatMap(({ upstream: { url, protocol }, at }) =>
      protocol === 'tcp'
        ? [
            {
              path: at,
              message: `${url} takes no requests`,
              hint: 'write http:// or https://, or add "mode": "tcp"',
            },
          ]
        : [],
    ),
    ...meaningless(
      { alpn: site.alpn, proxyProtocol: site.proxyProtocol },
      path,
      'add "mode": "tcp", or remove it',
    ),
    ...holdersOf(site, path)
      .filter(({ of }) => of.healthCheck?.type === 'tcp')
      .flatMap(({ of, at }) =>
        meaningless(
          askedBy(of.healthCheck),
          at,
          'a check of type "tcp" asks for nothing: remove it, or write "http"',
        ),
      ),
  ]
}

/** The site and its routes, which have many keys in common, and where each stands. */
function holdersOf(site: SiteConfig, path: string): { of: SiteConfig | RouteConfig; at: string }[] {
  return [{ of: site, at: path }, ...site.routes.map((of, index) => ({ of, at: `${path}.routes[${index}]` }))]
}

/** Every upstream of a site and its routes, and where it stands. */
export function upstreamsOf(site: SiteConfig, path: string): { upstream: UpstreamConfig; at: string }[] {
  return holdersOf(site, path).flatMap(({ of: { upstreams = [] }, at }) =>
    upstreams.map((upstream, index) => ({ upstream, at: `${at}.upstreams[${index}]` })),
  )
}

/** What a health check by HTTP asks for, by key. */
function askedBy(check: SiteConfig['healthCheck']): Readonly<Record<string, unknown>> {
  return {
    'healthCheck.path': check?.path,
    'healthCheck.host': check?.host,
    'healthCheck.status': check?.status,
  }
}

function checkStream(site: SiteConfig, path: string): ConfigProblem[] {
  const { upstreams, routes, hsts, mode, tls, balance, healthCheck, retries, sticky } = site
  const http = {
    balance: typeof balance === 'object' && balance.hash !== 'ip' ? balance : undefined,
    'healthCheck.type': healthCheck?.type === 'http' ? 'http' : undefined,
    ...askedBy(healthCheck),
    retries,
    sticky: sticky === false ? undefined : sticky,
    routes: routes.length > 0 ? routes : undefined,
    hsts: hsts === false ? undefined : hsts,
    'tls.clientCertificates.headers': mode === 'tcp' ? tls.clientCertificates?.headers : undefined,
  }
  const missing = {
    path,
    message: `has no \`upstreams\`, which the mode "${mode}" needs`,
    hint: 'add "upstreams": ["tcp://127.0.0.1:5432"]',
  }
  return [
    ...(upstreams === undefined ? [missing] : []),
    ...(upstreams ?? []).flatMap(({ url, protocol, host, port, socketPath }, index) =>
      protocol === 'tcp' || (socketPath !== undefined && protocol !== 'h2')
        ? []
        : [
            {
              path: `${path}.upstreams[${index}]`,
              message: `${url} is for HTTP, and the mode is "${mode}"`,
              hint: `write "${socketPath === undefined ? `tcp://${isIP(host) === 6 ? `[${host}]` : host}:${port}` : `unix:${socketPath}`}"`,
            },
          ],
    ),
    ...meaningless(http, path, `it is for HTTP, and the mode is "${mode}": remove it`),
  ]
}

function checkPassthrough({ hosts, alpn, deliver, tls }: SiteConfig, path: string): ConfigProblem[] {
  const ended = { alpn, deliver: deliver.length > 0 ? deliver : undefined }
  const ofTls = Object.fromEntries(Object.entries(tls).map(([key, value]) => [`tls.${key}`, value]))
  return [
    ...meaningless(
      { ...ended, ...ofTls },
      path,
      'TLS is the upstream’s where it is passed through: remove it',
    ),
    ...hosts.flatMap((host, index) =>
      isIP(host) === 0
        ? []
        : [
            {
              path: `${path}.hosts[${index}]`,
              message: `"${host}" is an address, for which clients send no server name`,
              hint: 'pass through by DNS names only',
            },
          ],
    ),
  ]
}

export function meaningless(
  keys: Readonly<Record<string, unknown>>,
  path: string,
  hint: string,
): ConfigProblem[] {
  return Object.entries(keys).flatMap(([key, value]) =>
    value === undefined ? [] : [{ path: `${path}.${key}`, message: 'means nothing here', hint }],
  )
}
