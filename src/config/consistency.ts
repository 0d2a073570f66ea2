/**
 * What a config says in one place and denies in another: a host twice, a CA that is nowhere, a name that none of its
 * CAs can serve. Pure; receives the sections that parse from `load.ts`, so that these faults come out together with
 * the schema's. What depends on a section that does not parse is left for the next run.
 */
import type { ConfigProblem } from '../errors.ts'
import { type Address, formatAddress, isPrivateHost } from './addresses.ts'
import { type Ca, canServe, INTERNAL, resolveCa, typeOf } from './cas.ts'
import { deliveryOf, FORMS, pathsOf } from './deliver.ts'
import { checkMode, upstreamsOf } from './modes.ts'
import { withoutSlash } from './paths.ts'
import { CA_PRESETS, presetAt, presetNamed } from './presets.ts'
import { didYouMean, quoteAll } from './problems.ts'
import type { CaConfig, Config, Sections, SiteConfig, UpstreamConfig } from './schema.ts'
import { answerOf, checkShaping } from './shaping.ts'
import { answerable, type CaConfigs, type ClientFieldNames, listedCas } from './sites.ts'

export function findContradictions(sections: Sections): ConfigProblem[] {
  const { listen, tls, cas, forwarder } = sections
  const sites = [...sections.sites.entries()].flatMap(([index, site]) =>
    site === undefined ? [] : [{ site, path: `sites[${index}]` }],
  )
  return [
    ...(listen === undefined ? [] : checkListen(listen)),
    ...[...cas].flatMap(([name, ca]) => (ca === undefined ? [] : checkCa(name, ca))),
    ...checkList(tls?.cas, 'tls.cas', cas),
    ...checkDefaultHost(sections),
    ...checkHosts(sites),
    ...checkDeliveredFiles(sites),
    ...sites.flatMap(({ site, path }) => [
      ...checkMode(site, path),
      ...checkShaping(site, path),
      ...(site.mode === 'http' ? checkRoutes(site, path) : []),
      ...(forwarder === 'compat' ? checkUpstreamProtocols(site, path) : []),
      ...(listen === undefined ? [] : checkLoops(site, path, listen)),
      ...checkOwnCertificate(site, path),
      ...checkClientCertificates(site, path),
      ...checkUpstreamTls(site, path),
      ...checkDeliver(site, path),
      ...checkList(site.tls.cas, `${path}.tls.cas`, cas),
      ...checkSupply(site, path, sections),
    ]),
  ]
}

function problem(path: string, message: string, hint?: string): ConfigProblem {
  return hint === undefined ? { path, message } : { path, message, hint }
}

function checkListen(listen: Config['listen']): ConfigProblem[] {
  if (listen.https.length + listen.http.length === 0)
    return [problem('listen', 'names no address', 'give https or http one, such as ":443"')]
  const places = [
    ...listen.https.map((address, index) => ({ address, path: `listen.https[${index}]` })),
    ...listen.http.map((address, index) => ({ address, path: `listen.http[${index}]` })),
    ...(listen.admin === false ? [] : [{ address: listen.admin, path: 'listen.admin' }]),
  ]
  return places.flatMap(({ address, path }, index) => {
    const taken = places.slice(0, index).find((other) => overlap(other.address, address))
    return taken === undefined
      ? []
      : [problem(path, `${formatAddress(address)} is taken by ${taken.path}`, 'choose another port')]
  })
}

/** Port 0 is any free port. */
function overlap(a: Address, b: Address): boolean {
  const sameHost = a.host === b.host || a.host === undefined || b.host === undefined
  return a.port === b.port && a.port !== 0 && sameHost
}

function checkCa(name: string, config: CaConfig): ConfigProblem[] {
  const path = `cas.${name}`
  if (typeOf(name, config) === 'internal') return checkInternalCa(path, config)
  if (name === INTERNAL)
    return [
      problem(`${path}.type`, 'the CA named "internal" is the built-in one', 'give the ACME CA another name'),
    ]
  const problems =
    config.lifetime === undefined
      ? []
      : [problem(`${path}.lifetime`, 'is for internal CAs', 'an ACME CA sets it: ask for a `profile`')]
  const ca = resolveCa(name, config)
  if (ca?.type !== 'acme') {
    const meant = didYouMean(name, Object.keys(CA_PRESETS))
    return [
      ...problems,
      problem(path, 'has no `directory` and is no preset', meant ?? 'add the URL of its ACME directory'),
    ]
  }
  if (ca.eab === undefined && presetAt(ca.directory)?.eab === 'required')
    problems.push(
      problem(path, 'needs `eab`', 'add "eab": { "kid": …, "hmacKey": … } from your account at the CA'),
    )
  return problems
}

