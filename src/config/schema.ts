/**
 * The shape of `proxy.config.json`: every key with its default and its documentation, in one place.
 * `proxy.config.schema.json` and `docs/config.md` are generated from here (`npm run docs`), and a test keeps them equal.
 *
 * Receives plain JSON from `load.ts`; hands `Config` to `sites.ts` and `server.ts`. The only user of zod.
 *
 * Messages: one that begins with `not` gets the value in front (`"x y" is not a host: …`); what may hold a secret says
 * `is not …` instead, and its value is never shown.
 */
import { z } from 'zod'
import { EVENT_TYPES } from '../events.ts'
import { parseDuration } from '../time.ts'
import {
  type Address,
  isAddressRange,
  normalizeHost,
  parseAddress,
  parseUpstream,
  type Upstream,
} from './addresses.ts'

export { type Address, normalizeHost, parseUpstream, type Upstream } from './addresses.ts'

/** A string that `parse` understands; its output is what `parse` gives. */
function text<T>(parse: (text: string) => T | undefined, message: (text: string) => string) {
  return z.string().transform((input, context): T => {
    const value = parse(input)
    if (value !== undefined) return value
    context.addIssue({ code: 'custom', message: message(input), input })
    return z.NEVER
  })
}

/** `0640` to permission bits. */
function parseMode(digits: string): number | undefined {
  return /^0?[0-7]{3}$/.test(digits) ? Number.parseInt(digits, 8) : undefined
}

/** "30s", "5m", "1h30m", "90d": milliseconds after parsing. */
const duration = z
  .string({
    error: ({ input }) =>
      typeof input === 'number' ? `is a number without a unit: write "${input}s" for seconds` : undefined,
  })
  .regex(
    /^(\d+(\.\d+)?(ms|s|m|h|d|w))+$/,
    'not a duration: write a number and a unit, such as "30s", "5m", "12h" or "90d"',
  )
  .transform((input) => parseDuration(input) ?? 0)
  .refine((ms) => ms > 0, 'not a usable duration: it must be longer than nothing')
  .meta({ title: 'duration' })

const host = text(normalizeHost, (input) =>
  /[:/]/.test(input)
    ? 'not a host: leave out scheme, port and path'
    : 'not a host: write a DNS name, "*.example.com" or an IP address',
).meta({ title: 'host' })

const address = text<Address>(
  parseAddress,
  () => 'not an address to listen on: write "IP:port", "[IPv6]:port" or ":port" for every address',
).meta({ title: 'address' })

const upstream = text<Upstream>(parseUpstream, (input) =>
  parseUpstream(`http://${input}`) === undefined
    ? 'is not an upstream: write "http://host:port" or "https://host:port", without a path'
    : 'is not an upstream: put "http://" in front, or "https://" where it speaks TLS',
).meta({ title: 'upstream' })

const range = z
  .string()
  .refine(isAddressRange, 'not an address range: write "10.0.0.0/8", "fd00::/8" or a single IP address')
  .meta({ title: 'address range' })

const contact = z
  .string()
  .regex(/^(mailto:)?[^@\s:]+@[^@\s]+$/, 'not a contact: write an address such as "you@example.com"')
  .transform((input) => (input.startsWith('mailto:') ? input : `mailto:${input}`))
  .meta({ title: 'e-mail address' })

/** A PEM instead of its path is refused before it can be quoted. */
const file = z
  .string()
  .min(1, 'is empty: write the path of a file')
  .refine((path) => !/[\r\n]/.test(path), 'is not a path: write the path of a file, on one line')
  .meta({ title: 'file' })

const caName = z
  .string()
  .regex(/^[a-z0-9][a-z0-9-]*$/, 'not a name for a CA: use lower-case letters, digits and hyphens')
  .meta({ title: 'name' })

const CHALLENGE_TYPES = ['tls-alpn-01', 'http-01'] as const
const KEY_TYPES = ['ecdsa-p256', 'ecdsa-p384', 'rsa-2048', 'rsa-3072', 'rsa-4096'] as const

