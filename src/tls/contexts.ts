/**
 * OpenSSL's form of certificates, built when first served and kept for the next handshake. `listener.ts` serves from
 * here; whoever publishes a certificate warms it first. The only user of lru-cache.
 */
import { createSecureContext, type SecureContext } from 'node:tls'
import { LRUCache } from 'lru-cache'
import type { Certificate } from '../cert/certificate.ts'
import type { ClientPolicy } from '../cert/client-policy.ts'
import { CertificateError, messageOf } from '../errors.ts'

/** At 40 KB each, 160 MB when a fleet is large enough to fill it; a miss costs 0.4 ms. */
const CAPACITY = 4096

/**
 * The key is the fingerprint of the chain, so that publishing a certificate needs no invalidation. TLS policy (versions, suites,
 * tickets) is no part of it: Node takes nothing of an SNI context but the chain, the key, and whom to trust of the clients.
 */
export class Contexts {
  readonly #byChain: LRUCache<string, SecureContext>
  readonly #clientPolicy: ClientPolicy | undefined

  /** @param clientPolicy how clients are verified that the contexts are shown to */
  constructor(capacity = CAPACITY, clientPolicy?: ClientPolicy) {
    this.#clientPolicy = clientPolicy
    this.#byChain = new LRUCache({ max: capacity })
  }

  /** Synchronous; builds it where it is not at hand. Throws CertificateError when OpenSSL refuses the certificate. */
  of(certificate: Certificate): SecureContext {
    const known = this.#byChain.get(certificate.chainFingerprint)
    if (known !== undefined) return known
    const context = buildContext(certificate, this.#clientPolicy)
    this.#byChain.set(certificate.chainFingerprint, context)
    return context
  }

  /** Spares the first handshake the work, and tells before publishing whether it can be served at all: throws as `of`. */
  warm(certificate: Certificate): void {
    this.of(certificate)
  }
}

function buildContext(certificate: Certificate, policy: ClientPolicy | undefined): SecureContext {
  const trust = policy && { ca: policy.ca, crl: [...policy.crls] }
  try {
    return createSecureContext({ cert: certificate.chainPem, key: certificate.keyPem, ...trust })
  } catch (cause) {
    throw new CertificateError(
      'CERTIFICATE_UNREADABLE',
      `the certificate of ${certificate.names.join(', ')} (${certificate.source}) cannot be served: ` +
        `${messageOf(cause)}; replace it by one with a stronger key`,
      { cause },
    )
  }
}
