/**
 * How clients of a site prove who they are: the files that its `tls.clientCertificates` names, read, and what is wrong
 * with them. Receives sites from `front.ts`, which hands what comes back to `tls/`, to ask clients by, and to `http/`,
 * to hold requests to. The verification itself is OpenSSL's.
 */
import { createHash, type X509Certificate } from 'node:crypto'
import { createSecureContext } from 'node:tls'
import { readNamedFile } from '../config/named-files.ts'
import type { Site } from '../config/sites.ts'
import { ConfigError, type ConfigProblem, messageOf } from '../errors.ts'
import { commonNameOf, formatMoment, parseCertificates } from './certificate.ts'
import { type CrlFacts, crlFactsOf } from './crl.ts'
import { profileOf } from './profile.ts'

/** Who is let in. */
export interface ClientPolicy {
  /** SHA-256 of all that decides, in hex: another id is another policy. */
  readonly id: string
  /** Otherwise clients without a certificate are served too. */
  readonly required: boolean
  /** Trusted roots and known intermediates. PEM. */
  readonly ca: string
  /** Revocation lists, one a PEM, since Node reads no more of each; none: revocation is not checked. */
  readonly crls: readonly string[]
  /** When the first of the lists runs out, in milliseconds since the epoch; Infinity where there is none. */
  readonly crlsEndAt: number
  /** Where the lists are from, for messages. */
  readonly crlFile: string | undefined
}

export interface GuardedSite extends Site {
  /** Absent: clients are not asked for a certificate. */
  readonly clientPolicy?: ClientPolicy
}

const PEM_CRL = /-----BEGIN X509 CRL-----([\w+/=\s]+)-----END X509 CRL-----/g

/**
 * Reads (blocking) what the sites name; sites that ask alike share one object.
 *
 * @throws ConfigError with a problem for each file that cannot be used
 */
export function guardSites(sites: readonly Site[]): GuardedSite[] {
  const policies = new Map<string, ClientPolicy>()
  const problems = new Map<string, ConfigProblem>()
  const guarded = sites.map((site) => {
    if (site.clientCertificates === undefined) return site
    try {
      const policy = readPolicy(site.clientCertificates)
      const clientPolicy = policies.get(policy.id) ?? policy
      policies.set(policy.id, clientPolicy)
      return { ...site, clientPolicy }
    } catch (error) {
      const message = messageOf(error)
      problems.set(message, { path: '', message })
      return site
    }
  })
  if (problems.size > 0) throw new ConfigError([...problems.values()])
  return guarded
}

/** @throws Error whose message begins with the path of the file that is at fault */
function readPolicy({
  mode,
  ca: caFile,
  crl: crlFile,
}: NonNullable<Site['clientCertificates']>): ClientPolicy {
  const required = mode === 'required'
  const authorities = parseCertificates(readNamedFile(caFile).toString('latin1'), caFile)
  const roots = authorities.filter((each) => each.checkIssued(each))
  if (roots.length === 0)
    throw new Error(`${caFile}: holds no root, only intermediates: add the certificate that signed itself`)
  const ca = authorities.map((each) => each.toString()).join('')
  const lists = crlFile === undefined ? [] : readLists(crlFile, roots)
  const crls = lists.map(({ pem }) => pem)
  const id = createHash('sha256')
    .update(JSON.stringify([required, ca, crls]))
    .digest('hex')
  const crlsEndAt = Math.min(...lists.map(({ nextUpdate }) => nextUpdate))
  return { id, required, ca, crls, crlsEndAt, crlFile }
}

/** What is to be done once a list of the policy has run out. */
export function describeEnd({ crlFile, crlsEndAt }: ClientPolicy): string {
  return `${crlFile}: a revocation list in it ran out on ${formatMoment(crlsEndAt)}: all client certificates are refused until a newer one is there`
}

interface List extends CrlFacts {
  readonly pem: string
}

function readLists(file: string, roots: readonly X509Certificate[]): List[] {
  const bytes = readNamedFile(file)
  const blocks = [...bytes.toString('latin1').matchAll(PEM_CRL)].map(([, base64 = '']) =>
    Buffer.from(base64, 'base64'),
  )
  const lists = (blocks.length > 0 ? blocks : [bytes]).map((der) => readList(file, der))
  const bare = roots.find((root) => !lists.some(({ issuer }) => issuer.equals(profileOf(root).subject)))
  if (bare === undefined) return lists
  // OpenSSL would refuse every client of that root.
  throw new Error(
    `${file}: holds no list by "${commonNameOf(bare.subject)}": each root needs one, even an empty one`,
  )
}

function readList(file: string, der: Buffer): List {
  try {
    const facts = crlFactsOf(der)
    const pem = `-----BEGIN X509 CRL-----\n${der.toString('base64')}\n-----END X509 CRL-----\n`
    createSecureContext({ crl: pem })
    return { ...facts, pem }
  } catch (cause) {
    throw new Error(`${file}: holds no revocation list that can be read: ${messageOf(cause)}`, { cause })
  }
}
