/**
 * What Holdfast knows of public CAs by name, so that a config needs no URL. Sources: each CA's own ACME documentation,
 * and what is cited beside the kinds of names.
 */

/** Kinds of names that not every CA issues for. */
export type NameKind = 'wildcard' | 'ip' | 'idn'

export interface CaPreset {
  readonly directory: string
  readonly eab: 'required' | 'none'
  /** The names that CAA records use for it (RFC 8659 section 4.2). */
  readonly caaIdentities: readonly string[]
  /** `any`: a test CA, whose chains end in roots that nobody trusts. */
  readonly trust: 'public' | 'any'
  /** JSON of its status page, in a format of `ca/status-feed.ts`; absent where none is known. */
  readonly statusFeed?: string
  /** What it is known not to issue for by ACME. */
  readonly refuses: readonly NameKind[]
  /** What it issues for by one of its profiles only. */
  readonly profileFor?: Readonly<Partial<Record<NameKind, string>>>
}

export const CA_PRESETS: Readonly<Record<string, CaPreset>> = {
  // https://letsencrypt.org/docs/profiles/#shortlived
  letsencrypt: {
    directory: 'https://acme-v02.api.letsencrypt.org/directory',
    eab: 'none',
    caaIdentities: ['letsencrypt.org'],
    trust: 'public',
    // letsencrypt.status.io
    statusFeed: 'https://api.status.io/1.0/status/55957a99e800baa4470002da',
    refuses: [],
    profileFor: { ip: 'shortlived' },
  },
  'letsencrypt-staging': {
    directory: 'https://acme-staging-v02.api.letsencrypt.org/directory',
    eab: 'none',
    caaIdentities: ['letsencrypt.org'],
    trust: 'any',
    refuses: [],
    profileFor: { ip: 'shortlived' },
  },
  // https://github.com/acmesh-official/acme.sh/wiki/CA
  zerossl: {
    directory: 'https://acme.zerossl.com/v2/DV90',
    eab: 'required',
    caaIdentities: ['sectigo.com'],
    trust: 'public',
    refuses: ['ip'],
  },
  // https://github.com/acmesh-official/acme.sh/wiki/CA
  google: {
    directory: 'https://dv.acme-v02.api.pki.goog/directory',
    eab: 'required',
    caaIdentities: ['pki.goog'],
    trust: 'public',
    refuses: ['ip', 'idn'],
  },
  // Without a paid plan: https://github.com/acmesh-official/acme.sh/wiki/CA
  sslcom: {
    directory: 'https://acme.ssl.com/sslcom-dv-ecc',
    eab: 'required',
    caaIdentities: ['ssl.com'],
    trust: 'public',
    refuses: ['wildcard', 'ip'],
  },
  // https://guide.actalis.com/faq/SSL/ACME
  actalis: {
    directory: 'https://acme-api.actalis.com/acme/directory',
    eab: 'required',
    caaIdentities: ['actalis.it'],
    trust: 'public',
    refuses: ['wildcard'],
  },
  sectigo: {
    directory: 'https://acme.sectigo.com/v2/DV',
    eab: 'required',
    caaIdentities: ['sectigo.com'],
    trust: 'public',
    refuses: [],
  },
}

/** The preset of that name; undefined when there is none. */
export function presetNamed(name: string): CaPreset | undefined {
  return Object.hasOwn(CA_PRESETS, name) ? CA_PRESETS[name] : undefined
}

/** The public CA behind a directory, under whatever name the config has it. */
export function presetAt(directory: string): CaPreset | undefined {
  return Object.values(CA_PRESETS).find((preset) => preset.directory === directory)
}
