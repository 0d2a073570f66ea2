/**
 * The shape of `proxy.config.json`: every key with its default and its documentation, in one place.
 * `proxy.config.schema.json` and `docs/config.md` are generated from here (`npm run docs`), and a test keeps them equal.
 *
 * Receives plain JSON from `load.ts`; hands `Config` to `server.ts`.
 */
import { isIP } from 'node:net'
import { domainToASCII } from 'node:url'
import { z } from 'zod'
import { parseDuration } from '../time.ts'

/** "30s", "5m", "1h30m", "90d": milliseconds after parsing. */
const duration = z
  .string()
  .refine(
    (text) => parseDuration(text) !== undefined,
    'not a duration: write a number and a unit, such as "30s", "5m", "12h" or "90d"',
  )
  .transform((text) => parseDuration(text) as number)

/** Lower-case A-label form of a DNS name or the canonical form of an IP address; undefined when it is neither. */
export function normalizeHost(text: string): string | undefined {
  const bare = text.replace(/^\[(.*)\]$/, '$1')
  if (isIP(bare) === 4) return bare
  if (isIP(bare) === 6) return new URL(`http://[${bare}]/`).hostname.slice(1, -1)
  const wildcard = text.startsWith('*.')
  const name = domainToASCII((wildcard ? text.slice(2) : text).replace(/\.$/, ''))
  if (name === '' || name.length > 253 || isIP(name) !== 0) return undefined
  if (!name.split('.').every((label) => /^[a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9_])?$/.test(label)))
    return undefined
  return wildcard ? `*.${name}` : name
}

const host = z
  .string()
  .refine(
    (text) => normalizeHost(text) !== undefined,
    'not a host: write a DNS name, "*.example.com", or an IP address, without scheme or port',
  )
  .transform((text) => normalizeHost(text) as string)

/** `0.0.0.0:443`, `[::1]:8443`, `:443` (every address, IPv6 and IPv4). */
export interface Address {
  /** undefined: every address of the machine. */
  readonly host: string | undefined
  readonly port: number
}

export function parseAddress(text: string): Address | undefined {
  const match = /^(?:\[([0-9a-fA-F:.]+)\]|([^:[\]]*)):(\d{1,5})$/.exec(text)
  if (match === null) return undefined
  const name = match[1] ?? match[2]
  const port = Number(match[3])
  if (port > 65535 || (match[1] !== undefined && isIP(match[1]) !== 6)) return undefined
  if (name !== undefined && name !== '' && isIP(name) === 0 && name !== 'localhost') return undefined
  return { host: name === '' || name === undefined ? undefined : name, port }
}

const address = z
  .string()
  .refine(
    (text) => parseAddress(text) !== undefined,
    'not an address to listen on: write "IP:port", "[IPv6]:port" or ":port" for every address',
  )
  .transform((text) => parseAddress(text) as Address)

/** Where to connect: `http://host:port`, `https://host:port`, `http://unix:/path`. */
export interface Upstream {
  readonly url: string
  readonly secure: boolean
  readonly host: string
  readonly port: number
}

export function parseUpstream(text: string): Upstream | undefined {
  if (!/^https?:\/\/[^/]/.test(text) || !URL.canParse(text)) return undefined
  const url = new URL(text)
  if (
    url.username !== '' ||
    url.password !== '' ||
    url.search !== '' ||
    url.hash !== '' ||
    url.pathname !== '/'
  )
    return undefined
  const secure = url.protocol === 'https:'
  const hostname = url.hostname.replace(/^\[(.*)\]$/, '$1')
  return {
    url: url.origin,
    secure,
    host: hostname,
    port: url.port === '' ? (secure ? 443 : 80) : Number(url.port),
  }
}

const upstream = z
  .string()
  .refine(
    (text) => parseUpstream(text) !== undefined,
    'not an upstream: write "http://host:port" or "https://host:port", without a path',
  )
  .transform((text) => parseUpstream(text) as Upstream)

const cidr = z.string().refine((text) => {
  const [base, bits, ...rest] = text.split('/')
  const family = isIP(base ?? '')
  if (family === 0 || rest.length > 0) return false
  return bits === undefined || (/^\d{1,3}$/.test(bits) && Number(bits) <= (family === 4 ? 32 : 128))
}, 'not an address range: write "10.0.0.0/8", "fd00::/8" or a single IP address')

export const CHALLENGE_TYPES = ['tls-alpn-01', 'http-01'] as const
export const KEY_TYPES = ['ecdsa-p256', 'ecdsa-p384', 'rsa-2048', 'rsa-3072', 'rsa-4096'] as const

