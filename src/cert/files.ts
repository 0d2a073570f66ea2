/**
 * Certificates that the operator supplies as files: PEM or PKCS#12, in whatever order and with whatever else a file
 * holds. Receives paths from the config; hands each `Certificate`, at the start and whenever its files change, to
 * `server.ts`, which publishes it.
 */
import { createPrivateKey, type KeyObject, X509Certificate } from 'node:crypto'
import { readFile } from 'node:fs/promises'
import { type FileStamps, stampFiles, watchConfig } from '../config/watch.ts'
import { CertificateError, ConfigError, messageOf } from '../errors.ts'
import type { Log } from '../log.ts'
import type { Clock } from '../time.ts'
import { Certificate, commonNameOf, formatMoment, parseCertificates } from './certificate.ts'

/** Where one certificate comes from. */
export interface CertificateSource {
  /** Path of a PEM file with the chain, or of a PKCS#12 file; told apart by content. */
  readonly certificate: string
  /** Path of the private key's PEM file; undefined: it is in `certificate`. */
  readonly key?: string | undefined
  /** Secret. */
  readonly passphrase?: string | undefined
}

/** What `Certificate.source` is for a certificate of the operator's own. */
const SOURCE = 'file'

const PEM_KEY = /-----BEGIN ((?:[A-Z]+ )*PRIVATE KEY)-----[\s\S]+?-----END \1-----/

const READ_FAULTS: Readonly<Record<string, string>> = {
  ENOENT: 'does not exist',
  EACCES: 'may not be read by this user: check its owner and mode',
  EISDIR: 'is a folder, not a file',
}

/**
 * The certificate of these files, its chain in order and without what does not belong to it.
 *
 * @param now milliseconds since the epoch
 * @throws CertificateError whose message starts with the path of the file that is at fault
 */
export async function loadCertificateFile(source: CertificateSource, now: number): Promise<Certificate> {
  const path = source.certificate
  const { chainPem, keyPem, keyFile } = await readSource(source)
  const key = parseKey(keyPem, source.passphrase, keyFile)
  const chain = orderChain(parseCertificates(chainPem, path), key, path)
  if (chain.length === 0) {
    const where = keyFile === path ? 'in the same file' : `in ${keyFile}`
    throw new CertificateError(
      'KEY_MISMATCH',
      `${path}: no certificate in it belongs to the private key ${where}`,
    )
  }
  const certificate = new Certificate(
    chain.map((each) => each.toString()).join(''),
    key.export({ type: 'pkcs8', format: 'pem' }).toString(),
    SOURCE,
    path,
  )
  const { notBefore, notAfter } = certificate
  if (now >= notAfter)
    throw new CertificateError('CERTIFICATE_EXPIRED', `${path}: expired on ${formatMoment(notAfter)}`)
  if (now >= notBefore) return certificate
  const why = `is not valid before ${formatMoment(notBefore)}; is the clock right?`
  throw new CertificateError('CHAIN_INVALID', `${path}: ${why}`)
}

/**
 * Keeps certificates in step with their files: written in place, renamed, or swapped behind a symlink as Kubernetes
 * does. A file that cannot be used any more is told once, and what it held before stays in use.
 */
export class CertificateFiles<Source extends CertificateSource> {
  readonly #sources: readonly Source[]
  readonly #clock: Clock
  readonly #log: Log
  readonly #publish: (source: Source, certificate: Certificate) => void
  readonly #published = new Map<Source, Certificate>()
  /** What was last told of a source, so that changes of other files do not tell it again. */
  readonly #told = new Map<Source, string>()
  #stamps: FileStamps = new Map()
  #watch: { close(): void } | undefined
  #reloading: Promise<unknown> = Promise.resolve()
  #isStopped = false

  /** @param publish called with each certificate that is new, never for one that is in use already */
  constructor(
    sources: readonly Source[],
    clock: Clock,
    log: Log,
    publish: (source: Source, certificate: Certificate) => void,
  ) {
    this.#sources = sources
    this.#clock = clock
    this.#log = log
    this.#publish = publish
  }

