/** A command: gets the message as JSON on its standard input, and its main parts in the environment. */
import { caOf, hostOf } from '../events.ts'
import { runProgram } from '../program.ts'
import type { Message } from './message.ts'

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
  const input = `${JSON.stringify(message)}\n`
  await runProgram(command, { environment, variables: variablesOf(message), input, signal })
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
