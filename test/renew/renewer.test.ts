import t from 'tap'
import { generateKeyPem } from '../../src/cert/x509.ts'
import { VirtualClock } from '../../src/commands/simulate/virtual-clock.ts'
import { datesOnly, memoryRecords, type SimulatedCa } from '../../src/commands/simulate/world.ts'
import { IssueError } from '../../src/errors.ts'
import { DAY, HOUR, MINUTE, SECOND, sleep } from '../../src/time.ts'
import { makeFleet, outage } from '../support/fleet.ts'

const HOST = 'app.example.com'

t.test('a host without a certificate gets one from its first CA', async (t) => {
  const { clock, inventory, renewer, targets, events } = makeFleet()
  await renewer.load(targets)
  t.equal(inventory.find(HOST), undefined)
  renewer.start()
  await clock.advance(MINUTE)
  t.equal(inventory.find(HOST)?.source, 'a')
  t.match(events, [{ type: 'certificate.issued', host: HOST, role: 'live', ca: 'a' }])
  await renewer.stop()
})

for (const [name, standing] of [
  ['is down and would not have been asked', { first: 'a', second: 'b', down: 'b' }],
  ['is distrusted', { first: 'b', second: 'a', distrusted: 'b' }],
] as const)
  t.test(`nothing is told at an issuance of a CA that ${name}`, async (t) => {
    const { clock, renewer, targets, events, health, verdicts } = makeFleet()
    const { first, second } = standing
    if ('distrusted' in standing) verdicts.setDistrusted(standing.distrusted, true)
    else {
      const outage = new IssueError('CA_UNAVAILABLE', 'answered 503', { blame: 'ca', retry: 'now' })
      const admission = await health.admit(standing.down, new AbortController().signal)
      admission?.failed(outage)
    }
    await renewer.load(targets.map((target) => ({ ...target, cas: [first, second] })))
    renewer.start()
    await clock.advance(10 * SECOND)
    t.match(events, [{ type: 'certificate.issued', ca: 'a' }])
    t.same(
      events.map(({ refused }) => refused),
      [[]],
    )
    await renewer.stop()
  })

t.test('the second CA issues when the first is down, within a second of its answer', async (t) => {
  const { clock, inventory, renewer, targets, ca } = makeFleet()
  ca('a').outages = [outage('503')]
  await renewer.load(targets)
  renewer.start()
  await clock.advance(10 * SECOND)
  t.equal(inventory.find(HOST)?.source, 'b')
  const [asked] = ca('a').orderedAt
  const [answered] = ca('b').orderedAt
  t.ok((answered ?? 0) - (asked ?? 0) < SECOND)
  await renewer.stop()
})

/** Five hundred hosts whose certificates are this old, while `a` hangs; how long each waits before it is ordered from `b`. */
async function meetHangingCa(ageDays: number | undefined, { isProbed }: { readonly isProbed: boolean }) {
  const hosts = Array.from({ length: 500 }, (_, index) => `site${index}.example${index}.com`)
  const clock = new VirtualClock()
  const records = memoryRecords()
  if (ageDays !== undefined)
    for (const host of hosts) {
      const due = datesOnly('a', [host], clock.now() - ageDays * DAY, 90 * DAY, Math.random)
      await records.saveCertificate(host, 'live', due)
    }
  const begunAt = new Map<string, number>()
  const lock: typeof records.lock = (host, signal) => {
    begunAt.set(host, clock.now())
    return records.lock(host, signal)
  }
  const { health, inventory, renewer, targets, ca } = makeFleet({
    hosts,
    more: { clock, records: { ...records, lock } },
  })
  ca('a').outages = [outage('hang')]
  const triedBy: string[] = []
  const waits = new Map<string, number>()
  const [tryFirst, askSecond] = [ca('a').issue.bind(ca('a')), ca('b').issue.bind(ca('b'))]
  ca('a').issue = (request, signal) => {
    triedBy.push(request.names[0] ?? '')
    return tryFirst(request, signal)
  }
  ca('b').issue = (request, signal) => {
    const host = request.names[0] ?? ''
    waits.set(host, clock.now() - (begunAt.get(host) ?? 0))
    return askSecond(request, signal)
  }
  await renewer.load(targets)
  if (isProbed) health.start()
  renewer.start()
  await clock.advance(10 * MINUTE)
  health.stop()
  await renewer.stop()
  const served = hosts.filter((host) => inventory.find(host)?.source === 'b')
  return { served, orders: ca('b').orderedAt.length, triedBy, waits }
}

