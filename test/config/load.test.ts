// biome-ignore-all lint/suspicious/noTemplateCurlyInString: that is how a config names variables
import { chmodSync, symlinkSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import fc from 'fast-check'
import t, { type Test } from 'tap'
import { createAuthority } from '../../src/cert/signing.ts'
import { generateKeyPem } from '../../src/cert/x509.ts'
import { type LoadedConfig, loadChosenConfig, loadConfig } from '../../src/config/load.ts'
import { ConfigError } from '../../src/errors.ts'
import { DAY } from '../../src/time.ts'
import { openFolder, unprivileged } from '../support/unprivileged.ts'

const upstreams = ['http://127.0.0.1:3000']
const site = { hosts: ['app.example.com'], upstreams }

/** Loads a config from a folder of its own that also holds `files`. */
function load(
  t: Test,
  config: unknown,
  env: Record<string, string> = {},
  files: Record<string, string | object> = {},
): Promise<LoadedConfig> {
  const text = typeof config === 'string' ? config : JSON.stringify(config)
  return loadConfig(join(t.testdir({ ...files, 'proxy.config.json': text }), 'proxy.config.json'), env)
}

/** The lines of the ConfigError; paths start at the config's folder. */
async function mistakes(...[t, ...rest]: Parameters<typeof load>): Promise<string[]> {
  const outcome = await load(t, ...rest).catch((error: unknown) => error)
  if (!(outcome instanceof ConfigError)) throw new Error('no ConfigError', { cause: outcome })
  return outcome.message.replaceAll(`${t.testdirName}/`, './').split('\n')
}

const BAD: readonly [name: string, config: unknown, lines: string[]][] = [
  ['not an object', [], ['expected an object, found an array']],
  ['null', 'null', ['expected an object, found null']],
  ['empty', {}, ['sites: is missing']],
  ['no site', { sites: [] }, ['sites: names no site']],
  [
    'syntax',
    '{\n  "sites": [\n    { "hosts": ["a.example.com"] "upstreams": [] }\n  ]\n}',
    [
      './proxy.config.json: line 3, column 34: expected "," or "}" but found a string (is a comma missing before it?)',
    ],
  ],
  [
    'a key twice, beside another mistake',
    `{ "sites": [], "log": { "level": "info" }, "sites": [${JSON.stringify(site)}], "log": { "level": "all" } }`,
    [
      'sites: is there twice (remove one of the two)',
      'log: is there twice (remove one of the two)',
      'log.level: "all" is not one of "trace", "debug", "info", "warn", "error", "silent"',
    ],
  ],
  [
    'unknown keys, with the nearest',
    { sites: [{ hosts: ['a.example.com'], upstream: upstreams }], lsiten: {} },
    [
      'sites[0]: unknown key "upstream" (did you mean "upstreams"?)',
      'unknown key "lsiten" (did you mean "listen"?)',
    ],
  ],
  [
    'an unknown key that belongs one level down',
    { sites: [{ ...site, certificate: 'a.pem' }] },
    ['sites[0]: unknown key "certificate" (did you mean "tls.certificate"?)'],
  ],
  [
    'an unknown key like no other',
    { sites: [{ ...site, upstreamTls: { weight: 1 } }] },
    ['sites[0].upstreamTls: unknown key "weight" (known here: roots, verify, certificate, key, serverName)'],
  ],
  [
    'an unknown key within a union',
    { sites: [{ ...site, hsts: { maxage: '1d' } }] },
    ['sites[0].hsts: unknown key "maxage" (did you mean "maxAge"?)'],
  ],
  [
    'wrong types',
    { sites: [{ hosts: 'app.example.com', upstreams: {}, redirect: 'yes', tls: [] }], store: null },
    [
      'sites[0].hosts: expected an array, found a string (write it in [ ])',
      'sites[0].upstreams: expected an array, found an object (write it in [ ])',
      'sites[0].tls: expected an object, found an array',
      'sites[0].redirect: expected a boolean, found a string',
      'store: expected a string, found null',
    ],
  ],
  [
    'a site that is no object',
    { sites: ['app.example.com'] },
    ['sites[0]: expected an object, found a string'],
  ],
  [
    'hosts that are none',
    {
      sites: [
        { hosts: ['https://a.example.com', 'a.example.com:443', 'a b', '*.*.example.com', ''], upstreams },
        { hosts: ['_', '*'], upstreams },
      ],
    },
    [
      'sites[0].hosts[0]: "https://a.example.com" is not a host: leave out scheme, port and path',
      'sites[0].hosts[1]: "a.example.com:443" is not a host: leave out scheme, port and path',
      'sites[0].hosts[2]: "a b" is not a host: write a DNS name, "*.example.com" or an IP address',
      'sites[0].hosts[3]: "*.*.example.com" is not a host: write a DNS name, "*.example.com" or an IP address',
      'sites[0].hosts[4]: "" is not a host: write a DNS name, "*.example.com" or an IP address',
      'sites[1].hosts[0]: "_" is not a host: nothing stands for every host, so name each one',
      'sites[1].hosts[1]: "*" is not a host: nothing stands for every host, so name each one',
    ],
  ],
  ['a site without hosts', { sites: [{ upstreams }] }, ['sites[0].hosts: is missing']],
  ['an empty list of hosts', { sites: [{ hosts: [], upstreams }] }, ['sites[0].hosts: names no host']],
  [
    'a host twice in a site, in another form',
    { sites: [{ hosts: ['bücher.example.com', 'XN--bcher-kva.example.com.'], upstreams }] },
    ['sites[0].hosts[1]: "xn--bcher-kva.example.com" is there twice (remove one of the two)'],
  ],
  [
    'a host in two sites',
    { sites: [site, { hosts: ['b.example.com', 'APP.example.com'], upstreams }] },
    [
      'sites[1].hosts[1]: "app.example.com" is a host of sites[0] already (a host belongs to one site: use `routes` there)',
    ],
  ],
  [
    'HTTP/2 to upstreams by a forwarder that does not speak it',
    {
      forwarder: 'compat',
      sites: [
        {
          hosts: ['app.example.com'],
          upstreams: ['http://127.0.0.1:1', 'h2c://127.0.0.1:2'],
          routes: [{ path: '/rpc', upstreams: ['h2://127.0.0.1:3'] }],
        },
      ],
    },
    [
      'sites[0].upstreams[1]: h2c://127.0.0.1:2 is HTTP/2, which the forwarder "compat" does not speak to upstreams (write "forwarder": "fast", or http:// or https://)',
      'sites[0].routes[0].upstreams[0]: h2://127.0.0.1:3 is HTTP/2, which the forwarder "compat" does not speak to upstreams (write "forwarder": "fast", or http:// or https://)',
    ],
  ],
  [
    'deliveries that cannot be',
    {
      sites: [
        {
          hosts: ['a.example.com', 'b.example.com'],
          upstreams,
          deliver: [
            {},
            { pkcs12: '{host}.p12', mode: '0888', command: [] },
            { key: '{host}.key', passphrase: 'secret', owner: -1 },
          ],
        },
      ],
    },
    [
      'sites[0].deliver[1].mode: "0888" is not permissions: write octal digits such as "0640"',
      'sites[0].deliver[1].command: names no program',
      'sites[0].deliver[2].owner: -1 is not an account: write a name or a number',
    ],
  ],
  [
    'deliveries that contradict themselves or one another',
    {
      sites: [
        {
          hosts: ['a.example.com', 'b.example.com'],
          upstreams,
          deliver: [
            {},
            { pkcs12: '{host}.p12' },
            { key: '{host}.key', passphrase: 'secret' },
            { combined: 'all.pem' },
            { key: '{host}.key' },
          ],
        },
      ],
    },
    [
      'sites[0].deliver[3].combined: is one file for several hosts (put {host} into its path)',
      'sites[0].deliver[4].key: "a.example.com.key" is written by sites[0].deliver[2].key already (give each its own file)',
      'sites[0].deliver[4].key: "b.example.com.key" is written by sites[0].deliver[2].key already (give each its own file)',
      'sites[0].deliver[0]: names no file (give one of `fullchain`, `certificate`, `chain`, `key`, `combined`, `pkcs12`)',
      'sites[0].deliver[1]: has `pkcs12` without `passphrase` (add one, taken from the environment)',
      'sites[0].deliver[2].passphrase: is for `pkcs12`, which is not there (remove it)',
    ],
  ],
  [
    'a site that leads nowhere',
    { sites: [{ hosts: ['a.example.com'] }] },
    [
      'sites[0]: has none of `upstreams`, `routes`, `redirectTo` and `respond` (add "upstreams": ["http://127.0.0.1:3000"])',
    ],
  ],
  [
    'upstreams that are none',
    {
      sites: [
        { hosts: ['a.example.com'], upstreams: ['127.0.0.1:3000', 'http://app/x', 'http://me:s3cret@app'] },
      ],
    },
    [
      'sites[0].upstreams[0]: is not an upstream: put "http://" in front, or "https://" where it speaks TLS',
      'sites[0].upstreams[1]: is not an upstream: write "http://host:port" or "https://host:port", without a path',
      'sites[0].upstreams[2]: is not an upstream: write "http://host:port" or "https://host:port", without a path',
    ],
  ],
  [
    'routes that are none',
    {
      sites: [
        {
          hosts: ['a.example.com'],
          routes: [
            { path: 'api', upstreams },
            { path: '/a b', upstreams: [] },
            {},
            { path: '/a//b', upstreams },
          ],
        },
      ],
    },
    [
      'sites[0].routes[0].path: "api" is not a path: it starts with "/" and has no space, "?" or "#"',
      'sites[0].routes[1].path: "/a b" is not a path: it starts with "/" and has no space, "?" or "#"',
      'sites[0].routes[1].upstreams: names no upstream',
      'sites[0].routes[2].path: is missing',
      'sites[0].routes[3].path: "/a//b" is not a path that is looked for: leave out "//", ";", a backslash, "%2F" and the segments "." and ".."',
    ],
  ],
  [
    'a path twice',
    {
      sites: [
        { hosts: ['a.example.com'], routes: ['/a', '/b', '/%61'].map((path) => ({ path, upstreams })) },
      ],
    },
    ['sites[0].routes[2].path: "/a" is the path of routes[0] already (keep one of the two)'],
  ],
  [
    'a route beside the site’s own upstreams',
    { sites: [{ ...site, routes: [{ path: '/', upstreams }] }] },
    ['sites[0].routes[0].path: "/" is the path of the site’s own `upstreams` (keep one of the two)'],
  ],
  [
    'addresses that are none',
    { sites: [site], listen: { https: ['443'], http: ['example.com:80'], admin: true } },
    [
      'listen.https[0]: "443" is not an address to listen on: write "IP:port", "[IPv6]:port" or ":port" for every address',
      'listen.http[0]: "example.com:80" is not an address to listen on: write "IP:port", "[IPv6]:port" or ":port" for every address',
      'listen.admin: true is not an address to listen on: write "IP:port", or false for no admin endpoint',
    ],
  ],
  [
    'an address twice',
    {
      sites: [site],
      listen: { https: [':443', '[::1]:443'], http: ['127.0.0.1:80'], admin: '127.0.0.1:80' },
    },
    [
      'listen.https[1]: [::1]:443 is taken by listen.https[0] (choose another port)',
      'listen.admin: 127.0.0.1:80 is taken by listen.http[0] (choose another port)',
    ],
  ],
  [
    'an upstream that is Holdfast itself',
    {
      sites: [
        { hosts: ['a.example.com'], upstreams: ['http://localhost:8080', 'http://127.0.0.2:8080'] },
        { hosts: ['b.example.com'], routes: [{ path: '/', upstreams: ['https://[::1]:8443'] }] },
        { hosts: ['c.example.com'], upstreams: ['http://10.0.0.7:8443', 'http://127.0.0.1:8081'] },
        { hosts: ['d.example.com'], mode: 'passthrough', upstreams: ['tcp://127.0.0.1:8443'] },
      ],
      listen: { https: [':8443'], http: ['127.0.0.1:8080', '10.0.0.7:8080', '[::1]:8081'] },
    },
    [
      'sites[0].upstreams[0]: http://localhost:8080 is Holdfast itself, by listen.http[0] (write the address of the app)',
      'sites[1].routes[0].upstreams[0]: https://[::1]:8443 is Holdfast itself, by listen.https[0] (write the address of the app)',
      'sites[3].upstreams[0]: tcp://127.0.0.1:8443 is Holdfast itself, by listen.https[0] (write the address of the app)',
    ],
  ],
  [
    'an upstream that is the very address that Holdfast listens on',
    {
      sites: [{ hosts: ['a.example.com'], upstreams: ['http://10.0.0.7:8080', 'http://0.0.0.0:8443'] }],
      listen: { https: ['0.0.0.0:8443'], http: ['10.0.0.7:8080'] },
    },
    [
      'sites[0].upstreams[0]: http://10.0.0.7:8080 is Holdfast itself, by listen.http[0] (write the address of the app)',
      'sites[0].upstreams[1]: http://0.0.0.0:8443 is Holdfast itself, by listen.https[0] (write the address of the app)',
    ],
  ],
  [
    'nowhere to listen',
    { sites: [site], listen: { https: [], http: [] } },
    ['listen: names no address (give https or http one, such as ":443")'],
  ],
  [
    'http-01 alone without a plain listener, said once for all sites',
    {
      sites: [site, { hosts: ['b.example.com'], upstreams }],
      listen: { http: [] },
      tls: { challenges: ['http-01'] },
    },
    [
      'tls.challenges: http-01 is answered on `listen.http`, which is empty (add an address there, or allow another challenge)',
    ],
  ],
  [
    'tls-alpn-01 alone without a TLS listener',
    { sites: [{ ...site, tls: { challenges: ['tls-alpn-01'] } }], listen: { https: [] } },
    [
      'sites[0].tls.challenges: tls-alpn-01 is answered on `listen.https`, which is empty (add an address there, or allow another challenge)',
    ],
  ],
  [
    'choices that there are not',
    {
      sites: [{ ...site, tls: { keyType: 'rsa2048', challenges: ['dns-01'] } }],
      tls: { standby: 'on', minVersion: 1.3, challenges: [] },
      forwarder: 'faster',
      log: { format: 'text' },
    },
    [
      'sites[0].tls.challenges[0]: "dns-01" is not one of "tls-alpn-01", "http-01"',
      'sites[0].tls.keyType: "rsa2048" is not one of "ecdsa-p256", "ecdsa-p384", "rsa-2048", "rsa-3072", "rsa-4096" (did you mean "rsa-2048"?)',
      'tls.standby: "on" is not one of "always", "on-degraded", "off"',
      'tls.challenges: names no challenge',
      'tls.minVersion: 1.3 is not one of "1.2", "1.3"',
      'log.format: "text" is not one of "auto", "json", "pretty"',
      'forwarder: "faster" is not one of "fast", "compat" (did you mean "fast"?)',
    ],
  ],
  [
    'unions come out as one line',
    { sites: [{ ...site, hsts: 'on' }], workers: 0, log: { access: 2 } },
    [
      'sites[0].hsts: "on" is not an HSTS policy: write true, false or { "maxAge": "365d" }',
      'log.access: 2 is not an access log setting: write true, false, or the share of requests to log, from 0 to 1',
      'workers: 0 is not a number of processes: write "auto", or how many from 1 to 256',
    ],
  ],
  [
    'durations',
    { sites: [site], timeouts: { head: 15, body: '60', connect: '5 seconds', drain: '0s', idle: '5m' } },
    [
      'timeouts.head: is a number without a unit: write "15s" for seconds',
      'timeouts.body: "60" is not a duration: write a number and a unit, such as "30s", "5m", "12h" or "90d"',
      'timeouts.connect: "5 seconds" is not a duration: write a number and a unit, such as "30s", "5m", "12h" or "90d"',
      'timeouts.drain: "0s" is not a usable duration: it must be longer than nothing',
      'timeouts: unknown key "idle" (known here: head, body, connect, response, keepAlive, upgrade, drain)',
    ],
  ],
  [
    'a store that is none, without its password',
    { sites: [site], store: 'postgres://me:s3cret@db' },
    ['store: is not a store: write "file:./data", "redis://host:6379" or "rediss://host:6379"'],
  ],
  [
    'trusted proxies that are none',
    { sites: [site], trustedProxies: ['10.0.0.0/33', 'proxy.internal'] },
    [
      'trustedProxies[0]: "10.0.0.0/33" is not an address range: write "10.0.0.0/8", "fd00::/8" or a single IP address',
      'trustedProxies[1]: "proxy.internal" is not an address range: write "10.0.0.0/8", "fd00::/8" or a single IP address',
    ],
  ],
  [
    'a CA without a name',
    { sites: [site], cas: { 'My CA': { directory: 'https://ca.example.com/d' } } },
    ['cas["My CA"]: "My CA" is not a name for a CA: use lower-case letters, digits and hyphens'],
  ],
  [
    'a CA without a directory',
    { sites: [site], cas: { corp: {}, 'lets-encrypt': {} } },
    [
      'cas.corp: has no `directory` and is no preset (add the URL of its ACME directory)',
      'cas.lets-encrypt: has no `directory` and is no preset (did you mean "letsencrypt"?)',
    ],
  ],
  [
    'a directory that is none',
    { sites: [site], cas: { corp: { directory: 'http://ca.example.com/d' } } },
    ['cas.corp.directory: is not a directory: write the https:// URL of the ACME directory'],
  ],
  [
    'a contact that is none',
    { sites: [site], cas: { letsencrypt: { contact: ['ops', 'tel:+1234', 'ops@example.com'] } } },
    [
      'cas.letsencrypt.contact[0]: "ops" is not a contact: write an address such as "you@example.com"',
      'cas.letsencrypt.contact[1]: "tel:+1234" is not a contact: write an address such as "you@example.com"',
    ],
  ],
  [
    'presets without the account binding that they need',
    { sites: [site], cas: { zerossl: {} }, tls: { cas: ['letsencrypt', 'zerossl', 'google'] } },
    [
      'cas.zerossl: needs `eab` (add "eab": { "kid": …, "hmacKey": … } from your account at the CA)',
      'tls.cas[2]: "google" needs an external account binding (add "google": { "eab": … } to `cas`)',
    ],
  ],
  [
    'an account binding that is none, without its key',
    { sites: [site], cas: { zerossl: { eab: { kid: '', hmacKey: 's3cret key' } } } },
    [
      'cas.zerossl.eab.kid: is empty: copy the key id from your account at the CA',
      'cas.zerossl.eab.hmacKey: is not base64url: copy the HMAC key from your account at the CA',
    ],
  ],
  [
    'keys of the other kind of CA',
    {
      sites: [site],
      cas: {
        internal: { contact: ['a@example.com'], profile: 'tlsserver', lifetime: '3d' },
        dev: { type: 'internal', directory: 'https://ca.example.com/d' },
        letsencrypt: { lifetime: '3d' },
      },
    },
    [
      'cas.internal.contact: is for ACME CAs, and this one is internal (remove it)',
      'cas.internal.profile: is for ACME CAs, and this one is internal (remove it)',
      'cas.dev.directory: is for ACME CAs, and this one is internal (remove it)',
      'cas.letsencrypt.lifetime: is for internal CAs (an ACME CA sets it: ask for a `profile`)',
    ],
  ],
  [
    'the name of the built-in CA for another',
    { sites: [site], cas: { internal: { type: 'acme', directory: 'https://ca.example.com/d' } } },
    ['cas.internal.type: the CA named "internal" is the built-in one (give the ACME CA another name)'],
  ],
  [
    'lists of CAs that name none, or one twice',
    {
      sites: [{ ...site, tls: { cas: ['letsencript', 'corp', 'corp'] } }],
      cas: { corp: { directory: 'https://ca.example.com/d' } },
      tls: { cas: ['constructor'] },
    },
    [
      'tls.cas[0]: no CA is named "constructor" (known: corp, letsencrypt, letsencrypt-staging, zerossl, google, sslcom, actalis, sectigo, internal)',
      'sites[0].tls.cas[0]: no CA is named "letsencript" (did you mean "letsencrypt"?)',
      'sites[0].tls.cas[2]: names "corp" twice (remove one of the two)',
    ],
  ],
  [
    'an empty list of CAs',
    { sites: [{ ...site, tls: { cas: [] } }], tls: { cas: 'letsencrypt' } },
    ['sites[0].tls.cas: names no CA', 'tls.cas: expected an array, found a string (write it in [ ])'],
  ],
  [
    'a wildcard without anyone to issue it',
    { sites: [{ hosts: ['example.com', '*.example.com'], upstreams }] },
    [
      'sites[0].hosts[1]: "letsencrypt" cannot issue for "*.example.com": wildcards need dns-01, which Holdfast does not answer yet (give the site `tls.certificate`, or "tls": { "cas": ["internal"] })',
    ],
  ],
  [
    'private names at a public CA',
    {
      sites: [
        {
          hosts: ['localhost', 'db.internal', '10.0.0.1', '8.8.8.8'],
          upstreams,
          tls: { cas: ['letsencrypt'] },
        },
      ],
    },
    ['localhost', 'db.internal', '10.0.0.1'].map(
      (host, index) =>
        `sites[0].hosts[${index}]: "letsencrypt" cannot issue for "${host}": a public CA serves public names only (add "internal" or a private ACME CA to the site’s \`tls.cas\`)`,
    ),
  ],
  [
    'no CA but one that the config distrusts',
    {
      sites: [{ hosts: ['a.example.com'], upstreams }],
      cas: { letsencrypt: { distrusted: true } },
    },
    [
      'sites[0].hosts[0]: only "letsencrypt" can issue for "a.example.com", which the config distrusts (add another CA, or remove `distrusted` there)',
    ],
  ],
  [
    'limits and probes that make no sense',
    {
      sites: [{ hosts: ['a.example.com'], upstreams }],
      cas: {
        letsencrypt: { rateLimits: { account: 300 }, probeInterval: '1s' },
        internal: { rateLimits: {} },
      },
    },
    [
      'cas.letsencrypt.rateLimits.account: 300 is not a limit: write { "limit": 300, "per": "3h" }, or false for none',
      'cas.letsencrypt.probeInterval: "1s" is not an interval for probes: write "5s" to "1h"',
      'cas.internal.rateLimits: is for ACME CAs, and this one is internal (remove it)',
    ],
  ],
  [
    'a wildcard at a private ACME CA',
    {
      sites: [{ hosts: ['*.corp'], upstreams }],
      cas: { corp: { directory: 'https://ca.corp/d' } },
      tls: { cas: ['corp'] },
    },
    [
      'sites[0].hosts[0]: "corp" cannot issue for "*.corp": wildcards need dns-01, which Holdfast does not answer yet (give the site `tls.certificate`, or "tls": { "cas": ["internal"] })',
    ],
  ],
  [
    'a key or a passphrase without a certificate',
    { sites: [{ ...site, tls: { key: 'present.pem', passphrase: 's3cret' } }] },
    [
      'sites[0].tls.key: is there without `certificate` (add the certificate, or remove this)',
      'sites[0].tls.passphrase: is there without `certificate` (add the certificate, or remove this)',
    ],
  ],
  [
    'a certificate beside what says how to get one',
    { sites: [{ ...site, tls: { certificate: 'present.pem', cas: ['internal'], interim: true } }] },
    [
      'sites[0].tls.cas: means nothing beside `certificate` (remove one of the two)',
      'sites[0].tls.interim: means nothing beside `certificate` (remove one of the two)',
    ],
  ],
  [
    'a default host that no site has',
    { sites: [site], tls: { defaultHost: 'ap.example.com' } },
    [
      'tls.defaultHost: "ap.example.com" is no host of any site that has a certificate (did you mean "app.example.com"?)',
    ],
  ],
  [
    'files that cannot be used',
    {
      sites: [
        { ...site, tls: { certificate: 'absent.pem', key: 'folder' } },
        {
          hosts: ['b.example.com'],
          upstreamTls: { roots: 'present.pem' },
          routes: [{ path: '/', upstreams, maintenance: { page: 'absent.html' } }],
        },
        { hosts: ['c.example.com'], upstreams, tls: { certificate: '' } },
      ],
      cas: {
        corp: { directory: 'https://ca.example.com/d', roots: 'damaged.pem', trust: 'absent/root.pem' },
      },
    },
    [
      'sites[2].tls.certificate: is empty: write the path of a file',
      'cas.corp.roots: certificate 1 in ./damaged.pem is damaged (export it again from its source)',
      'cas.corp.trust: ./absent/root.pem does not exist (a relative path starts at the folder of the config)',
      'sites[0].tls.certificate: ./absent.pem does not exist (a relative path starts at the folder of the config)',
      'sites[0].tls.key: ./folder is a folder (name a file)',
      'sites[1].upstreamTls.roots: ./present.pem holds no PEM certificate (name a PEM file of root certificates)',
      'sites[1].routes[0].maintenance.page: ./absent.html does not exist (a relative path starts at the folder of the config)',
    ],
  ],
  [
    'a certificate for upstreams that is not whole',
    {
      sites: [
        { ...site, upstreamTls: { key: 'present.pem' } },
        { hosts: ['b.example.com'], upstreams, upstreamTls: { certificate: 'absent.pem', key: 'folder' } },
      ],
    },
    [
      'sites[0].upstreamTls.key: is there without `certificate` (add the certificate, or remove this)',
      'sites[1].upstreamTls.certificate: ./absent.pem does not exist (a relative path starts at the folder of the config)',
      'sites[1].upstreamTls.key: ./folder is a folder (name a file)',
    ],
  ],
  [
    'headers of client certificates that cannot be sent',
    {
      sites: [
        {
          ...site,
          tls: {
            clientCertificates: {
              ca: 'folder',
              headers: { subject: 'Host', pem: 'a b', sans: 'X-Forwarded-Client' },
            },
          },
        },
        {
          hosts: ['b.example.com'],
          upstreams,
          tls: { clientCertificates: { ca: 'folder', headers: { subject: 'X-Who', serial: 'x-who' } } },
        },
        {
          hosts: ['c.example.com'],
          mode: 'tcp',
          upstreams: ['tcp://127.0.0.1:1'],
          tls: { clientCertificates: { ca: 'folder', headers: {} } },
        },
      ],
    },
    [
      'sites[0].tls.clientCertificates.headers.pem: "a b" is not a header name: write one such as "X-Client-Subject"',
      'sites[0].tls.clientCertificates.headers.subject: "Host" is not a free header name: it has another use',
      'sites[0].tls.clientCertificates.headers.sans: "X-Forwarded-Client" is not a free header name: it has another use',
      'sites[1].tls.clientCertificates.headers.serial: "x-who" has another meaning here already (give each its own name)',
      'sites[2].tls.clientCertificates.headers: means nothing here (it is for HTTP, and the mode is "tcp": remove it)',
      'sites[1].tls.clientCertificates.ca: ./folder is a folder (name a file)',
      'sites[2].tls.clientCertificates.ca: ./folder is a folder (name a file)',
    ],
  ],
  [
    'client certificates that cannot be asked for',
    {
      sites: [
        { ...site, redirect: false, tls: { clientCertificates: { ca: 'present.pem', crl: 'absent.crl' } } },
        { hosts: ['b.example.com'], upstreams, tls: { clientCertificates: { mode: 'on' } } },
        {
          hosts: ['c.example.com'],
          mode: 'passthrough',
          upstreams: ['tcp://127.0.0.1:1'],
          tls: { clientCertificates: { ca: 'absent.pem' } },
        },
      ],
    },
    [
      'sites[1].tls.clientCertificates.mode: "on" is not one of "required", "optional"',
      'sites[1].tls.clientCertificates.ca: is missing',
      'sites[0].redirect: would let clients in without `tls.clientCertificates` (remove it: plain HTTP is redirected then)',
      'sites[2].tls.clientCertificates: means nothing here (TLS is the upstream’s where it is passed through: remove it)',
      'sites[0].tls.clientCertificates.ca: ./present.pem holds no PEM certificate (name a PEM file of root certificates)',
      'sites[0].tls.clientCertificates.crl: ./absent.crl does not exist (a relative path starts at the folder of the config)',
      'sites[2].tls.clientCertificates.ca: ./absent.pem does not exist (a relative path starts at the folder of the config)',
    ],
  ],
  [
    'a PEM in place of its path, which is not shown',
    { sites: [{ ...site, tls: { certificate: 'present.pem', key: '-----BEGIN PRIVATE KEY-----\ns3cret' } }] },
    ['sites[0].tls.key: is not a path: write the path of a file, on one line'],
  ],
  [
    'mistakes of every kind at once',
    {
      sites: [
        { hosts: ['a.example.com', 'localhost'], upstream: upstreams },
        { hosts: ['b.example.com'], upstreams: ['${APP}'], tls: { cas: ['letsencrypt'] } },
        { hosts: ['c.example.com', 'c.example.com'], upstreams, tls: { certificate: 'absent.pem' } },
      ],
      workers: 1.5,
    },
    [
      'sites[1].upstreams[0]: the environment variable APP is not set (set it, or write "${APP:-default}")',
      'sites[0]: unknown key "upstream" (did you mean "upstreams"?)',
      'workers: 1.5 is not a number of processes: write "auto", or how many from 1 to 256',
      'sites[2].hosts[1]: "c.example.com" is there twice (remove one of the two)',
      'sites[2].tls.certificate: ./absent.pem does not exist (a relative path starts at the folder of the config)',
    ],
  ],
]

const FILES = {
  'present.pem': 'no certificate, but a file',
  'damaged.pem': '-----BEGIN CERTIFICATE-----\nbm90IERFUg==\n-----END CERTIFICATE-----\n',
  folder: {},
}

for (const [name, config, lines] of BAD) {
  t.test(`refused: ${name}`, async (t) => {
    t.strictSame(await mistakes(t, config, {}, FILES), lines)
  })
}

t.test('a file that may not be read', async (t) => {
  const config = { sites: [{ ...site, tls: { certificate: 'own.pem' } }] }
  const dir = openFolder(t, { 'own.pem': '', 'proxy.config.json': JSON.stringify(config) })
  chmodSync(join(dir, 'own.pem'), 0)
  await unprivileged(() =>
    t.rejects(loadConfig(join(dir, 'proxy.config.json'), {}), {
      message: `sites[0].tls.certificate: ${dir}/own.pem cannot be read (let the user that runs Holdfast read it)`,
    }),
  )
})

t.test('a file that cannot be read for a rare reason', async (t) => {
  const config = { sites: [{ ...site, tls: { certificate: 'loop.pem' } }] }
  const dir = t.testdir({ 'proxy.config.json': JSON.stringify(config) })
  symlinkSync('loop.pem', join(dir, 'loop.pem'))
  await t.rejects(loadConfig(join(dir, 'proxy.config.json'), {}), {
    message: `sites[0].tls.certificate: ${dir}/loop.pem cannot be read: ELOOP (check the disk and the path)`,
  })
})

t.test('a config that is not there', async (t) => {
  const absent = join(t.testdir({ folder: {} }), 'absent.json')
  await t.rejects(loadConfig(absent, {}), {
    message: `${absent} does not exist (name the config with --config FILE)`,
  })
  const folder = join(t.testdirName, 'folder')
  await t.rejects(loadConfig(folder, {}), {
    message: `${folder} cannot be read: EISDIR (name the config with --config FILE)`,
  })
})

t.test('variables are put in, with defaults where they are unset or empty', async (t) => {
  const config = {
    sites: [
      {
        hosts: ['${NAME}.example.com', '${EMPTY:-b}.${ZONE:-example.org}'],
        upstreams: ['http://${APP:-app}:${PORT}'],
      },
    ],
    cas: { zerossl: { eab: { kid: '${KID}', hmacKey: '${HMAC}' } } },
  }
  const loaded = await load(t, config, { NAME: 'a', EMPTY: '', PORT: '3000', KID: 'kid', HMAC: 'aG1hYw' })
  t.strictSame(loaded.config.sites[0]?.hosts, ['a.example.com', 'b.example.org'])
  t.equal(loaded.config.sites[0]?.upstreams?.[0]?.url, 'http://app:3000')
  t.strictSame(loaded.config.cas.zerossl?.eab, { kid: 'kid', hmacKey: 'aG1hYw' })
})

t.test('$${ is a plain ${, and a $ alone is nothing special', async (t) => {
  const config = { sites: [{ ...site, tls: { certificate: 'present.pem', passphrase: 'a$b$${c}$' } }] }
  const loaded = await load(t, config, {}, FILES)
  t.equal(loaded.config.sites[0]?.tls.passphrase, 'a$b${c}$')
})

t.test('every variable that is not set is named, and what it should fill is not blamed too', async (t) => {
  const config = {
    sites: [{ hosts: ['${HOST}', '${}', '${1ST}', '${OPEN'], upstreams }],
    cas: { zerossl: { eab: { kid: '${KID}', hmacKey: '${HMAC}' } } },
  }
  const hint = '(set it, or write "${HOST:-default}")'
  t.strictSame(await mistakes(t, config, { KID: 'kid' }), [
    `sites[0].hosts[0]: the environment variable HOST is not set ${hint}`,
    ...[1, 2, 3].map(
      (index) =>
        `sites[0].hosts[${index}]: holds "\${" without the name of a variable (for a literal "\${" write "$\${")`,
    ),
    'cas.zerossl.eab.hmacKey: the environment variable HMAC is not set (set it, or write "${HMAC:-default}")',
  ])
})

t.test('what a variable holds is in no message', async (t) => {
  const config = {
    sites: [
      {
        hosts: ['${SECRET}'],
        upstreams: ['${SECRET}'],
        routes: [{ path: '${SECRET}', upstreams }],
        hsts: '${SECRET}',
      },
    ],
    cas: { zerossl: { eab: { kid: 'kid', hmacKey: '${SECRET}' }, contact: ['${SECRET}'] } },
    listen: { https: ['${SECRET}'], admin: '${SECRET}' },
    log: { level: '${SECRET}' },
    store: '${SECRET}',
    workers: '${SECRET}',
    trustedProxies: ['${SECRET}'],
    timeouts: { head: '${SECRET}' },
  }
  const lines = await mistakes(t, config, { SECRET: 's3cret value' })
  t.equal(lines.length, 13)
  t.notMatch(lines.join('\n'), /s3cret/)
  t.equal(
    lines[0],
    'listen.https[0]: "${SECRET}" is not an address to listen on: write "IP:port", "[IPv6]:port" or ":port" for every address',
  )
})

t.test('paths become absolute, from the folder of the config', async (t) => {
  const now = Date.now()
  const root = await createAuthority({
    commonName: 'Test Root',
    keyPem: await generateKeyPem('ecdsa-p256'),
    pathLength: 0,
    notBefore: now,
    notAfter: now + DAY,
  })
  const config = {
    sites: [
      {
        ...site,
        tls: { certificate: 'present.pem', key: '/etc/hostname' },
        upstreamTls: { roots: './root.pem' },
        maintenance: { page: 'present.pem' },
      },
    ],
    cas: { corp: { directory: 'https://ca.example.com/d', roots: 'root.pem', trust: 'root.pem' } },
    store: 'file:data',
  }
  const { config: loaded, baseDir, file, files } = await load(t, config, {}, { ...FILES, 'root.pem': root })
  const dir = t.testdirName
  t.equal(baseDir, dir)
  t.equal(file, `${dir}/proxy.config.json`)
  t.strictSame(loaded.cas.corp?.roots, `${dir}/root.pem`)
  t.strictSame(loaded.cas.corp?.trust, `${dir}/root.pem`)
  t.strictSame(loaded.sites[0]?.tls, { certificate: `${dir}/present.pem`, key: '/etc/hostname' })
  t.strictSame(loaded.sites[0]?.upstreamTls.roots, `${dir}/root.pem`)
  t.match(loaded.sites[0]?.maintenance, { page: `${dir}/present.pem` })
  t.equal(loaded.store, `file:${dir}/data`)
  t.strictSame(files, [`${dir}/proxy.config.json`, `${dir}/root.pem`, `${dir}/present.pem`, '/etc/hostname'])
})

t.test('a config as one would write it', async (t) => {
  const text = `{
    "$schema": "./proxy.config.schema.json",
    "listen": { "https": ["0.0.0.0:443"], "http": ["0.0.0.0:80"], "admin": "127.0.0.1:9443" },
    "store": "file:./data", // or redis://…, rediss://…
    "workers": "auto", "forwarder": "fast",
    "log": { "level": "info", "access": true },
    "cas": {
      "letsencrypt": { "contact": ["mailto:ops@example.com"], "profile": "tlsserver" },
      "zerossl": { "eab": { "kid": "\${ZEROSSL_KID}", "hmacKey": "\${ZEROSSL_HMAC}" } },
      "corp": { "directory": "https://ca.corp.example/acme/directory", "trust": "any" },
      "internal": { "type": "internal" },
    },
    "tls": {
      "cas": ["letsencrypt", "zerossl"], "standby": "always",
      "challenges": ["tls-alpn-01", "http-01"], "keyType": "ecdsa-p256",
    },
    "sites": [
      { "hosts": ["app.example.com"], "upstreams": ["http://127.0.0.1:3000", "http://127.0.0.1:3001"] },
      {
        "hosts": ["wiki.corp.example"], "tls": { "cas": ["internal"] },
        "routes": [{ "path": "/api/", "upstreams": ["http://127.0.0.1:4000"] }],
      },
      {
        "hosts": ["legacy.example.com"], "tls": { "certificate": "present.pem", "key": "present.pem" },
        "upstreams": ["https://127.0.0.1:8443"], /* its own TLS */
      },
    ],
  }`
  const { config } = await load(t, text, { ZEROSSL_KID: 'kid', ZEROSSL_HMAC: 'aG1hYw' }, FILES)
  t.equal(config.sites.length, 3)
  t.strictSame(Object.keys(config.cas), ['letsencrypt', 'zerossl', 'corp', 'internal'])
})

t.test('whatever is put anywhere, there is a config or a ConfigError with lines for people', async (t) => {
  const whole = {
    listen: { https: [':443'], http: [':80'], admin: false },
    sites: [
      {
        ...site,
        routes: [{ path: '/a', upstreams }],
        tls: { cas: ['corp'] },
        hsts: { maxAge: '1d' },
        upstreamTls: {},
      },
    ],
    cas: {
      corp: {
        directory: 'https://ca.example.com/d',
        eab: { kid: 'k', hmacKey: 'aG1hYw' },
        contact: ['a@b.c'],
      },
    },
    tls: { challenges: ['http-01'], defaultHost: 'app.example.com' },
    log: { access: 0.5 },
    timeouts: { head: '5s' },
    trustedProxies: ['::1'],
  }
  const anything = fc.oneof(
    fc.jsonValue(),
    fc.constantFrom('', 'internal', '__proto__', '${', '*.example.com', 'localhost'),
  )
  const file = join(t.testdir({}), 'fuzz.json')
  const run = async (at: number, value: unknown) => {
    let index = 0
    const replaced = JSON.stringify(whole, (_key, each) => (index++ === at ? value : each))
    writeFileSync(file, replaced ?? 'null')
    try {
      await loadConfig(file, {})
    } catch (error) {
      t.ok(error instanceof ConfigError, replaced, { error })
      for (const { message } of (error as ConfigError).problems)
        if (message === '' || /Invalid|Unrecognized|Too (small|big)|undefined|\n/.test(message))
          t.fail(message, { replaced })
    }
  }
  await fc.assert(fc.asyncProperty(fc.nat(40), anything, run), { numRuns: 500 })
})

t.test('the smallest config gets every default', async (t) => {
  const { config } = await load(t, { sites: [site] })
  t.strictSame(config.listen, {
    https: [{ host: undefined, port: 443 }],
    http: [{ host: undefined, port: 80 }],
    proxyProtocol: [],
    admin: { host: '127.0.0.1', port: 9443 },
  })
  t.strictSame(config.timeouts, {
    head: 15_000,
    body: 60_000,
    connect: 5000,
    response: 60_000,
    keepAlive: 75_000,
    upgrade: 3_600_000,
    drain: 30_000,
  })
  t.strictSame(config.tls, {
    spread: false,
    standby: 'always',
    challenges: ['tls-alpn-01', 'http-01'],
    keyType: 'ecdsa-p256',
    reuseKey: false,
    interim: false,
    minVersion: '1.2',
  })
  t.strictSame(config.sites[0], {
    deliver: [],
    hosts: ['app.example.com'],
    mode: 'http',
    upstreams: [
      {
        url: 'http://127.0.0.1:3000',
        protocol: 'http/1.1',
        secure: false,
        host: '127.0.0.1',
        port: 3000,
        socketPath: undefined,
        weight: 1,
        backup: false,
        maxConnections: undefined,
      },
    ],
    routes: [],
    tls: {},
    hsts: false,
    redirect: true,
    upstreamTls: { verify: true },
  })
})

t.test('hsts may be true, and contacts may be plain addresses', async (t) => {
  const config = {
    sites: [
      { ...site, hsts: true },
      { hosts: ['b.example.com'], upstreams, hsts: { maxAge: '1d' } },
    ],
    cas: { letsencrypt: { contact: ['a@example.com', 'mailto:b@example.com'] } },
  }
  const loaded = await load(t, config)
  t.strictSame(
    loaded.config.sites.map((each) => each.hsts),
    [
      { maxAge: 365 * DAY, includeSubDomains: false, preload: false },
      { maxAge: DAY, includeSubDomains: false, preload: false },
    ],
  )
  t.strictSame(loaded.config.cas.letsencrypt?.contact, ['mailto:a@example.com', 'mailto:b@example.com'])
})

t.test('the config in the repository is good', async (t) => {
  const { config } = await loadConfig('proxy.config.json', {})
  t.strictSame(config.sites[0]?.hosts, ['localhost'])
})

t.test('without --config: the file here, else the environment, else words on both', async (t) => {
  const env = { HOLDFAST_HOSTS: 'env.example.com', HOLDFAST_UPSTREAMS: 'http://app:3000' }
  const hostsFrom = async (...args: Parameters<typeof loadChosenConfig>) =>
    (await loadChosenConfig(...args)).config.sites[0]?.hosts
  const dir = t.testdir({ empty: {}, full: { 'proxy.config.json': JSON.stringify({ sites: [site] }) } })
  const home = process.cwd()
  t.teardown(() => process.chdir(home))
  process.chdir(join(dir, 'full'))
  t.strictSame(await hostsFrom(undefined, env), ['app.example.com'])
  process.chdir(join(dir, 'empty'))
  t.strictSame(await hostsFrom('../full/proxy.config.json', env), ['app.example.com'])
  t.strictSame(await hostsFrom(undefined, env), ['env.example.com'])
  await t.rejects(loadChosenConfig(undefined, { HOLDFAST_HOSTS: '' }), {
    message: `there is no proxy.config.json in ${dir}/empty, and HOLDFAST_HOSTS is not set (name a file with --config, or set HOLDFAST_HOSTS and HOLDFAST_UPSTREAMS)`,
  })
})
