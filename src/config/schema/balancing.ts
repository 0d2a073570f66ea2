/** How requests are spread over the upstreams of a site or route. Part of `schema.ts`. */
import { STICKY_COOKIE } from '../sticky-cookie.ts'
import { duration, host, upstream, z } from './fields.ts'

const HASH = 'not a key to hash: write "ip", "header:NAME" or "cookie:NAME"'

const weighted = z.strictObject({
  url: upstream.describe('`http://host:port`, `https://host:port`, or as above.'),
  weight: z.int().min(1).max(1000).default(1).describe('Its share of the requests, against the others’.'),
  backup: z.boolean().default(false).describe('Asked only when no other upstream can take a request.'),
  maxConnections: z
    .int()
    .min(1)
    .optional()
    .describe('How many requests it gets at once, from each worker process.'),
})

/** The part of an upstream that is written as a mere URL. */
const PLAIN = { weight: 1, backup: false, maxConnections: undefined }

/** A URL, or an object with the URL and its part in the balancing; the same form after parsing. */
export const upstreamEntry = z.union(
  [
    upstream.transform((it) => ({ ...it, ...PLAIN })),
    weighted.transform(({ url, ...part }) => ({ ...url, ...part })),
  ],
  { error: 'not an upstream: write "http://host:port", or an object with its "url"' },
)

const healthCheck = z.strictObject({
  type: z
    .enum(['http', 'tcp'])
    .optional()
    .describe(
      '`http`: a GET has to be answered with one of `status`; `tcp`: connecting is enough, as for gRPC and databases. Default: `http`; `tcp` in a site that does not speak HTTP.',
    ),
  path: z
    .string()
    .regex(/^\/[^#\s]*$/, 'not a path: it starts with "/" and has no space or "#"')
    .optional()
    .describe('What to GET. Default: `/`.'),
  host: host.optional().describe('Host to ask for. Default: the upstream’s own address.'),
  status: z
    .array(z.int().min(200).max(599))
    .min(1, 'names no status')
    .optional()
    .describe('Statuses that are good: `[200, 204]`. Default: all from 200 to 399.'),
  interval: duration
    .prefault('5s')
    .describe('Pause between two checks. Each worker process checks by itself.'),
  timeout: duration.prefault('2s').describe('How long an upstream may take.'),
  fall: z
    .int()
    .min(1)
    .default(3)
    .describe('After how many failed checks in a row it is down; before it ever passed, one is enough.'),
  rise: z.int().min(1).default(2).describe('After how many passed checks in a row it is up again.'),
})

/** Of a site and of a route, which takes over what it does not say; `config/balancing.ts` has the defaults. */
export const balancingKeys = {
  balance: z
    .union(
      [
        z.enum(['round-robin', 'least-connections', 'two-choices']),
        z.strictObject({
          hash: z
            .string()
            .regex(/^(ip|(header|cookie):[\w!#$%&'*+.^`|~-]+)$/, HASH)
            .describe('`ip`, `header:NAME` or `cookie:NAME`.'),
        }),
      ],
      {
        error:
          'not a way to balance: write "round-robin", "least-connections", "two-choices" or { "hash": "ip" }',
      },
    )
    .optional()
    .describe(
      'Which upstream a request goes to: `round-robin` (the default), `least-connections`, `two-choices` (the less busy of two at random), or `{ "hash": "ip" }`, by which the same key goes to the same upstream as long as it can take it. Each worker process counts by itself.',
    ),
  sticky: z
    .union(
      [
        z.boolean(),
        z.strictObject({
          cookie: z
            .string()
            .regex(/^[\w!#$%&'*+.^`|~-]+$/, 'not a name for a cookie')
            .default(STICKY_COOKIE)
            .describe('Its name.'),
        }),
      ],
      { error: 'not a way to stick: write true, false or { "cookie": "NAME" }' },
    )
    .optional()
    .describe(
      'Keep a client with its upstream by a cookie (HttpOnly, Secure, SameSite=Lax) that tells nothing of the upstream. Where that one cannot take a request, another one does, and keeps the client. Default: `false`.',
    ),
  retries: z
    .int()
    .min(0)
    .max(10)
    .optional()
    .describe(
      'How often a request without a body that is safe to repeat (GET, HEAD, OPTIONS, PUT, DELETE) goes to another upstream when one breaks off, or answers 502, 503 or 504; and any request that an HTTP/2 upstream has refused twice without processing it, where its body is short. At most a fifth of the requests are repeated. Where connecting fails, others are always tried. Default: 1.',
    ),
  maxFails: z
    .int()
    .min(0)
    .optional()
    .describe(
      'After how many failures in a row (broken off, no answer in time, 502, 503 or 504) an upstream is left alone; one that cannot be connected to is at once. `0`: never. Default: 3.',
    ),
  failTimeout: duration
    .optional()
    .describe('How long it is left alone before one request tries it again. Default: `10s`.'),
  slowStart: duration
    .optional()
    .describe('Over how long an upstream that is back gets its full share again. Default: at once.'),
  queue: z
    .strictObject({
      size: z.int().min(1).default(100).describe('How many requests may wait; more are refused with 503.'),
      timeout: duration.prefault('10s').describe('How long each may wait; 503 then.'),
    })
    .optional()
    .describe(
      'Requests wait here when every upstream that is up is at its `maxConnections`. Default: 503 at once.',
    ),
  healthCheck: healthCheck
    .optional()
    .describe(
      'Ask upstreams regularly whether they are well; `{}` for GET / every 5 s. One that is down gets no requests; when all are down they are asked all the same, so that a check that is wrong takes no site down. Default: none.',
    ),
}