const sumOf = (all: Iterable<number>): number => [...all].reduce((sum, each) => sum + each, 0)

for (const [state, ageDays] of [
  ['without a certificate', undefined],
  ['with a certificate that is due', 80],
  ['with a certificate that has hours left', 89.5],
] as const) {
  t.test(`five hundred hosts ${state} wait for a CA that hangs less than 15 s together`, async (t) => {
    const { served, orders, triedBy, waits } = await meetHangingCa(ageDays, { isProbed: true })
    t.equal(served.length, 500)
    t.equal(orders, 500, 'and no order was placed twice')
    t.equal(triedBy.length, 1, 'one order alone finds that it hangs')
    const waitedMs = sumOf(waits.values())
    t.ok(waitedMs < 15 * SECOND, `${waitedMs} ms`)
  })

  t.test(`without probes, further ones of five hundred hosts ${state} find whether it is back`, async (t) => {
    const { served, orders, triedBy, waits } = await meetHangingCa(ageDays, { isProbed: false })
    t.equal(served.length, 500)
    t.equal(orders, 500, 'and no order was placed twice')
    // Trials after each pause: 30 s, 1 min, 2 min, 4 min. The first is the wait, each further one its own host's.
    t.ok(triedBy.length <= 5, `${triedBy.length} orders went to the CA that hangs`)
    for (const host of triedBy.slice(1)) {
      t.ok((waits.get(host) ?? 0) <= 8 * SECOND)
      waits.delete(host)
    }
    const waitedMs = sumOf(waits.values())
    t.ok(waitedMs < 15 * SECOND, `all others together: ${waitedMs} ms`)
  })
}

t.test('hosts that wait for a CA that hangs hold up none of another CA', async (t) => {
  const hosts = Array.from({ length: 30 }, (_, index) => `site.example${index}.com`)
  const { clock, inventory, renewer, targets, ca } = makeFleet({ hosts, cas: ['a', 'b'] })
  ca('a').outages = [outage('hang')]
  await renewer.load(targets.map((target, index) => ({ ...target, cas: [index < 29 ? 'a' : 'b'] })))
  renewer.start()
  await clock.advance(7 * SECOND)
  t.equal(inventory.find('site.example29.com')?.source, 'b')
  await renewer.stop()
})

t.test('hosts that have waited for a CA to be tried go to it side by side once it has issued', async (t) => {
  const hosts = Array.from({ length: 16 }, (_, index) => `site.example${index}.com`)
  const { clock, inventory, renewer, targets } = makeFleet({ hosts })
  await renewer.load(targets)
  renewer.start()
  await clock.advance(13 * SECOND)
  t.same(
    hosts.map((host) => inventory.find(host)?.source),
    hosts.map(() => 'a'),
  )
  await renewer.stop()
})

t.test('nobody gives up on a slow CA that is the last one left', async (t) => {
  const hosts = Array.from({ length: 10 }, (_, index) => `site.example${index}.com`)
  const { clock, inventory, renewer, targets, events, ca } = makeFleet({ hosts })
  ca('a').outages = [outage('503')]
  const slow = ca('b')
  const issue = slow.issue.bind(slow)
  slow.issue = async (request, signal) => {
    await sleep(clock, 20 * SECOND, signal)
    return issue(request, signal)
  }
  await renewer.load(targets)
  renewer.start()
  await clock.advance(MINUTE)
  t.equal(hosts.filter((host) => inventory.find(host)?.source === 'b').length, 10)
  t.notOk(events.some(({ type }) => type === 'certificate.failed'))
  await renewer.stop()
})