const file = z.string().min(1, 'is empty: write the path of a file')
const caName = z.string().regex(/^[a-z0-9][a-z0-9-]*$/, 'not a name: lower-case letters, digits and hyphens')

const certificateAuthority = z.strictObject({
  type: z
    .enum(['acme', 'internal'])
    .optional()
    .describe(
      '`acme` orders from a CA by RFC 8555; `internal` signs with a root that Holdfast makes and keeps in the store. Default: `internal` for the CA of that name, else `acme`.',
    ),
  directory: z
    .url({ protocol: /^https$/, error: 'not a directory: write the https:// URL of the ACME directory' })
    .optional()
    .describe('URL of the ACME directory. The presets know theirs.'),
  contact: z
    .array(z.string().regex(/^mailto:[^@\s]+@[^@\s]+$/, 'not a contact: write "mailto:you@example.com"'))
    .default([])
    .describe('Where the CA may write to, as `mailto:` URLs.'),
  eab: z
    .strictObject({
      kid: z.string().min(1, 'is empty: copy the key id from your account at the CA'),
      hmacKey: z
        .string()
        .regex(/^[A-Za-z0-9_-]+={0,2}$/, 'not base64url: copy the HMAC key from your account at the CA'),
    })
    .optional()
    .describe('External account binding, for CAs that demand it (ZeroSSL, Google, SSL.com, Actalis).'),
  profile: z
    .string()
    .min(1)
    .optional()
    .describe('Certificate profile to ask for, such as `tlsserver` or `shortlived` at Let’s Encrypt.'),
  roots: file
    .optional()
    .describe('PEM file of roots to trust for the CA’s own ACME endpoint, for private CAs.'),
  trust: z
    .string()
    .min(1)
    .default('public')
    .describe(
      'Where the chains it issues must end: `public` (the runtime’s roots and `roots`), a PEM file, or `any`.',
    ),
  lifetime: duration.optional().describe('Lifetime of the leaves of an `internal` CA. Default 7d.'),
})

const tlsKeys = {
  cas: z
    .array(caName)
    .min(1, 'names no CA')
    .describe(
      'CAs in order of preference. Default: the public CAs of `cas`; `internal` for names that no public CA can serve (localhost, *.internal, private addresses).',
    ),
  standby: z
    .enum(['always', 'on-degraded', 'off'])
    .describe(
      'Hold a second valid certificate from another CA: always, once the first CA is in trouble, or never.',
    ),
  challenges: z
    .array(z.enum(CHALLENGE_TYPES))
    .min(1, 'names no challenge')
    .describe('Challenges that may be used, in order of preference.'),
  keyType: z.enum(KEY_TYPES).describe('Type of the certificates’ keys.'),
  interim: z
    .boolean()
    .describe(
      'Serve a certificate of the internal CA until the first real one is there, instead of refusing the handshake.',
    ),
}

const globalTls = z.strictObject({
  cas: tlsKeys.cas.optional(),
  standby: tlsKeys.standby.default('always'),
  challenges: tlsKeys.challenges.default([...CHALLENGE_TYPES]),
  keyType: tlsKeys.keyType.default('ecdsa-p256'),
  interim: tlsKeys.interim.default(false),
  defaultHost: host
    .optional()
    .describe(
      'Host whose certificate is served to clients that send no name or an unknown one. Default: refuse them with the `unrecognized_name` alert.',
    ),
  minVersion: z.enum(['1.2', '1.3']).default('1.2').describe('Oldest TLS version to accept.'),
})

const siteTls = z.strictObject({
  cas: tlsKeys.cas.optional(),
  standby: tlsKeys.standby.optional(),
  challenges: tlsKeys.challenges.optional(),
  keyType: tlsKeys.keyType.optional(),
  interim: tlsKeys.interim.optional(),
  certificate: file
    .optional()
    .describe(
      'A certificate of your own: PEM file with the chain (and the key, when `key` is absent), or a PKCS#12 file (.p12, .pfx). Re-read when it changes.',
    ),
  key: file.optional().describe('PEM file with the private key of `certificate`.'),
  passphrase: z.string().optional().describe('Passphrase of the PKCS#12 file or of the key.'),
})

const upstreams = z
  .array(upstream)
  .min(1, 'names no upstream')
  .describe('Where requests go, in turn: `http://host:port` or `https://host:port`.')

const upstreamTls = z
  .strictObject({
    roots: file
      .optional()
      .describe('PEM file of roots to trust for `https://` upstreams, beside the runtime’s.'),
    verify: z.boolean().default(true).describe('Check the certificate of `https://` upstreams.'),
    serverName: host.optional().describe('Name to ask for and to check. Default: the upstream’s host.'),
  })
  .prefault({})

