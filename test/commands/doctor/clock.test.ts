import t from 'tap'
import { checkClock } from '../../../src/commands/doctor/clock.ts'
import { DAY, HOUR, MINUTE } from '../../../src/time.ts'
import { wordsOf } from './words.ts'

const FIX = ' | fix: set it, and keep it right by NTP: `timedatectl set-ntp true`'

for (const [aheadMs, expected] of [
  [[], 'warn clock: not compared: no CA told the time | fix: run doctor again once a CA answers'],
  [[-500, MINUTE / 2], 'ok clock: agrees with the CAs'],
  [[30 * DAY, 1000], 'ok clock: agrees with the CAs'],
  [[5 * MINUTE, 6 * MINUTE], `warn clock: is 5m behind the CAs${FIX}`],
  [[-5 * MINUTE], `warn clock: is 5m ahead of the CAs${FIX}`],
  [[2 * HOUR, 3 * HOUR], `fail clock: is 2h behind the CAs${FIX}`],
] as const) {
  t.test(`CAs ahead by ${aheadMs.join(' and ')} ms`, async (t) =>
    t.equal(wordsOf(checkClock(aheadMs)), expected),
  )
}
