/** By which time the commands judge certificates: the running instance's, which may know better than this machine. */
import type { ClockView } from '../../admin/views.ts'
import { AttestedClock } from '../../attested-clock.ts'
import type { Config } from '../../config/schema.ts'
import { type Clock, SystemClock } from '../../time.ts'
import { AdminClient } from '../admin-client.ts'

/** Asks the instance. Where none answers, it is the machine's clock. */
export async function clockOfInstance(config: Config): Promise<Clock> {
  const clock = new AttestedClock(new SystemClock())
  try {
    const { now } = await new AdminClient(config).get<ClockView>('/api/clock')
    const time = Date.parse(now)
    if (!Number.isNaN(time)) clock.adopt(time)
  } catch {
    // These commands work without an instance too, and whatever else may listen at its address.
  }
  return clock
}
