/** The openssl command: an independent reader of what we write, and a maker of certificates that we never would. */
import { spawnSync } from 'node:child_process'
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'

/** Standard output and standard error. Throws both when it exits with another code than 0. */
export function openssl(folder: string, ...args: string[]): string {
  const { status, stdout, stderr } = spawnSync('openssl', args, { cwd: folder, encoding: 'utf8', input: '' })
  if (status !== 0) throw new Error(`openssl ${args.join(' ')}: ${stdout}${stderr}`)
  return stdout + stderr
}

export interface Credentials {
  readonly certificatePem: string
  readonly keyPem: string
}

export interface OddCertificate {
  /** As openssl writes it: `/CN=a.example`. */
  readonly subject: string
  /** Lines of an openssl extension section, and of sections that it refers to. */
  readonly extensions: string
  readonly keyPem: string
  /** Signs it; absent: it signs itself. */
  readonly issuer?: Credentials
  /** sha256 when absent. */
  readonly digest?: string
  /** Further arguments, such as `-sigopt`. */
  readonly more?: readonly string[]
}

/** A certificate with just these extensions, valid from now for 30 days. */
export function signOdd(odd: OddCertificate): Credentials {
  const folder = mkdtempSync(join(tmpdir(), 'holdfast-openssl-'))
  const write = (name: string, content: string): void => writeFileSync(join(folder, name), content)
  try {
    write('cnf', `[req]\ndistinguished_name=dn\n[dn]\n[v3]\n${odd.extensions}\n`)
    write('key', odd.keyPem)
    openssl(
      folder,
      'req',
      '-new',
      '-key',
      'key',
      '-out',
      'csr',
      '-subj',
      odd.subject,
      '-utf8',
      '-config',
      'cnf',
    )
    write('ca.pem', odd.issuer?.certificatePem ?? '')
    write('ca.key', odd.issuer?.keyPem ?? '')
    const signer = odd.issuer === undefined ? ['-signkey', 'key'] : ['-CA', 'ca.pem', '-CAkey', 'ca.key']
    const digest = `-${odd.digest ?? 'sha256'}`
    openssl(
      folder,
      'x509',
      '-req',
      '-in',
      'csr',
      '-out',
      'pem',
      '-days',
      '30',
      digest,
      ...signer,
      '-extfile',
      'cnf',
      '-extensions',
      'v3',
      ...(odd.more ?? []),
    )
    return { certificatePem: readFileSync(join(folder, 'pem'), 'utf8'), keyPem: odd.keyPem }
  } finally {
    rmSync(folder, { recursive: true })
  }
}