const certificateAuthority = z.strictObject({
  type: z
    .enum(['acme', 'internal'])
    .optional()
    .describe(
      '`acme` orders from a CA by RFC 8555; `internal` signs with a root that Holdfast makes and keeps in the store. Default: `internal` for the CA of that name, else `acme`.',
    ),
  directory: z
    .url({ protocol: /^https$/, error: 'is not a directory: write the https:// URL of the ACME directory' })
    .optional()
    .describe('URL of the ACME directory. The presets know theirs.'),
  contact: z
    .array(contact)
    .prefault([])
    .describe('E-mail addresses that the CA may write to: `ops@example.com` or `mailto:ops@example.com`.'),
  eab: z
    .strictObject({
      kid: z
        .string()
        .min(1, 'is empty: copy the key id from your account at the CA')
        .describe('Key id, from your account at the CA.'),
      hmacKey: z
        .string()
        .regex(/^[A-Za-z0-9_+/-]+={0,2}$/, 'is not base64url: copy the HMAC key from your account at the CA')
        .describe('HMAC key, in base64url. Secret: take it from the environment.'),
    })
    .optional()
    .describe('External account binding, which ZeroSSL, Google, SSL.com, Actalis and Sectigo demand.'),
  profile: z
    .string()
    .min(1, 'is empty: write the name of a profile')
    .optional()
    .describe('Certificate profile to ask for, such as `tlsserver` or `shortlived` at Let’s Encrypt.'),
  roots: file
    .optional()
    .describe(
      'PEM file of roots to trust for the CA’s own ACME endpoint, beside the runtime’s. For private CAs.',
    ),
  trust: file
    .meta({ title: '`"public"`, `"any"`, file' })
    .optional()
    .describe(
      'Where the chains it issues must end: `public` (the runtime’s roots and `roots`), a PEM file, or `any` (for test CAs). Default: `public`; `any` for `letsencrypt-staging`.',
    ),
  statusFeed: z
    .union(
      [
        z.literal(false),
        z.url({
          protocol: /^https$/,
          error: 'not a status feed: write the https:// URL of its JSON, or false for none',
        }),
      ],
      { error: 'not a status feed: write the https:// URL of its JSON, or false for none' },
    )
    .optional()
    .describe(
      'JSON of the CA’s status page, by Statuspage (`https://…/api/v2/summary.json`) or Status.io (`https://api.status.io/1.0/status/…`): while it reports trouble, other CAs are asked first. `false` for none. The presets know theirs, where it is known.',
    ),
  lifetime: duration.optional().describe('Lifetime of the certificates of an `internal` CA. Default: `7d`.'),
})

const tlsKeys = {
  cas: z
    .array(caName)
    .min(1, 'names no CA')
    .describe(
      'CAs in order of preference: names from `cas`, presets, or `internal`. Default: the ACME CAs of `cas` in their order (private ones for public names only when there is no public one), else `letsencrypt`. Names that no public CA can serve (localhost, *.internal, private addresses) fall to `internal`, unless a private CA is listed.',
    ),
  standby: z
    .enum(['always', 'on-degraded', 'off'])
    .describe(
      'Hold a second valid certificate from another CA: always, only while the first CA is in trouble, or never.',
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
  cas: tlsKeys.cas.optional().describe('Instead of `tls.cas`, for this site.'),
  standby: tlsKeys.standby.optional().describe('Instead of `tls.standby`.'),
  challenges: tlsKeys.challenges.optional().describe('Instead of `tls.challenges`.'),
  keyType: tlsKeys.keyType.optional().describe('Instead of `tls.keyType`.'),
  interim: tlsKeys.interim.optional().describe('Instead of `tls.interim`.'),
  certificate: file
    .optional()
    .describe(
      'A certificate of your own: PEM file with the chain (and the key, when `key` is absent), or a PKCS#12 file (.p12, .pfx). Re-read when it changes.',
    ),
  key: file.optional().describe('PEM file with the private key of `certificate`.'),
  passphrase: z.string().optional().describe('Passphrase of the PKCS#12 file or of the key. Secret.'),
})

