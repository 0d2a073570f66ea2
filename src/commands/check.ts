/** `holdfast check`: is the config good? Every problem on a line of its own, or one line on what was found. */
import { type ParseArgsOptionsConfig, parseArgs } from 'node:util'
import { readClientCredentials } from '../cert/client-credentials.ts'
import { describeEnd, guardSites } from '../cert/client-policy.ts'
import { loadCertificateFile } from '../cert/files.ts'
import { formatAddress } from '../config/addresses.ts'
import { DEFAULT_FILE, type LoadedConfig, loadChosenConfig } from '../config/load.ts'
import type { Config, SiteConfig } from '../config/schema.ts'
import { resolveSites } from '../config/sites.ts'
import { CertificateError, ConfigError, type ConfigProblem, describeProblem, messageOf } from '../errors.ts'
import { SystemClock } from '../time.ts'
import { type Command, count } from './terminal.ts'

const USAGE = `Usage: holdfast check [--config FILE] [--json]

Validates ${DEFAULT_FILE} (or FILE, or the HOLDFAST_* variables where there is no file) and the files that it names.

  -c, --config FILE  default: ${DEFAULT_FILE}, or the HOLDFAST_* environment
  --json             for programs

Exit code 0 when it is good, 1 with every problem on a line, 2 when the command is wrong.`

const OPTIONS = {
  config: { type: 'string', short: 'c' },
  json: { type: 'boolean' },
} satisfies ParseArgsOptionsConfig

export const command: Command = { usage: USAGE, options: OPTIONS, run: check }

/** Prints the outcome. Gives the exit code; never rejects for what a user wrote. */
export async function check(args: string[], env: NodeJS.ProcessEnv): Promise<number> {
  let options: { config?: string; json?: boolean }
  try {
    options = parseArgs({ args, options: OPTIONS }).values
  } catch (error) {
    console.error(`${messageOf(error)}\n\n${USAGE}`)
    return 2
  }
  try {
    const loaded = await loadChosenConfig(options.config, env)
    await checkCertificates(loaded.config)
    checkClientPolicies(loaded.config)
    const found = summarize(loaded)
    console.log(options.json ? JSON.stringify({ valid: true, ...found }) : describe(found))
    return 0
  } catch (error) {
    if (!(error instanceof ConfigError)) throw error
    if (options.json) console.log(JSON.stringify({ valid: false, problems: error.problems }))
    else for (const problem of error.problems) console.error(describeProblem(problem))
    return 1
  }
}

/** Throws `ConfigError` when a certificate of the operator's own cannot be served for its site, or shown to upstreams. */
async function checkCertificates({ sites }: Config): Promise<void> {
  const now = new SystemClock().now()
  const problems = await Promise.all(
    sites.flatMap((site, index) => [
      checkCertificate(site, `sites[${index}]`, now),
      checkUpstreamCertificate(site, `sites[${index}]`),
    ]),
  )
  if (problems.flat().length > 0) throw new ConfigError(problems.flat())
}

async function checkCertificate(
  { hosts, tls }: SiteConfig,
  path: string,
  now: number,
): Promise<ConfigProblem[]> {
  const { certificate: file, key, passphrase } = tls
  if (file === undefined) return []
  try {
    const certificate = await loadCertificateFile({ certificate: file, key, passphrase }, now)
    return hosts
      .filter((host) => !certificate.covers(host))
      .map((host) => ({
        path: `${path}.hosts[${hosts.indexOf(host)}]`,
        message: `"${host}" is not among the names of ${file}`,
        hint: `it is for ${certificate.names.join(', ')}`,
      }))
  } catch (error) {
    if (!(error instanceof CertificateError)) throw error
    return [{ path: `${path}.tls.certificate`, message: error.message }]
  }
}

/** Throws `ConfigError` when client certificates cannot be verified, or all would be refused. */
function checkClientPolicies(config: Config): void {
  const now = new SystemClock().now()
  const policies = new Set(guardSites(resolveSites(config)).map(({ clientPolicy }) => clientPolicy))
  const problems = [...policies].flatMap((policy) =>
    policy === undefined || now < policy.crlsEndAt ? [] : [{ path: '', message: describeEnd(policy) }],
  )
  if (problems.length > 0) throw new ConfigError(problems)
}

function checkUpstreamCertificate({ upstreamTls }: SiteConfig, path: string): ConfigProblem[] {
  const { certificate, key } = upstreamTls
  if (certificate === undefined) return []
  try {
    readClientCredentials(certificate, key)
    return []
  } catch (error) {
    return [{ path: `${path}.upstreamTls.certificate`, message: messageOf(error) }]
  }
}

interface Summary {
  /** null: from the environment. */
  readonly file: string | null
  readonly sites: number
  readonly hosts: number
  /** Those that issue; none when every site brings its own certificate. */
  readonly cas: readonly string[]
  readonly listen: { readonly https: string[]; readonly http: string[]; readonly admin: string[] }
}

function summarize({ config, file }: LoadedConfig): Summary {
  const { https, http, admin } = config.listen
  const cas = resolveSites(config).flatMap(({ tls }) => (tls.kind === 'issued' ? tls.cas : []))
  return {
    file: file ?? null,
    sites: config.sites.length,
    hosts: config.sites.flatMap((site) => site.hosts).length,
    cas: [...new Set(cas)],
    listen: {
      https: https.map(formatAddress),
      http: http.map(formatAddress),
      admin: admin === false ? [] : [formatAddress(admin)],
    },
  }
}

/** `…/proxy.config.json is good: 2 sites, 3 hosts; CAs letsencrypt, zerossl; https :443, http :80, admin 127.0.0.1:9443` */
function describe({ file, sites, hosts, cas, listen }: Summary): string {
  const listeners = Object.entries(listen).filter(([, addresses]) => addresses.length > 0)
  const parts = [
    `${count(sites, 'site')}, ${count(hosts, 'host')}`,
    ...(cas.length === 0 ? [] : [`${cas.length === 1 ? 'CA' : 'CAs'} ${cas.join(', ')}`]),
    listeners.map(([name, addresses]) => `${name} ${addresses.join(' ')}`).join(', '),
  ]
  return `${file ?? 'The environment'} is good: ${parts.join('; ')}`
}