function checkInternalCa(path: string, config: CaConfig): ConfigProblem[] {
  const { directory, contact, eab, profile, preferredRoot, roots, trust, rateLimits, probeInterval } = config
  const acmeOnly = {
    directory,
    contact: contact.length > 0 ? contact : undefined,
    eab,
    profile,
    preferredRoot,
    roots,
    trust,
    rateLimits,
    probeInterval,
  }
  return Object.entries(acmeOnly).flatMap(([key, value]) =>
    value === undefined
      ? []
      : [problem(`${path}.${key}`, 'is for ACME CAs, and this one is internal', 'remove it')],
  )
}

/** A list of CA names: each there, ready to use, and once. */
function checkList(names: readonly string[] | undefined, path: string, cas: CaConfigs): ConfigProblem[] {
  return (names ?? []).flatMap((name, index) => {
    const here = `${path}[${index}]`
    if (names?.indexOf(name) !== index)
      return [problem(here, `names "${name}" twice`, 'remove one of the two')]
    if (cas.has(name) || name === INTERNAL) return []
    const preset = presetNamed(name)
    if (preset === undefined) {
      const configured = [...cas].flatMap(([each, config]) => (config === undefined ? [] : [each]))
      const known = new Set([...configured, ...Object.keys(CA_PRESETS), INTERNAL])
      return [
        problem(
          here,
          `no CA is named "${name}"`,
          didYouMean(name, known) ?? `known: ${[...known].join(', ')}`,
        ),
      ]
    }
    if (preset.eab === 'none') return []
    return [
      problem(here, `"${name}" needs an external account binding`, `add "${name}": { "eab": … } to \`cas\``),
    ]
  })
}

function checkDefaultHost({ tls, sites }: Sections): ConfigProblem[] {
  const host = tls?.defaultHost
  const hosts = sites.flatMap((site) => (site === undefined || site.mode === 'passthrough' ? [] : site.hosts))
  if (host === undefined || sites.includes(undefined) || hosts.includes(host)) return []
  return [
    problem(
      'tls.defaultHost',
      `"${host}" is no host of any site that has a certificate`,
      didYouMean(host, hosts) ?? 'name one of the hosts',
    ),
  ]
}

function checkHosts(sites: readonly { site: SiteConfig; path: string }[]): ConfigProblem[] {
  const owners = new Map<string, string>()
  return sites.flatMap(({ site, path }) =>
    site.hosts.flatMap((host, index) => {
      const owner = owners.get(host)
      owners.set(host, owner ?? path)
      if (owner === undefined) return []
      const here = `${path}.hosts[${index}]`
      if (owner === path) return [problem(here, `"${host}" is there twice`, 'remove one of the two')]
      const hint = 'a host belongs to one site: use `routes` there'
      return [problem(here, `"${host}" is a host of ${owner} already`, hint)]
    }),
  )
}

function checkRoutes(site: SiteConfig, path: string): ConfigProblem[] {
  if (answerOf(site) === undefined && site.routes.length === 0)
    return [
      problem(
        path,
        'has none of `upstreams`, `routes`, `redirectTo` and `respond`',
        'add "upstreams": ["http://127.0.0.1:3000"]',
      ),
    ]
  const paths = site.routes.map((route) => withoutSlash(route.path))
  return site.routes.flatMap(({ path: route }, index) => {
    const here = `${path}.routes[${index}].path`
    if (route === '/' && answerOf(site) !== undefined)
      return [problem(here, `"/" is the path of the site’s own \`${answerOf(site)}\``, 'keep one of the two')]
    const first = paths.indexOf(withoutSlash(route))
    if (first === index) return []
    return [
      problem(here, `${quoteAll([route])} is the path of routes[${first}] already`, 'keep one of the two'),
    ]
  })
}

