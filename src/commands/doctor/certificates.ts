/** The certificates that the store holds for a host: do they verify, how long do they last, does the standby stand by? */

import { type Anchors, Issuers } from '../../ca/issuers.ts'
import { type Certificate, formatMoment } from '../../cert/certificate.ts'
import { loadCertificateFile } from '../../cert/files.ts'
import type { Holding } from '../../cert/inventory.ts'
import { parseRoots, publicRoots, type VerifyOptions, verifyChain } from '../../cert/verify.ts'
import type { Ca } from '../../config/cas.ts'
import type { FilePolicy, IssuedPolicy } from '../../config/sites.ts'
import { messageOf } from '../../errors.ts'
import { silentLog } from '../../log.ts'
import type { Records } from '../../store/records.ts'
import { type Clock, formatDuration } from '../../time.ts'
import { type Finding, fail, ok, warn } from './finding.ts'

/** A certificate with less left than this share of its lifetime is late: it falls due at a third. */
const LATE_SHARE = 0.2

/** How the chains of a source are to be judged: a CA by its name; `file` and `import` are the operator's own. */
export type TrustOf = (source: string) => Pick<VerifyOptions, 'roots' | 'browserRoots'>

/** Blocks for some 10 ms. */
export async function loadTrust(
  cas: ReadonlyMap<string, Ca>,
  records: Records | undefined,
  clock: Clock,
): Promise<TrustOf> {
  const browserRoots = publicRoots()
  if (records === undefined) return () => ({ roots: browserRoots, browserRoots })
  const issuers = new Issuers({ records, clock, log: silentLog(), solvers: [], browserRoots })
  await issuers.load()
  const internal = new Map<string, Anchors>()
  for (const ca of cas.values()) {
    issuers.create(ca)
    if (ca.type === 'acme') continue
    const authority = await records.loadAuthority(ca.name)
    internal.set(ca.name, authority === undefined ? 'any' : parseRoots(authority.rootPem, ca.name))
  }
  return (source) => ({
    roots: internal.get(source) ?? issuers.anchors(source) ?? browserRoots,
    browserRoots,
  })
}

/** Of a host that CAs supply. */
export function checkHolding(
  host: string,
  policy: IssuedPolicy,
  { live, standby }: Holding,
  trustOf: TrustOf,
  now: number,
): Finding[] {
  if (live === undefined) {
    const fix = `start \`holdfast serve\`, then \`holdfast status\` tells how ${host} fares`
    return [warn('live', 'there is no certificate yet', fix)]
  }
  const findings = [checkCertificate('live', host, live, trustOf, now)]
  if (standby !== undefined) findings.push(checkCertificate('standby', host, standby, trustOf, now))
  if (policy.cas.length > 1) findings.push(...checkStandby(host, policy, live, standby))
  return findings
}

/** Of a host with a certificate of the operator's own. */
export async function checkFile(
  host: string,
  policy: FilePolicy,
  trustOf: TrustOf,
  now: number,
): Promise<Finding[]> {
  const byHand = 'renewed by hand: no CA supplies it'
  try {
    const certificate = await loadCertificateFile(policy, now)
    const finding = checkCertificate('file', host, certificate, trustOf, now)
    return [finding.verdict === 'ok' ? ok('file', `${finding.says}; ${byHand}`) : finding]
  } catch (error) {
    return [fail('file', messageOf(error), `put a valid certificate for ${host} there`)]
  }
}

function checkCertificate(
  check: string,
  host: string,
  certificate: Certificate,
  trustOf: TrustOf,
  now: number,
): Finding {
  const { source, notBefore, notAfter } = certificate
  const renewal = check === 'file' ? `replace it` : `run \`holdfast certs renew ${host}\``
  try {
    verifyChain(certificate, { names: [host], ...trustOf(source), now })
  } catch (error) {
    return fail(check, messageOf(error), renewal)
  }
  const leftMs = notAfter - now
  const says = `from ${source}, verifies, ${formatDuration(leftMs)} left (until ${formatMoment(notAfter)})`
  if (leftMs >= (notAfter - notBefore) * LATE_SHARE) return ok(check, says)
  return warn(check, `${says}: its renewal is late`, `see \`holdfast status\` for why, or ${renewal}`)
}

function checkStandby(
  host: string,
  { standby: wanted, operators }: IssuedPolicy,
  live: Certificate,
  standby: Certificate | undefined,
): Finding[] {
  if (wanted === 'off') {
    const says = 'off: a failover takes as long as an order at the second CA'
    return [warn('standby', says, `set "standby": "always" in \`tls\` for ${host}`)]
  }
  if (standby === undefined) {
    if (wanted === 'on-degraded') return [ok('standby', 'none while the first CA is well, as configured')]
    const fix = '`holdfast status` tells why it could not be had'
    return [fail('standby', 'there is none, so that a bad live certificate has no stand-in', fix)]
  }
  if (standby.source === live.source)
    return [
      fail('standby', `is from ${live.source}, as the live one is`, `run \`holdfast certs renew ${host}\``),
    ]
  const operator = operators.get(live.source)
  const hasOther = [...operators.values()].some((each) => each !== operator)
  if (operator !== undefined && operators.get(standby.source) === operator && hasOther)
    return [
      fail(
        'standby',
        `is from ${standby.source}, of the company that ${live.source} is of`,
        `run \`holdfast certs renew ${host} --role standby\``,
      ),
    ]
  if (standby.leaf.publicKey.equals(live.leaf.publicKey))
    return [fail('standby', 'has the key of the live one', `run \`holdfast certs renew ${host}\``)]
  return [ok('standby', `is from another CA (${standby.source}), with another key`)]
}
