/**
 * `holdfast doctor`: would failover work? Looks at every CA and host, also while no instance runs. Changes nothing, but
 * that a CA with `eab` which has made no account yet is asked for it: whether it accepts the binding is not to be had else.
 */
import { Resolver } from 'node:dns/promises'
import { type ParseArgsOptionsConfig, parseArgs } from 'node:util'
import type { ReachProof } from '../admin/api.ts'
import type { HostView } from '../admin/views.ts'
import type { CaaLookup } from '../ca/caa.ts'
import { parseAddress } from '../config/addresses.ts'
import { type LoadedConfig, loadChosenConfig } from '../config/load.ts'
import type { Config } from '../config/schema.ts'
import { resolveCas } from '../config/sites.ts'
import { StoreError } from '../errors.ts'
import { silentLog } from '../log.ts'
import { openStore } from '../store/open.ts'
import { Records } from '../store/records.ts'
import { SECOND, SystemClock } from '../time.ts'
import { AdminClient, AdminUnreachableError } from './admin-client.ts'
import { type Diagnosis, examine } from './doctor/examination.ts'
import type { AddressLookup, Ports } from './doctor/reach.ts'
import { describe } from './doctor/report.ts'
import { type Command, complain, print, UsageError } from './terminal.ts'

const OPTIONS = {
  config: { type: 'string', short: 'c' },
  dns: { type: 'string' },
  json: { type: 'boolean', default: false },
} satisfies ParseArgsOptionsConfig

export const command: Command = {
  usage: `Usage: holdfast doctor [--config FILE] [--dns IP:PORT] [--json]

Is failover ready? Asks every CA, the DNS and the store about each host, also while no instance runs, and says what to do.

  -c, --config FILE  default: proxy.config.json, or the HOLDFAST_* environment
  --dns IP:PORT      the name server to ask; default: the machine's own
  --json             for programs

Exit code 0 when two CAs can supply every host that CAs supply, else 1.`,
  options: OPTIONS,
  run: doctor,
}

/** Where CAs ask (RFC 8555 section 8.3, RFC 8737 section 3). */
const CA_PORTS: Ports = { https: 443, http: 80 }

/** For one try of one name server. */
const DNS_TIMEOUT_MS = 2 * SECOND

/** @returns 0 when two CAs can supply every host that CAs supply, else 1 */
export async function doctor(args: string[], env: NodeJS.ProcessEnv): Promise<number> {
  const { values } = parseArgs({ args, options: OPTIONS })
  const resolver = createResolver(values.dns)
  const diagnosis = await diagnose(await loadChosenConfig(values.config, env), resolver)
  print(values.json ? JSON.stringify(diagnosis, undefined, 2) : describe(diagnosis))
  return diagnosis.hosts.some(({ dependsOnOne }) => dependsOnOne) ? 1 : 0
}

/** @param ports where CAs ask, which differ in tests only */
export async function diagnose(
  loaded: LoadedConfig,
  lookup: CaaLookup & AddressLookup,
  ports: Ports = CA_PORTS,
): Promise<Diagnosis> {
  const { config } = loaded
  const [records, running, proof] = await Promise.all([
    openRecords(loaded),
    askInstance<HostView[]>(config, '/api/certificates'),
    askInstance<ReachProof>(config, '/api/reach'),
  ])
  try {
    const clock = new SystemClock()
    return await examine({ config, cas: resolveCas(config), records, lookup, ports, clock, running, proof })
  } finally {
    await records?.close()
  }
}

/** @throws UsageError */
export function createResolver(server: string | undefined): Resolver {
  const resolver = new Resolver({ timeout: DNS_TIMEOUT_MS, tries: 2 })
  if (server === undefined) return resolver
  const address = parseAddress(server)
  if (address?.host === undefined || address.host === 'localhost')
    throw new UsageError(`--dns ${server}: write IP:PORT, such as 127.0.0.1:53`)
  resolver.setServers([server])
  return resolver
}

async function openRecords({ config, baseDir }: LoadedConfig): Promise<Records | undefined> {
  const log = silentLog()
  try {
    return new Records(await openStore(config.store, baseDir, log), log)
  } catch (error) {
    if (!(error instanceof StoreError)) throw error
    complain(error)
    return undefined
  }
}

/** undefined: none runs. */
async function askInstance<T>(config: Config, path: string): Promise<T | undefined> {
  try {
    return await new AdminClient(config).get<T>(path)
  } catch (error) {
    if (error instanceof AdminUnreachableError) return undefined
    throw error
  }
}
