/** What commands share in talking to people: aligned tables, colours only on a terminal, one clear line for an error. */
import { type ParseArgsOptionsConfig, styleText } from 'node:util'
import { ConfigError, messageOf } from '../errors.ts'

/** What `cli.ts` runs, and shows at `--help`. */
export interface Command {
  /** Names every option. */
  readonly usage: string
  readonly options: ParseArgsOptionsConfig
  /** @param args after the command's name @returns the exit code */
  readonly run: (args: string[], env: NodeJS.ProcessEnv) => Promise<number>
}

type Style = Parameters<typeof styleText>[0]

/** Columns as wide as their widest cell; the header in bold. Lines end without spaces. */
export function table(header: readonly string[], rows: readonly (readonly string[])[]): string {
  const widths = header.map((title, column) =>
    Math.max(title.length, ...rows.map((row) => row[column]?.length ?? 0)),
  )
  const line = (cells: readonly string[]): string =>
    cells
      .map((cell, column) => cell.padEnd(widths[column] ?? 0))
      .join('  ')
      .trimEnd()
  return [paint('bold', line(header)), ...rows.map(line)].join('\n')
}

/** Colours where stdout is a terminal and NO_COLOR is not set. */
export function paint(style: Style, text: string): string {
  return styleText(style, text, { stream: process.stdout })
}

export function print(text: string): void {
  process.stdout.write(`${text}\n`)
}

/** `1 host`, `2 hosts`. */
export function count(number: number, noun: string): string {
  return `${number} ${noun}${number === 1 ? '' : 's'}`
}

/** Every problem of a `ConfigError`, or the one line of any other error, on stderr. */
export function complain(error: unknown): void {
  const lines = error instanceof ConfigError ? error.message.split('\n') : [messageOf(error)]
  for (const line of lines) process.stderr.write(`holdfast: ${line}\n`)
}

/** Thrown for words on the command line that do not fit: printed as one line, exit code 2. */
export class UsageError extends Error {
  override name = 'UsageError'
}