t.test('a 429 costs nothing but the asking', async (t) => {
  const hosts = Array.from({ length: 40 }, (_, index) => `site.example${index}.com`)
  const { clock, inventory, renewer, targets, ca } = makeFleet({ hosts })
  ca('a').outages = [outage('429')]
  await renewer.load(targets)
  renewer.start()
  await clock.advance(MINUTE)
  t.equal(hosts.filter((host) => inventory.find(host)?.source === 'b').length, 40)
  t.ok(ca('a').orderedAt.length <= 16, 'once several domains have heard it nobody asks any more')
  await renewer.stop()
})

t.test('certificates are renewed for ever, always before they end', async (t) => {
  const { clock, inventory, renewer, targets } = makeFleet({ lifetimeMs: 6 * DAY })
  await renewer.load(targets)
  renewer.start()
  await clock.advance(HOUR)
  for (let day = 0; day < 60; day++) {
    await clock.advance(DAY)
    t.ok((inventory.find(HOST)?.notAfter ?? 0) > clock.now() + DAY, `day ${day}`)
  }
  await renewer.stop()
})

t.test('a certificate that lives for seconds is renewed in time', async (t) => {
  const { clock, inventory, renewer, targets } = makeFleet({ lifetimeMs: 40 * SECOND })
  await renewer.load(targets)
  renewer.start()
  await clock.advance(10 * SECOND)
  for (let second = 0; second < 100; second++) {
    await clock.advance(SECOND)
    t.ok(inventory.find(HOST)?.isValidAt(clock.now()), `second ${second}`)
  }
  await renewer.stop()
})

t.test('a standby comes from another CA, and follows when the live one changes CA', async (t) => {
  const { clock, inventory, renewer, targets, ca } = makeFleet({ standby: 'always' })
  await renewer.load(targets)
  renewer.start()
  await clock.advance(MINUTE)
  const sources = (): (string | undefined)[] => {
    const { live, standby } = inventory.holding(HOST)
    return [live?.source, standby?.source]
  }
  t.same(sources(), ['a', 'b'])
  ca('a').outages = [{ ...outage('503'), end: clock.now() + 62 * DAY }]
  await clock.advance(61 * DAY)
  t.same(sources(), ['b', 'b'], 'the live one was renewed by the CA that is left')
  await clock.advance(2 * DAY)
  t.same(sources(), ['b', 'a'], 'and the standby comes from the other as soon as it is back')
  await renewer.stop()
})

t.test(
  'when every CA is down the host is asked for again, and gets its certificate when one is back',
  async (t) => {
    const { clock, inventory, renewer, targets, events, ca } = makeFleet()
    const end = clock.now() + 5 * HOUR
    for (const id of ['a', 'b']) ca(id).outages = [{ ...outage('503'), end }]
    await renewer.load(targets)
    renewer.start()
    await clock.advance(5 * HOUR)
    t.equal(inventory.find(HOST), undefined)
    t.equal(events[0]?.type, 'certificate.failed')
    await clock.advance(30 * MINUTE)
    t.ok(inventory.find(HOST))
    await renewer.stop()
  },
)

t.test(
  'after two weeks in which no CA issued, though all answered, a host has its certificate at once',
  async (t) => {
    const { clock, health, inventory, renewer, targets, ca } = makeFleet()
    for (const id of ['a', 'b']) {
      ca(id).outages = [{ start: 0, end: clock.now() + 14 * DAY, kind: '503' }]
      ca(id).probe = async () => {}
    }
    health.start()
    await renewer.load(targets)
    renewer.start()
    await clock.advance(14 * DAY)
    t.equal(inventory.find(HOST), undefined)
    await clock.advance(30 * MINUTE)
    t.ok(inventory.find(HOST))
    health.stop()
    await renewer.stop()
  },
)

t.test('the backoff of a host outlives a restart', async (t) => {
  const records = memoryRecords()
  const before = makeFleet({ more: { records } })
  for (const id of ['a', 'b']) before.ca(id).outages = [outage('503')]
  await before.renewer.load(before.targets)
  before.renewer.start()
  await before.clock.advance(5 * SECOND)
  await before.renewer.stop()
  const after = makeFleet({ more: { records, clock: before.clock } })
  await after.renewer.load(after.targets)
  after.renewer.start()
  await after.clock.advance(20 * SECOND)
  t.same(after.ca('a').orderedAt, [], 'still backing off')
  await after.clock.advance(2 * MINUTE)
  t.equal(after.ca('a').orderedAt.length, 1)
  await after.renewer.stop()
})

