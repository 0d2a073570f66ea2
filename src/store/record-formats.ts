/**
 * How each kind of record is written as text, and checked when it is read back. Serves `records.ts`.
 * A parser throws where a record is damaged; its message never quotes the record, which may hold a key.
 */
import { createPrivateKey, type KeyObject, X509Certificate } from 'node:crypto'
import { Certificate } from '../cert/certificate.ts'

/** An ACME account (RFC 8555 section 7.1.2). `keyPem` is secret. */
export interface Account {
  readonly url: string
  readonly keyPem: string
  /** The directory of the CA that knows it. */
  readonly directory: string
  readonly eabKid?: string
  /** The key that the CA was asked to put in the place of `keyPem`; there while the answer is not known. Secret. */
  readonly nextKeyPem?: string
}

/** An internal CA. The keys are secret. */
export interface Authority {
  readonly rootPem: string
  readonly rootKeyPem: string
  readonly intermediatePem: string
  readonly intermediateKeyPem: string
}

const SOURCE_LINE = /^# source: (.+)$/m
const ACCOUNT_LINE = /^# account: (\S+)$/m
const CHALLENGE_LINE = /^# challenge: (\S+)$/m
const PRIVATE_KEY = /-----BEGIN [A-Z ]*PRIVATE KEY-----[\s\S]+?-----END [A-Z ]*PRIVATE KEY-----/

/** Plain PEM that openssl, nginx and HAProxy take. The key comes last, so that a file cut short never passes. */
export function formatCertificate(certificate: Certificate): Buffer {
  const { account, chainPem, keyPem, provedBy, source } = certificate
  const issuedTo = account === undefined ? '' : `# account: ${account}\n`
  const proved = provedBy === undefined ? '' : `# challenge: ${provedBy}\n`
  return Buffer.from(`# source: ${source}\n${issuedTo}${proved}${chainPem}${keyPem}`)
}

/** Without a source line somebody laid it there by hand: its source is `file`. */
export function parseCertificate(text: string, key: string): Certificate {
  const source = SOURCE_LINE.exec(text)?.[1] ?? 'file'
  const account = ACCOUNT_LINE.exec(text)?.[1]
  const provedBy = CHALLENGE_LINE.exec(text)?.[1]
  return new Certificate(text, PRIVATE_KEY.exec(text)?.[0] ?? '', source, key, { account, provedBy })
}

export function formatDocument(value: unknown): Buffer {
  return Buffer.from(`${JSON.stringify(value, null, 2)}\n`)
}

export function parseDocument(text: string): unknown {
  try {
    return JSON.parse(text)
  } catch {
    // The cause is left out on purpose: it quotes the text.
    throw new Error('it is not JSON')
  }
}

export function parseAccount(text: string): Account {
  const fields = parseFields(text)
  const eabKid = fields.get('eabKid')
  return {
    url: fieldOf(fields, 'url'),
    keyPem: keyOf(fields, 'keyPem').pem,
    directory: fieldOf(fields, 'directory'),
    ...(typeof eabKid === 'string' ? { eabKid } : {}),
    ...(fields.has('nextKeyPem') ? { nextKeyPem: keyOf(fields, 'nextKeyPem').pem } : {}),
  }
}

export function parseAuthority(text: string): Authority {
  const fields = parseFields(text)
  const root = certificateOf(fields, 'rootPem')
  const rootKey = keyOf(fields, 'rootKeyPem')
  const intermediate = certificateOf(fields, 'intermediatePem')
  const intermediateKey = keyOf(fields, 'intermediateKeyPem')
  if (!root.parsed.checkPrivateKey(rootKey.parsed))
    throw new Error('`rootKeyPem` is not the key of `rootPem`')
  if (!intermediate.parsed.checkPrivateKey(intermediateKey.parsed)) {
    throw new Error('`intermediateKeyPem` is not the key of `intermediatePem`')
  }
  if (!intermediate.parsed.verify(root.parsed.publicKey)) {
    throw new Error('`intermediatePem` is not signed by `rootPem`')
  }
  return {
    rootPem: root.pem,
    rootKeyPem: rootKey.pem,
    intermediatePem: intermediate.pem,
    intermediateKeyPem: intermediateKey.pem,
  }
}

type Fields = ReadonlyMap<string, unknown>

/** A PEM text as it was found, and what it says. */
interface Parsed<T> {
  readonly pem: string
  readonly parsed: T
}

function parseFields(text: string): Fields {
  const document = parseDocument(text)
  if (typeof document !== 'object' || document === null) throw new Error('it is not a JSON object')
  return new Map(Object.entries(document))
}

function fieldOf(fields: Fields, name: string): string {
  const value = fields.get(name)
  if (typeof value !== 'string' || value === '') throw new Error(`it lacks \`${name}\``)
  return value
}

function keyOf(fields: Fields, name: string): Parsed<KeyObject> {
  const pem = fieldOf(fields, name)
  try {
    return { pem, parsed: createPrivateKey(pem) }
  } catch {
    // The cause is left out on purpose: OpenSSL's messages may quote the input.
    throw new Error(`\`${name}\` is no private key`)
  }
}

function certificateOf(fields: Fields, name: string): Parsed<X509Certificate> {
  const pem = fieldOf(fields, name)
  try {
    return { pem, parsed: new X509Certificate(pem) }
  } catch (cause) {
    throw new Error(`\`${name}\` is no certificate`, { cause })
  }
}
