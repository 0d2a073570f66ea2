/** `holdfast certs`: what the store holds, out of it and into it; also while no instance runs and while every CA is down. */
import { readFileSync } from 'node:fs'
import { type ParseArgsOptionsConfig, parseArgs } from 'node:util'
import { distrustedOf } from '../config/cas.ts'
import { type LoadedConfig, loadChosenConfig } from '../config/load.ts'
import { normalizeHost } from '../config/schema.ts'
import { resolveCas } from '../config/sites.ts'
import { MINUTE, parseDuration } from '../time.ts'
import { changeAccount } from './certs/account.ts'
import { clockOfInstance } from './certs/clock.ts'
import { exported, rootOf, write } from './certs/export.ts'
import { importCertificate } from './certs/import.ts'
import { list } from './certs/list.ts'
import { renew, renewAll, revoke, setDistrusted } from './certs/orders.ts'
import { exportedRoots, pinRoots, showRoots, unpinRoots } from './certs/roots.ts'
import { withRecords } from './certs/store.ts'
import { type Command, UsageError } from './terminal.ts'

const OPTIONS = {
  config: { type: 'string', short: 'c' },
  json: { type: 'boolean', default: false },
  all: { type: 'boolean', default: false },
  role: { type: 'string' },
  reason: { type: 'string', default: 'unspecified' },
  out: { type: 'string', short: 'o' },
  format: { type: 'string', default: 'pem' },
  root: { type: 'string' },
  certificate: { type: 'string' },
  key: { type: 'string' },
  'passphrase-file': { type: 'string' },
} satisfies ParseArgsOptionsConfig

export const command: Command = {
  usage: `Usage: holdfast certs list [--json]
       holdfast certs export HOST [--role live|standby] [--out FILE] [--format pem|pkcs12] [--passphrase-file FILE]
                                  [--wait [DURATION]]   until there is a valid one; 5m when no duration is given
                                  without --role: the one that is served, which is the standby while the live one is bad
       holdfast certs export --root CA [--out FILE]
       holdfast certs import HOST --certificate FILE [--key FILE] [--passphrase-file FILE]
       holdfast certs renew HOST | --all [--role live|standby]
       holdfast certs revoke HOST [--role live|standby] [--reason unspecified|keyCompromise|superseded|cessationOfOperation]
       holdfast certs roots [pin CA | unpin CA | export [--all] [--out FILE]]
       holdfast certs distrust CA
       holdfast certs trust CA
       holdfast certs account CA rollover|deactivate

  -c, --config FILE  default: proxy.config.json, or the HOLDFAST_* environment; on every one of them
  -o, --out FILE     default: stdout`,
  options: OPTIONS,
  run: certs,
}

const ACTIONS = [
  'list',
  'export',
  'import',
  'renew',
  'revoke',
  'roots',
  'distrust',
  'trust',
  'account',
] as const
type Action = (typeof ACTIONS)[number]

const DEFAULT_WAIT_MS = 5 * MINUTE

type Values = ReturnType<typeof parse>['values']

async function certs(args: string[], env: NodeJS.ProcessEnv): Promise<number> {
  const { values, positionals, waitMs } = parse(args)
  const [action, ...operands] = positionals
  if (!isAction(action))
    throw new UsageError(`say what to do: certs ${ACTIONS.join(', ')} (see \`holdfast certs --help\`)`)
  const loaded = await loadChosenConfig(values.config, env)
  const [operand] = operands
  const { role = 'live' } = values
  switch (action) {
    case 'list':
      return withRecords(loaded, async (records) =>
        list(records, await clockOfInstance(loaded.config), values.json),
      )
    case 'export':
      return exportOne(loaded, operand, values, waitMs)
    case 'import':
      if (values.certificate === undefined)
        throw new UsageError('certs import: --certificate FILE is missing')
      return importCertificate(loaded, needHost(operand), {
        certificate: values.certificate,
        key: values.key,
        passphrase: passphraseOf(values),
      })
    case 'renew':
      return values.all ? renewAll(loaded, role) : renew(loaded, needHost(operand), role)
    case 'revoke':
      return revoke(loaded, needHost(operand), { role, reason: values.reason })
    case 'roots':
      return roots(loaded, operands, values)
    case 'distrust':
    case 'trust':
      return setDistrusted(loaded, operand, action === 'distrust')
    case 'account':
      return changeAccount(loaded, operands)
  }
}

function parse(args: string[]) {
  const { rest, waitMs } = takeWait(args)
  const { values, positionals } = parseArgs({ args: rest, allowPositionals: true, options: OPTIONS })
  return { values, positionals, waitMs }
}

/** `--wait` may go without its duration, which parseArgs knows not. */
function takeWait(args: readonly string[]): { rest: string[]; waitMs: number | undefined } {
  const index = args.findIndex((word) => word === '--wait' || word.startsWith('--wait='))
  if (index < 0) return { rest: [...args], waitMs: undefined }
  const [, attached] = (args[index] ?? '').split('=')
  const waitMs = parseDuration(attached ?? args[index + 1] ?? '')
  if (attached !== undefined && waitMs === undefined)
    throw new UsageError(`--wait: "${attached}" is not a duration: write "30s", "5m" or "1h"`)
  const words = attached === undefined && waitMs !== undefined ? 2 : 1
  return { rest: args.toSpliced(index, words), waitMs: waitMs ?? DEFAULT_WAIT_MS }
}

function isAction(text: string | undefined): text is Action {
  return ACTIONS.some((action) => action === text)
}

function exportOne(
  loaded: LoadedConfig,
  operand: string | undefined,
  values: Values,
  waitMs: number | undefined,
): Promise<number> {
  const { role, format, root, out } = values
  return withRecords(loaded, async (records) => {
    const content =
      root === undefined
        ? await exported(records, () => clockOfInstance(loaded.config), needHost(operand), {
            role,
            format,
            passphrase: passphraseOf(values),
            waitMs,
            distrusted: distrustedOf(resolveCas(loaded.config)),
          })
        : await rootOf(records, root)
    write(out, content)
    return 0
  })
}

function roots(loaded: LoadedConfig, [verb, ca]: readonly string[], { all, out }: Values): Promise<number> {
  return withRecords(loaded, async (records) => {
    if (verb === undefined) return showRoots(loaded, records)
    if (verb === 'export') {
      write(out, await exportedRoots(loaded, records, all))
      return 0
    }
    if (verb !== 'pin' && verb !== 'unpin')
      throw new UsageError(`certs roots ${verb}: there are pin, unpin, export`)
    if (ca === undefined) throw new UsageError('say which CA (see `holdfast certs --help`)')
    return verb === 'pin' ? pinRoots(loaded, records, ca) : unpinRoots(loaded, records, ca)
  })
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
