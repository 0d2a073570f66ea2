/** A log that keeps its lines, with everything that pino would say. */
import pino from 'pino'
import type { Log } from '../../src/log.ts'

export interface Line {
  readonly level: number
  readonly msg: string
  readonly [field: string]: unknown
}

export interface MemoryLog {
  readonly log: Log
  readonly lines: readonly Line[]
  warnings(): Line[]
}

export function memoryLog(): MemoryLog {
  const lines: Line[] = []
  const log = pino({ level: 'trace', base: null }, { write: (line) => lines.push(JSON.parse(line)) })
  return { log, lines, warnings: () => lines.filter((line) => line.level === pino.levels.values.warn) }
}
