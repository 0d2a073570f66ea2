/** Files that the config names, as they are read (blocking) at a start and a reload, and what an operator is told when they cannot be. */
import { readFileSync } from 'node:fs'
import { ConfigError, messageOf } from '../errors.ts'

/** @throws Error whose message begins with the path */
export function readNamedFile(file: string): Buffer {
  try {
    return readFileSync(file)
  } catch (cause) {
    throw new Error(`${file}: cannot be read: ${messageOf(cause)}`, { cause })
  }
}

/** As text. @param key where the config names it @throws ConfigError */
export function readTextOf(key: string, file: string): string {
  try {
    return readFileSync(file, 'utf8')
  } catch (error) {
    throw new ConfigError([{ path: key, message: `cannot read ${file}: ${messageOf(error)}` }], {
      cause: error,
    })
  }
}
