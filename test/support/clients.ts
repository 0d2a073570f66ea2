/** Clients with certificates: a CA of theirs, and the policy that a listener asks them by. */
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { type ClientPolicy, guardSites } from '../../src/cert/client-policy.ts'
import { generateKeyPem } from '../../src/cert/x509.ts'
import { makeSite } from '../http/front.ts'
import { type Credentials, signOdd } from './openssl.ts'

/** As `tls.connect` takes them. */
export interface ClientCredentials {
  readonly cert: string
  readonly key: string
}

export interface ClientOptions {
  readonly issuer: Credentials
  /** As openssl writes it; `/CN=client` when absent. */
  readonly subject?: string
  /** Lines of an openssl extension section. */
  readonly extensions?: string
  /** How long it is valid from now; 30 when absent. */
  readonly days?: number
}

export async function makeClient(options: ClientOptions): Promise<ClientCredentials> {
  const { issuer, subject = '/CN=client', extensions = 'extendedKeyUsage=clientAuth', days = 30 } = options
  const keyPem = await generateKeyPem('ecdsa-p256')
  const more = ['-days', String(days)]
  const { certificatePem } = signOdd({ subject, extensions, keyPem, issuer, more })
  return { cert: certificatePem, key: keyPem }
}

export interface PolicyOptions {
  readonly mode?: 'required' | 'optional'
  /** PEM. */
  readonly ca: string
  readonly crl?: Buffer | string
}

/** What comes of such a section of the config. Throws as `guardSites` does. */
export function makeClientPolicy({ mode = 'required', ca, crl }: PolicyOptions): ClientPolicy {
  const folder = mkdtempSync(join(tmpdir(), 'holdfast-clients-'))
  try {
    writeFileSync(join(folder, 'clients.pem'), ca)
    if (crl !== undefined) writeFileSync(join(folder, 'clients.crl'), crl)
    const files = { ca: join(folder, 'clients.pem'), ...(crl && { crl: join(folder, 'clients.crl') }) }
    const [site] = guardSites([makeSite({ clientCertificates: { mode, headers: {}, ...files } })])
    if (site?.clientPolicy === undefined) throw new Error('no policy came of it')
    return site.clientPolicy
  } finally {
    rmSync(folder, { recursive: true })
  }
}
