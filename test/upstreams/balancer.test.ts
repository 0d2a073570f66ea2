import t from 'tap'
import { VirtualClock } from '../../src/commands/simulate/virtual-clock.ts'
import { type Balancing, DEFAULT_BALANCING } from '../../src/config/balancing.ts'
import { Backend } from '../../src/upstreams/backend.ts'
import { Balancer } from '../../src/upstreams/balancer.ts'
import { Member } from '../../src/upstreams/member.ts'
import { Names } from '../../src/upstreams/names.ts'
import { makeUpstream } from '../http/front.ts'
import { memoryLog } from '../support/log.ts'

type Part = Partial<Parameters<typeof makeUpstream>[0] & object>

function makeBalancer(parts: readonly Part[], policy: Partial<Balancing> = {}) {
  const clock = new VirtualClock()
  const upstreams = parts.map((part, i) => makeUpstream({ url: `http://127.0.0.1:${i + 1}`, ...part }))
  const backends = upstreams.map((upstream) => new Backend(upstream, undefined, new Names()))
  let state = 1
  const random = (): number => {
    state = (state * 16807) % 2147483647
    return state / 2147483647
  }
  const lines = memoryLog()
  const balancing = { ...DEFAULT_BALANCING, ...policy }
  const checks = upstreams.map(() => ({ failing: false, problem: undefined as string | undefined }))
  const members = upstreams.map(
    (upstream, i) => new Member(backends[i]!, upstream, balancing.slowStart, checks[i]),
  )
  const balancer = new Balancer(members, balancing, { clock, log: lines.log, random })
  /** Indexes of the upstreams that so many requests get, each done at once. */
  const turns = (count: number, request = ANYBODY): number[] =>
    Array.from({ length: count }, () => {
      const backend = balancer.pick(request)
      if (backend !== undefined) balancer.release(backend)
      return backends.indexOf(backend!)
    })
  return { balancer, backends, checks, clock, lines: lines.lines, turns }
}

const ANYBODY = { clientAddress: '192.0.2.1', field: (_: string): string | undefined => undefined }

const from = (clientAddress: string) => ({ ...ANYBODY, clientAddress })

t.test('each in its turn', async (t) => {
  t.strictSame(makeBalancer([{}, {}, {}]).turns(7), [0, 1, 2, 0, 1, 2, 0])
})

t.test('weights are kept within every round, and smoothly', async (t) => {
  const turns = makeBalancer([{ weight: 5 }, {}, {}]).turns(14)
  t.strictSame(turns.slice(0, 7), [0, 0, 1, 0, 2, 0, 0])
  t.strictSame(turns.slice(7), turns.slice(0, 7))
})

t.test('least connections: the idle one, measured by weight', async (t) => {
  const { balancer, backends } = makeBalancer([{ weight: 2 }, {}], { balance: 'least-connections' })
  for (let i = 0; i < 9; i++) balancer.pick(ANYBODY)
  t.strictSame(
    backends.map(({ active }) => active),
    [6, 3],
  )
})

t.test('two choices keeps the load even', async (t) => {
  const { balancer, backends } = makeBalancer([{}, {}, {}, {}], { balance: 'two-choices' })
  for (let i = 0; i < 1000; i++) balancer.pick(ANYBODY)
  for (const { active } of backends) t.ok(active > 240 && active < 260, String(active))
})

t.test('a hash sends one key to one upstream, and moves the keys of a lost one alone', async (t) => {
  const { balancer, backends, turns } = makeBalancer([{}, {}, {}, { weight: 2 }], { balance: { hash: 'ip' } })
  const keys = Array.from({ length: 5000 }, (_, i) => `10.0.${i >> 8}.${i & 255}`)
  const place = (): number[] => keys.map((key) => turns(1, from(key))[0]!)
  const before = place()
  t.strictSame(place(), before)
  for (const [index, share] of [0.2, 0.2, 0.2, 0.4].entries()) {
    const count = before.filter((each) => each === index).length
    t.ok(Math.abs(count / keys.length - share) < 0.03, `${index}: ${count}`)
  }
  balancer.connectFailed(backends[1]!, 'refused')
  const after = place()
  t.notOk(after.includes(1))
  t.ok(after.every((each, i) => each === before[i] || before[i] === 1))
})

