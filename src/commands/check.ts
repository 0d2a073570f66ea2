/** `holdfast check`: is the config good? Every problem on a line of its own, or one line on what was found. */
import { parseArgs } from 'node:util'
import { formatAddress } from '../config/addresses.ts'
import { DEFAULT_FILE, type LoadedConfig, loadChosenConfig } from '../config/load.ts'
import type { Config } from '../config/schema.ts'
import { resolveSites } from '../config/sites.ts'
import { ConfigError, describeProblem, messageOf } from '../errors.ts'

const USAGE = `holdfast check [--config FILE] [--json]

Validates ${DEFAULT_FILE} (or FILE, or the HOLDFAST_* variables where there is no file) and the files that it names.
Exit code 0 when it is good, 1 with every problem on a line, 2 when the command is wrong.`

/** Prints the outcome. Gives the exit code; never rejects for what a user wrote. */
export async function check(args: string[], env: NodeJS.ProcessEnv): Promise<number> {
  let options: { config?: string; json?: boolean; help?: boolean }
  try {
    options = parseArgs({
      args,
      options: { config: { type: 'string' }, json: { type: 'boolean' }, help: { type: 'boolean' } },
    }).values
  } catch (error) {
    console.error(`${messageOf(error)}\n\n${USAGE}`)
    return 2
  }
  if (options.help) {
    console.log(USAGE)
    return 0
  }
  try {
    const found = summarize(await loadChosenConfig(options.config, env))
    console.log(options.json ? JSON.stringify({ valid: true, ...found }) : describe(found))
    return 0
  } catch (error) {
    if (!(error instanceof ConfigError)) throw error
    if (options.json) console.log(JSON.stringify({ valid: false, problems: error.problems }))
    else for (const problem of error.problems) console.error(describeProblem(problem))
    return 1
  }
}

interface Summary {
  /** null: from the environment. */
  readonly file: string | null
  readonly sites: number
  readonly hosts: number
  readonly cas: readonly string[]
  readonly listen: { readonly https: string[]; readonly http: string[]; readonly admin: string[] }
}

function summarize({ config, file }: LoadedConfig): Summary {
  return {
    file: file ?? null,
    sites: config.sites.length,
    hosts: config.sites.flatMap((site) => site.hosts).length,
    cas: [...new Set(resolveSites(config).flatMap(({ tls }) => (tls.kind === 'issued' ? tls.cas : [])))],
    listen: listenersOf(config),
  }
}

function listenersOf({ listen }: Config): Summary['listen'] {
  return {
    https: listen.https.map(formatAddress),
    http: listen.http.map(formatAddress),
    admin: listen.admin === false ? [] : [formatAddress(listen.admin)],
  }
}

/** `proxy.config.json is good: 2 sites, 3 hosts; CAs letsencrypt, internal; https :443, http :80, admin 127.0.0.1:9443` */
function describe({ file, sites, hosts, cas, listen }: Summary): string {
  const listeners = Object.entries(listen).filter(([, addresses]) => addresses.length > 0)
  const parts = [
    `${count(sites, 'site')}, ${count(hosts, 'host')}`,
    ...(cas.length === 0 ? [] : [`${cas.length === 1 ? 'CA' : 'CAs'} ${cas.join(', ')}`]),
    listeners.map(([name, addresses]) => `${name} ${addresses.join(' ')}`).join(', '),
  ]
  return `${file ?? 'The environment'} is good: ${parts.join('; ')}`
}

function count(number: number, noun: string): string {
  return `${number} ${noun}${number === 1 ? '' : 's'}`
}
