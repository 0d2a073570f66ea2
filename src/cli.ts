/** argv to a command. `bin/holdfast.js` calls `main`. */
import { readFileSync } from 'node:fs'
import { complain, print, UsageError } from './commands/terminal.ts'

/** Arguments after the command's name, and the environment; resolves with the exit code. */
type Command = (args: string[], env: NodeJS.ProcessEnv) => Promise<number>

/** Each is loaded when it is asked for, so that none costs the others time or memory. */
const COMMANDS: Readonly<Record<string, { load: () => Promise<Command>; summary: string }>> = {
  serve: {
    load: async () => (await import('./commands/serve.ts')).serve,
    summary: 'run the proxy (the default)',
  },
  check: {
    load: async () => (await import('./commands/check.ts')).check,
    summary: 'validate the config; exit 1 with every error',
  },
  status: {
    load: async () => (await import('./commands/status.ts')).status,
    summary: 'hosts, certificates and CA health of the running instance',
  },
  doctor: {
    load: async () => (await import('./commands/doctor.ts')).doctor,
    summary: 'is failover ready? exit 1 when a host depends on one CA alone',
  },
  drill: {
    load: async () => (await import('./commands/drill.ts')).drill,
    summary: 'rehearse a CA outage on the running instance, or --practice one',
  },
  'hash-password': {
    load: async () => (await import('./commands/hash-password.ts')).hashPasswordCommand,
    summary: 'the hash of a password, for basicAuth',
  },
  simulate: {
    load: async () => (await import('./commands/simulate.ts')).simulate,
    summary: 'play a CA outage over a fleet on a virtual clock',
  },
  certs: {
    load: async () => (await import('./commands/certs.ts')).certs,
    summary: 'list, export, import, renew or revoke certificates; roots; distrust a CA',
  },
}

const HELP = `Usage: holdfast COMMAND [options]

${Object.entries(COMMANDS)
  .map(([name, { summary }]) => `  ${name.padEnd(15)}${summary}`)
  .join('\n')}

Every command takes --help, and those that read a config --config FILE (default: proxy.config.json, or the HOLDFAST_*
environment).
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
  if (name === 'certs' && rest.includes('--help'))
    return print((await import('./commands/certs.ts')).CERTS_USAGE)
  if (name !== 'check' && rest.includes('--help')) return print(HELP)
  try {
    const run = await command.load()
    process.exitCode = await run(implicit ? argv : rest, process.env)
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