const route = z.strictObject({
  path: z
    .string()
    .regex(/^\/[^?#\s]*$/, 'not a path prefix: it starts with "/" and has no "?" or "#"')
    .describe('Requests whose path is this, or below it, take the route; the longest wins.'),
  upstreams,
})

const hsts = z.union([
  z.literal(false),
  z.strictObject({
    maxAge: duration.prefault('365d').describe('How long browsers remember.'),
    includeSubDomains: z.boolean().default(false),
    preload: z.boolean().default(false),
  }),
])

const site = z.strictObject({
  hosts: z
    .array(host)
    .min(1, 'names no host')
    .describe('Names of the site: `app.example.com`, `*.example.com` (one label), or an IP address.'),
  upstreams: upstreams.optional(),
  routes: z.array(route).default([]).describe('Upstreams by path prefix, besides the site’s own.'),
  tls: siteTls.prefault({}).describe('What differs from the `tls` at the top.'),
  hsts: hsts.default(false).describe('Send Strict-Transport-Security.'),
  redirect: z
    .boolean()
    .default(true)
    .describe('Redirect plain HTTP to HTTPS (308). When false, plain HTTP is proxied too.'),
  upstreamTls,
})

const timeouts = z
  .strictObject({
    head: duration
      .prefault('15s')
      .describe('For a client to send a request’s head, and to finish the TLS handshake.'),
    body: duration.prefault('60s').describe('Longest pause between two pieces of a request’s body.'),
    connect: duration.prefault('5s').describe('To connect to an upstream.'),
    response: duration.prefault('60s').describe('Longest pause while an upstream answers.'),
    keepAlive: duration.prefault('75s').describe('How long an idle client connection is kept.'),
    upgrade: duration.prefault('1h').describe('Longest silence of a WebSocket or other upgraded connection.'),
    drain: duration
      .prefault('30s')
      .describe('After SIGTERM: how long requests and WebSockets may take to finish.'),
  })
  .prefault({})

export const configSchema = z.strictObject({
  $schema: z.string().optional().describe('For editors: where the JSON Schema is.'),
  listen: z
    .strictObject({
      https: z.array(address).prefault([':443']).describe('Addresses of the TLS port.'),
      http: z
        .array(address)
        .prefault([':80'])
        .describe('Addresses of the plain port: HTTP-01, and redirects to HTTPS. `[]` for none.'),
      admin: z
        .union([z.literal(false), address])
        .prefault('127.0.0.1:9443')
        .describe(
          'Address of the admin endpoint; it has no authentication, so keep it on loopback. `false` for none.',
        ),
    })
    .prefault({}),
  store: z
    .string()
    .regex(
      /^(file:.+|rediss?:\/\/.+)$/,
      'not a store: write "file:./data", "redis://host:6379" or "rediss://host:6379"',
    )
    .default('file:./data')
    .describe('Where certificates, keys, accounts and jobs are kept.'),
  forwarder: z
    .enum(['fast', 'compat'])
    .default('fast')
    .describe('`fast`: Holdfast’s own HTTP engine; `compat`: node:http and http-proxy.'),
  workers: z
    .union([z.literal('auto'), z.int().min(1).max(256)])
    .default('auto')
    .describe('Processes that share the ports; `auto` is one a core.'),
  log: z
    .strictObject({
      level: z.enum(['trace', 'debug', 'info', 'warn', 'error', 'silent']).default('info'),
      access: z
        .union([z.boolean(), z.number().min(0).max(1)])
        .default(true)
        .describe('A line a request: all, none, or this share of them.'),
      format: z
        .enum(['auto', 'json', 'pretty'])
        .default('auto')
        .describe('`auto`: pretty on a terminal, JSON elsewhere.'),
    })
    .prefault({}),
  cas: z
    .record(caName, certificateAuthority)
    .default({})
    .describe('Certificate authorities by name. Presets need no directory.'),
  tls: globalTls.prefault({}).describe('TLS policy of every site.'),
  trustedProxies: z
    .array(cidr)
    .default([])
    .describe('Address ranges of proxies whose X-Forwarded-* and Forwarded fields are believed.'),
  timeouts,
  sites: z.array(site).min(1, 'names no site').describe('What is served.'),
})

/** The configuration after validation: defaults filled in, durations in milliseconds, hosts as A-labels. */
export type Config = z.output<typeof configSchema>
export type SiteConfig = Config['sites'][number]
export type CaConfig = Config['cas'][string]
export type RouteConfig = SiteConfig['routes'][number]
export type Timeouts = Config['timeouts']
