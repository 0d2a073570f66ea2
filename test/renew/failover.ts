/**
 * Five thousand hosts whose first CA is gone, each with a certificate that is due, and a second CA with a rate limit. A
 * worker thread of `failover.test.ts`, as `promises.ts` is: posts what came of it.
 */
import { parentPort } from 'node:worker_threads'
import { VirtualClock } from '../../src/commands/simulate/virtual-clock.ts'
import { datesOnly, memoryRecords } from '../../src/commands/simulate/world.ts'
import { DAY, HOUR } from '../../src/time.ts'
import { makeFleet, outage, seeded } from '../support/fleet.ts'

export const HOSTS = 5000
export const LIMIT = { scope: 'account', limit: 300, windowMs: 3 * HOUR } as const

export interface Outcome {
  /** Hosts with a certificate of the second CA. */
  readonly served: number
  readonly orders: number
  readonly mostInAWindow: number
  /** How many hosts with more time left, at the most, came before one. */
  readonly mostOvertaking: number
}

async function fail(): Promise<Outcome> {
  const hosts = Array.from({ length: HOSTS }, (_, index) => `site${index}.example${index}.com`)
  const clock = new VirtualClock()
  const records = memoryRecords()
  const random = seeded(7)
  const lifetimeMs = 45 * DAY
  const ends = new Map<string, number>()
  for (const host of hosts) {
    const notBefore = clock.now() - lifetimeMs + (3 + 11 * random()) * DAY
    await records.saveCertificate(host, 'live', datesOnly('a', [host], notBefore, lifetimeMs, random))
    ends.set(host, notBefore + lifetimeMs)
  }
  const { inventory, renewer, targets, ca } = makeFleet({
    hosts,
    lifetimeMs,
    limits: { b: [LIMIT] },
    more: { clock, records },
  })
  ca('a').outages = [outage('503')]
  await renewer.load(targets)
  renewer.start()
  // As long as the limit makes it take.
  await clock.advance((HOSTS / LIMIT.limit) * LIMIT.windowMs)
  await renewer.stop()
  const { orderedAt, issued } = ca('b')
  const windows = orderedAt.map(
    (at, index) =>
      orderedAt.slice(index, index + 2 * LIMIT.limit).filter((other) => other < at + LIMIT.windowMs).length,
  )
  const order = issued.map(({ names: [host = ''] }) => ends.get(host) ?? 0)
  const overtaking = order.map((end, index) => order.slice(0, index).filter((before) => before > end).length)
  return {
    served: hosts.filter((host) => inventory.find(host)?.source === 'b').length,
    orders: orderedAt.length,
    mostInAWindow: Math.max(...windows),
    mostOvertaking: Math.max(...overtaking),
  }
}

if (parentPort !== null) {
  Error.stackTraceLimit = 0
  parentPort.postMessage(await fail())
}
