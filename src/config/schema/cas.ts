/** The section `cas`: certificate authorities, and what is known of each. Part of `schema.ts`. */
import { HOUR, SECOND } from '../../time.ts'
import { contact, duration, file, z } from './fields.ts'

const limit = (what: string) =>
  z
    .union(
      [
        z.literal(false),
        z.strictObject({
          limit: z.int().min(1, 'not a limit: write at least 1, or false for none').describe('How many.'),
          per: duration.describe('In how much time.'),
        }),
      ],
      { error: 'not a limit: write { "limit": 300, "per": "3h" }, or false for none' },
    )
    .optional()
    .describe(`${what} \`false\` for no limit.`)

const rateLimits = z
  .strictObject({
    account: limit('Orders of our account.'),
    domain: limit('Certificates for a registered domain, such as `example.co.uk`.'),
    names: limit('Certificates for exactly the same names.'),
    failures: limit('Failed validations of a host.'),
  })
  .describe(
    'Rate limits to keep to, where the CA has agreed on others with you. Default for public CAs: what Let’s Encrypt publishes (300 per 3h, 50 per 7d, 5 per 7d, 5 per 1h); for others none. A 429 is heeded in any case.',
  )

export const certificateAuthority = z.strictObject({
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
  preferredRoot: z
    .string()
    .min(1, 'is empty: write the common name of a root')
    .optional()
    .describe(
      'Where the CA offers several chains for a certificate, take the one to the root of this common name, such as `ISRG Root X1`; the CA’s default where it offers none.',
    ),
  roots: file
    .optional()
    .describe(
      'PEM file of roots to trust for the CA’s own ACME endpoint, beside Node’s own list of roots, not the system’s. For private CAs.',
    ),
  trust: file
    .meta({ title: '`"public"`, `"any"`, file' })
    .optional()
    .describe(
      'Where the chains it issues must end: `public` (Node’s own list of roots, and `roots`), a PEM file, or `any` (for test CAs). Default: `public`; `any` for `letsencrypt-staging`.',
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
  rateLimits: rateLimits.optional(),
  probeInterval: duration
    .refine((ms) => ms >= 5 * SECOND && ms <= HOUR, 'not an interval for probes: write "5s" to "1h"')
    .optional()
    .describe(
      'How often to look whether the CA is well, on average: its directory and a nonce. Default: `60s`.',
    ),
  distrusted: z
    .boolean()
    .optional()
    .describe(
      'Ask this CA for nothing any more, and serve what it issued only where there is nothing else: standbys take over at the next handshake, and other CAs replace them. As `certs distrust`, from the config.',
    ),
  lifetime: duration.optional().describe('Lifetime of the certificates of an `internal` CA. Default: `7d`.'),
})
