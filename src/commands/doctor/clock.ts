/** Is our clock right? By what the CAs say. Pure. */
import { formatDuration, HOUR, MINUTE } from '../../time.ts'
import { type Finding, fail, ok, warn } from './finding.ts'

/** Answers take seconds and Date has whole ones; below this nothing is known to go wrong. */
const TOLERANCE_MS = MINUTE
/** CAs date certificates back by so much: past it, fresh ones look as if they were not valid yet. */
const HARM_MS = HOUR

/** One CA that agrees with us outweighs any that do not. @param aheadMs how far each CA's clock is ahead of ours */
export function checkClock(aheadMs: readonly number[]): Finding {
  const [nearest] = [...aheadMs].sort((a, b) => Math.abs(a) - Math.abs(b))
  if (nearest === undefined)
    return warn('clock', 'not compared: no CA told the time', 'run doctor again once a CA answers')
  const offMs = Math.abs(nearest)
  if (offMs <= TOLERANCE_MS) return ok('clock', 'agrees with the CAs')
  const says = `is ${formatDuration(offMs)} ${nearest > 0 ? 'behind' : 'ahead of'} the CAs`
  const fix = 'set it, and keep it right by NTP: `timedatectl set-ntp true`'
  return offMs > HARM_MS ? fail('clock', says, fix) : warn('clock', says, fix)
}