t.test('a hash by header; without the header, each in its turn', async (t) => {
  const { turns } = makeBalancer([{}, {}], { balance: { hash: 'header:X-User' } })
  const user = { ...ANYBODY, field: (name: string) => (name === 'x-user' ? 'ann' : undefined) }
  t.equal(new Set(turns(5, user)).size, 1)
  t.equal(new Set(turns(5)).size, 2)
})

t.test('a hash by cookie', async (t) => {
  const { turns } = makeBalancer([{}, {}, {}], { balance: { hash: 'cookie:sid' } })
  const visitor = (sid: number) => ({ ...ANYBODY, field: () => `a=b; sid=${sid}; c=d` })
  t.equal(new Set(turns(5, visitor(1))).size, 1)
  t.equal(new Set(Array.from({ length: 50 }, (_, i) => turns(1, visitor(i))[0])).size, 3)
})

t.test('one that cannot be connected to is left out for ten seconds', async (t) => {
  const { balancer, backends, clock, turns } = makeBalancer([{}, {}, {}])
  balancer.connectFailed(backends[1]!, 'refused')
  await clock.advance(9_999)
  t.notOk(turns(6).includes(1))
  await clock.advance(1)
  t.equal(turns(9).filter((each) => each === 1).length, 1, 'one request tries it again')
  balancer.succeeded(backends[1]!)
  t.equal(turns(6).filter((each) => each === 1).length, 2)
})

t.test('failures in a row eject, others do not', async (t) => {
  const { balancer, backends, turns } = makeBalancer([{}, {}])
  const [first] = backends as [Backend, Backend]
  for (let i = 0; i < 2; i++) balancer.failed(first, 'it answered 503')
  balancer.succeeded(first)
  for (let i = 0; i < 2; i++) balancer.failed(first, 'it answered 503')
  t.ok(turns(4).includes(0))
  balancer.failed(first, 'it answered 503')
  t.notOk(turns(4).includes(0))
})

t.test(
  'one that fails its health check gets nothing while others can take it, not even a retry',
  async (t) => {
    const { balancer, backends, checks, turns } = makeBalancer([{}, { backup: true }, {}])
    checks[0]!.failing = true
    t.strictSame(turns(3), [2, 2, 2])
    checks[2]!.failing = true
    t.strictSame(turns(2), [1, 1])
    t.equal(balancer.pick(ANYBODY, [backends[1]!]), undefined)
  },
)

t.test(
  'where all fail their health checks they are asked all the same, after those that only failed',
  async (t) => {
    const { balancer, backends, checks, turns } = makeBalancer([{}, {}])
    for (const check of checks) check.failing = true
    t.strictSame(new Set(turns(4)), new Set([0, 1]))
    checks[1]!.failing = false
    balancer.connectFailed(backends[1]!, 'refused')
    t.strictSame(turns(3), [1, 1, 1])
  },
)

t.test('the log tells once when one is left alone, and when it is back', async (t) => {
  const { balancer, backends, clock, lines } = makeBalancer([{}, {}])
  const [first] = backends as [Backend, Backend]
  balancer.connectFailed(first, 'connect ECONNREFUSED')
  balancer.connectFailed(first, 'connect ECONNREFUSED')
  await clock.advance(10_000)
  balancer.failed(first, 'it answered 503')
  t.match(balancer.statuses()[0], { ejected: true, health: 'passing', problem: 'it answered 503' })
  balancer.succeeded(first)
  balancer.succeeded(first)
  t.strictSame(
    lines.map(({ msg }) => msg),
    [
      `${first.url} fails: connect ECONNREFUSED. For 10s it is asked only where no other upstream can be`,
      `${first.url} is back`,
    ],
  )
  t.match(balancer.statuses()[0], { ejected: false, problem: undefined })
})

