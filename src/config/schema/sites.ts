/** The section `sites`: hosts, and what is done for each. Part of `schema.ts`. */
import { balancingKeys } from './balancing.ts'
import { duration, file, host, text, z } from './fields.ts'
import { route, upstreams, upstreamTls } from './routes.ts'
import { shapingKeys } from './shaping.ts'
import { streamKeys } from './streams.ts'
import { siteTls } from './tls.ts'

/** `0640` to permission bits. */
function parseMode(digits: string): number | undefined {
  return /^0?[0-7]{3}$/.test(digits) ? Number.parseInt(digits, 8) : undefined
}

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

export const site = z.strictObject({
  hosts: z
    .array(host)
    .min(1, 'names no host')
    .describe('Names of the site: `app.example.com`, `*.example.com` (one label), or an IP address.'),
  ...streamKeys,
  upstreams: upstreams.optional(),
  ...shapingKeys,
  ...balancingKeys,
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
    .describe(
      'Redirect plain HTTP to HTTPS (308): to the first port of `listen.https`, or to 443 where the client came to port 80 and `listen.http` has another, as with the mapped ports of a container. When false, plain HTTP is proxied too; for a `passthrough` site it gets 404, as it does for a `tcp` site in any case.',
    ),
  upstreamTls,
})
