/** Each way in which a CA fails, by a fault proxy in front of a real Pebble: what it is called, and whose fault it is. */
import { setImmediate as turn } from 'node:timers/promises'
import t from 'tap'
import type { Solver } from '../../src/challenge/solver.ts'
import { DAY, SECOND } from '../../src/time.ts'
import type { Fault } from '../peers/fault-proxy.ts'
import { type IssuerOptions, issueErrorOf, requestFor, startWorld } from './acme-world.ts'

const world = await startWorld(t)
const { http01 } = world
const pebble = await world.startPebble()
const proxy = await world.startFaultProxy(pebble)
const forever = new AbortController().signal
const request = requestFor(['app.example.com'])

const issuerWith = async (options: IssuerOptions = {}) =>
  world.issuer(pebble, { directory: proxy.directory, endpointRoots: proxy.rootPem, ...options })

const DIRECTORY = /^\/dir$/
const NONCE = /^\/nonce-plz$/
const NEW_ACCOUNT = /^\/sign-me-up$/
const NEW_ORDER = /^\/order-plz$/
const AUTHORIZATION = /^\/authZ\//
const CHALLENGE = /^\/chalZ\//
const ORDER = /^\/my-order\//
const FINALIZE = /^\/finalize-order\//
const CERTIFICATE = /^\/certZ\//
const STEPS = {
  DIRECTORY,
  NONCE,
  NEW_ACCOUNT,
  NEW_ORDER,
  AUTHORIZATION,
  CHALLENGE,
  FINALIZE,
  ORDER,
  CERTIFICATE,
}

const CASES: readonly [Fault, string][] = [
  [{ kind: '503' }, 'CA_UNAVAILABLE ca now'],
  [{ kind: 'refuse' }, 'CA_UNREACHABLE ca now'],
  [{ kind: 'hang' }, 'CA_TIMEOUT ca now'],
  [{ kind: 'drip' }, 'CA_TIMEOUT ca now'],
  [{ kind: 'html' }, 'CA_BAD_ANSWER ca now'],
  [{ kind: 'bad-nonce' }, 'CA_BAD_ANSWER ca now'],
  [{ kind: '429' }, 'CA_RATE_LIMITED ca now'],
  [{ kind: '429', path: NONCE }, 'CA_RATE_LIMITED ca now'],
  [{ kind: '429', path: NEW_ORDER }, 'CA_RATE_LIMITED account now'],
  [{ kind: 'truncated' }, 'CA_BAD_ANSWER ca now'],
  [{ kind: 'expired-certificate' }, 'CA_BAD_CERTIFICATE ca now'],
  [{ kind: 'foreign-certificate' }, 'CA_BAD_CERTIFICATE ca now'],
  [{ kind: 'wrong-name' }, 'CA_BAD_CERTIFICATE ca now'],
  [{ kind: 'wrong-chain' }, 'CA_BAD_CERTIFICATE ca now'],
]

for (const [fault, expected] of CASES) {
  t.test(`${fault.kind}${fault.path ? ` at ${fault.path.source}` : ''}: ${expected}`, async (t) => {
    const issuer = await issuerWith({ exchangeLimitMs: 2 * SECOND })
    await proxy.setFault(fault)
    const error = await issueErrorOf(issuer.issue(request, forever))
    t.equal(`${error.code} ${error.blame} ${error.retry}`, expected)
    t.match(error.message, /^pebble: [^\n]+$/)
    t.notOk(holdsRequest(error), 'nothing of the request is carried along')
  })
}

for (const kind of ['hang', 'html'] as const) {
  for (const [name, path] of Object.entries(STEPS)) {
    t.test(`${kind} at ${name} is the CA to blame, and leaves nothing presented`, async (t) => {
      const presented: string[] = []
      const solver: Solver = {
        type: 'http-01',
        present: async (challenge) => {
          presented.push(challenge.token)
          await http01.present(challenge)
        },
        cleanUp: (challenge) => http01.cleanUp(challenge),
      }
      await proxy.setFault(undefined)
      const issuer = await issuerWith({ exchangeLimitMs: 3 * SECOND, solvers: [solver] })
      await proxy.setFault({ kind, path })
      proxy.requests.length = 0
      const error = await issueErrorOf(issuer.issue(request, forever))
      t.equal(error.blame, 'ca')
      t.ok(proxy.requests.some((request) => path.test(request.path)))
      for (const token of presented) t.equal(http01.answer(`/.well-known/acme-challenge/${token}`), undefined)
    })
  }
}

