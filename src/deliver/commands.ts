/**
 * The commands that tell other programs of their new certificates: each once for all that changed together, and again,
 * ever more rarely, until it succeeds. Receives deliveries whose files have changed from `deliveries.ts`.
 */
import type { Delivery } from '../config/deliver.ts'
import { messageOf } from '../errors.ts'
import type { Log } from '../log.ts'
import { runProgram } from '../program.ts'
import { backoffMs, type Clock, HOUR, MINUTE, withDeadline } from '../time.ts'
import { markDone } from './files.ts'

export interface CommandsOptions {
  readonly clock: Clock
  readonly random: () => number
  readonly log: Log
  /** What commands may inherit from. */
  readonly environment: NodeJS.ProcessEnv
}

interface Due {
  readonly command: readonly string[]
  readonly limitMs: number
  readonly deliveries: Set<Delivery>
  failures: number
  /** On the monotonic clock. */
  notBefore: number
}

export class Commands {
  readonly #options: CommandsOptions
  /** By command: programs and arguments that are the same run once. */
  readonly #due = new Map<string, Due>()

  constructor(options: CommandsOptions) {
    this.#options = options
  }

  /** What changed is to be told: also by a command that failed and would wait otherwise. */
  add(delivery: Delivery): void {
    const { command, commandLimitMs: limitMs } = delivery
    if (command === undefined) return
    const key = JSON.stringify(command)
    const due = this.#due.get(key) ?? { command, limitMs, deliveries: new Set(), failures: 0, notBefore: 0 }
    due.deliveries.add(delivery)
    due.notBefore = 0
    this.#due.set(key, due)
  }

  /** Forgets what is due: the files remember it. */
  clear(): void {
    this.#due.clear()
  }

  /** Runs what is due, one after another. Never rejects. */
  async runDue(isStopped: () => boolean): Promise<void> {
    for (const [key, due] of this.#due) {
      if (isStopped()) return
      if (due.notBefore > this.#options.clock.monotonic()) continue
      if (await this.#run(due)) this.#due.delete(key)
    }
  }

  async #run(due: Due): Promise<boolean> {
    const { clock, environment, log, random } = this.#options
    const { command, limitMs } = due
    const hosts = [...new Set([...due.deliveries].map(({ host }) => host))]
    const variables = { HOLDFAST_HOSTS: hosts.join(' ') }
    try {
      const output = await withDeadline(clock, limitMs, 'it', undefined, (signal) =>
        runProgram(command, { environment, variables, signal }),
      )
      for (const delivery of due.deliveries) await markDone(delivery)
      log.debug({ command, hosts, output }, `ran ${command.join(' ')}`)
      return true
    } catch (error) {
      due.failures++
      due.notBefore = clock.monotonic() + backoffMs(due.failures, MINUTE, HOUR, random)
      const level = due.failures === 1 ? 'warn' : 'debug'
      log[level](
        { command, hosts, failures: due.failures },
        `${command.join(' ')} failed, and is tried again: ${messageOf(error)}. The new files are in place`,
      )
      return false
    }
  }
}