t.test('serving starts from the store, without asking a CA', async (t) => {
  const records = memoryRecords()
  const before = makeFleet({ more: { records } })
  await before.renewer.load(before.targets)
  before.renewer.start()
  await before.clock.advance(MINUTE)
  await before.renewer.stop()
  const after = makeFleet({ more: { records, clock: before.clock } })
  await after.renewer.load(after.targets)
  t.ok(after.inventory.find(HOST))
  t.same(after.ca('a').orderedAt, [])
})

t.test(
  'a host without a certificate is served by the internal CA where its policy allows, until the first is there',
  async (t) => {
    const { clock, inventory, renewer, targets } = makeFleet()
    const load = renewer.load(targets.map((target) => ({ ...target, interim: true })))
    await clock.advance(10 * SECOND)
    await load
    t.equal(inventory.find(HOST)?.source, 'internal')
    renewer.start()
    await clock.advance(MINUTE)
    t.equal(inventory.find(HOST)?.source, 'a')
    t.equal(inventory.holding(HOST).interim, undefined)
    await renewer.stop()
  },
)

t.test('what another process has put into the store is taken over instead of ordered', async (t) => {
  const records = memoryRecords()
  const [one, other] = [makeFleet({ more: { records } }), makeFleet({ more: { records } })]
  await one.renewer.load(one.targets)
  await other.renewer.load(other.targets)
  one.renewer.start()
  await one.clock.advance(MINUTE)
  await one.renewer.stop()
  other.renewer.start()
  await other.clock.advance(MINUTE)
  t.equal(other.inventory.find(HOST)?.fingerprint, one.inventory.find(HOST)?.fingerprint)
  t.same(other.ca('a').orderedAt, [])
  await other.renewer.stop()
})

t.test(
  'an urgent order that drags on is asked of a second CA as well, and its CA is left alone then',
  async (t) => {
    const { clock, health, inventory, renewer, targets, ca } = makeFleet()
    const started = clock.now()
    ca('a').issue = (_request, signal) =>
      new Promise((_resolve, reject) => signal.addEventListener('abort', () => reject(signal.reason)))
    await renewer.load(targets)
    renewer.start()
    await clock.advance(20 * SECOND)
    t.equal(inventory.find(HOST)?.source, 'b')
    t.equal((ca('b').orderedAt[0] ?? 0) - started, 5 * SECOND)
    t.equal(health.snapshot('a')?.state, 'down')
    await renewer.stop()
  },
)

t.test('orders at a CA are paced within its limits, the most urgent first', async (t) => {
  const hosts = Array.from({ length: 30 }, (_, index) => `site.example${index}.com`)
  const limits = { a: [{ scope: 'account', limit: 10, windowMs: 3 * HOUR }] } as const
  const { clock, inventory, renewer, targets, ca } = makeFleet({ hosts, cas: ['a'], limits })
  await renewer.load(targets)
  renewer.start()
  for (const [hours, expected] of [
    [1, 10],
    [3, 20],
    [3, 30],
  ] as const) {
    await clock.advance(hours * HOUR)
    t.equal(hosts.filter((host) => inventory.find(host)).length, expected)
  }
  t.equal(ca('a').orderedAt.length, 30)
  await renewer.stop()
})

t.test('orders that no certificate came of do not use up how many may be had', async (t) => {
  const limits = { a: [{ scope: 'names', limit: 2, windowMs: 7 * DAY }] } as const
  const { clock, inventory, renewer, targets, ca } = makeFleet({ cas: ['a'], limits })
  let failures = 0
  const issue = ca('a').issue.bind(ca('a'))
  // Its probes succeed all the while.
  ca('a').issue = (request, signal) => {
    if (failures++ >= 5) return issue(request, signal)
    throw new IssueError('CA_UNAVAILABLE', 'a: answered 503', { blame: 'ca', retry: 'now' })
  }
  await renewer.load(targets)
  renewer.start()
  await clock.advance(HOUR)
  t.ok(inventory.find(HOST))
  await renewer.stop()
})

