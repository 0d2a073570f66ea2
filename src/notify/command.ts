/**
 * A command: gets the message as JSON on its standard input, and its main parts in the environment. No shell is
 * involved, and nothing from outside becomes an argument.
 */
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { caOf, hostOf } from '../events.ts'
import type { Message } from './message.ts'

/** What a program needs to find its way; Holdfast's own environment holds the secrets of its config. */
const INHERITED = ['PATH', 'HOME', 'LANG', 'TZ', 'TMPDIR']
/** Of what it writes to standard error, for the log. */
const COMPLAINT_LENGTH = 300

/**
 * Runs the command once. Rejects when it cannot be started, or ends with another code than 0; kills it, with all that it
 * started, when the signal aborts.
 */
export async function run(
  command: readonly string[],
  message: Message,
  environment: NodeJS.ProcessEnv,
  signal: AbortSignal,
): Promise<void> {
  const [program = '', ...args] = command
  const child = spawn(program, args, {
    detached: true,
    stdio: ['pipe', 'ignore', 'pipe'],
    env: { ...inheritedFrom(environment), ...variablesOf(message) },
  })
  const kill = (): void => killGroup(child.pid)
  signal.addEventListener('abort', kill, { once: true })
  try {
    let complaint = ''
    child.stderr.setEncoding('utf8').on('data', (text: string) => {
      complaint = (complaint + text).slice(0, COMPLAINT_LENGTH)
    })
    // A command need not read what it is told.
    child.stdin.on('error', () => {})
    child.stdin.end(`${JSON.stringify(message)}\n`)
    const [code, killedBy] = (await once(child, 'close')) as [number | null, string | null]
    if (code !== 0) throw new Error(`ended with ${code ?? killedBy}: ${complaint.trim()}`)
  } finally {
    signal.removeEventListener('abort', kill)
  }
}

function variablesOf({ type, at, title, text, count, hosts, event }: Message): Record<string, string> {
  return {
    HOLDFAST_EVENT: type,
    HOLDFAST_AT: at,
    HOLDFAST_TITLE: title,
    HOLDFAST_TEXT: text,
    HOLDFAST_COUNT: String(count),
    HOLDFAST_HOST: hostOf(event) ?? '',
    HOLDFAST_HOSTS: hosts.join(' '),
    HOLDFAST_CA: caOf(event) ?? '',
  }
}

function inheritedFrom(environment: NodeJS.ProcessEnv): NodeJS.ProcessEnv {
  return Object.fromEntries(INHERITED.map((name) => [name, environment[name]]))
}

function killGroup(pid: number | undefined): void {
  if (pid === undefined) return
  try {
    process.kill(-pid, 'SIGKILL')
  } catch {
    // It has ended already.
  }
}
