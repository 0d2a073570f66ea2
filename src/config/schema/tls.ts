/** The sections `tls`, at the top and of a site: where certificates come from, and how TLS is spoken. Part of `schema.ts`. */
import { caName, file, host, z } from './fields.ts'

const CHALLENGE_TYPES = ['tls-alpn-01', 'http-01'] as const
const KEY_TYPES = ['ecdsa-p256', 'ecdsa-p384', 'rsa-2048', 'rsa-3072', 'rsa-4096'] as const

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
  reuseKey: z
    .boolean()
    .describe(
      'Keep the key of a certificate when it is renewed, as DANE (TLSA 3 1 1) and pinned keys need it. Live and standby have keys of their own in any case; one that is compromised or whose certificate is revoked is never kept.',
    ),
  interim: z
    .boolean()
    .describe(
      'Serve a certificate of the internal CA until the first real one is there, instead of refusing the handshake.',
    ),
}

export const globalTls = z.strictObject({
  cas: tlsKeys.cas.optional(),
  standby: tlsKeys.standby.default('always'),
  challenges: tlsKeys.challenges.default([...CHALLENGE_TYPES]),
  keyType: tlsKeys.keyType.default('ecdsa-p256'),
  reuseKey: tlsKeys.reuseKey.default(false),
  interim: tlsKeys.interim.default(false),
  defaultHost: host
    .optional()
    .describe(
      'Host whose certificate is served to clients that send no name or an unknown one. Default: refuse them, with the alert `unrecognized_name` where the name is unknown, and `handshake_failure` where there is none.',
    ),
  spread: z
    .boolean()
    .default(false)
    .describe(
      'Spread the hosts evenly over the public CAs of their lists, so that none depends on one CA together: each host has its own order of them, the same on every machine. A certificate that is held stays until it is due, so that a change orders nothing.',
    ),
  minVersion: z.enum(['1.2', '1.3']).default('1.2').describe('Oldest TLS version to accept.'),
})

/** Names that frame or route a message, or that the proxy has another use for. */
const OTHER_USE =
  /^(connection|content-.*|cookie|expect|forwarded|host|keep-alive|proxy.*|te|trailer|transfer-encoding|upgrade|via|x-forwarded-.*|x-real-ip|x-request-id)$/i

const fieldName = z
  .string()
  .regex(/^[A-Za-z][A-Za-z0-9-]*$/, 'not a header name: write one such as "X-Client-Subject"')
  .refine((name) => !OTHER_USE.test(name), 'not a free header name: it has another use')

const clientHeaders = z
  .strictObject({
    certificate: fieldName
      .optional()
      .describe('Gets the certificate as RFC 9440 has it: base64 of its DER between colons.'),
    pem: fieldName
      .optional()
      .describe('Gets the certificate as PEM, percent-encoded, as from nginx’s `$ssl_client_escaped_cert`.'),
    subject: fieldName.optional().describe('Gets the subject by RFC 2253: `CN=alice,O=Acme`.'),
    sans: fieldName
      .optional()
      .describe('Gets the alternative names: `DNS:alice.example, URI:spiffe://acme/alice`.'),
    serial: fieldName.optional().describe('Gets the serial number: hexadecimal, upper case.'),
    fingerprint: fieldName
      .optional()
      .describe('Gets the SHA-256 of the certificate: hexadecimal, lower case.'),
  })
  .describe(
    'Names of the headers that tell the upstreams who the client is. Default: `{ "certificate": "Client-Cert" }`. Clients’ own headers of these names, and Client-Cert and Client-Cert-Chain in any case, are dropped, also where `_` stands for `-`.',
  )

const clientCertificates = z
  .strictObject({
    mode: z
      .enum(['required', 'optional'])
      .default('required')
      .describe(
        '`required`: a client without a certificate is refused in the handshake. `optional`: it is served, and the upstream learns that nobody is proven. One that does not verify is refused in both.',
      ),
    ca: file.describe(
      'PEM file with the root certificates whose clients are let in, and their intermediates where clients do not send them. Re-read when it changes.',
    ),
    crl: file
      .optional()
      .describe(
        'File with revocation lists: PEM, as many as there are, or DER. Each authority of a client’s chain needs one, the root too. Re-read when it changes; once one of them has run out, every client certificate is refused.',
      ),
    headers: clientHeaders.optional(),
  })
  .describe(
    'Ask clients for a certificate (mTLS). Requests for the site over a connection that was made for a site with other rules get 421, whose sender tries again on a connection of its own. While any site has this, each connection’s first message is read ahead.',
  )

export const siteTls = z.strictObject({
  cas: tlsKeys.cas.optional().describe('Instead of `tls.cas`, for this site.'),
  standby: tlsKeys.standby.optional().describe('Instead of `tls.standby`.'),
  challenges: tlsKeys.challenges.optional().describe('Instead of `tls.challenges`.'),
  keyType: tlsKeys.keyType.optional().describe('Instead of `tls.keyType`.'),
  reuseKey: tlsKeys.reuseKey.optional().describe('Instead of `tls.reuseKey`.'),
  interim: tlsKeys.interim.optional().describe('Instead of `tls.interim`.'),
  certificate: file
    .optional()
    .describe(
      'A certificate of your own: PEM file with the chain (and the key, when `key` is absent), or a PKCS#12 file (.p12, .pfx). Re-read when it changes.',
    ),
  key: file.optional().describe('PEM file with the private key of `certificate`.'),
  passphrase: z.string().optional().describe('Passphrase of the PKCS#12 file or of the key. Secret.'),
  clientCertificates: clientCertificates.optional(),
})