t.test('a renewal by hand replaces the live certificate once', async (t) => {
  const { clock, inventory, renewer, targets, ca } = makeFleet()
  await renewer.load(targets)
  renewer.start()
  await clock.advance(MINUTE)
  const before = inventory.find(HOST)?.fingerprint
  t.equal(renewer.renewNow('unknown.example.com', 'live'), false)
  t.equal(renewer.renewNow(HOST, 'standby'), false, 'it has none')
  t.equal(renewer.renewNow(HOST, 'live'), true)
  await clock.advance(MINUTE)
  t.not(inventory.find(HOST)?.fingerprint, before)
  await clock.advance(DAY)
  t.equal(ca('a').orderedAt.length, 2)
  await renewer.stop()
})

t.test('a renewal by hand of the standby replaces it once, and nothing else', async (t) => {
  const { clock, inventory, renewer, targets, ca } = makeFleet({ standby: 'always' })
  await renewer.load(targets)
  renewer.start()
  await clock.advance(MINUTE)
  const before = inventory.holding(HOST)
  const { live, standby } = { ...before }
  t.equal(renewer.renewNow(HOST, 'standby'), true)
  await clock.advance(DAY)
  const after = inventory.holding(HOST)
  t.equal(after.live, live)
  t.not(after.standby?.fingerprint, standby?.fingerprint)
  t.same([ca('a').orderedAt.length, ca('b').orderedAt.length], [1, 2])
  await renewer.stop()
})

/** CAs that certify real keys, at most three fresh ones. Gives the keys that were asked for, in order; undefined: fresh. */
async function certifyKeys(...cas: SimulatedCa[]): Promise<(string | undefined)[]> {
  const fresh = await Promise.all([1, 2, 3].map(() => generateKeyPem('ecdsa-p256')))
  const asked: (string | undefined)[] = []
  for (const ca of cas) {
    const issue = ca.issue.bind(ca)
    ca.issue = async (request, signal) => {
      asked.push(request.keyPem)
      const keyPem = request.keyPem ?? fresh.pop()
      return Object.assign(await issue(request, signal), { keyPem })
    }
  }
  return asked
}

t.test('a key is kept at a renewal where that is wanted, and not shared with the standby', async (t) => {
  const { clock, inventory, renewer, targets, ca } = makeFleet({ standby: 'always' })
  const asked = await certifyKeys(ca('a'), ca('b'))
  await renewer.load(targets.map((target) => ({ ...target, reuseKey: true })))
  renewer.start()
  await clock.advance(MINUTE)
  const { live, standby } = { ...inventory.holding(HOST) }
  t.not(live?.keyPem, standby?.keyPem)
  renewer.renewNow(HOST, 'live')
  await clock.advance(MINUTE)
  t.same(asked, [undefined, undefined, live?.keyPem])
  await renewer.stop()
})

for (const [name, fault, keyType, reuseKey] of [
  ['unless it is asked for', undefined, 'ecdsa-p256', false],
  ['of another type', undefined, 'ecdsa-p384', true],
  ['of a certificate that is revoked', 'revoked', 'ecdsa-p256', true],
  ['of a certificate that its CA demands back', 'recalled', 'ecdsa-p256', true],
  ['that is compromised', 'compromised', 'ecdsa-p256', true],
] as const)
  t.test(`a key is not kept ${name}`, async (t) => {
    const { clock, inventory, renewer, targets, verdicts, ca } = makeFleet()
    const asked = await certifyKeys(ca('a'))
    await renewer.load(targets.map((target) => ({ ...target, keyType, reuseKey })))
    renewer.start()
    await clock.advance(MINUTE)
    const { live } = inventory.holding(HOST)
    if (live !== undefined && fault !== undefined) verdicts.condemn(live, fault)
    renewer.renewNow(HOST, 'live')
    await clock.advance(MINUTE)
    t.same(asked, [undefined, undefined])
    await renewer.stop()
  })