/** An upstream that is this proxy would send each request round until it fails. */
function checkLoops(site: SiteConfig, path: string, listen: Config['listen']): ConfigProblem[] {
  const places = [
    ...listen.https.map((address, index) => ({ address, place: `listen.https[${index}]` })),
    ...listen.http.map((address, index) => ({ address, place: `listen.http[${index}]` })),
  ]
  return upstreamsOf(site, path).flatMap(({ upstream, at }) => {
    if (upstream.socketPath !== undefined) return []
    const own = places.find(({ address }) => reaches(upstream, address))
    const hint = 'write the address of the app'
    return own === undefined ? [] : [problem(at, `${upstream.url} is Holdfast itself, by ${own.place}`, hint)]
  })
}

/** Connecting to the unspecified address leads to this machine too. */
const THIS_MACHINE = /^(127\.|0\.0\.0\.0$|::1?$)/

/** By the addresses alone: which others this machine has, and what names stand for, is not known here. */
function reaches(upstream: UpstreamConfig, address: Address): boolean {
  const [to, at] = [upstream.host, address.host].map((host) => (host === 'localhost' ? '127.0.0.1' : host))
  if (to === undefined || upstream.port !== address.port) return false
  if (to === at) return true
  return THIS_MACHINE.test(to) && (at === undefined || at === (to.includes(':') ? '::' : '0.0.0.0'))
}

/** http-proxy speaks HTTP/1.1 to upstreams. */
function checkUpstreamProtocols(site: SiteConfig, path: string): ConfigProblem[] {
  return upstreamsOf(site, path).flatMap(({ upstream: { protocol, url }, at }) =>
    protocol === 'h2'
      ? [
          problem(
            at,
            `${url} is HTTP/2, which the forwarder "compat" does not speak to upstreams`,
            'write "forwarder": "fast", or http:// or https://',
          ),
        ]
      : [],
  )
}

function checkOwnCertificate(site: SiteConfig, path: string): ConfigProblem[] {
  const { certificate, key, passphrase, clientCertificates: _, ...issued } = site.tls
  if (certificate === undefined) {
    const orphans = Object.entries({ key, passphrase }).filter(([, value]) => value !== undefined)
    return orphans.map(([name]) =>
      problem(`${path}.tls.${name}`, 'is there without `certificate`', 'add the certificate, or remove this'),
    )
  }
  return Object.keys(issued).map((name) =>
    problem(`${path}.tls.${name}`, 'means nothing beside `certificate`', 'remove one of the two'),
  )
}

/** Over plain HTTP nobody can prove who they are. */
function checkClientCertificates(site: SiteConfig, path: string): ConfigProblem[] {
  const { clientCertificates } = site.tls
  if (clientCertificates === undefined || site.mode !== 'http') return []
  const hint = 'remove it: plain HTTP is redirected then'
  return [
    ...(site.redirect
      ? []
      : [problem(`${path}.redirect`, 'would let clients in without `tls.clientCertificates`', hint)]),
    ...checkClientHeaders(clientCertificates.headers ?? {}, `${path}.tls.clientCertificates.headers`),
  ]
}

function checkUpstreamTls({ upstreamTls }: SiteConfig, path: string): ConfigProblem[] {
  if (upstreamTls.key === undefined || upstreamTls.certificate !== undefined) return []
  const hint = 'add the certificate, or remove this'
  return [problem(`${path}.upstreamTls.key`, 'is there without `certificate`', hint)]
}

function checkClientHeaders(headers: ClientFieldNames, path: string): ConfigProblem[] {
  const given = Object.entries(headers).filter(([, name]) => name !== undefined)
  const names = given.map(([, name = '']) => name.toLowerCase())
  return given.flatMap(([what, name = ''], index) =>
    names.indexOf(name.toLowerCase()) === index
      ? []
      : [problem(`${path}.${what}`, `"${name}" has another meaning here already`, 'give each its own name')],
  )
}

