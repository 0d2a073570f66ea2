/** Findings as one text each, for tests that read them. */
import type { HostFinding } from '../../../src/commands/doctor/examination.ts'

/** `fail CAA (a): … | fix: …` */
export function wordsOf({ check, verdict, says, fix, ca }: HostFinding): string {
  const subject = ca === undefined ? check : `${check} (${ca})`
  return `${verdict} ${subject}: ${says}${fix === undefined ? '' : ` | fix: ${fix}`}`
}
