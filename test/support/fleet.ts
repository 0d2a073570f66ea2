/** A renewer over simulated CAs and records on a virtual clock. */
import type { CaAccess } from '../../src/ca/authorities.ts'
import { CaHealth } from '../../src/ca/health.ts'
import { Ledger, type RateLimit } from '../../src/ca/ledger.ts'
import { Inventory } from '../../src/cert/inventory.ts'
import { Verdicts } from '../../src/cert/verdicts.ts'
import { VirtualClock } from '../../src/commands/simulate/virtual-clock.ts'
import { memoryRecords, SimulatedCa, simulatedTargets } from '../../src/commands/simulate/world.ts'
import { silentLog } from '../../src/log.ts'
import type { RenewalEvent } from '../../src/renew/fulfilment.ts'
import { Renewer, type RenewerOptions } from '../../src/renew/renewer.ts'
import type { Target } from '../../src/renew/task.ts'
import { DAY } from '../../src/time.ts'

export interface FleetOptions {
  readonly hosts?: readonly string[]
  readonly cas?: readonly string[]
  readonly standby?: Target['standby']
  readonly lifetimeMs?: number
  readonly limits?: Readonly<Record<string, readonly RateLimit[]>>
  /** Do the CAs keep renewals out of their limits? */
  readonly exemptsRenewals?: boolean
  readonly more?: Partial<RenewerOptions>
}

/** The same numbers at every run. */
export function seeded(seed = 1): () => number {
  let state = seed
  return () => {
    state = (state * 1_664_525 + 1_013_904_223) % 2 ** 32
    return state / 2 ** 32
  }
}

export function makeFleet(options: FleetOptions = {}) {
  const { hosts = ['app.example.com'], cas = ['a', 'b'], standby = 'off', lifetimeMs = 90 * DAY } = options
  const clock = (options.more?.clock as VirtualClock | undefined) ?? new VirtualClock()
  const random = seeded()
  const verdicts = new Verdicts()
  const inventory = new Inventory(clock, verdicts)
  const health = new CaHealth({ clock, random, log: silentLog(), onChange: () => renewer.wake() })
  const issuers = new Map(
    [...cas, 'internal'].map((id) => [id, new SimulatedCa({ id, lifetimeMs, clock, random })]),
  )
  const accesses = new Map<string, CaAccess>()
  for (const [id, issuer] of issuers) {
    health.add(issuer)
    accesses.set(id, {
      issuer,
      ledger: new Ledger(options.limits?.[id] ?? [], clock),
      exemptsRenewals: options.exemptsRenewals ?? false,
    })
  }
  const events: RenewalEvent[] = []
  const renewer = new Renewer({
    clock,
    random,
    log: silentLog(),
    records: memoryRecords(),
    inventory,
    verdicts,
    health,
    access: (ca) => accesses.get(ca),
    endOf: ({ notAfter }) => notAfter,
    warm: () => {},
    onEvent: (event) => events.push(event),
    onWish: () => {},
    ...options.more,
  })
  const targets = simulatedTargets(hosts, cas, standby)
  const ca = (id: string): SimulatedCa => {
    const found = issuers.get(id)
    if (found === undefined) throw new Error(`no CA ${id}`)
    return found
  }
  return { clock, inventory, verdicts, health, renewer, targets, events, ca }
}

/** An outage that began long ago and ends in a thousand years. */
export function outage(kind: '503' | 'hang' | '429') {
  return { start: 0, end: Date.parse('3000-01-01T00:00:00Z'), kind } as const
}
