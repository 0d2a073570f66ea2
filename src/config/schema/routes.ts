/** What becomes of the requests of a site, or below one of its paths. Part of `schema.ts`. */
import { plainPath } from '../paths.ts'
import { balancingKeys, upstreamEntry } from './balancing.ts'
import { file, host, text, z } from './fields.ts'
import { shapingKeys } from './shaping.ts'

export const upstreams = z
  .array(upstreamEntry)
  .min(1, 'names no upstream')
  .describe(
    'Where requests go, by `balance`: `http://host:port`, `https://host:port`, for HTTP/2 and gRPC `h2c://host:port` (without TLS) or `h2://host:port` (with TLS), or a unix socket, `unix:/run/app.sock` or `unix+h2c:/run/app.sock`; or an object with the URL and its part.',
  )

export const upstreamTls = z
  .strictObject({
    roots: file
      .optional()
      .describe('PEM file of roots to trust, beside Node’s own list of roots, not the system’s.'),
    verify: z.boolean().default(true).describe('Check the certificates of the upstreams.'),
    certificate: file
      .optional()
      .describe(
        'PEM file with a certificate to show to upstreams that ask for one (mTLS), its intermediates, and the key when `key` is absent. Re-read when it changes.',
      ),
    key: file.optional().describe('PEM file with the private key of `certificate`.'),
    serverName: host.optional().describe('Name to ask for and to check. Default: the upstream’s host.'),
  })
  .prefault({})
  .describe('How `https://` and `h2://` upstreams are checked, and what they are shown.')

export const route = z.strictObject({
  path: text(plainPath, (input) =>
    input.includes('*')
      ? 'not a path: it covers what is below it without a "*"'
      : /^\/[^?#\s]*$/.test(input)
        ? 'not a path that is looked for: leave out "//", ";", a backslash, "%2F" and the segments "." and ".."'
        : 'not a path: it starts with "/" and has no space, "?" or "#"',
  )
    .meta({ title: 'path' })
    .describe(
      'Requests whose path is this, with or without a slash at its end, or below it, take the route, however that is spelled (`/a/../b`, `//b`, `/%62`; case counts); the longest wins. A path that could be read as one of two routes is passed on as it was read; others as they were sent.',
    ),
  upstreams: upstreams.optional(),
  ...shapingKeys,
  ...balancingKeys,
})
