/** What `certs` asks of the running instance: new certificates, revocation, distrust. */
import type { Revocation } from '../../admin/api.ts'
import type { HostView } from '../../admin/views.ts'
import { REVOCATION_REASONS } from '../../ca/issuer.ts'
import { typeOf } from '../../config/cas.ts'
import type { LoadedConfig } from '../../config/load.ts'
import { type Duty, isDuty } from '../../renew/plan.ts'
import { MINUTE } from '../../time.ts'
import { AdminClient } from '../admin-client.ts'
import { print, UsageError } from '../terminal.ts'

/** A CA may take as long for a revocation as for an order. */
const REVOCATION_LIMIT_MS = 2 * MINUTE

export async function renew(loaded: LoadedConfig, host: string, role: string): Promise<number> {
  const known = await order(new AdminClient(loaded.config), host, knownRole(role))
  if (!known)
    throw new Error(
      `the running instance has no host ${host} that ${role === 'live' ? 'a CA supplies' : 'has a standby'}`,
    )
  print(`Ordering a new ${role} certificate for ${host}; follow it with \`holdfast status\`.`)
  return 0
}

/** The instance paces the orders within the limits of the CAs. */
export async function renewAll(loaded: LoadedConfig, role: string): Promise<number> {
  const duty = knownRole(role)
  const admin = new AdminClient(loaded.config)
  const hosts = await admin.get<HostView[]>('/api/certificates')
  let ordered = 0
  for (const { host } of hosts) if (await order(admin, host, duty)) ordered++
  print(
    `Ordering new ${role} certificates for ${ordered} of ${hosts.length} hosts; follow it with \`holdfast status\`.`,
  )
  return 0
}

function order(admin: AdminClient, host: string, role: Duty): Promise<boolean> {
  return admin.post(`/api/certificates/${encodeURIComponent(host)}/renew?role=${role}`)
}

function knownRole(text: string): Duty {
  if (isDuty(text)) return text
  throw new UsageError(`--role ${text}: there are live, standby`)
}

/** Revokes a certificate: where it is the live one a standby takes over at once. A new one is ordered. */
export async function revoke(
  loaded: LoadedConfig,
  host: string,
  { role, reason }: { readonly role: string; readonly reason: string },
): Promise<number> {
  if (!Object.hasOwn(REVOCATION_REASONS, reason))
    throw new UsageError(`no reason "${reason}": there are ${Object.keys(REVOCATION_REASONS).join(', ')}`)
  const path = `/api/certificates/${encodeURIComponent(host)}/revoke?role=${knownRole(role)}&reason=${reason}`
  const revocation = await new AdminClient(loaded.config).postForAnswer<Revocation>(path, REVOCATION_LIMIT_MS)
  if (revocation === undefined) throw new Error(`the running instance has no ${role} certificate for ${host}`)
  const meaning = reason === 'keyCompromise' ? 'its key is never used again' : 'it gives way to others'
  const fate = revocation.byCa ? 'revoked' : 'given up here'
  print(`The ${role} certificate for ${host} is ${fate}: ${meaning}. Follow it with \`holdfast status\`.`)
  if (!revocation.byCa) print(restOf(revocation, loaded))
  return 0
}

/** What is left to do where no CA has revoked the certificate. */
function restOf({ source }: Revocation, { config }: LoadedConfig): string {
  if (typeOf(source, config.cas[source]) === 'internal')
    return 'An internal CA revokes nothing: whoever trusts its root would take the certificate until it ends.'
  return 'No CA was asked: ask its CA to revoke it.'
}

/** What a distrusted CA issued gives way to a standby at the next handshake, and is replaced by other CAs. */
export async function setDistrusted(
  loaded: LoadedConfig,
  ca: string | undefined,
  distrusted: boolean,
): Promise<number> {
  if (ca === undefined) throw new UsageError('say which CA (see `holdfast certs --help`)')
  const verb = distrusted ? 'distrust' : 'trust'
  const known = await new AdminClient(loaded.config).post(`/api/cas/${encodeURIComponent(ca)}/${verb}`)
  if (!known && !distrusted && loaded.config.cas[ca]?.distrusted)
    throw new Error(`the config distrusts ${ca}: remove \`cas.${ca}.distrusted\` there`)
  if (!known) throw new Error(`the running instance has no CA ${ca}`)
  const meaning = distrusted
    ? 'what it issued is served only where there is nothing else'
    : 'it is asked again'
  print(`${ca} is ${verb}ed from now on: ${meaning}. Follow it with \`holdfast status\`.`)
  return 0
}
