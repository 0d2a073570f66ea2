/**
 * The shape of `proxy.config.json`: every key with its default and its documentation; its sections are in `schema/`.
 * `proxy.config.schema.json` and `docs/config.md` are generated from here (`npm run docs`), and a test keeps them equal.
 *
 * Receives plain JSON from `load.ts`; hands `Config` to `sites.ts` and `server.ts`.
 */
import { certificateAuthority } from './schema/cas.ts'
import { caName, range, z } from './schema/fields.ts'
import { listen, log, notify, timeouts } from './schema/server.ts'
import { site } from './schema/sites.ts'
import { globalTls } from './schema/tls.ts'

export { type Address, normalizeHost, parseUpstream, type Upstream } from './addresses.ts'

const PROCESSES = 'not a number of processes: write "auto", or how many from 1 to 256'

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
    .describe(
      'Proxies in front of this one, whose X-Forwarded-* and Forwarded fields are believed. The client is then the last address in X-Forwarded-For that is none of theirs: for `allow`, `deny`, `rateLimit`, `balance` and the access log.',
    ),
  workers: z
    .union([z.literal('auto'), z.int().min(1, PROCESSES).max(256, PROCESSES)], { error: PROCESSES })
    .default('auto')
    .describe(
      'Processes that serve connections and share the ports: `auto` for one per core, besides the one that looks after certificates; 1 for a small sidecar, where one process does everything. Balancing, health checks and rate limits are each process’s own.',
    ),
  forwarder: z
    .enum(['fast', 'compat'])
    .default('fast')
    .describe(
      '`fast`: Holdfast’s own HTTP engine; `compat`: node:http and http-proxy, without HTTP/2 to upstreams, WebSocket over HTTP/2 (RFC 8441), HTTP/2 priorities (RFC 9218), and over HTTP/1.1 the methods that Node does not know.',
    ),
})

/** The configuration after validation: defaults filled in, durations in milliseconds, hosts as A-labels. */
export type Config = z.output<typeof configSchema>
export type SiteConfig = Config['sites'][number]
export type CaConfig = Config['cas'][string]
export type RouteConfig = SiteConfig['routes'][number]
export type UpstreamConfig = NonNullable<RouteConfig['upstreams']>[number]
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
  readonly forwarder: Config['forwarder'] | undefined
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
    forwarder: configSchema.shape.forwarder.safeParse(raw.forwarder).data,
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
