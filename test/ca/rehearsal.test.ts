import t from 'tap'
import { Authorities } from '../../src/ca/authorities.ts'
import type { Issuer } from '../../src/ca/issuer.ts'
import { OUTAGES, type Outage, RehearsedIssuer } from '../../src/ca/rehearsal.ts'
import { settle, VirtualClock } from '../../src/commands/simulate/virtual-clock.ts'
import { memoryRecords } from '../../src/commands/simulate/world.ts'
import type { Ca } from '../../src/config/cas.ts'
import { IssueError } from '../../src/errors.ts'
import { silentLog } from '../../src/log.ts'
import { SECOND } from '../../src/time.ts'
import { makeCertificate } from '../support/certificates.ts'

const never = new AbortController().signal
const request = { names: ['app.example.com'], keyType: 'ecdsa-p256', challenges: [] } as const
const ca: Ca = { type: 'internal', name: 'a', distrusted: false, lifetimeMs: 1000 * SECOND }

/** Counts what reaches it, and is well. */
function realIssuer() {
  const asked = { orders: 0, probes: 0 }
  const issuer: Issuer = {
    id: 'a',
    issue: () => {
      asked.orders++
      return Promise.reject(new Error('not asked in these tests'))
    },
    probe: async () => {
      asked.probes++
    },
  }
  return { issuer, asked }
}

function setUp(outage: Outage) {
  const clock = new VirtualClock()
  const over = new AbortController()
  const { issuer, asked } = realIssuer()
  return { clock, over, asked, issuer: new RehearsedIssuer({ issuer, outage, clock, over: over.signal }) }
}

async function reasonOf(work: Promise<unknown>): Promise<Partial<IssueError>> {
  const error = await work.then(
    () => undefined,
    (cause: unknown) => cause,
  )
  if (!(error instanceof IssueError)) throw new Error(`no IssueError: ${error}`)
  return error
}

const EXPECTED: Readonly<Record<Exclude<Outage, 'hang'>, Partial<IssueError>>> = {
  '503': { code: 'CA_UNAVAILABLE', blame: 'ca' },
  refuse: { code: 'CA_UNREACHABLE', blame: 'ca' },
  'rate-limit': { code: 'CA_RATE_LIMITED', blame: 'account', retryAfterMs: 3600 * SECOND },
  untrusted: { code: 'CA_BAD_CERTIFICATE', blame: 'ca' },
}

for (const outage of OUTAGES) {
  if (outage === 'hang') continue
  t.test(`${outage}: an order fails as it would, and says that it is a drill`, async (t) => {
    const { asked, issuer } = setUp(outage)
    t.match(await reasonOf(issuer.issue(request, never)), {
      ...EXPECTED[outage],
      message: /^a: order \(a drill\): /,
    })
    t.equal(asked.orders, 0, 'without asking the real CA')
  })
}

t.test('hang: an order fails after as long as a real exchange waits', async (t) => {
  const { clock, issuer } = setUp('hang')
  const failed = reasonOf(issuer.issue(request, never))
  await clock.advance(7 * SECOND)
  t.match(await Promise.race([failed, settle()]), undefined)
  await clock.advance(SECOND)
  t.match(await failed, { code: 'CA_TIMEOUT', blame: 'ca' })
})

t.test('hang: the end of the drill sends what hangs on to the next CA', async (t) => {
  const { issuer, over } = setUp('hang')
  const failed = reasonOf(issuer.issue(request, never))
  over.abort()
  t.match(await failed, { blame: 'account', retry: 'now', message: /the drill is over/ })
})

t.test('probes fail in an outage, and reach the real CA where only orders do', async (t) => {
  const down = setUp('503')
  t.match(await reasonOf(down.issuer.probe(never)), { code: 'CA_UNAVAILABLE' })
  t.equal(down.asked.probes, 0)
  const limited = setUp('rate-limit')
  await limited.issuer.probe(never)
  t.equal(limited.asked.probes, 1)
})

t.test('revocation reaches the real CA, where that revokes at all', async (t) => {
  const rehearse = (issuer: Issuer) =>
    new RehearsedIssuer({ issuer, outage: '503', clock: new VirtualClock(), over: never })
  const { issuer } = realIssuer()
  t.equal(rehearse(issuer).revoke, undefined)
  const certificate = await makeCertificate({ names: ['app.example.com'] })
  const revoked: unknown[] = []
  await rehearse({ ...issuer, revoke: async (...what) => void revoked.push(what) }).revoke?.(certificate, 4)
  t.strictSame(revoked, [[certificate, 4]])
})

t.test('what a rehearsal does to breaker and ledger is gone, and was never kept', async (t) => {
  const clock = new VirtualClock()
  const { issuer } = realIssuer()
  const saved: string[] = []
  const changes: string[] = []
  const authorities = new Authorities({
    clock,
    random: () => 1,
    log: silentLog(),
    records: {
      ...memoryRecords(),
      saveState: async (kind, id) => {
        saved.push(`${kind} ${id}`)
      },
    },
    createIssuer: () => issuer,
    onChange: ({ state }, previous) => changes.push(`${previous} to ${state}`),
  })
  await authorities.update(new Map([['a', ca]]))
  const own = authorities.access('a')
  const end = authorities.rehearse(
    'a',
    (real) => new RehearsedIssuer({ issuer: real, outage: '503', clock, over: never }),
  )
  const failed = new IssueError('CA_UNAVAILABLE', 'a: answered 503', { blame: 'ca', retry: 'now' })
  ;(await authorities.health.admit('a', never))?.failed(failed)
  authorities.access('a')?.ledger.refused(['app.example.com'], 3600 * SECOND)
  t.equal(authorities.health.snapshot('a')?.state, 'down')
  t.ok((authorities.access('a')?.ledger.openAt(['app.example.com'], false) ?? 0) > 0)

  end()
  t.match(authorities.health.snapshot('a'), { state: 'up', lastFailure: undefined })
  t.equal(authorities.access('a'), own)
  t.equal(own?.ledger.openAt(['app.example.com'], false), 0)
  t.strictSame(changes, ['up to down', 'down to up'], 'whoever listens hears of both')
  await clock.advance(10 * SECOND)
  await authorities.stop()
  t.strictSame(saved, [])
})

t.test('a CA that a reload has made anew is not put back', async (t) => {
  const clock = new VirtualClock()
  const authorities = new Authorities({
    clock,
    random: () => 1,
    log: silentLog(),
    records: memoryRecords(),
    createIssuer: () => realIssuer().issuer,
    onChange: () => {},
  })
  await authorities.update(new Map([['a', ca]]))
  const end = authorities.rehearse('a', (issuer) => issuer)
  await authorities.update(new Map([['a', { ...ca, lifetimeMs: 1 }]]))
  const renewed = authorities.access('a')
  end()
  t.equal(authorities.access('a'), renewed)
})