  /**
   * Reads every source and publishes those that can be used.
   *
   * @throws ConfigError with a problem for each that cannot
   */
  async load(): Promise<void> {
    this.#stamps = await stampFiles(this.#sources.flatMap(filesOf))
    const faults = await Promise.all(this.#sources.map((source) => this.#loadOne(source)))
    const problems = faults.filter((fault) => fault !== undefined).map((message) => ({ path: '', message }))
    if (problems.length > 0) throw new ConfigError(problems)
  }

  /** Watches for changes since `load`. */
  start(): void {
    this.#watch ??= watchConfig({ stamps: this.#stamps }, this.#clock, () => {
      this.#reloading = this.#reloading.then(() => this.#reload())
    })
  }

  /** Nothing is published any more. Idempotent. */
  stop(): void {
    this.#isStopped = true
    this.#watch?.close()
  }

  async #reload(): Promise<void> {
    for (const source of this.#sources) {
      const fault = await this.#loadOne(source)
      if (fault === undefined) this.#told.delete(source)
      else if (this.#told.get(source) !== fault) {
        this.#told.set(source, fault)
        this.#log.error({ file: source.certificate }, `${fault}; the certificate from before stays in use`)
      }
    }
  }

  /** Never rejects: what is wrong, where something is. */
  async #loadOne(source: Source): Promise<string | undefined> {
    try {
      const certificate = await loadCertificateFile(source, this.#clock.now())
      const isNew = this.#published.get(source)?.chainFingerprint !== certificate.chainFingerprint
      if (!isNew || this.#isStopped) return undefined
      this.#published.set(source, certificate)
      this.#publish(source, certificate)
      const { names, notAfter } = certificate
      this.#log.info(
        { file: source.certificate, names, notAfter: formatMoment(notAfter) },
        'certificate file loaded',
      )
      return undefined
    } catch (error) {
      return messageOf(error)
    }
  }
}

function filesOf({ certificate, key }: CertificateSource): string[] {
  return key === undefined ? [certificate] : [certificate, key]
}

interface Material {
  readonly chainPem: string
  /** May be encrypted. */
  readonly keyPem: string
  readonly keyFile: string
}

async function readSource({ certificate: path, key, passphrase }: CertificateSource): Promise<Material> {
  const bytes = await readBytes(path)
  if (!bytes.includes('-----BEGIN ')) {
    if (isDerCertificate(bytes))
      throw unreadable(path, 'is a certificate in DER without a key: convert it to PEM')
    if (key !== undefined) throw unreadable(path, 'is not PEM; PKCS#12 brings its own key: leave `key` out')
    // What it takes to read these fills megabytes that few need.
    const { readPkcs12 } = await import('./pkcs12.ts')
    return { ...readPkcs12(bytes, passphrase, path), keyFile: path }
  }
  const chainPem = bytes.toString()
  const keyFile = key ?? path
  const keyPem = PEM_KEY.exec(key === undefined ? chainPem : (await readBytes(key)).toString())?.[0]
  if (keyPem !== undefined) return { chainPem, keyPem, keyFile }
  throw unreadable(keyFile, `holds no PEM private key${key === undefined ? ': give its file as `key`' : ''}`)
}

async function readBytes(path: string): Promise<Buffer> {
  try {
    const bytes = await readFile(path)
    if (bytes.length === 0) throw unreadable(path, 'is empty')
    return bytes
  } catch (error) {
    if (!isSystemError(error)) throw error
    throw unreadable(path, READ_FAULTS[error.code] ?? `cannot be read (${error.code})`, error)
  }
}

function isSystemError(error: unknown): error is Error & { code: string } {
  return error instanceof Error && 'syscall' in error && 'code' in error
}

function isDerCertificate(bytes: Buffer): boolean {
  try {
    return new X509Certificate(bytes).raw.length > 0
  } catch {
    return false
  }
}

function parseKey(pem: string, passphrase: string | undefined, path: string): KeyObject {
  const isEncrypted = pem.includes('ENCRYPTED')
  if (isEncrypted && passphrase === undefined)
    throw unreadable(path, 'the private key is encrypted: give its `passphrase`')
  try {
    return createPrivateKey({ key: pem, ...(isEncrypted ? { passphrase } : {}) })
  } catch {
    // The cause is left out on purpose: OpenSSL's messages may quote the input.
    throw unreadable(
      path,
      isEncrypted ? 'the passphrase of the private key is wrong' : 'the private key is damaged',
    )
  }
}

/** The leaf that the key belongs to, then its issuer, and so on as far as they are there. */
function orderChain(
  certificates: readonly X509Certificate[],
  key: KeyObject,
  path: string,
): X509Certificate[] {
  const chain: X509Certificate[] = []
  let next = certificates.find((certificate) => certificate.checkPrivateKey(key))
  while (next !== undefined) {
    const last = next
    chain.push(last)
    next = certificates.find((each) => !chain.includes(each) && hasIssued(each, last, path))
  }
  return chain
}

function hasIssued(issuer: X509Certificate, certificate: X509Certificate, path: string): boolean {
  if (issuer.subject !== certificate.issuer) return false
  try {
    return certificate.verify(issuer.publicKey)
  } catch (cause) {
    throw unreadable(path, `the certificate of ${commonNameOf(issuer.subject)} is damaged`, cause)
  }
}

function unreadable(path: string, why: string, cause?: unknown): CertificateError {
  return new CertificateError('CERTIFICATE_UNREADABLE', `${path}: ${why}`, { cause })
}
