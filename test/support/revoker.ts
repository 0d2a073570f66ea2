/** A CA of openssl's that revokes: its database, the CRLs that it signs, and its OCSP responder as a server. */
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'
import { Certificate } from '../../src/cert/certificate.ts'
import { createAuthority } from '../../src/cert/signing.ts'
import { generateKeyPem, type KeyType } from '../../src/cert/x509.ts'
import { DAY } from '../../src/time.ts'
import { freePort, Peer } from '../peers/process.ts'
import { type Credentials, openssl, signOdd } from './openssl.ts'

const START_LIMIT_MS = 20_000

export interface CrlOptions {
  /** Lines of an openssl extension section; absent: none but a CRL number. */
  readonly extensions?: string
  /** sha256 when absent. */
  readonly digest?: string
  /** Milliseconds since the epoch; now, and in 7 days, when absent. */
  readonly thisUpdate?: number
  readonly nextUpdate?: number
}

export interface ResponderOptions {
  /** A free one when absent. */
  readonly port?: number
  /** Signs the answers instead of the CA. */
  readonly signer?: Credentials
  /** Further arguments. */
  readonly more?: readonly string[]
}

export class Revoker {
  readonly authority: Credentials
  /** By serial number, upper-case hex: empty for a valid one, `YYMMDDHHMMSSZ` with `,reason` for a revoked one. */
  readonly #issued = new Map<string, string>()

  private constructor(authority: Credentials) {
    this.authority = authority
  }

  static async create(commonName = 'Revoking CA', keyType: KeyType = 'ecdsa-p256'): Promise<Revoker> {
    const keyPem = await generateKeyPem(keyType)
    const now = Date.now()
    const validity = { notBefore: now - DAY, notAfter: now + 365 * DAY }
    const certificatePem = await createAuthority({ ...validity, commonName, keyPem, pathLength: 0 })
    return new Revoker({ certificatePem, keyPem })
  }

  /** A certificate below it, of these extensions, with its chain. */
  async issue(extensions = ''): Promise<Certificate> {
    const leaf = await this.sign(`subjectAltName=DNS:app.example.com\n${extensions}`)
    return new Certificate(
      leaf.certificatePem + this.authority.certificatePem,
      leaf.keyPem,
      'some-ca',
      'a test',
    )
  }

  async sign(extensions: string): Promise<Credentials> {
    const keyPem = await generateKeyPem('ecdsa-p256')
    return signOdd({ subject: '/CN=app.example.com', extensions, keyPem, issuer: this.authority })
  }

  /** @param status as the database has it: `…Z,reason`; empty: valid */
  record(serial: string, status = `${asn1Time(Date.now() - DAY)},keyCompromise`): void {
    this.#issued.set(serial.toUpperCase(), status)
  }

  /** DER. */
  crl(options: CrlOptions = {}): Buffer {
    const folder = mkdtempSync(join(tmpdir(), 'holdfast-revoker-'))
    try {
      for (const [name, content] of Object.entries(this.#files(options)))
        writeFileSync(join(folder, name), content)
      const { thisUpdate = Date.now(), nextUpdate = Date.now() + 7 * DAY } = options
      const dates = ['-crl_lastupdate', asn1Time(thisUpdate), '-crl_nextupdate', asn1Time(nextUpdate)]
      openssl(folder, 'ca', '-gencrl', '-config', 'cnf', '-out', 'pem', '-utf8', ...dates)
      openssl(folder, 'crl', '-in', 'pem', '-outform', 'der', '-out', 'der')
      return readFileSync(join(folder, 'der'))
    } finally {
      rmSync(folder, { recursive: true })
    }
  }

  /** `openssl ocsp` over the database as it is now; for the caller to stop. */
  async startResponder(options: ResponderOptions = {}) {
    const { port = await freePort(), signer = this.authority, more = [] } = options
    const files = { ...this.#files({}), 'signer.pem': signer.certificatePem, 'signer.key': signer.keyPem }
    const keys = ['-CA', 'ca.pem', '-rsigner', 'signer.pem', '-rkey', 'signer.key']
    const args = ['ocsp', '-index', 'index', '-port', String(port), ...keys, ...more]
    // A connection without a request, such as the peer would try, makes it loop for ever.
    const peer = await Peer.start('openssl', args, { files, ports: [] })
    const limit = AbortSignal.timeout(START_LIMIT_MS)
    while (!peer.log().includes('ACCEPT')) {
      if (limit.aborted) await peer.stop()
      limit.throwIfAborted()
      await delay(10)
    }
    return { port, stop: () => peer.stop() }
  }

  #files({ extensions = '', digest = 'sha256' }: CrlOptions): Record<string, string> {
    const expiry = asn1Time(Date.now() + 30 * DAY)
    const lines = [...this.#issued].map(
      ([serial, status]) => `${status === '' ? 'V' : 'R'}\t${expiry}\t${status}\t${serial}\tunknown\t/CN=x\n`,
    )
    const ca = `database=index\ncertificate=ca.pem\nprivate_key=ca.key\ndefault_md=${digest}\ncrlnumber=number\ncrl_extensions=crl`
    return {
      cnf: `[ca]\ndefault_ca=own\n[own]\n${ca}\n[crl]\n${extensions}\n`,
      number: '01\n',
      index: lines.join(''),
      'index.attr': 'unique_subject = no\n',
      'ca.pem': this.authority.certificatePem,
      'ca.key': this.authority.keyPem,
    }
  }
}

/** Of UTCTime, which openssl's database uses too. */
function asn1Time(time: number): string {
  return `${new Date(time).toISOString().slice(2, 19).replaceAll(/[-T:]/g, '')}Z`
}

/** Of a list in DER. */
export function toPem(crl: Buffer): string {
  return `-----BEGIN X509 CRL-----\n${crl.toString('base64')}\n-----END X509 CRL-----\n`
}