function checkDeliver(site: SiteConfig, path: string): ConfigProblem[] {
  return site.deliver.flatMap((rule, index) => {
    const here = `${path}.deliver[${index}]`
    const problems: ConfigProblem[] = []
    if (pathsOf(rule).length === 0)
      problems.push(
        problem(here, 'names no file', `give one of ${FORMS.map((form) => `\`${form}\``).join(', ')}`),
      )
    if (rule.pkcs12 !== undefined && rule.passphrase === undefined)
      problems.push(problem(here, 'has `pkcs12` without `passphrase`', 'add one, taken from the environment'))
    if (rule.pkcs12 === undefined && rule.passphrase !== undefined)
      problems.push(problem(`${here}.passphrase`, 'is for `pkcs12`, which is not there', 'remove it'))
    return problems
  })
}

/** Each file has one rule and one host: two would overwrite it for ever. */
function checkDeliveredFiles(sites: readonly { site: SiteConfig; path: string }[]): ConfigProblem[] {
  const owners = new Map<string, string>()
  const problems: ConfigProblem[] = []
  for (const { site, path } of sites)
    for (const [index, rule] of site.deliver.entries())
      for (const host of site.hosts)
        for (const { form, path: file } of deliveryOf(host, rule).files) {
          const here = `${path}.deliver[${index}].${form}`
          const owner = owners.get(file)
          owners.set(file, owner ?? here)
          if (owner === here && problems.at(-1)?.path !== here)
            problems.push(problem(here, 'is one file for several hosts', 'put {host} into its path'))
          else if (owner !== undefined && owner !== here)
            problems.push(problem(here, `"${file}" is written by ${owner} already`, 'give each its own file'))
        }
  return problems
}

/** Can each host of the site get a certificate? A CA that is not known or does not parse has its own error. */
function checkSupply(site: SiteConfig, path: string, { listen, tls, cas }: Sections): ConfigProblem[] {
  if (site.mode === 'passthrough' || site.tls.certificate !== undefined || tls === undefined) return []
  const problems: ConfigProblem[] = []
  let acme = false
  for (const [index, host] of site.hosts.entries()) {
    const listed = listedCas(host, site, tls, cas)
    const usable = listed.filter((name) => !cas.has(name) || cas.get(name) !== undefined)
    const resolved = usable.map((name) => resolveCa(name, cas.get(name))).filter((ca) => ca !== undefined)
    acme ||= resolved.some((ca) => ca.type === 'acme' && canServe(ca, host))
    if (resolved.length < listed.length) continue
    const refusal = refusalOf(host, resolved, site.tls.cas !== undefined)
    if (refusal !== undefined) problems.push({ path: `${path}.hosts[${index}]`, ...refusal })
  }
  return acme && listen !== undefined ? [...problems, ...checkChallenges(site, path, tls, listen)] : problems
}

/** Why none of the CAs may serve the host; undefined when one can, or when the internal CA takes it unasked. */
function refusalOf(
  host: string,
  cas: readonly Ca[],
  listedBySite: boolean,
): Omit<ConfigProblem, 'path'> | undefined {
  const able = cas.filter((ca) => canServe(ca, host))
  if (able.some(({ distrusted }) => !distrusted)) return undefined
  const names = quoteAll((able.length > 0 ? able : cas).map((ca) => ca.name))
  if (able.length > 0)
    return {
      message: `only ${names} can issue for "${host}", which the config distrusts`,
      hint: 'add another CA, or remove `distrusted` there',
    }
  const allPublic = cas.every((ca) => ca.type === 'acme' && ca.public)
  if (!listedBySite && allPublic && isPrivateHost(host)) return undefined
  if (host.startsWith('*.'))
    return {
      message: `${names} cannot issue for "${host}": wildcards need dns-01, which Holdfast does not answer yet`,
      hint: 'give the site `tls.certificate`, or "tls": { "cas": ["internal"] }',
    }
  return {
    message: `${names} cannot issue for "${host}": a public CA serves public names only`,
    hint: 'add "internal" or a private ACME CA to the site’s `tls.cas`',
  }
}

function checkChallenges(
  site: SiteConfig,
  path: string,
  tls: Config['tls'],
  listen: Config['listen'],
): ConfigProblem[] {
  const challenges = site.tls.challenges ?? tls.challenges
  const listensNowhere = listen.https.length + listen.http.length === 0
  if (listensNowhere || answerable(challenges, listen).length > 0) return []
  const [challenge, listener] = challenges.includes('http-01')
    ? ['http-01', 'http']
    : ['tls-alpn-01', 'https']
  return [
    problem(
      site.tls.challenges === undefined ? 'tls.challenges' : `${path}.tls.challenges`,
      `${challenge} is answered on \`listen.${listener}\`, which is empty`,
      'add an address there, or allow another challenge',
    ),
  ]
}
