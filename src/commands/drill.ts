/**
 * `holdfast drill`: rehearses a CA outage. On the running instance by its admin API, which restores everything when the
 * time is over, at Ctrl-C, and when this program is gone; or with `--practice` on an instance of its own.
 */
import { type ParseArgsOptionsConfig, parseArgs } from 'node:util'
import type { DrillLine, DrillReport } from '../admin/drill.ts'
import { OUTAGES, type Outage } from '../ca/rehearsal.ts'
import { loadChosenConfig } from '../config/load.ts'
import { parseDuration, SECOND } from '../time.ts'
import { AdminClient, AdminRefusedError } from './admin-client.ts'
import { practise } from './drill/practice.ts'
import { describeLine, describeReport } from './drill/story.ts'
import { type Command, print, UsageError } from './terminal.ts'

const DEFAULT_LENGTH = '10m'

/** What a practice, on CAs of its own, has no use for. */
const NOT_FOR_PRACTICE = ['ca', 'for', 'canary'] as const

const OPTIONS = {
  config: { type: 'string', short: 'c' },
  ca: { type: 'string' },
  mode: { type: 'string', default: '503' },
  for: { type: 'string' },
  canary: { type: 'string' },
  practice: { type: 'boolean', default: false },
  json: { type: 'boolean', default: false },
} satisfies ParseArgsOptionsConfig

export const command: Command = {
  usage: `Usage: holdfast drill --ca NAME [--mode MODE] [--for DURATION] [--canary HOST|none] [--config FILE] [--json]
       holdfast drill --practice [--mode MODE] [--json]

Rehearses the outage of a CA on the running instance, which treats it as failing; no live certificate is touched. At the
end of its time, or at Ctrl-C, everything is restored.

  --ca NAME          which CA fails
  --mode MODE        how it fails: ${OUTAGES.join(', ')}; default: 503
  --for DURATION     how long, such as 90s; default: ${DEFAULT_LENGTH}
  --canary HOST      whose standby is ordered anew as a trial, at the cost of one certificate; default: the first host
                     that fits; none: no host
  --practice         on an instance and with two CAs of its own, which end with it
  -c, --config FILE  that of the instance; default: proxy.config.json, or the HOLDFAST_* environment
  --json             the report, for programs

Exit code 0 when no host would have been lost and every order came to a certificate, else 1; 2 when the drill is refused.`,
  options: OPTIONS,
  run: drill,
}

/** @returns 0 when no host would have been lost and every order came to a certificate, the canary's too; else 1 */
async function drill(args: string[], env: NodeJS.ProcessEnv): Promise<number> {
  const { values } = parseArgs({ args, options: OPTIONS })
  const outage = readOutage(values.mode)
  if (values.practice) {
    const idle = NOT_FOR_PRACTICE.find((name) => values[name] !== undefined)
    if (idle !== undefined)
      throw new UsageError(`--practice has CAs and a story of its own: leave --${idle} out`)
    return practise(outage, values.json)
  }
  if (values.ca === undefined) throw new UsageError('say which CA fails: --ca NAME, or --practice')
  const length = values.for ?? DEFAULT_LENGTH
  const forMs = parseDuration(length)
  if (forMs === undefined || forMs < SECOND) throw new UsageError(`--for ${length}: write 90s or 10m`)
  const { config } = await loadChosenConfig(values.config, env)
  const parameters = new URLSearchParams({ ca: values.ca, mode: outage, forMs: String(forMs) })
  if (values.canary !== undefined) parameters.set('canary', values.canary)
  const report = await follow(new AdminClient(config), parameters, values.json ? () => {} : print)
  if (values.json) print(JSON.stringify(report, undefined, 2))
  return report.lost.length + report.failed.length === 0 ? 0 : 1
}

/**
 * Tells the drill as it goes. The first Ctrl-C ends it with its report; a second one does not wait for that.
 * @throws UsageError when the instance refuses the drill: another exit code than that of a host that would be lost
 */
async function follow(
  admin: AdminClient,
  parameters: URLSearchParams,
  tell: (text: string) => void,
): Promise<DrillReport> {
  const onInterrupt = (): void => {
    process.once('SIGINT', () => process.exit(130))
    admin.post('/api/drill/end').catch(() => process.exit(130))
  }
  process.once('SIGINT', onInterrupt)
  process.once('SIGTERM', onInterrupt)
  try {
    let startedAt = 0
    for await (const line of admin.postForLines<DrillLine>(`/api/drill?${parameters}`)) {
      if (line.type === 'drill.started') startedAt = Date.parse(line.at)
      if (line.type === 'drill.ended') {
        tell(describeReport(line.report))
        return line.report
      }
      tell(describeLine(line, startedAt))
    }
  } catch (error) {
    if (error instanceof AdminRefusedError && error.status === 409) throw new UsageError(error.reason)
    throw error
  } finally {
    process.off('SIGINT', onInterrupt)
    process.off('SIGTERM', onInterrupt)
  }
  throw new Error('the instance ended the connection: it restores the CA by itself, or with its next start')
}

function readOutage(text: string): Outage {
  const outage = OUTAGES.find((each) => each === text)
  if (outage === undefined) throw new UsageError(`--mode ${text}: there are ${OUTAGES.join(', ')}`)
  return outage
}