t.test('a reload keeps what stays, withdraws what goes, and orders what comes', async (t) => {
  const { clock, inventory, renewer, targets, ca } = makeFleet({
    hosts: ['stays.example.com', 'goes.example.com'],
  })
  await renewer.load(targets)
  renewer.start()
  await clock.advance(MINUTE)
  const kept = inventory.find('stays.example.com')
  const [first] = targets
  if (first === undefined) throw new Error('no target')
  await renewer.update([first, { ...first, host: 'comes.example.com' }])
  await clock.advance(MINUTE)
  t.equal(inventory.find('stays.example.com'), kept)
  t.equal(inventory.find('goes.example.com'), undefined)
  t.ok(inventory.find('comes.example.com'))
  t.equal(ca('a').orderedAt.length, 3)
  await renewer.stop()
})

for (const jumpMs of [HOUR, -HOUR, 30 * DAY, -30 * DAY]) {
  t.test(`renewals go on after the clock jumps by ${jumpMs / HOUR} h`, async (t) => {
    const { clock, inventory, renewer, targets, ca } = makeFleet({ lifetimeMs: 45 * DAY, standby: 'always' })
    await renewer.load(targets)
    renewer.start()
    await clock.advance(HOUR)
    ca('a').outages = [{ ...outage('503'), end: clock.now() + DAY }]
    clock.jump(jumpMs)
    for (let day = 0; day < 100; day++) {
      await clock.advance(DAY)
      if (day >= 31) t.ok(inventory.find(HOST)?.isValidAt(clock.now()), `day ${day}`)
    }
    await renewer.stop()
  })
}

t.test(
  'a certificate of an internal CA that was made by a clock that was ahead is replaced at once',
  async (t) => {
    const { clock, inventory, renewer, targets, ca } = makeFleet({ standby: 'always' })
    for (const id of ['a', 'b']) Object.assign(ca(id), { datesByOurClock: true })
    clock.jump(30 * DAY)
    await renewer.load(targets)
    renewer.start()
    await clock.advance(MINUTE)
    clock.jump(-30 * DAY)
    await clock.advance(2 * MINUTE)
    const { live, standby } = inventory.holding(HOST)
    t.ok(live?.isValidAt(clock.now()))
    t.ok(standby?.isValidAt(clock.now()))
    await renewer.stop()
  },
)

t.test('renewals that the CA does not take as such count against its limits', async (t) => {
  const account = 'https://ca.test/account'
  const limit = { scope: 'account', limit: 3, windowMs: HOUR } as const
  for (const isTaken of [true, false]) {
    const { clock, inventory, renewer, targets, ca } = makeFleet({
      cas: ['a'],
      limits: { a: [limit] },
      exemptsRenewals: true,
    })
    const issue = ca('a').issue.bind(ca('a'))
    ca('a').issue = async (request, signal) => {
      if (!isTaken && request.replaces !== undefined) request.onOrderedAnew?.()
      return Object.assign(await issue(request, signal), { ariId: 'an.id', account })
    }
    await renewer.load(targets)
    renewer.start()
    for (let renewals = 0; renewals < 2; renewals++) {
      await clock.advance(MINUTE)
      renewer.renewNow(HOST, 'live')
    }
    await clock.advance(MINUTE)
    t.equal(ca('a').orderedAt.length, 3)
    await renewer.update(targets.flatMap((target) => [target, { ...target, host: 'new.example.org' }]))
    await clock.advance(MINUTE)
    t.equal(inventory.find('new.example.org') !== undefined, isTaken)
    await renewer.stop()
  }
})

t.test('a host is proved to the next CA as it was to the last', async (t) => {
  const { clock, renewer, targets, ca } = makeFleet()
  const asked: unknown[] = []
  for (const id of ['a', 'b']) {
    const issue = ca(id).issue.bind(ca(id))
    ca(id).issue = async (request, signal) => {
      asked.push([id, ...request.challenges])
      return Object.assign(await issue(request, signal), { provedBy: 'tls-alpn-01' })
    }
  }
  await renewer.load(targets.map((target) => ({ ...target, challenges: ['http-01', 'tls-alpn-01'] })))
  renewer.start()
  await clock.advance(MINUTE)
  ca('a').outages = [outage('503')]
  renewer.renewNow(HOST, 'live')
  await clock.advance(MINUTE)
  t.same(asked, [
    ['a', 'http-01', 'tls-alpn-01'],
    ['a', 'tls-alpn-01', 'http-01'],
    ['b', 'tls-alpn-01', 'http-01'],
  ])
  await renewer.stop()
})