t.test('how long a CA asks to be left alone is told, and not waited for', async (t) => {
  await proxy.setFault({ kind: '429', path: NEW_ORDER })
  const error = await issueErrorOf((await issuerWith()).issue(request, forever))
  t.equal(error.retryAfterMs, DAY)
  t.match(error.problem, { type: 'urn:ietf:params:acme:error:rateLimited', status: 429 })
})

t.test('a CA that stops for a moment is not asked again by us', async (t) => {
  await proxy.setFault({ kind: '503', path: NEW_ORDER })
  const issuer = await issuerWith()
  proxy.requests.length = 0
  await issueErrorOf(issuer.issue(request, forever))
  t.equal(proxy.requests.filter(({ path }) => NEW_ORDER.test(path)).length, 1)
})

t.test('nonces that are refused a few times are made good', async (t) => {
  await proxy.setFault({ kind: 'bad-nonce', times: 8 })
  t.match(await (await issuerWith()).issue(request, forever), { names: request.names })
})

t.test('a chain is not held against a CA whose trust is "any", a foreign key is', async (t) => {
  await proxy.setFault(undefined)
  await t.resolves((await issuerWith({ trust: 'any' })).issue(request, forever))
  const error = await issueErrorOf((await issuerWith({ trust: [] })).issue(request, forever))
  t.equal(error.code, 'CA_BAD_CERTIFICATE')
  await proxy.setFault('foreign-certificate')
  const foreign = await issueErrorOf((await issuerWith({ trust: 'any' })).issue(request, forever))
  t.equal(foreign.code, 'CA_BAD_CERTIFICATE')
})

t.test('the whole order has a deadline of its own', async (t) => {
  await proxy.setFault({ kind: 'hang', path: FINALIZE })
  const issuer = await issuerWith({ orderLimitMs: 3 * SECOND, exchangeLimitMs: 60 * SECOND })
  const error = await issueErrorOf(issuer.issue(request, forever))
  t.match(error, { code: 'CA_TIMEOUT', blame: 'ca', message: 'pebble: order: it took longer than 3s' })
})

t.test('an abort in the midst of an order ends it at once, and cleans up', async (t) => {
  await proxy.setFault(undefined)
  proxy.requests.length = 0
  const controller = new AbortController()
  const cleaned = Promise.withResolvers<string>()
  const solver: Solver = {
    type: 'http-01',
    async present(challenge) {
      await http01.present(challenge)
      controller.abort(new Error('shutting down'))
    },
    async cleanUp(challenge) {
      await http01.cleanUp(challenge)
      cleaned.resolve(challenge.token)
    },
  }
  const issuer = await issuerWith({ solvers: [solver] })
  const error = await issueErrorOf(issuer.issue(request, controller.signal))
  t.match(error, {
    code: 'LOCAL_FAILURE',
    blame: 'local',
    message: 'pebble: order: abandoned: shutting down',
  })
  t.equal(http01.answer(`/.well-known/acme-challenge/${await cleaned.promise}`), undefined)
  const authorizations = () => proxy.requests.filter(({ path }) => AUTHORIZATION.test(path))
  while (authorizations().length < 2) await turn()
  t.equal(authorizations()[1]?.path, authorizations()[0]?.path, 'read, and then let go of')
})

t.test('a solver that fails is ours to mend, and is cleaned up after', async (t) => {
  const cleaned: string[] = []
  const solver: Solver = {
    type: 'http-01',
    present: () => Promise.reject(new Error('no permission')),
    cleanUp: async ({ name }) => void cleaned.push(name),
  }
  const error = await issueErrorOf((await issuerWith({ solvers: [solver] })).issue(request, forever))
  t.match(error, { code: 'LOCAL_FAILURE', blame: 'local', message: 'pebble: order: no permission' })
  t.same(cleaned, ['app.example.com'])
})

t.test('a probe tells what an order would meet', async (t) => {
  const issuer = await issuerWith({ exchangeLimitMs: SECOND })
  for (const [kind, code] of [
    ['503', 'CA_UNAVAILABLE'],
    ['refuse', 'CA_UNREACHABLE'],
    ['hang', 'CA_TIMEOUT'],
    ['html', 'CA_BAD_ANSWER'],
    ['429', 'CA_RATE_LIMITED'],
  ] as const) {
    await proxy.setFault(kind)
    t.match(await issueErrorOf(issuer.probe(forever)), { code, blame: 'ca' })
  }
  await proxy.setFault(undefined)
  await t.resolves(issuer.probe(forever))
})

/** Does an error or one of its causes carry what axios' errors carry? */
function holdsRequest(error: unknown): boolean {
  if (typeof error !== 'object' || error === null) return false
  return (
    'config' in error || 'request' in error || 'response' in error || holdsRequest((error as Error).cause)
  )
}
