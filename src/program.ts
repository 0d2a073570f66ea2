/**
 * Runs a program of the operator's: no shell, a time limit by signal, and an environment without our secrets. Serves
 * `notify/` and `deliver/`.
 */
import { spawn } from 'node:child_process'
import { once } from 'node:events'

export interface ProgramOptions {
  /** Our own environment: the program inherits what it needs to find its way, and no more. */
  readonly environment: NodeJS.ProcessEnv
  /** What it is told besides. */
  readonly variables: Readonly<Record<string, string>>
  /** Its standard input. */
  readonly input?: string
  readonly signal: AbortSignal
}

/** Holdfast's own environment holds the secrets of its config. */
const INHERITED = ['PATH', 'HOME', 'LANG', 'TZ', 'TMPDIR']
/** Of what it writes to standard error, for the error's message. */
const COMPLAINT_LENGTH = 300
const OUTPUT_LENGTH = 4000

/**
 * Resolves with the first 4,000 characters that it wrote. Rejects when it cannot be started, or ends with another code
 * than 0; kills it, with all that it started, when the signal aborts.
 *
 * @param command program and arguments
 */
export async function runProgram(command: readonly string[], options: ProgramOptions): Promise<string> {
  const { environment, variables, input = '', signal } = options
  signal.throwIfAborted()
  const [program = '', ...args] = command
  const child = spawn(program, args, {
    detached: true,
    stdio: ['pipe', 'pipe', 'pipe'],
    env: { ...inheritedFrom(environment), ...variables },
  })
  const kill = (): void => killGroup(child.pid)
  signal.addEventListener('abort', kill, { once: true })
  try {
    let output = ''
    let complaint = ''
    child.stdout.setEncoding('utf8').on('data', (text: string) => {
      output = (output + text).slice(0, OUTPUT_LENGTH)
    })
    child.stderr.setEncoding('utf8').on('data', (text: string) => {
      output = (output + text).slice(0, OUTPUT_LENGTH)
      complaint = (complaint + text).slice(0, COMPLAINT_LENGTH)
    })
    // A program need not read what it is told.
    child.stdin.on('error', () => {})
    child.stdin.end(input)
    const [code, killedBy] = (await once(child, 'close')) as [number | null, string | null]
    if (code !== 0) throw new Error(`ended with ${code ?? killedBy}: ${complaint.trim()}`)
    return output
  } finally {
    signal.removeEventListener('abort', kill)
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
