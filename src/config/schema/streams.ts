/** What a site does with connections that it does not take for HTTP. Part of `schema.ts`. */
import { z } from './fields.ts'

/** Of a site. */
export const streamKeys = {
  mode: z
    .enum(['http', 'tcp', 'passthrough'])
    .default('http')
    .describe(
      '`http`: requests are proxied. `tcp`: TLS ends here, and what it carries goes on octet by octet to `tcp://host:port` upstreams. `passthrough`: the server name alone chooses the upstream, which speaks TLS itself and has its own certificate; none is ordered. While any site is `tcp` or `passthrough`, each connection’s first message is read ahead.',
    ),
  alpn: z
    .array(z.string().min(1, 'is empty').max(255, 'is longer than 255 octets'))
    .min(1, 'names no protocol')
    .optional()
    .describe(
      'Protocols (ALPN) of a `tcp` site, in order of preference: `["postgresql"]`. A client that offers only others is refused; one that offers none is served. Default: none, and whatever a client offers is left aside.',
    ),
  proxyProtocol: z
    .enum(['v1', 'v2'])
    .optional()
    .describe(
      'Tell the upstreams of a `tcp` or `passthrough` site the client’s address in a PROXY header of this version.',
    ),
}
