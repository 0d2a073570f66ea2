/** `holdfast certs`: what the store holds, out of it and into it; also while no instance runs and while every CA is down. */
import { readFileSync, writeFileSync } from 'node:fs'
import { parseArgs } from 'node:util'
import { Certificate, IMPORTED } from '../cert/certificate.ts'
import { loadCertificateFile } from '../cert/files.ts'
import type { Role } from '../cert/inventory.ts'
import { writePkcs12 } from '../cert/pkcs12.ts'
import { type LoadedConfig, loadChosenConfig } from '../config/load.ts'
import { normalizeHost } from '../config/schema.ts'
import { resolveSites } from '../config/sites.ts'
import { createLog } from '../log.ts'
import { openStore } from '../store/open.ts'
import { Records } from '../store/records.ts'
import { formatDuration, SystemClock } from '../time.ts'
import { AdminClient, AdminUnreachableError } from './admin-client.ts'
import { print, table, UsageError } from './terminal.ts'

export const CERTS_USAGE = `Usage: holdfast certs list [--json]
       holdfast certs export HOST [--role live|standby] [--out FILE] [--format pem|pkcs12] [--passphrase-file FILE]
       holdfast certs export --root CA [--out FILE]
       holdfast certs import HOST --certificate FILE [--key FILE] [--passphrase-file FILE]
       holdfast certs renew HOST
       holdfast certs distrust CA
       holdfast certs trust CA`

const ACTIONS: readonly string[] = ['list', 'export', 'import', 'renew', 'distrust', 'trust']

export async function certs(args: string[], env: NodeJS.ProcessEnv): Promise<number> {
  const { values, positionals } = parseArgs({
    args,
    allowPositionals: true,
    options: {
      config: { type: 'string', short: 'c' },
      json: { type: 'boolean', default: false },
      role: { type: 'string', default: 'live' },
      out: { type: 'string', short: 'o' },
      format: { type: 'string', default: 'pem' },
      root: { type: 'string' },
      certificate: { type: 'string' },
      key: { type: 'string' },
      'passphrase-file': { type: 'string' },
    },
  })
  const [action, host] = positionals
  if (!ACTIONS.includes(action ?? ''))
    throw new UsageError(`say what to do: certs ${ACTIONS.join(', ')} (see \`holdfast certs --help\`)`)
  const loaded = await loadChosenConfig(values.config, env)
  switch (action) {
    case 'list':
      return withRecords(loaded, (records) => list(records, values.json))
    case 'export':
      return withRecords(loaded, async (records) => {
        if (values.root !== undefined) write(values.out, await rootOf(records, values.root))
        else
          write(
            values.out,
            await exported(records, needHost(host), values.role, values.format, passphraseOf(values)),
          )
        return 0
      })
    case 'import':
      if (values.certificate === undefined)
        throw new UsageError('certs import: --certificate FILE is missing')
      return importCertificate(loaded, needHost(host), {
        certificate: values.certificate,
        key: values.key,
        passphrase: passphraseOf(values),
      })
    case 'distrust':
    case 'trust':
      return setDistrusted(loaded, host, action === 'distrust')
    default:
      return renew(loaded, needHost(host))
  }
}

