/** Who may ask, how often, what Holdfast answers by itself, and what it changes of messages that pass: keys of a site and of a route. Part of `schema.ts`. */
import { parsePasswordHash } from '../../password.ts'
import { duration, file, range, size, z } from './fields.ts'

/** What `{…}` in a redirect may stand for. */
const VARIABLES: readonly string[] = ['host', 'path', 'uri']

/** Fields that frame a message or belong to one connection, and those that tell of the hop: Holdfast sends these itself. */
const OURS: ReadonlySet<string> = new Set([
  'connection',
  'content-length',
  'date',
  'expect',
  'http2-settings',
  'keep-alive',
  'proxy-authenticate',
  'proxy-authorization',
  'proxy-connection',
  'te',
  'trailer',
  'transfer-encoding',
  'upgrade',
  'via',
])

/** So that the rules of both sides and what is sent besides fit into the buffers of a head. */
const MAX_RULES_BYTES = 8 * 1024

const location = z
  .string()
  .regex(
    /^(https?:\/\/[\x21-\x7e]+|\/([\x21-\x2e\x30-\x5b\x5d-\x7e][\x21-\x7e]*)?)$/,
    'not a place to redirect to: write "https://…" or a path, in ASCII',
  )
  .refine(
    (to) => [...to.matchAll(/\{([^}]*)\}/g)].every(([, name = '']) => VARIABLES.includes(name)),
    'not a place to redirect to: of variables there are {host}, {path} and {uri}',
  )

const redirection = z.strictObject({
  to: location.describe('A URL or a path.'),
  status: z
    .union([z.literal(301), z.literal(302), z.literal(303), z.literal(307), z.literal(308)], {
      error: 'not a redirect: write 301, 302, 303, 307 or 308',
    })
    .default(308)
    .describe('Status code: 308 and 301 are remembered by clients, the others are not.'),
})

