/** Certificates for tests: real ones, each below a root and an intermediate of its own. */
import { Certificate } from '../../src/cert/certificate.ts'
import { createAuthority, createLeaf } from '../../src/cert/signing.ts'
import { generateKeyPem, type KeyType } from '../../src/cert/x509.ts'
import type { Authority } from '../../src/store/records.ts'
import { DAY } from '../../src/time.ts'

export interface CertificateOptions {
  readonly names: readonly string[]
  /** Lifetime; 90 when absent. */
  readonly days?: number
  /** Milliseconds since the epoch; an hour ago when absent. */
  readonly notBefore?: number
  readonly keyType?: KeyType
  /** `test` when absent. */
  readonly source?: string
  readonly account?: string
  readonly provedBy?: string
  /** Signs it; a new one when absent. */
  readonly authority?: Authority
}

/** A leaf with its intermediate. */
export async function makeCertificate(options: CertificateOptions): Promise<Certificate> {
  const { names, days = 90, notBefore = Date.now() - 3_600_000, source = 'test', account, provedBy } = options
  const authority = options.authority ?? (await makeAuthority())
  const keyPem = await generateKeyPem(options.keyType ?? 'ecdsa-p256')
  const leaf = await createLeaf({
    names,
    keyPem,
    notBefore,
    notAfter: notBefore + days * DAY,
    issuer: { certificatePem: authority.intermediatePem, keyPem: authority.intermediateKeyPem },
  })
  return new Certificate(leaf + authority.intermediatePem, keyPem, source, 'a test', { account, provedBy })
}

/** @param intermediateNotAfter milliseconds since the epoch; when the root ends, when absent */
export async function makeAuthority({
  intermediateNotAfter,
}: {
  intermediateNotAfter?: number
} = {}): Promise<Authority> {
  const validity = { notBefore: 0, notAfter: Date.parse('2049-01-01') }
  const rootKeyPem = await generateKeyPem('ecdsa-p256')
  const rootPem = await createAuthority({
    ...validity,
    commonName: 'Test Root',
    keyPem: rootKeyPem,
    pathLength: 1,
  })
  const intermediateKeyPem = await generateKeyPem('ecdsa-p256')
  const intermediatePem = await createAuthority({
    ...validity,
    ...(intermediateNotAfter === undefined ? {} : { notAfter: intermediateNotAfter }),
    commonName: 'Test Intermediate',
    keyPem: intermediateKeyPem,
    pathLength: 0,
    issuer: { certificatePem: rootPem, keyPem: rootKeyPem },
  })
  return { rootPem, rootKeyPem, intermediatePem, intermediateKeyPem }
}
