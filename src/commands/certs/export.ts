/** `certs export`: a certificate with its key, or the root of an internal CA, out of the store. */
import { writeFileSync } from 'node:fs'
import type { Certificate } from '../../cert/certificate.ts'
import type { Role } from '../../cert/inventory.ts'
import { writePkcs12 } from '../../cert/pkcs12.ts'
import { isDuty } from '../../renew/plan.ts'
import type { Records } from '../../store/records.ts'
import { type Clock, formatDuration, SECOND, sleep, stayAlive } from '../../time.ts'
import { UsageError } from '../terminal.ts'

export interface ExportOptions {
  readonly role: string
  readonly format: string
  readonly passphrase: string | undefined
  /** How long to wait for a certificate that is valid; undefined: take what is there. */
  readonly waitMs: number | undefined
}

const POLL_MS = SECOND

/** The certificate and its key in the format that is asked for. */
export async function exported(
  records: Records,
  clock: Clock,
  host: string,
  { role, format, passphrase, waitMs }: ExportOptions,
): Promise<string | Buffer> {
  if (!isDuty(role)) throw new UsageError(`no role "${role}": there are live, standby`)
  if (format !== 'pem' && format !== 'pkcs12')
    throw new UsageError(`no format "${format}": there are pem, pkcs12`)
  if (format === 'pkcs12' && passphrase === undefined)
    throw new UsageError('a PKCS#12 file needs a passphrase: --passphrase-file FILE')
  const certificate =
    waitMs === undefined
      ? await records.loadCertificate(host, role)
      : await awaited(records, clock, host, role, waitMs)
  if (certificate === undefined) throw new Error(`the store holds no ${role} certificate for ${host}`)
  return passphrase === undefined || format === 'pem'
    ? certificate.chainPem + certificate.keyPem
    : writePkcs12(certificate, passphrase)
}

/** Looks into the store each second, which the running instance fills. */
async function awaited(
  records: Records,
  clock: Clock,
  host: string,
  role: Role,
  waitMs: number,
): Promise<Certificate> {
  const endAt = clock.monotonic() + waitMs
  const letGo = stayAlive()
  try {
    for (;;) {
      const certificate = await records.loadCertificate(host, role)
      if (certificate?.isValidAt(clock.now())) return certificate
      const leftMs = endAt - clock.monotonic()
      if (leftMs <= 0)
        throw new Error(`no valid ${role} certificate for ${host} has come within ${formatDuration(waitMs)}`)
      await sleep(clock, Math.min(POLL_MS, leftMs))
    }
  } finally {
    letGo()
  }
}

export async function rootOf(records: Records, ca: string): Promise<string> {
  const authority = await records.loadAuthority(ca)
  if (authority === undefined)
    throw new Error(`the store holds no root of "${ca}": an internal CA makes one when \`serve\` first runs`)
  return authority.rootPem
}

/** To stdout, or to a file that only its owner may read: it may hold a key. */
export function write(file: string | undefined, content: string | Buffer): void {
  if (file !== undefined) writeFileSync(file, content, { mode: 0o600 })
  else if (typeof content !== 'string' && process.stdout.isTTY)
    throw new UsageError('PKCS#12 is binary, and this is a terminal: name a file with --out FILE')
  else process.stdout.write(content)
}
