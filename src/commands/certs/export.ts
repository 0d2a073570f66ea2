/** `certs export`: a certificate with its key, or the root of an internal CA, out of the store. */
import { writeFileSync } from 'node:fs'
import type { Certificate } from '../../cert/certificate.ts'
import { Inventory } from '../../cert/inventory.ts'
import { writePkcs12 } from '../../cert/pkcs12.ts'
import { readVerdicts, Verdicts } from '../../cert/verdicts.ts'
import { DUTIES, type Duty, isDuty } from '../../renew/plan.ts'
import { type Records, SOLE_RECORD } from '../../store/records.ts'
import { type Clock, formatDuration, SECOND, sleep, stayAlive } from '../../time.ts'
import { UsageError } from '../terminal.ts'

export interface ExportOptions {
  /** undefined: whichever is served. */
  readonly role: string | undefined
  readonly format: string
  readonly passphrase: string | undefined
  /** How long to wait for a certificate that is valid and not condemned; undefined: take what is there. */
  readonly waitMs: number | undefined
  /** The CAs that the config distrusts; whom else the operator distrusts stands in the store. */
  readonly distrusted: ReadonlySet<string>
}

interface Wanted {
  readonly host: string
  readonly role: Duty | undefined
  readonly distrusted: ReadonlySet<string>
}

interface Found {
  readonly certificate: Certificate
  /** Valid now, and not condemned. */
  readonly isFit: boolean
}

const POLL_MS = SECOND

/**
 * The certificate and its key in the format that is asked for.
 *
 * @param clockNow asked before each look, for the instance may come to know the time while its certificate is waited for
 */
export async function exported(
  records: Records,
  clockNow: () => Promise<Clock>,
  host: string,
  { role, format, passphrase, waitMs, distrusted }: ExportOptions,
): Promise<string | Buffer> {
  if (role !== undefined && !isDuty(role)) throw new UsageError(`no role "${role}": there are live, standby`)
  if (format !== 'pem' && format !== 'pkcs12')
    throw new UsageError(`no format "${format}": there are pem, pkcs12`)
  if (format === 'pkcs12' && passphrase === undefined)
    throw new UsageError('a PKCS#12 file needs a passphrase: --passphrase-file FILE')
  const wanted = { host, role, distrusted }
  const certificate =
    waitMs === undefined
      ? (await look(records, await clockNow(), wanted))?.certificate
      : await awaited(records, clockNow, wanted, waitMs)
  if (certificate === undefined)
    throw new Error(
      role === undefined
        ? `the store holds no certificate for ${host} that may be served`
        : `the store holds no ${role} certificate for ${host}`,
    )
  return passphrase === undefined || format === 'pem'
    ? certificate.chainPem + certificate.keyPem
    : writePkcs12(certificate, passphrase)
}

/** Looks into the store each second, which the running instance fills. */
async function awaited(
  records: Records,
  clockNow: () => Promise<Clock>,
  wanted: Wanted,
  waitMs: number,
): Promise<Certificate> {
  let clock = await clockNow()
  const endAt = clock.monotonic() + waitMs
  const letGo = stayAlive()
  try {
    for (;;) {
      const found = await look(records, clock, wanted)
      if (found?.isFit) return found.certificate
      const leftMs = endAt - clock.monotonic()
      if (leftMs <= 0) {
        const what = wanted.role === undefined ? 'certificate' : `${wanted.role} certificate`
        throw new Error(`no valid ${what} for ${wanted.host} has come within ${formatDuration(waitMs)}`)
      }
      await sleep(clock, Math.min(POLL_MS, leftMs))
      clock = await clockNow()
    }
  } finally {
    letGo()
  }
}

/** As an instance would judge what the store holds. */
async function look(
  records: Records,
  clock: Clock,
  { host, role, distrusted }: Wanted,
): Promise<Found | undefined> {
  const verdicts = new Verdicts()
  const snapshot = readVerdicts(await records.loadState('verdicts', SOLE_RECORD))
  if (snapshot !== undefined) verdicts.restore(snapshot)
  verdicts.setConfigured(distrusted)
  const inventory = new Inventory(clock, verdicts)
  for (const duty of DUTIES) {
    const certificate = await records.loadCertificate(host, duty)
    if (certificate !== undefined) inventory.publish(host, duty, certificate)
  }
  const certificate = role === undefined ? inventory.find(host) : inventory.holding(host)[role]
  if (certificate === undefined) return undefined
  const isFit = certificate.isValidAt(clock.now()) && verdicts.faultOf(certificate) === undefined
  return { certificate, isFit }
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