t.test('maxFails 0: nothing ejects', async (t) => {
  const { balancer, backends, turns } = makeBalancer([{}, {}], { maxFails: 0 })
  balancer.connectFailed(backends[0]!, 'refused')
  t.ok(turns(4).includes(0))
})

t.test('a request does not get one that it has tried', async (t) => {
  const { balancer, backends } = makeBalancer([{}, {}])
  const first = balancer.pick(ANYBODY)!
  t.equal(balancer.pick(ANYBODY, [first]), backends[1])
  t.equal(balancer.pick(ANYBODY, backends), undefined)
})

t.test('when all have failed they are asked all the same, each request one of them', async (t) => {
  const { balancer, backends, turns } = makeBalancer([{}, {}])
  for (const backend of backends) balancer.connectFailed(backend, 'refused')
  t.strictSame(new Set(turns(4)), new Set([0, 1]))
  t.equal(balancer.pick(ANYBODY, [backends[0]!]), undefined)
})

t.test('a backup is asked only where no other can be', async (t) => {
  const { balancer, backends, turns } = makeBalancer([{ backup: true }, {}])
  t.strictSame(turns(3), [1, 1, 1])
  balancer.connectFailed(backends[1]!, 'refused')
  t.strictSame(turns(3), [0, 0, 0])
})

t.test('no more at once than maxConnections; the first to wait is the first served', async (t) => {
  const queue = { size: 2, timeout: 1000 }
  const { balancer, clock } = makeBalancer([{ maxConnections: 1 }], { queue })
  const backend = balancer.pick(ANYBODY)!
  t.equal(balancer.pick(ANYBODY), undefined)
  t.match(balancer.refusal(), { code: 'UPSTREAM_BUSY', status: 503 })
  const told: string[] = []
  const waiter = (name: string) => ({
    onTurn: () => told.push(`${name} ${balancer.pick(ANYBODY) === backend}`),
    onWaitedTooLong: () => told.push(`${name} too long`),
  })
  const [a, b, c] = [waiter('a'), waiter('b'), waiter('c')]
  t.strictSame(
    [a, b, c].map((each) => balancer.wait(each)),
    [true, true, false],
  )
  balancer.release(backend)
  await clock.advance(1)
  t.strictSame(told, ['a true'])
  await clock.advance(1000)
  t.strictSame(told, ['a true', 'b too long'])
})

/** Who waits, and what each is told. */
function makeWaiters(pick: () => unknown) {
  const told: string[] = []
  const waiter = (name: string) => ({
    onTurn: () => {
      told.push(`${name} ${pick()}`)
    },
    onWaitedTooLong: () => {
      told.push(`${name} too long`)
    },
  })
  return { told, waiter }
}

for (const [how, takeDown] of [
  ['fails its health check', ({ checks }) => Object.assign(checks[1]!, { failing: true })],
  ['has failed lately', ({ balancer, backends }) => balancer.connectFailed(backends[1]!, 'refused')],
] as const satisfies readonly (readonly [string, (made: ReturnType<typeof makeBalancer>) => unknown])[]) {
  t.test(`where those that are well are full, requests wait, though one that ${how} has room`, async (t) => {
    const queue = { size: 2, timeout: 1000 }
    const made = makeBalancer([{ maxConnections: 1 }, {}, { backup: true, maxConnections: 1 }], { queue })
    const { balancer, backends, clock } = made
    takeDown(made)
    t.equal(balancer.pick(ANYBODY), backends[0])
    t.equal(balancer.pick(ANYBODY), backends[2], 'a backup with room comes before waiting')
    t.equal(balancer.pick(ANYBODY), undefined)
    t.match(balancer.refusal(), { code: 'UPSTREAM_BUSY', status: 503 })
    const { told, waiter } = makeWaiters(() => backends.indexOf(balancer.pick(ANYBODY)!))
    t.ok(balancer.wait(waiter('a')))
    balancer.release(backends[0]!)
    await clock.advance(1)
    t.strictSame(told, ['a 0'])
  })
}

