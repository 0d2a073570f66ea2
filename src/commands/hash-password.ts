/** `holdfast hash-password`: the hash of a password for `basicAuth`, from a prompt without echo or from stdin. */
import { createInterface } from 'node:readline/promises'
import { Writable } from 'node:stream'
import { text } from 'node:stream/consumers'
import { parseArgs } from 'node:util'
import { hashPassword } from '../password.ts'
import { type Command, print, UsageError } from './terminal.ts'

export const command: Command = {
  usage: `Usage: holdfast hash-password

Asks for a password, or reads the first line of stdin, and prints its hash for \`basicAuth\`.`,
  options: {},
  run: hashPasswordCommand,
}

async function hashPasswordCommand(args: string[]): Promise<number> {
  parseArgs({ args, options: {} })
  const password = process.stdin.isTTY ? await ask() : firstLine(await text(process.stdin))
  if (password === '') throw new UsageError('the password is empty: type it, or send it on stdin')
  print(await hashPassword(password))
  return 0
}

async function ask(): Promise<string> {
  const silent = new Writable({ write: (_chunk, _encoding, done) => done() })
  const terminal = createInterface({ input: process.stdin, output: silent, terminal: true })
  const question = async (prompt: string): Promise<string> => {
    process.stderr.write(prompt)
    const answer = await terminal.question('')
    process.stderr.write('\n')
    return answer
  }
  try {
    const password = await question('Password: ')
    if (password !== '' && (await question('Again: ')) !== password)
      throw new UsageError('the two passwords differ')
    return password
  } finally {
    terminal.close()
  }
}

function firstLine(input: string): string {
  return input.split(/\r?\n/, 1)[0] ?? ''
}
