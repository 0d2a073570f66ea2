/** What Holdfast knows of public CAs by name, so that a config needs no URL. Sources: each CA's own ACME documentation. */

export interface CaPreset {
  readonly directory: string
  readonly eab: 'required' | 'none'
  /** The names that CAA records use for it (RFC 8659 section 4.2). */
  readonly caaIdentities: readonly string[]
}

export const CA_PRESETS: Readonly<Record<string, CaPreset>> = {
  letsencrypt: {
    directory: 'https://acme-v02.api.letsencrypt.org/directory',
    eab: 'none',
    caaIdentities: ['letsencrypt.org'],
  },
  'letsencrypt-staging': {
    directory: 'https://acme-staging-v02.api.letsencrypt.org/directory',
    eab: 'none',
    caaIdentities: ['letsencrypt.org'],
  },
  zerossl: {
    directory: 'https://acme.zerossl.com/v2/DV90',
    eab: 'required',
    caaIdentities: ['sectigo.com'],
  },
  google: {
    directory: 'https://dv.acme-v02.api.pki.goog/directory',
    eab: 'required',
    caaIdentities: ['pki.goog'],
  },
  sslcom: {
    directory: 'https://acme.ssl.com/sslcom-dv-ecc',
    eab: 'required',
    caaIdentities: ['ssl.com'],
  },
  actalis: {
    directory: 'https://acme-api.actalis.com/acme/directory',
    eab: 'required',
    caaIdentities: ['actalis.it'],
  },
  sectigo: {
    directory: 'https://acme.sectigo.com/v2/DV',
    eab: 'required',
    caaIdentities: ['sectigo.com'],
  },
}