async function list(records: Records, asJson: boolean): Promise<number> {
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
    const leftMs = certificate.notAfter - new SystemClock().now()
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

async function exported(
  records: Records,
  host: string,
  role: string,
  format: string,
  passphrase: string | undefined,
): Promise<string | Buffer> {
  if (role !== 'live' && role !== 'standby')
    throw new UsageError(`no role "${role}": there are live, standby`)
  const certificate = await records.loadCertificate(host, role satisfies Role)
  if (certificate === undefined) throw new Error(`the store holds no ${role} certificate for ${host}`)
  if (format === 'pem') return certificate.chainPem + certificate.keyPem
  if (format !== 'pkcs12') throw new UsageError(`no format "${format}": there are pem, pkcs12`)
  if (passphrase === undefined)
    throw new UsageError('a PKCS#12 file needs a passphrase: --passphrase-file FILE')
  return writePkcs12(certificate, passphrase)
}

async function rootOf(records: Records, ca: string): Promise<string> {
  const authority = await records.loadAuthority(ca)
  if (authority === undefined)
    throw new Error(`the store holds no root of "${ca}": an internal CA makes one when \`serve\` first runs`)
  return authority.rootPem
}

async function importCertificate(
  loaded: LoadedConfig,
  host: string,
  source: { certificate: string; key: string | undefined; passphrase: string | undefined },
): Promise<number> {
  const { certificate: file, key, passphrase } = source
  const read = await loadCertificateFile(
    {
      certificate: file,
      ...(key === undefined ? {} : { key }),
      ...(passphrase === undefined ? {} : { passphrase }),
    },
    new SystemClock().now(),
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
  print(`Imported the certificate for ${host}, valid until ${new Date(read.notAfter).toISOString()}.`)
  try {
    await new AdminClient(loaded.config).post(`/api/certificates/${encodeURIComponent(host)}/reload`)
    print('The running instance serves it from now on.')
  } catch (error) {
    if (!(error instanceof AdminUnreachableError)) throw error
    print(`It is served from the next start on: ${error.message}`)
  }
  return 0
}

async function renew(loaded: LoadedConfig, host: string): Promise<number> {
  const admin = new AdminClient(loaded.config)
  const known = await admin.post(`/api/certificates/${encodeURIComponent(host)}/renew`)
  if (!known) throw new Error(`the running instance has no host ${host} that a CA supplies`)
  print(`Ordering a new certificate for ${host}; follow it with \`holdfast status\`.`)
  return 0
}

/** What a distrusted CA issued gives way to a standby at the next handshake, and is replaced by other CAs. */
async function setDistrusted(
  loaded: LoadedConfig,
  ca: string | undefined,
  distrusted: boolean,
): Promise<number> {
  if (ca === undefined) throw new UsageError('say which CA (see `holdfast certs --help`)')
  const verb = distrusted ? 'distrust' : 'trust'
  const known = await new AdminClient(loaded.config).post(`/api/cas/${encodeURIComponent(ca)}/${verb}`)
  if (!known) throw new Error(`the running instance has no CA ${ca}`)
  const meaning = distrusted
    ? 'what it issued is served only where there is nothing else'
    : 'it is asked again'
  print(`${ca} is ${verb}ed from now on: ${meaning}. Follow it with \`holdfast status\`.`)
  return 0
}

async function withRecords(
  loaded: LoadedConfig,
  work: (records: Records) => Promise<number>,
): Promise<number> {
  const log = createLog({ level: 'warn', format: 'auto' })
  const records = new Records(await openStore(loaded.config.store, loaded.baseDir, log), log)
  try {
    return await work(records)
  } finally {
    await records.close()
  }
}

function needHost(text: string | undefined): string {
  if (text === undefined) throw new UsageError('HOST is missing: see `holdfast certs --help`')
  const host = normalizeHost(text)
  if (host === undefined) throw new UsageError(`${text} is not a host`)
  return host
}

function passphraseOf(values: { 'passphrase-file'?: string | undefined }): string | undefined {
  const file = values['passphrase-file']
  return file === undefined ? undefined : readFileSync(file, 'utf8').replace(/\r?\n$/, '')
}

/** To stdout, or to a file that only its owner may read: it may hold a key. */
function write(file: string | undefined, content: string | Buffer): void {
  if (file !== undefined) writeFileSync(file, content, { mode: 0o600 })
  else if (typeof content !== 'string' && process.stdout.isTTY)
    throw new UsageError('PKCS#12 is binary, and this is a terminal: name a file with --out FILE')
  else process.stdout.write(content)
}