t.test('a host that has failed to prove itself for days tries one way at a time', async (t) => {
  const { clock, renewer, targets, ca } = makeFleet({ cas: ['a'] })
  const asked: string[] = []
  ca('a').issue = async ({ challenges }) => {
    asked.push(challenges.join(' '))
    throw new IssueError('DOMAIN_UNVALIDATED', 'a: failed', { blame: 'domain', retry: 'later' })
  }
  await renewer.load(targets.map((target) => ({ ...target, challenges: ['http-01', 'tls-alpn-01'] })))
  renewer.start()
  await clock.advance(4 * DAY)
  t.equal(asked[0], 'http-01 tls-alpn-01')
  t.same(asked.slice(-4).sort(), ['http-01', 'http-01', 'tls-alpn-01', 'tls-alpn-01'])
  await renewer.stop()
})

t.test('certificates that are due on arrival are not ordered one after the other', async (t) => {
  const { clock, inventory, renewer, targets, ca } = makeFleet({ lifetimeMs: 45 * DAY })
  // Its CA's clock is behind.
  ca('a').issue = async ({ names }) => {
    ca('a').orderedAt.push(clock.now())
    return datesOnly('a', names, clock.now() - 40 * DAY, 45 * DAY, Math.random)
  }
  await renewer.load(targets)
  renewer.start()
  await clock.advance(DAY)
  t.ok(inventory.find(HOST)?.isValidAt(clock.now()))
  t.match(renewer.statuses()[0]?.lastError, /is the clock of this machine right/)
  t.ok(ca('a').orderedAt.length < 15, `${ca('a').orderedAt.length} orders in a day`)
  await renewer.stop()
})

t.test('an open CA stays open while the clock ticks between two looks at it', async (t) => {
  const clock = new VirtualClock()
  let ticks = 0
  const now = clock.now.bind(clock)
  clock.now = () => now() + ticks++
  const { inventory, renewer, targets, ca } = makeFleet({ more: { clock } })
  ca('a').outages = [outage('503')]
  await renewer.load(targets)
  renewer.start()
  await clock.advance(10 * SECOND)
  t.equal(inventory.find(HOST)?.source, 'b')
  await renewer.stop()
})

t.test('a condemned live certificate is replaced at once', async (t) => {
  const { clock, inventory, renewer, targets, verdicts } = makeFleet({ standby: 'always' })
  await renewer.load(targets)
  renewer.start()
  await clock.advance(MINUTE)
  const { live, standby } = inventory.holding(HOST)
  if (live === undefined) throw new Error('nothing was issued')
  verdicts.condemn(live, 'revoked')
  t.equal(inventory.find(HOST), standby, 'meanwhile the standby is served')
  renewer.wake()
  await clock.advance(MINUTE)
  t.not(inventory.holding(HOST).live?.fingerprint, live?.fingerprint)
  t.equal(inventory.find(HOST), inventory.holding(HOST).live)
  await renewer.stop()
})

t.test('a distrusted CA is asked for nothing, and what it issued is replaced', async (t) => {
  const { clock, inventory, renewer, targets, verdicts, ca } = makeFleet({ standby: 'always' })
  await renewer.load(targets)
  renewer.start()
  await clock.advance(MINUTE)
  verdicts.setDistrusted('a', true)
  renewer.wake()
  await clock.advance(DAY)
  t.equal(inventory.holding(HOST).live?.source, 'b')
  t.equal(ca('a').orderedAt.length, 1)
  await renewer.stop()
})

t.test('a certificate whose chain ends before it is renewed before that', async (t) => {
  const endOf = ({ notBefore }: { notBefore: number }): number => notBefore + 30 * DAY
  const { clock, inventory, renewer, targets, ca } = makeFleet({ more: { endOf } })
  await renewer.load(targets)
  renewer.start()
  await clock.advance(MINUTE)
  const first = inventory.find(HOST)
  await clock.advance(18 * DAY)
  t.equal(inventory.find(HOST), first)
  await clock.advance(3 * DAY)
  t.not(inventory.find(HOST), first)
  t.equal(ca('a').orderedAt.length, 2)
  await renewer.stop()
})
