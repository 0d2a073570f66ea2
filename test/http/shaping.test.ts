import { join } from 'node:path'
import t from 'tap'
import { VirtualClock } from '../../src/commands/simulate/virtual-clock.ts'
import { type Shaping, shapingOf } from '../../src/config/shaping.ts'
import { ConfigError } from '../../src/errors.ts'
import { Shapers } from '../../src/http/shaping.ts'
import type { Forward, RequestFacts, Verdict } from '../../src/http/verdict.ts'

const FACTS: RequestFacts = {
  secure: true,
  serverName: 'app.example.com',
  method: 'GET',
  host: 'app.example.com',
  target: '/',
  clientAddress: '192.0.2.1',
  contentLength: -1,
  fields: { field: () => undefined },
}

const PASS = { action: 'forward', route: {} } as unknown as Forward

type Decide = (facts?: Partial<RequestFacts>) => Verdict | undefined

function decider(shaping: Partial<Shaping>, hsts?: string): Decide {
  const shapers = new Shapers(new VirtualClock())
  const shaper = shapers.compile(shapingOf({}, shaping)!, hsts)
  return (facts = {}) => {
    const verdict = shaper!.decide({ ...FACTS, ...facts }, PASS)
    return verdict === PASS ? undefined : verdict
  }
}

function statusOf(verdict: Verdict | undefined): number | undefined {
  if (verdict?.action === 'refuse') return verdict.error.status
  return verdict?.action === 'answer' ? verdict.status : undefined
}

function locationOf(verdict: Verdict | undefined): string | undefined {
  if (verdict?.action !== 'answer') return undefined
  return verdict.headers.find(([name]) => name === 'location')?.[1]
}

t.test('deny goes before allow; who is in neither is refused where there is an allow', async (t) => {
  const allow = ['10.0.0.0/8', '2001:db8::/32']
  const deny = ['10.1.0.0/16']
  for (const [shaping, clientAddress, status] of [
    [{ allow }, '10.2.3.4', undefined],
    [{ allow }, '192.0.2.1', 403],
    [{ allow }, '2001:db8::1', undefined],
    [{ allow }, '2001:db9::1', 403],
    [{ allow }, '', 403],
    [{ allow: [] }, '10.2.3.4', 403],
    [{ deny }, '10.1.2.3', 403],
    [{ deny }, '10.2.3.4', undefined],
    [{ allow, deny }, '10.1.2.3', 403],
    [{ allow, deny }, '10.2.3.4', undefined],
  ] as const) {
    const verdict = decider({ ...shaping } as Partial<Shaping>)({ clientAddress })
    t.equal(statusOf(verdict), status, `${JSON.stringify(shaping)} ${clientAddress}`)
  }
})

t.test('maintenance answers 503 to all but those who are let in', async (t) => {
  const decide = decider({ maintenance: { retryAfter: 90_500, allow: ['192.0.2.0/28'], page: undefined } })
  t.equal(statusOf(decide()), undefined)
  t.match(decide({ clientAddress: '192.0.2.16' }), {
    error: { status: 503, code: 'MAINTENANCE', retryAfter: 91 },
  })
})

t.test('maintenance answers with its page, of the type that its name tells', async (t) => {
  const dir = t.testdir({ 'a.html': '<p>Größe', 'b.json': '{}', 'c.txt': 'c' })
  const maintenance = (page: string): Partial<Shaping> => ({
    maintenance: { retryAfter: 60_000, allow: ['192.0.2.2'], page: join(dir, page) },
  })
  for (const [page, type, body] of [
    ['a.html', 'text/html; charset=utf-8', '<p>Größe'],
    ['b.json', 'application/json', '{}'],
    ['c.txt', 'text/plain; charset=utf-8', 'c'],
  ] as const)
    t.strictSame(decider(maintenance(page), 'max-age=1')(), {
      action: 'answer',
      status: 503,
      headers: [
        ['content-type', type],
        ['cache-control', 'no-store'],
        ['retry-after', '60'],
        ['strict-transport-security', 'max-age=1'],
      ],
      body,
    })
  t.equal(decider(maintenance('a.html'))({ clientAddress: '192.0.2.2' }), undefined)
  t.throws(() => decider(maintenance('absent.html')), ConfigError)
})