const upstreams = z
  .array(upstream)
  .min(1, 'names no upstream')
  .describe('Where requests go, in turn: `http://host:port` or `https://host:port`.')

const upstreamTls = z
  .strictObject({
    roots: file.optional().describe('PEM file of roots to trust, beside the runtime’s.'),
    verify: z.boolean().default(true).describe('Check the certificates of the upstreams.'),
    serverName: host.optional().describe('Name to ask for and to check. Default: the upstream’s host.'),
  })
  .prefault({})
  .describe('How `https://` upstreams are checked.')

const route = z.strictObject({
  path: z
    .string()
    .regex(/^\/[^?#\s]*$/, 'not a path: it starts with "/" and has no space, "?" or "#"')
    .describe('Requests whose path is this, or below it, take the route; the longest wins.'),
  upstreams,
})

const hstsPolicy = z.strictObject({
  maxAge: duration.prefault('365d').describe('How long browsers remember.'),
  includeSubDomains: z.boolean().default(false).describe('Holds for every name below the host too.'),
  preload: z.boolean().default(false).describe('Consent to the browsers’ preload lists.'),
})

const hsts = z
  .union([z.literal(false), z.literal(true).transform(() => hstsPolicy.parse({})), hstsPolicy], {
    error: 'not an HSTS policy: write true, false or { "maxAge": "365d" }',
  })
  .prefault(false)
  .describe('Send Strict-Transport-Security: `true`, `false`, or how.')

const ACCOUNT = 'not an account: write a name or a number'

const account = z.union([z.string().min(1, ACCOUNT), z.int().min(0, ACCOUNT)], { error: ACCOUNT })

const deliverRule = z.strictObject({
  fullchain: file.optional().describe('Gets the certificate, then its intermediates. PEM.'),
  certificate: file.optional().describe('Gets the certificate alone. PEM.'),
  chain: file.optional().describe('Gets the intermediates alone. PEM.'),
  key: file.optional().describe('Gets the private key. PKCS#8 in PEM.'),
  combined: file
    .optional()
    .describe('Gets the certificate, its intermediates and the private key, as HAProxy takes them. PEM.'),
  pkcs12: file.optional().describe('Gets the same as a PKCS#12 file, encrypted by `passphrase`.'),
  passphrase: z
    .string()
    .min(1, 'is empty: a PKCS#12 file needs a passphrase')
    .optional()
    .describe('Passphrase of the PKCS#12 file. Secret: take it from the environment.'),
  owner: account
    .optional()
    .describe('User who gets the files: a name or a number. Only root may give files away.'),
  group: account.optional().describe('Group of the files: a name or a number.'),
  mode: text(parseMode, () => 'not permissions: write octal digits such as "0640"')
    .meta({ title: 'octal' })
    .optional()
    .describe('Permissions of the files. Default: `0600` for those with a key, `0644` for the others.'),
  command: z
    .array(z.string().min(1, 'is empty: write a program or an argument'))
    .min(1, 'names no program')
    .optional()
    .describe(
      'Program and arguments to run when files have changed, without a shell: `["systemctl", "reload", "postfix"]`. The same command runs once for all files that change together. It gets `HOLDFAST_HOSTS`, and of the environment only PATH, HOME, LANG, TZ and TMPDIR. Until it ends with 0 it is repeated, ever more rarely.',
    ),
  commandLimit: duration.prefault('30s').describe('When to kill the command.'),
})

const site = z.strictObject({
  hosts: z
    .array(host)
    .min(1, 'names no host')
    .describe('Names of the site: `app.example.com`, `*.example.com` (one label), or an IP address.'),
  upstreams: upstreams.optional(),
  routes: z.array(route).prefault([]).describe('Upstreams by path, besides the site’s own.'),
  tls: siteTls.prefault({}).describe('What differs from the `tls` at the top, or a certificate of your own.'),
  deliver: z
    .array(deliverRule)
    .prefault([])
    .describe(
      'Files in which other programs find the certificate that is served, whichever CA it is from: written at every change, and at a start where they are missing or differ. `{host}` in a path or an argument stands for the host (`_.example.com` for a wildcard). Each file is swapped as a whole; files of one rule are swapped together, as nearly as a file system can.',
    ),
  hsts,
  redirect: z
    .boolean()
    .default(true)
    .describe('Redirect plain HTTP to HTTPS (308). When false, plain HTTP is proxied too.'),
  upstreamTls,
})

const listen = z
  .strictObject({
    https: z
      .array(address)
      .prefault([':443'])
      .describe('Addresses for TLS: `IP:port`, or `:port` for every address.'),
    http: z
      .array(address)
      .prefault([':80'])
      .describe('Addresses for plain HTTP: HTTP-01, and redirects to HTTPS. `[]` for none.'),
    admin: z
      .union([z.literal(false), address], {
        error: 'not an address to listen on: write "IP:port", or false for no admin endpoint',
      })
      .prefault('127.0.0.1:9443')
      .describe(
        'Address of the admin endpoint. It has no authentication, so keep it on loopback. `false` for none.',
      ),
  })
  .prefault({})
  .describe('Where Holdfast listens.')

const SHARE = 'not an access log setting: write true, false, or the share of requests to log, from 0 to 1'

const log = z
  .strictObject({
    level: z
      .enum(['trace', 'debug', 'info', 'warn', 'error', 'silent'])
      .default('info')
      .describe('The least important lines to write.'),
    access: z
      .union([z.boolean(), z.number().min(0, SHARE).max(1, SHARE)], { error: SHARE })
      .default(true)
      .describe('A line a request: all, none, or this share of them.'),
    format: z
      .enum(['auto', 'json', 'pretty'])
      .default('auto')
      .describe('`auto`: pretty on a terminal, JSON elsewhere.'),
  })
  .prefault({})
  .describe('The log, on standard output.')

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
  .describe('How long to wait, as `"30s"`, `"5m"` or `"1h30m"`.')

/** Told by default: what somebody has to look at. */
const ALARMING = [
  'certificate.failed',
  'certificate.expiring',
  'certificate.switched',
  'certificate.revoked',
] as const
const EVENT_PATTERNS = ['*', 'ca.*', 'failover.*', 'certificate.*', ...EVENT_TYPES] as const

const notification = z
  .strictObject({
    url: z
      .url({ protocol: /^https?$/, error: 'is not a URL: write the https:// URL to post to' })
      .optional()
      .describe('A webhook to post to. Secret where the receiver takes its path for a password.'),
    format: z
      .enum(['json', 'slack', 'ntfy'])
      .default('json')
      .describe(
        'Shape of what is posted: `json` (docs/notifications.md), or as Slack and what is like it (Mattermost, Rocket.Chat), or as an ntfy topic want it.',
      ),
    secret: z
      .string()
      .min(16, 'is shorter than 16 characters: make one with `openssl rand -hex 32`')
      .optional()
      .describe('Signs what is posted, in `Holdfast-Signature`. Secret: take it from the environment.'),
    command: z
      .array(z.string())
      .min(1, 'names no program')
      .optional()
      .describe(
        'Instead of `url`: a program and its arguments, run without a shell. It gets the message as JSON on standard input and in `HOLDFAST_*` variables.',
      ),
    events: z
      .array(z.enum(EVENT_PATTERNS))
      .min(1, 'names no event')
      .prefault(['ca.*', 'failover.*', ...ALARMING])
      .describe('What to tell: whole names, `ca.*`, `failover.*`, `certificate.*`, or `*` for all.'),
  })
  .refine(({ url, command }) => (url === undefined) !== (command === undefined), {
    error: 'needs either a `url` or a `command`',
  })

const notify = z
  .array(notification)
  .prefault([])
  .describe('Who is told what happens to CAs and certificates.')

const PROCESSES = 'not a number of processes: write "auto" or 1, since one serves everything so far'

export const configSchema = z.strictObject({
  $schema: z.string().optional().describe('For editors: where the JSON Schema is.'),
  listen,
  sites: z
    .array(site)
    .min(1, 'names no site')
    .describe('What is served: hosts, and where their requests go.'),
  cas: z
    .record(caName, certificateAuthority)
    .prefault({})
    .describe(
      'Certificate authorities by name. A preset needs no `directory`, and no entry at all where it does not require `eab`; `internal` is always there.',
    ),
  tls: globalTls.prefault({}).describe('TLS policy of every site.'),
  store: z
    .string()
    .regex(
      /^(file:.+|rediss?:\/\/.+)$/,
      'is not a store: write "file:./data", "redis://host:6379" or "rediss://host:6379"',
    )
    .default('file:./data')
    .describe(
      'Where certificates, keys, accounts and jobs are kept: a folder (`file:./data`), or a Redis that replicas share (`redis://host:6379`, `rediss://` with TLS).',
    ),
  log,
  notify,
  timeouts,
  trustedProxies: z
    .array(range)
    .default([])
    .describe('Proxies in front of this one, whose X-Forwarded-* and Forwarded fields are believed.'),
  workers: z
    .union([z.literal('auto'), z.literal(1)], { error: PROCESSES })
    .default('auto')
    .describe('Processes that share the ports. So far one serves everything: `auto` and 1 mean the same.'),
  forwarder: z
    .enum(['fast', 'compat'])
    .default('fast')
    .describe('`fast`: Holdfast’s own HTTP engine; `compat`: node:http and http-proxy.'),
})

/** The configuration after validation: defaults filled in, durations in milliseconds, hosts as A-labels. */
export type Config = z.output<typeof configSchema>
export type SiteConfig = Config['sites'][number]
export type CaConfig = Config['cas'][string]
export type RouteConfig = SiteConfig['routes'][number]
export type Timeouts = Config['timeouts']

/** What the schema objects to, before `issues.ts` puts it into words. */
export type Issue = z.core.$ZodIssue
export type RawIssue = z.core.$ZodRawIssue
export type JsonSchema = z.core.JSONSchema.JSONSchema

/** JSON Schema of what a user may write, before variables are put in. Draft 7, which every editor knows. */
export function configJsonSchema(): JsonSchema {
  return z.toJSONSchema(configSchema, {
    io: 'input',
    target: 'draft-7',
    override: ({ jsonSchema, path }) => {
      if (path.at(-1) === 'propertyNames') return
      delete jsonSchema.format
      if (jsonSchema.pattern !== undefined) jsonSchema.pattern += `|${VARIABLE}`
      if (jsonSchema.type !== 'string' || jsonSchema.enum === undefined) return
      jsonSchema.anyOf = [{ enum: jsonSchema.enum }, { pattern: VARIABLE }]
      delete jsonSchema.enum
    },
  })
}

/** The forms that a value may take, where it may take several. */
export function formsOf({ anyOf = [] }: JsonSchema): JsonSchema[] {
  return anyOf.filter((form): form is JsonSchema => typeof form === 'object')
}

/** A string with this in it may become anything. */
const VARIABLE = '\\$\\{'

/** The sections of a config that others refer to. One that does not parse is left out: its own errors come first. */
export interface Sections {
  readonly listen: Config['listen'] | undefined
  readonly tls: Config['tls'] | undefined
  /** undefined: a CA of that name is there, but it does not parse. */
  readonly cas: ReadonlyMap<string, CaConfig | undefined>
  /** By their place in the config. */
  readonly sites: readonly (SiteConfig | undefined)[]
}

/** What can be used of an input that need not be valid as a whole. Never throws. */
export function parseSections(input: unknown): Sections {
  const raw = (isObject(input) ? input : {}) as Record<string, unknown>
  const cas = isObject(raw.cas) ? Object.entries(raw.cas) : []
  const sites = Array.isArray(raw.sites) ? raw.sites : []
  return {
    listen: listen.safeParse(raw.listen).data,
    tls: configSchema.shape.tls.safeParse(raw.tls).data,
    cas: new Map(
      cas.map(([name, ca]) => [
        name,
        caName.safeParse(name).success ? certificateAuthority.safeParse(ca).data : undefined,
      ]),
    ),
    sites: sites.map((each) => site.safeParse(each).data),
  }
}

function isObject(value: unknown): value is object {
  return typeof value === 'object' && value !== null && !Array.isArray(value)
}
