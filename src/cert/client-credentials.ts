/**
 * A certificate that Holdfast itself shows to servers that ask for one, with its key: PEM files that the config names.
 * Read by `upstreams/`, and by the command `check`. What it serves is a `Certificate`, which names hosts; this need not.
 */
import { createHash, createPrivateKey, type KeyObject } from 'node:crypto'
import { createSecureContext } from 'node:tls'
import { readNamedFile } from '../config/named-files.ts'
import { messageOf } from '../errors.ts'
import { parseCertificates } from './certificate.ts'

export interface ClientCredentials {
  /** The certificate, then its intermediates. PEM. */
  readonly chainPem: string
  /** PKCS#8 in PEM. Secret. */
  readonly keyPem: string
  /** SHA-256 of both, in hex. */
  readonly id: string
}

/**
 * Blocking.
 *
 * @param keyFile absent: the key is in the first file too
 * @throws Error whose message begins with the path of the file that is at fault
 */
export function readClientCredentials(certificateFile: string, keyFile = certificateFile): ClientCredentials {
  const chain = parseCertificates(read(certificateFile), certificateFile)
  const key = parseKey(read(keyFile), keyFile)
  if (chain[0]?.checkPrivateKey(key) !== true)
    throw new Error(
      `${certificateFile}: its first certificate does not belong to the private key in ${keyFile}`,
    )
  const chainPem = chain.map((each) => each.toString()).join('')
  const keyPem = key.export({ type: 'pkcs8', format: 'pem' }).toString()
  checkUse(chainPem, keyPem, certificateFile)
  const id = createHash('sha256').update(chainPem).update(keyPem).digest('hex')
  return { chainPem, keyPem, id }
}

/** OpenSSL takes no keys that are too short. */
function checkUse(cert: string, key: string, file: string): void {
  try {
    createSecureContext({ cert, key })
  } catch (cause) {
    throw new Error(`${file}: cannot be used: ${messageOf(cause)}; replace it by one with a stronger key`, {
      cause,
    })
  }
}

function read(file: string): string {
  return readNamedFile(file).toString('latin1')
}

function parseKey(pem: string, file: string): KeyObject {
  if (/ENCRYPTED/.test(pem))
    throw new Error(
      `${file}: the private key is encrypted: store it without a passphrase, readable by Holdfast alone`,
    )
  try {
    return createPrivateKey(pem)
  } catch {
    // The cause is left out on purpose: OpenSSL's messages may quote the input.
    throw new Error(`${file}: holds no PEM private key that can be read`)
  }
}
