/** `certs import`: a certificate of the operator's own into the store, also while every CA is down. */
import { Certificate, IMPORTED } from '../../cert/certificate.ts'
import { loadCertificateFile } from '../../cert/files.ts'
import { publicRoots, verifyChain } from '../../cert/verify.ts'
import type { LoadedConfig } from '../../config/load.ts'
import { resolveSites } from '../../config/sites.ts'
import { messageOf } from '../../errors.ts'
import { AdminClient, AdminRefusedError, AdminUnreachableError } from '../admin-client.ts'
import { complain, print } from '../terminal.ts'
import { clockOfInstance } from './clock.ts'
import { withRecords } from './store.ts'

export async function importCertificate(
  loaded: LoadedConfig,
  host: string,
  source: { certificate: string; key: string | undefined; passphrase: string | undefined },
): Promise<number> {
  const { certificate: file, key, passphrase } = source
  const now = (await clockOfInstance(loaded.config)).now()
  const read = await loadCertificateFile(
    {
      certificate: file,
      ...(key === undefined ? {} : { key }),
      ...(passphrase === undefined ? {} : { passphrase }),
    },
    now,
  )
  if (!read.covers(host))
    throw new Error(`${file}: the certificate is for ${read.names.join(', ')}, not for ${host}`)
  const supplied = resolveSites(loaded.config).some(
    (site) => site.tls.kind === 'issued' && site.hosts.includes(host),
  )
  if (!supplied)
    throw new Error(
      `${host} is no host of this config that a CA supplies: name the files under \`tls.certificate\` of its site instead`,
    )
  await withRecords(loaded, async (records) => {
    await records.saveCertificate(host, 'live', new Certificate(read.chainPem, read.keyPem, IMPORTED, file))
    return 0
  })
  warnOfStrangers(read, host, now)
  print(`Imported the certificate for ${host}, valid until ${new Date(read.notAfter).toISOString()}.`)
  print(await tellInstance(loaded, host))
  return 0
}

/** @returns from when on it is served @throws when the running instance cannot take it over */
async function tellInstance({ config }: LoadedConfig, host: string): Promise<string> {
  try {
    const isKnown = await new AdminClient(config).post(`/api/certificates/${encodeURIComponent(host)}/reload`)
    return isKnown
      ? 'The running instance serves it from now on.'
      : `The running instance has no host ${host} that a CA supplies: it serves it once it has this config.`
  } catch (error) {
    if (error instanceof AdminRefusedError)
      throw new Error(`the running instance does not serve it: ${error.reason}`, { cause: error })
    if (!(error instanceof AdminUnreachableError)) throw error
    return `It is served from the next start on: ${error.message}`
  }
}

/** It is the operator's own to decide whom his clients trust: he is told, and not kept from it. */
function warnOfStrangers(certificate: Certificate, host: string, now: number): void {
  const roots = publicRoots()
  try {
    verifyChain(certificate, { names: [host], roots, browserRoots: roots, now })
  } catch (error) {
    complain(`browsers refuse it, unless they were told to trust its root: ${messageOf(error)}`)
  }
}