t.test(
  'where none is well, those that failed lately are waited for, not those that fail their check',
  async (t) => {
    const { balancer, backends, checks } = makeBalancer([{ maxConnections: 1 }, {}])
    checks[1]!.failing = true
    balancer.connectFailed(backends[0]!, 'refused')
    t.equal(balancer.pick(ANYBODY), backends[0])
    t.equal(balancer.pick(ANYBODY), undefined)
    t.equal(balancer.refusal().code, 'UPSTREAM_BUSY')
  },
)

t.test('all who wait have their turn when one is back that has room for them', async (t) => {
  const queue = { size: 3, timeout: 60_000 }
  const { balancer, backends, clock } = makeBalancer([{ maxConnections: 1 }, { maxConnections: 2 }], {
    queue,
  })
  balancer.pick(ANYBODY)
  balancer.connectFailed(backends[1]!, 'refused')
  const { told, waiter } = makeWaiters(() => backends.indexOf(balancer.pick(ANYBODY)!))
  for (const name of ['a', 'b', 'c']) t.ok(balancer.wait(waiter(name)))
  await clock.advance(1)
  t.strictSame(told, [])
  balancer.succeeded(backends[1]!)
  await clock.advance(1)
  t.strictSame(told, ['a 1', 'b 1'])
})

t.test(
  'who waits tries one that failed once it may be asked again; the others when it is back',
  async (t) => {
    const policy = { queue: { size: 3, timeout: 60_000 }, failTimeout: 2000 }
    const { balancer, backends, clock } = makeBalancer([{}, { maxConnections: 1 }], policy)
    balancer.connectFailed(backends[0]!, 'refused')
    t.equal(balancer.pick(ANYBODY), backends[1])
    const { told, waiter } = makeWaiters(() => backends.indexOf(balancer.pick(ANYBODY)!))
    for (const name of ['a', 'b', 'c']) t.ok(balancer.wait(waiter(name)))
    await clock.advance(1999)
    t.strictSame(told, [])
    await clock.advance(1)
    t.strictSame(told, ['a 0'])
    balancer.succeeded(backends[0]!)
    await clock.advance(1)
    t.strictSame(told, ['a 0', 'b 0', 'c 0'])
  },
)

t.test('one that waits until a trial, which fails, keeps its place and its deadline', async (t) => {
  const policy = { queue: { size: 2, timeout: 5000 }, failTimeout: 2000 }
  const { balancer, backends, clock } = makeBalancer([{}, { maxConnections: 1 }], policy)
  const [down] = backends as [Backend]
  balancer.connectFailed(down, 'refused')
  balancer.pick(ANYBODY)
  const told: string[] = []
  const waiter = (name: string) => {
    const self = {
      onTurn: () => {
        const backend = balancer.pick(ANYBODY)!
        balancer.connectFailed(backend, 'refused')
        balancer.release(backend)
        told.push(`${name} ${clock.monotonic()} ${balancer.wait(self)}`)
      },
      onWaitedTooLong: () => told.push(`${name} ${clock.monotonic()} too long`),
    }
    return self
  }
  const [first, second] = [waiter('first'), waiter('second')]
  const start = clock.monotonic()
  t.ok(balancer.wait(first))
  await clock.advance(1500)
  t.ok(balancer.wait(second))
  await clock.advance(9000)
  t.strictSame(told, [
    `first ${start + 2000} true`,
    `first ${start + 4000} true`,
    `first ${start + 5000} too long`,
    `second ${start + 6000} true`,
    `second ${start + 6500} too long`,
  ])
})

