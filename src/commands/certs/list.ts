/** `certs list`: what the store holds. */
import type { Certificate } from '../../cert/certificate.ts'
import type { Records } from '../../store/records.ts'
import { type Clock, formatDuration } from '../../time.ts'
import { print, table } from '../terminal.ts'

export async function list(records: Records, clock: Clock, asJson: boolean): Promise<number> {
  const stored = await records.loadCertificates()
  stored.sort((a, b) => a.host.localeCompare(b.host) || a.role.localeCompare(b.role))
  if (asJson) {
    print(
      JSON.stringify(
        stored.map(({ host, role, certificate }) => ({ host, role, ...factsOf(certificate) })),
        undefined,
        2,
      ),
    )
    return 0
  }
  const rows = stored.map(({ host, role, certificate }) => {
    const leftMs = certificate.notAfter - clock.now()
    const left = leftMs < 0 ? 'expired' : `${formatDuration(leftMs)} left`
    return [
      host,
      role,
      certificate.source,
      certificate.issuer,
      new Date(certificate.notAfter).toISOString().slice(0, 10),
      left,
    ]
  })
  print(
    rows.length === 0
      ? 'The store holds no certificate.'
      : table(['HOST', 'ROLE', 'CA', 'ISSUER', 'ENDS', ''], rows),
  )
  return 0
}

function factsOf({ source, issuer, names, serial, fingerprint, notBefore, notAfter }: Certificate): object {
  const [from, to] = [notBefore, notAfter].map((time) => new Date(time).toISOString())
  return { ca: source, issuer, names, serial, fingerprint, notBefore: from, notAfter: to }
}