const fieldName = z
  .string()
  .regex(/^[A-Za-z0-9!#$%&'*+.^_`|~-]+$/, 'not a header name: write a name such as "Content-Type"')
  .refine((name) => !OURS.has(name.toLowerCase()), 'not a header to set or remove: Holdfast sends it itself')

/** A request has one Host, which may be replaced. */
const addedRequestField = fieldName.refine(
  (name) => name.toLowerCase() !== 'host',
  'not a header to add or remove: a request has one Host; `set` replaces it',
)

const sentField = fieldName.refine(
  (name) => name.toLowerCase() !== 'strict-transport-security',
  'not a header to set here: write `hsts` in the site',
)

const fieldValue = z
  .string()
  .regex(
    /^(?:[\x21-\x7e](?:[\t\x20-\x7e]*[\x21-\x7e])?)?$/,
    'not a header’s value: use printable ASCII, on one line',
  )

function isAuthority(value: string): boolean {
  return /^([A-Za-z0-9_.-]+|\[[0-9A-Fa-f:.]+\])(:\d{1,5})?$/.test(value)
}

function headerRules(
  set: z.ZodType<string, string>,
  others: z.ZodType<string, string>,
  removed: z.ZodType<string, string>,
) {
  return z
    .strictObject({
      set: z.record(set, fieldValue).prefault({}).describe('Sent instead of what came under these names.'),
      add: z.record(others, fieldValue).prefault({}).describe('Sent beside what came.'),
      remove: z
        .array(removed.meta({ title: 'header name' }))
        .prefault([])
        .describe('Not sent on.'),
    })
    .refine(
      ({ set, add }) => Buffer.byteLength(JSON.stringify([set, add])) <= MAX_RULES_BYTES,
      'not usable: the rules are longer than 8 KiB together',
    )
}

const requestHeaders = headerRules(fieldName, addedRequestField, addedRequestField).refine(
  ({ set }) =>
    Object.entries(set).every(([name, value]) => name.toLowerCase() !== 'host' || isAuthority(value)),
  'not usable: Host is a name or address, and a port where there is one',
)

const maintenancePolicy = z.strictObject({
  retryAfter: duration.prefault('5m').describe('When clients should ask again.'),
  allow: z.array(range).prefault([]).describe('Addresses and ranges that are served all the same.'),
  page: file
    .optional()
    .describe(
      'File to answer with, in UTF-8: HTML, or by its name `.json` or `.txt`. Re-read when it changes.',
    ),
})

const credentials = z.strictObject({
  users: z
    .record(
      z.string().regex(/^[^:\p{Cc}]+$/u, 'not a user name: it has no colon and no control characters'),
      z
        .string()
        .refine(
          (hash) => parsePasswordHash(hash) !== undefined,
          'is not a password hash: make one with "holdfast hash-password"',
        ),
    )
    .refine((users) => Object.keys(users).length > 0, 'names no user')
    .describe('Names and hashes of passwords, by `holdfast hash-password`. Secret.'),
  realm: z
    .string()
    .regex(
      /^[\x20\x21\x23-\x5b\x5d-\x7e]+$/,
      'not a realm: use printable ASCII without quotes and backslashes',
    )
    .default('Restricted')
    .describe('What browsers show when they ask.'),
})

const rate = z.strictObject({
  requests: z.int().min(1, 'not a limit: write at least 1').describe('How many requests a client has.'),
  by: z
    .string()
    .regex(
      /^(ip|header:[A-Za-z0-9!#$%&'*+.^_`|~-]+)$/,
      'not what clients are told apart by: write "ip" or "header:NAME"',
    )
    .default('ip')
    .describe(
      'What tells clients apart: `ip` (IPv6: the /64), or a header such as `header:X-Api-Key`, though a client can evade the limit by inventing values; requests without it go by their address.',
    ),
  per: duration.prefault('1m').describe('In how much time, evenly spread.'),
  burst: z
    .int()
    .min(1, 'not a burst: write at least 1')
    .optional()
    .describe('How many may come at once. Default: as `requests`.'),
})

/** `config/shaping.ts` says what a route takes over from its site. */
export const shapingKeys = {
  redirectTo: z
    .union([location.transform((to) => redirection.parse({ to })), redirection], {
      error: 'not a redirect: write a URL or a path, or { "to": "https://…", "status": 302 }',
    })
    .optional()
    .describe(
      'Redirect (308) instead of asking an upstream: `https://www.example.com{uri}`. `{uri}` is the path and query of the request, `{path}` the path alone, `{host}` its Host.',
    ),
  respond: z
    .strictObject({
      status: z
        .int()
        .min(200, 'not a status: write 200 to 599')
        .max(599, 'not a status: write 200 to 599')
        .default(200)
        .describe('Status code.'),
      headers: z
        .record(sentField, fieldValue)
        .prefault({})
        .describe('Headers. `Content-Type` is plain text in UTF-8 if none is set.'),
      body: z.string().default('').describe('Content.'),
    })
    .optional()
    .describe('Answer with this instead of asking an upstream.'),
  maxBody: size
    .optional()
    .describe('How large the content of a request may be, such as `10MB`; past it 413. Default: no limit.'),
  rewrite: z
    .string()
    .regex(/^\/[\x21\x22\x24-\x3e\x40-\x7e]*$/, 'not a path: it starts with "/", in ASCII without "?" or "#"')
    .optional()
    .describe(
      'What upstreams get in place of the route’s path: `/` strips it, `/v2` puts another in its place.',
    ),
  requestHeaders: requestHeaders
    .optional()
    .describe(
      'Headers that upstreams get otherwise than they came. A route takes it over from its site, unless it has its own; so too the keys below.',
    ),
  responseHeaders: headerRules(sentField, sentField, fieldName)
    .optional()
    .describe(
      'Headers that clients get otherwise than upstreams sent them; not on what Holdfast answers by itself.',
    ),
  compress: z
    .boolean()
    .optional()
    .describe(
      'Compress what upstreams send uncompressed (zstd, br or gzip), where the client asks for it and the type compresses well. Not for pages that show secrets beside what a client has sent (BREACH).',
    ),
  allow: z
    .array(range)
    .optional()
    .describe(
      'Addresses and ranges that may ask; others get 403. It is the address of the client, also behind `trustedProxies`.',
    ),
  deny: z.array(range).optional().describe('Addresses and ranges that get 403, even where `allow` has them.'),
  maintenance: z
    .union(
      [z.literal(false), z.literal(true).transform(() => maintenancePolicy.parse({})), maintenancePolicy],
      {
        error: 'not a maintenance policy: write true, false or { "retryAfter": "1h" }',
      },
    )
    .optional()
    .describe('Answer 503 with Retry-After, and ask no upstream: `true`, `false`, or how.'),
  basicAuth: z
    .union([z.literal(false), credentials], {
      error: 'not an authentication: write { "users": { "alice": "$scrypt$…" } }, or false',
    })
    .optional()
    .describe(
      'Who may ask, by name and password (RFC 7617); others get 401. A password is hashed at its first request, then known to the process. Upstreams get Authorization too, unless `requestHeaders` removes it.',
    ),
  rateLimit: z
    .union([z.literal(false), rate], {
      error: 'not a rate limit: write { "requests": 100, "per": "1m" }, or false',
    })
    .optional()
    .describe(
      'Limit for each client; past it 429 with Retry-After. Routes that take it over from their site count together. Each worker process counts by itself, and anew after a reload.',
    ),
}
