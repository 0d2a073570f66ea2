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
  /** Resolves with the first line, logged before or later, that is wanted. */
  logged(isWanted: (line: Line) => boolean): Promise<Line>
}

export function memoryLog(): MemoryLog {
  const lines: Line[] = []
  const waiting = new Set<(line: Line) => void>()
  const write = (text: string): void => {
    const line = JSON.parse(text)
    lines.push(line)
    for (const look of waiting) look(line)
  }
  const log = pino({ level: 'trace', base: null }, { write })
  return {
    log,
    lines,
    warnings: () => lines.filter((line) => line.level === pino.levels.values.warn),
    logged: (isWanted) =>
      new Promise((resolve) => {
        const look = (line: Line): void => {
          if (!isWanted(line)) return
          waiting.delete(look)
          resolve(line)
        }
        waiting.add(look)
        for (const line of lines) look(line)
      }),
  }
}
