/** argv to a command. `bin/holdfast.js` calls `main`. */
import { readFileSync } from 'node:fs'
import { type Command, complain, print, UsageError } from './commands/terminal.ts'

/** Each is loaded when it is asked for, so that none costs the others time or memory. */
export const COMMANDS: Readonly<Record<string, { load: () => Promise<Command>; summary: string }>> = {
  serve: {
    load: async () => (await import('./commands/serve.ts')).command,
    summary: 'run the proxy (the default)',
  },
  check: {
    load: async () => (await import('./commands/check.ts')).command,
    summary: 'validate the config; exit 1 with every error',
  },
  status: {
    load: async () => (await import('./commands/status.ts')).command,
    summary: 'hosts, certificates and CA health of the running instance',
  },
  doctor: {
    load: async () => (await import('./commands/doctor.ts')).command,
    summary: 'is failover ready? exit 1 when a host depends on one CA alone',
  },
  drill: {
    load: async () => (await import('./commands/drill.ts')).command,
    summary: 'rehearse a CA outage on the running instance, or --practice one',
  },
  'hash-password': {
    load: async () => (await import('./commands/hash-password.ts')).command,
    summary: 'the hash of a password, for basicAuth',
  },
  simulate: {
    load: async () => (await import('./commands/simulate.ts')).command,
    summary: 'play a CA outage over a fleet on a virtual clock',
  },
  certs: {
    load: async () => (await import('./commands/certs.ts')).command,
    summary: 'list, export, import, renew or revoke certificates; roots; distrust a CA',
  },
}

const HELP = `Usage: holdfast COMMAND [options]

${Object.entries(COMMANDS)
  .map(([name, { summary }]) => `  ${name.padEnd(15)}${summary}`)
  .join('\n')}

Every command but hash-password and simulate takes --config FILE (default: proxy.config.json, or the HOLDFAST_*
environment). holdfast COMMAND --help tells the options of each.
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
  const args = implicit ? argv : rest
  try {
    const { usage, run } = await command.load()
    if (args.includes('--help') || args.includes('-h')) return print(usage)
    process.exitCode = await run(args, process.env)
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
