/** Makes and reads X.509: keys, CSRs, CA certificates, leaves, the tls-alpn-01 certificate. The only user of @peculiar/x509. */
import type { X509Certificate } from 'node:crypto'

export type KeyType = 'ecdsa-p256' | 'ecdsa-p384' | 'rsa-2048' | 'rsa-3072' | 'rsa-4096'

export function subjectNamesOf(_leaf: X509Certificate): string[] {
  throw new Error('to be written')
}

export function ariIdOf(_leaf: X509Certificate): string | undefined {
  throw new Error('to be written')
}
