/** Who waits for a CA that nobody knows about, and for how long. */
import t from 'tap'
import type { Certificate } from '../../src/cert/certificate.ts'
import { VirtualClock } from '../../src/commands/simulate/virtual-clock.ts'
import { datesOnly, memoryRecords, type SimulatedCa } from '../../src/commands/simulate/world.ts'
import { IssueError } from '../../src/errors.ts'
import { type Cancel, DAY, MINUTE, SECOND, sleep } from '../../src/time.ts'
import { makeFleet, seeded } from '../support/fleet.ts'

const HOSTS = ['one', 'two', 'three'].map((name) => `${name}.example.com`)

/** As the system's: its timers count whole milliseconds, and run up to two of them before their time. */
class HastyClock extends VirtualClock {
  override after(delayMs: number, task: () => void): Cancel {
    return super.after(delayMs - 1.5, task)
  }
}

/** Orders come to an end only after so long. */
function slow(ca: SimulatedCa, clock: VirtualClock, delayMs: number, end: 'issues' | 'fails'): void {
  const issue = ca.issue.bind(ca)
  ca.issue = async (request, signal) => {
    await sleep(clock, delayMs, signal)
    if (end === 'issues') return issue(request, signal)
    throw new IssueError('CA_TIMEOUT', `${ca.id}: did not answer`, { blame: 'ca', retry: 'now' })
  }
}

function due(host: string, clock: VirtualClock): Certificate {
  return datesOnly('a', [host], clock.now() - 70 * DAY, 90 * DAY, seeded())
}

t.test('patience ends though timers run before their time', async (t) => {
  const clock = new HastyClock()
  const records = memoryRecords()
  for (const host of HOSTS) await records.saveCertificate(host, 'live', due(host, clock))
  const { renewer, targets, ca } = makeFleet({ hosts: HOSTS, more: { clock, records } })
  slow(ca('a'), clock, 100 * SECOND, 'fails')
  await renewer.load(targets)
  renewer.start()
  await clock.advance(25 * SECOND)
  t.equal(ca('b').issued.length, 2, 'but the one that finds out')
  await renewer.stop()
})

t.test('who waits for the second CA goes to the first once that has issued', async (t) => {
  const { clock, inventory, renewer, targets, ca } = makeFleet({ hosts: HOSTS })
  slow(ca('a'), clock, 30 * SECOND, 'issues')
  slow(ca('b'), clock, 100 * SECOND, 'fails')
  await renewer.load(targets)
  renewer.start()
  await clock.advance(MINUTE + 15 * SECOND)
  t.equal(inventory.find(HOSTS[0] ?? '')?.source, 'a')
  t.equal(inventory.find(HOSTS[2] ?? '')?.source, 'a')
  await renewer.stop()
})

t.test(
  'an order that comes to nothing before its CA is asked has one other host planned, not all',
  async (t) => {
    const hosts = Array.from({ length: 200 }, (_, index) => `site.example${index}.com`)
    const clock = new VirtualClock()
    const lock = async () => {
      throw new Error('the store is gone')
    }
    const { renewer, targets, events } = makeFleet({
      hosts,
      more: { clock, records: { ...memoryRecords(), lock } },
    })
    let plans = 0
    const counted = targets.map((target) =>
      Object.defineProperty({ ...target }, 'cas', {
        get: () => {
          plans++
          return target.cas
        },
      }),
    )
    await renewer.load(counted)
    renewer.start()
    await clock.advance(SECOND)
    t.equal(events.length, hosts.length, 'each has been tried')
    t.ok(plans < 20 * hosts.length, `${plans} looks at CAs`)
    await renewer.stop()
  },
)

for (const cas of [['a', 'b'], ['a']])
  t.test(
    `a host that another process has locked holds up no others of CA ${cas.join(' and ')}`,
    async (t) => {
      const hosts = Array.from({ length: 30 }, (_, index) => `site.example${index}.com`)
      const clock = new VirtualClock()
      const records = memoryRecords()
      for (const host of hosts) await records.saveCertificate(host, 'live', due(host, clock))
      const locked: string[] = []
      const lock: typeof records.lock = async (host, signal) => {
        locked.push(host)
        if (host === locked[0]) await sleep(clock, 2 * MINUTE, signal)
        return records.lock(host, signal)
      }
      const { renewer, targets, ca } = makeFleet({
        hosts,
        cas,
        more: { clock, records: { ...records, lock } },
      })
      await renewer.load(targets)
      renewer.start()
      await clock.advance(MINUTE)
      t.equal(ca('a').issued.length, hosts.length - 1)
      await renewer.stop()
    },
  )
