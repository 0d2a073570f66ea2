/** argv to a command. `bin/holdfast.js` calls `main`. */
import { readFileSync } from 'node:fs'
import { CERTS_USAGE, certs } from './commands/certs.ts'
import { check } from './commands/check.ts'
import { doctor } from './commands/doctor.ts'
import { drill } from './commands/drill.ts'
import { serve } from './commands/serve.ts'
import { simulate } from './commands/simulate.ts'
import { status } from './commands/status.ts'
import { complain, print, UsageError } from './commands/terminal.ts'

/** Arguments after the command's name, and the environment; resolves with the exit code. */
type Command = (args: string[], env: NodeJS.ProcessEnv) => Promise<number>

const COMMANDS: Readonly<Record<string, { run: Command; summary: string }>> = {
  serve: { run: serve, summary: 'run the proxy (the default)' },
  check: { run: check, summary: 'validate the config; exit 1 with every error' },
  status: { run: status, summary: 'hosts, certificates and CA health of the running instance' },
  doctor: { run: doctor, summary: 'is failover ready? exit 1 when a host depends on one CA alone' },
  drill: { run: drill, summary: 'rehearse a CA outage on the running instance, or --practice one' },
  simulate: { run: simulate, summary: 'play a CA outage over a fleet on a virtual clock' },
  certs: { run: certs, summary: 'list, export, import, renew or revoke certificates; roots; distrust a CA' },
}

const HELP = `Usage: holdfast COMMAND [options]

${Object.entries(COMMANDS)
  .map(([name, { summary }]) => `  ${name.padEnd(10)}${summary}`)
  .join('\n')}

Every command takes --config FILE (default: proxy.config.json, or the HOLDFAST_* environment) and --help.
`

/** Sets the exit code; never throws. */
export async function main(argv: string[]): Promise<void> {
  const [first, ...rest] = argv
  if (first === '--help' || first === '-h' || first === 'help') return print(HELP)
  if (first === '--version' || first === '-v') return print(version())
  const implicit = first === undefined || first.startsWith('-')
  const name = implicit ? 'serve' : first
  const command = COMMANDS[name]
  if (command === undefined) {
    complain(new UsageError(`no command "${name}": there are ${Object.keys(COMMANDS).join(', ')}`))
    process.exitCode = 2
    return
  }
  if (name === 'certs' && rest.includes('--help')) return print(CERTS_USAGE)
  if (name !== 'check' && rest.includes('--help')) return print(HELP)
  try {
    process.exitCode = await command.run(implicit ? argv : rest, process.env)
  } catch (error) {
    complain(error)
    process.exitCode = isUsageError(error) ? 2 : 1
  }
}

function version(): string {
  const manifest: unknown = JSON.parse(readFileSync(new URL('../package.json', import.meta.url), 'utf8'))
  return String((manifest as { version: string }).version)
}

/** Our own, or one of node:util's parseArgs. */
function isUsageError(error: unknown): boolean {
  if (error instanceof UsageError) return true
  return error instanceof TypeError && 'code' in error && String(error.code).startsWith('ERR_PARSE_ARGS')
}
