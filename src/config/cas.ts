/**
 * The certificate authorities that a config names, with their presets and defaults filled in, and the question which
 * of them can serve which name. Hides presets and defaults from `ca/`; `server.ts` builds an `Issuer` from each.
 */
import { BlockList, isIP } from 'node:net'
import { DAY } from '../time.ts'
import { CA_PRESETS } from './presets.ts'
import type { CaConfig, Config } from './schema.ts'

export interface AcmeCa {
  readonly type: 'acme'
  /** Its name in the config. */
  readonly name: string
  readonly directory: string
  readonly contact: readonly string[]
  /** Secret: `hmacKey` never reaches a log. */
  readonly eab: { readonly kid: string; readonly hmacKey: string } | undefined
  readonly profile: string | undefined
  /** Absolute path of PEM roots for the ACME endpoint, beside the runtime's. */
  readonly roots: string | undefined
  /** Where the chains it issues must end: `public`, `any`, or the absolute path of a PEM file. */
  readonly trust: string
  /** Does the public trust it? Such a CA serves public names only. */
  readonly public: boolean
  /** The names that CAA records use for it (RFC 8659 section 4.2); none when they are not known. */
  readonly caaIdentities: readonly string[]
}

export interface InternalCa {
  readonly type: 'internal'
  readonly name: string
  /** Of its leaves. */
  readonly lifetimeMs: number
}

export type Ca = AcmeCa | InternalCa

/** The internal CA that is there without being configured, under this name. */
export const INTERNAL = 'internal'

const INTERNAL_LIFETIME_MS = 7 * DAY

/** One CA by its name; undefined when it is neither configured nor a preset, or is an ACME CA without a directory. */
export function resolveCa(name: string, cas: Config['cas']): Ca | undefined {
  const config: CaConfig | undefined = cas[name]
  const type = config?.type ?? (name === INTERNAL ? 'internal' : 'acme')
  if (type === 'internal') return { type, name, lifetimeMs: config?.lifetime ?? INTERNAL_LIFETIME_MS }
  const preset = CA_PRESETS[name]
  const directory = config?.directory ?? preset?.directory
  if (directory === undefined) return undefined
  const known = Object.values(CA_PRESETS).find((each) => each.directory === directory)
  return {
    type,
    name,
    directory,
    contact: config?.contact ?? [],
    eab: config?.eab,
    profile: config?.profile,
    roots: config?.roots,
    trust: config?.trust ?? 'public',
    public: known !== undefined,
    caaIdentities: known?.caaIdentities ?? [],
  }
}

/**
 * Can this CA issue for this host with the challenges that there are? The internal CA serves all; wildcards need
 * dns-01 (RFC 8555 section 7.1.3 leaves it to policy, and no CA offers another); a public CA serves public names only.
 */
export function canServe(ca: Ca, host: string): boolean {
  if (ca.type === 'internal') return true
  if (host.startsWith('*.')) return false
  return !ca.public || !isPrivateName(host)
}

/** RFC 6761, RFC 6762 (with appendix G), RFC 8375 and what ICANN has set aside: no public CA may issue for these. */
const PRIVATE_DOMAINS =
  /(^|\.)(localhost|local|internal|home\.arpa|test|example|invalid|intranet|private|corp|home|lan)$/

const PRIVATE_RANGES: readonly [string, number][] = [
  ['0.0.0.0', 8],
  ['10.0.0.0', 8],
  ['100.64.0.0', 10],
  ['127.0.0.0', 8],
  ['169.254.0.0', 16],
  ['172.16.0.0', 12],
  ['192.168.0.0', 16],
  ['::1', 128],
  ['fc00::', 7],
  ['fe80::', 10],
]

const PRIVATE_ADDRESSES = new BlockList()
for (const [base, bits] of PRIVATE_RANGES)
  PRIVATE_ADDRESSES.addSubnet(base, bits, isIP(base) === 4 ? 'ipv4' : 'ipv6')

/** A name or address that means something in some network only, so that no public CA can check it. */
export function isPrivateName(host: string): boolean {
  const family = isIP(host)
  if (family !== 0) return PRIVATE_ADDRESSES.check(host, family === 4 ? 'ipv4' : 'ipv6')
  const name = host.replace(/^\*\./, '')
  return !name.includes('.') || PRIVATE_DOMAINS.test(name)
}
