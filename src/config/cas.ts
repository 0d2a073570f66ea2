/**
 * The certificate authorities that a config names, with presets and defaults filled in, and the question which of
 * them can serve which host. Hides presets from `ca/`: `server.ts` builds an `Issuer` from each `Ca`.
 */
import { DAY, MINUTE } from '../time.ts'
import { isPrivateHost } from './addresses.ts'
import { presetAt, presetNamed } from './presets.ts'
import type { CaConfig } from './schema.ts'

interface AnyCa {
  /** Its name in the config. */
  readonly name: string
  /** It is asked for nothing, and what it issued is served only where there is nothing else. */
  readonly distrusted: boolean
}

export interface AcmeCa extends AnyCa {
  readonly type: 'acme'
  readonly directory: string
  /** `mailto:` URLs. */
  readonly contact: readonly string[]
  /** Secret: `hmacKey` never reaches a log. */
  readonly eab: { readonly kid: string; readonly hmacKey: string } | undefined
  readonly profile: string | undefined
  /** Common name of the root that its chains are to end in, where it offers several. */
  readonly preferredRoot: string | undefined
  /** Absolute path of PEM roots for the ACME endpoint, beside the runtime's. */
  readonly roots: string | undefined
  /** Where the chains it issues must end: `public`, `any`, or the absolute path of a PEM file. */
  readonly trust: string
  /** Is it one of the public CAs that Holdfast knows? They serve public names only. */
  readonly public: boolean
  /** The names that CAA records use for it (RFC 8659 section 4.2); none when they are not known. */
  readonly caaIdentities: readonly string[]
  /** URL of its status page's JSON. */
  readonly statusFeed: string | undefined
  /** What the operator knows better than `ca/limits.ts`. */
  readonly rateLimits: NonNullable<CaConfig['rateLimits']>
  readonly probeIntervalMs: number
}

export interface InternalCa extends AnyCa {
  readonly type: 'internal'
  /** Of the certificates that it issues. */
  readonly lifetimeMs: number
}

export type Ca = AcmeCa | InternalCa

/** The internal CA that is there without being configured has this name. */
export const INTERNAL = 'internal'

const INTERNAL_LIFETIME_MS = 7 * DAY
/** Between two probes of a CA, on average, where nothing else is said. */
export const PROBE_INTERVAL_MS = MINUTE

/**
 * The CA of that name, where `config` is its entry in `cas`, if there is one. undefined when it is neither configured
 * nor a preset, or an ACME CA without a directory.
 */
export function resolveCa(name: string, config: CaConfig | undefined): Ca | undefined {
  const distrusted = config?.distrusted ?? false
  if (typeOf(name, config) === 'internal')
    return { type: 'internal', name, distrusted, lifetimeMs: config?.lifetime ?? INTERNAL_LIFETIME_MS }
  const directory = config?.directory ?? presetNamed(name)?.directory
  if (directory === undefined) return undefined
  const preset = presetAt(directory)
  return {
    type: 'acme',
    name,
    distrusted,
    directory,
    contact: config?.contact ?? [],
    eab: config?.eab,
    profile: config?.profile,
    preferredRoot: config?.preferredRoot,
    roots: config?.roots,
    trust: config?.trust ?? preset?.trust ?? 'public',
    public: preset !== undefined,
    caaIdentities: preset?.caaIdentities ?? [],
    statusFeed: config?.statusFeed === false ? undefined : (config?.statusFeed ?? preset?.statusFeed),
    rateLimits: config?.rateLimits ?? {},
    probeIntervalMs: config?.probeInterval ?? PROBE_INTERVAL_MS,
  }
}

/** `internal` is internal unless it says otherwise; every other name is an ACME CA. */
export function typeOf(name: string, config: CaConfig | undefined): Ca['type'] {
  return config?.type ?? (name === INTERNAL ? 'internal' : 'acme')
}

/** What keeps a CA from a host: it asks dns-01 for a wildcard, which Holdfast does not answer; or serves public names only. */
export type Obstacle = 'wildcard' | 'private'

/** undefined: it can issue for the host. The internal CA serves every one. */
export function obstacleOf(ca: Ca, host: string): Obstacle | undefined {
  if (ca.type === 'internal') return undefined
  if (ca.public && isPrivateHost(host)) return 'private'
  return host.startsWith('*.') ? 'wildcard' : undefined
}

/** Can this CA issue for this host by the challenges that Holdfast answers? */
export function canServe(ca: Ca, host: string): boolean {
  return obstacleOf(ca, host) === undefined
}

/**
 * Who runs it: two names for one company are one CA, for what fails there fails both. By the names that CAA records use
 * for it; without any, it is the server of its directory. @param caaIdentities those that it tells itself, where they are known
 */
export function operatorOf(ca: Ca, caaIdentities: readonly string[] = []): string {
  if (ca.type === 'internal') return ca.name
  return ca.caaIdentities[0] ?? caaIdentities[0] ?? new URL(ca.directory).origin
}

/** The names of those that the config distrusts. */
export function distrustedOf(cas: ReadonlyMap<string, Ca>): ReadonlySet<string> {
  return new Set([...cas.values()].filter(({ distrusted }) => distrusted).map(({ name }) => name))
}