t.test('two that come back from their trials wait no longer than each may', async (t) => {
  const policy = { queue: { size: 2, timeout: 5000 }, failTimeout: 2000 }
  const { balancer, backends, clock } = makeBalancer([{}, {}, { maxConnections: 1 }], policy)
  for (const backend of backends.slice(0, 2)) balancer.connectFailed(backend, 'refused')
  balancer.pick(ANYBODY)
  const told: string[] = []
  const tries: (() => void)[] = []
  for (const name of ['first', 'second']) {
    const waiter = {
      onTurn: () => {
        const backend = balancer.pick(ANYBODY)!
        tries.push(() => {
          balancer.connectFailed(backend, 'refused')
          balancer.release(backend)
          t.ok(balancer.wait(waiter))
        })
      },
      onWaitedTooLong: () => told.push(`${name} ${clock.monotonic()}`),
    }
    t.ok(balancer.wait(waiter))
    await clock.advance(500)
  }
  await clock.advance(1000)
  t.equal(tries.length, 2)
  await clock.advance(1600)
  for (const fail of tries) fail()
  await clock.advance(2000)
  t.strictSame(told, ['first 5000', 'second 5500'])
})

t.test('who comes back from a trial after its deadline waits no more', async (t) => {
  const policy = { queue: { size: 1, timeout: 3000 }, failTimeout: 2000 }
  const { balancer, backends, clock } = makeBalancer([{}, { maxConnections: 1 }], policy)
  balancer.connectFailed(backends[0]!, 'refused')
  balancer.pick(ANYBODY)
  const { told, waiter } = makeWaiters(() => backends.indexOf(balancer.pick(ANYBODY)!))
  const late = waiter('late')
  t.ok(balancer.wait(late))
  await clock.advance(3000)
  t.strictSame(told, ['late 0'])
  balancer.connectFailed(backends[0]!, 'timed out')
  balancer.release(backends[0]!)
  t.notOk(balancer.wait(late))
})

t.test('retries: within their number and a fifth of the requests', async (t) => {
  const { balancer, backends } = makeBalancer([{}, {}])
  t.equal(balancer.pickAgain(ANYBODY, [backends[0]!], 1), undefined, 'one by default')
  let again = 0
  for (let i = 0; i < 1000; i++) {
    balancer.pick(ANYBODY)
    if (balancer.pickAgain(ANYBODY, [backends[0]!], 0) !== undefined) again++
  }
  t.ok(again > 190 && again <= 210, String(again))
})

t.test('a retry that finds no other upstream free costs the budget nothing', async (t) => {
  const { balancer, backends } = makeBalancer([{}, { maxConnections: 1 }])
  const [first, second] = backends as [Backend, Backend]
  balancer.pick(ANYBODY)
  t.equal(balancer.pick(ANYBODY), second)
  for (let i = 0; i < 100; i++) t.equal(balancer.pickAgain(ANYBODY, [first], 0), undefined)
  balancer.release(second)
  t.equal(balancer.pickAgain(ANYBODY, [first], 0), second)
})

t.test('slow start: one that is back gets its share little by little', async (t) => {
  const { balancer, backends, clock, turns } = makeBalancer([{}, {}], { slowStart: 10_000 })
  await clock.advance(1)
  balancer.connectFailed(backends[0]!, 'refused')
  balancer.succeeded(backends[0]!)
  t.ok(turns(100).filter((each) => each === 0).length < 10)
  await clock.advance(10_000)
  t.ok(Math.abs(turns(100).filter((each) => each === 0).length - 50) <= 1)
})

t.test('no upstreams, no pick', async (t) => {
  const { balancer } = makeBalancer([])
  t.equal(balancer.pick(ANYBODY), undefined)
  t.equal(balancer.refusal().code, 'NO_UPSTREAM')
})