t.test('past the rate limit a client gets 429 and the time to wait, in whole seconds', async (t) => {
  const decide = decider({ rateLimit: { by: 'ip', requests: 2, per: 5000, burst: undefined } })
  for (let i = 0; i < 2; i++) t.equal(decide(), undefined)
  t.match(decide(), { error: { status: 429, code: 'RATE_LIMITED', retryAfter: 3 } })
  t.equal(decide({ clientAddress: '192.0.2.2' }), undefined)
})

t.test('who is refused by address or maintenance does not count against the rate limit', async (t) => {
  const rateLimit = { by: 'ip', requests: 1, per: 1000, burst: undefined }
  const decide = decider({ rateLimit, deny: ['192.0.2.1'] })
  for (let i = 0; i < 3; i++) t.equal(statusOf(decide()), 403)
})

t.test('content that says it is too large is refused', async (t) => {
  const decide = decider({ maxBody: 1000 })
  t.equal(decide({ contentLength: 1000 }), undefined)
  t.equal(decide({ contentLength: -1 }), undefined)
  t.match(decide({ contentLength: 1001 }), { error: { status: 413, code: 'TOO_LARGE' } })
})

t.test('routes with the same limit count together, others by themselves', async (t) => {
  const shapers = new Shapers(new VirtualClock())
  const rateLimit = { by: 'ip', requests: 1, per: 1000, burst: undefined }
  const [one, two, other] = [rateLimit, rateLimit, { ...rateLimit }].map((limit) =>
    shapers.compile(shapingOf({}, { rateLimit: limit })!, undefined),
  )
  t.equal(one?.decide(FACTS, PASS), PASS)
  t.equal(statusOf(two?.decide(FACTS, PASS)), 429)
  t.equal(other?.decide(FACTS, PASS), PASS)
})

t.test('a redirect fills in host, path and URI', async (t) => {
  for (const [to, target, location] of [
    ['https://www.example.com{uri}', '/a/b?c=d%20e', 'https://www.example.com/a/b?c=d%20e'],
    ['https://www.example.com{path}', '/a/b?c=d', 'https://www.example.com/a/b'],
    ['https://{host}/new', '/old', 'https://app.example.com/new'],
    ['/new{path}', '/old?x', '/new/old'],
    ['/login?next={path}', '/{uri}', '/login?next=/{uri}'],
    ['/{path}', '/evil.example/x', '/evil.example/x'],
    ['/{uri}', '/\\evil.example', '/evil.example'],
  ] as const) {
    t.equal(locationOf(decider({ redirectTo: { to, status: 308 } })({ target })), location, `${to} ${target}`)
  }
  t.equal(statusOf(decider({ redirectTo: { to: '/x', status: 302 } })()), 302)
})

t.test('an answer of its own is plain text, unless it says or is empty', async (t) => {
  const answer = { status: 200, headers: {}, body: 'hi' }
  t.strictSame(decider({ respond: answer })(), {
    action: 'answer',
    status: 200,
    headers: [['content-type', 'text/plain; charset=utf-8']],
    body: 'hi',
  })
  const headers = { 'Content-Type': 'application/json' }
  t.match(decider({ respond: { ...answer, headers } })(), { headers: [['Content-Type', 'application/json']] })
  t.strictSame(decider({ respond: { ...answer, status: 204, body: '' } })(), {
    action: 'answer',
    status: 204,
    headers: [],
    body: '',
  })
})

t.test('answers over TLS bear the site’s HSTS, those over plain HTTP do not', async (t) => {
  const decide = decider({ redirectTo: { to: '/x', status: 308 } }, 'max-age=1')
  t.match(decide(), {
    headers: [
      ['location', '/x'],
      ['strict-transport-security', 'max-age=1'],
    ],
  })
  t.strictSame((decide({ secure: false }) as { headers: unknown }).headers, [['location', '/x']])
})
