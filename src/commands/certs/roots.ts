/**
 * `certs roots`: the roots that the certificates in the store end in, shown, exported and pinned. A pinned root is a copy
 * in the store which chains of that CA may end in, also when a later runtime drops it from its bundled set.
 */
import type { X509Certificate } from 'node:crypto'
import { Issuers } from '../../ca/issuers.ts'
import { type Certificate, commonNameOf } from '../../cert/certificate.ts'
import { parseRoots, publicRoots } from '../../cert/verify.ts'
import type { Ca } from '../../config/cas.ts'
import type { LoadedConfig } from '../../config/load.ts'
import { resolveCas } from '../../config/sites.ts'
import { messageOf } from '../../errors.ts'
import { silentLog } from '../../log.ts'
import type { Records } from '../../store/records.ts'
import { MINUTE } from '../../time.ts'
import { AdminClient } from '../admin-client.ts'
import { complain, print, table } from '../terminal.ts'
import { clockOfInstance } from './clock.ts'

/** Every certificate is judged anew, and asks for its revocation. */
const REVIEW_LIMIT_MS = 5 * MINUTE

interface RootInUse {
  readonly root: X509Certificate
  /** The CAs whose certificates in the store end in it. */
  readonly cas: Set<string>
}

export async function showRoots(loaded: LoadedConfig, records: Records): Promise<number> {
  const pinned = await records.loadPinnedRoots()
  const rows = (await rootsInUse(loaded, records)).map(({ root, cas }) => [
    commonNameOf(root.subject),
    root.fingerprint256.replaceAll(':', '').toLowerCase(),
    new Date(root.validTo).toISOString().slice(0, 10),
    [...cas].map((ca) => (isPinned(root, pinned.get(ca)) ? `${ca} (pinned)` : ca)).join(', '),
  ])
  print(
    rows.length === 0
      ? 'No certificate in the store ends in a known root.'
      : table(['ROOT', 'SHA-256', 'ENDS', 'CA'], rows),
  )
  return 0
}

/** PEM of the roots in use, or of the whole set that the runtime bundles. */
export async function exportedRoots(loaded: LoadedConfig, records: Records, all: boolean): Promise<string> {
  const roots = all ? publicRoots() : (await rootsInUse(loaded, records)).map(({ root }) => root)
  if (roots.length === 0) throw new Error('no certificate in the store ends in a known root')
  return roots.map((root) => root.toString()).join('')
}

/** Keeps a copy of the roots that the CA's certificates end in now. */
export async function pinRoots(loaded: LoadedConfig, records: Records, ca: string): Promise<number> {
  const found = resolveCas(loaded.config).get(ca)
  if (found === undefined) throw new Error(`the config has no CA ${ca}`)
  if (found.type === 'internal') throw new Error(`the root of ${ca} is in the store already: it is internal`)
  if (found.trust !== 'public')
    throw new Error(`the \`trust\` of ${ca} is not the public set: there is nothing to pin`)
  const roots = (await rootsInUse(loaded, records)).filter(({ cas }) => cas.has(ca))
  if (roots.length === 0) throw new Error(`the store holds no certificate from ${ca} that ends in a root`)
  await records.savePinnedRoots(ca, roots.map(({ root }) => root.toString()).join(''))
  const names = roots.map(({ root }) => `"${commonNameOf(root.subject)}"`).join(', ')
  await tellInstance(loaded, ca)
  print(`Pinned ${names} for ${ca}: its chains may end there, whatever the runtime bundles.`)
  return 0
}

export async function unpinRoots(loaded: LoadedConfig, records: Records, ca: string): Promise<number> {
  await records.removePinnedRoots(ca)
  await tellInstance(loaded, ca)
  print(`The roots of ${ca} are those of its \`trust\` again.`)
  return 0
}

/** The running instance, if there is one, takes the pins over at once; another reads them as it starts. */
async function tellInstance(loaded: LoadedConfig, ca: string): Promise<void> {
  const admin = await AdminClient.find(loaded.config)
  await admin?.post(`/api/cas/${encodeURIComponent(ca)}/roots`, REVIEW_LIMIT_MS)
}

async function rootsInUse(loaded: LoadedConfig, records: Records): Promise<RootInUse[]> {
  const cas = resolveCas(loaded.config)
  const clock = await clockOfInstance(loaded.config)
  const issuers = new Issuers({ records, clock, log: silentLog(), solvers: [] })
  await issuers.load()
  for (const ca of cas.values()) issuers.create(ca)
  const inUse = new Map<string, RootInUse>()
  for (const { host, certificate } of await records.loadCertificates()) {
    try {
      const root = await rootOf(certificate, cas.get(certificate.source), issuers, records)
      if (root === undefined) continue
      const known = inUse.get(root.fingerprint256) ?? { root, cas: new Set() }
      known.cas.add(certificate.source)
      inUse.set(root.fingerprint256, known)
    } catch (error) {
      complain(`${host}: ${messageOf(error)}`)
    }
  }
  return [...inUse.values()]
}

async function rootOf(
  certificate: Certificate,
  ca: Ca | undefined,
  issuers: Issuers,
  records: Records,
): Promise<X509Certificate | undefined> {
  if (ca?.type !== 'internal') return issuers.verify(certificate)
  const authority = await records.loadAuthority(ca.name)
  return authority === undefined ? undefined : parseRoots(authority.rootPem, ca.name)[0]
}

function isPinned(root: X509Certificate, pem: string | undefined): boolean {
  return pem !== undefined && parseRoots(pem, 'pinned').some((each) => each.raw.equals(root.raw))
}
