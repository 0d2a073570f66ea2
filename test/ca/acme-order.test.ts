import t from 'tap'
import type { Solver } from '../../src/challenge/solver.ts'
import type { IssueError } from '../../src/errors.ts'
import { SECOND, SystemClock } from '../../src/time.ts'
import { issueErrorOf, requestFor, startWorld } from './acme-world.ts'

const world = await startWorld(t)
const { http01, tlsAlpn01 } = world
const forever = new AbortController().signal

t.test('a CA that refuses half of all nonces still serves', async (t) => {
  const pebble = await world.startPebble({ env: { PEBBLE_WFE_NONCEREJECT: '50' } })
  const issuer = await world.issuer(pebble)
  const { names } = await issuer.issue(requestFor(['app.example.com']), forever)
  t.same(names, ['app.example.com'])
})

t.test('what the CA still holds for proved is not proved again', async (t) => {
  const pebble = await world.startPebble({ env: { PEBBLE_AUTHZREUSE: '100' } })
  const presented: string[] = []
  const solver: Solver = {
    type: 'http-01',
    present: (challenge) => {
      presented.push(challenge.name)
      return http01.present(challenge)
    },
    cleanUp: (challenge) => http01.cleanUp(challenge),
  }
  const issuer = await world.issuer(pebble, { solvers: [solver] })
  await issuer.issue(requestFor(['a.example.com']), forever)
  const { provedBy } = await issuer.issue(requestFor(['a.example.com', 'b.example.com']), forever)
  t.equal(provedBy, 'http-01')
  const again = await issuer.issue(requestFor(['a.example.com']), forever)
  t.equal(again.provedBy, 'http-01', 'by that which it holds')
  t.same(presented, ['a.example.com', 'b.example.com'])
})

t.test('nothing is waited for between the proof and the order', async (t) => {
  const pebble = await world.startPebble()
  const proxy = await world.startFaultProxy(pebble)
  /** How many requests had been made by the time of each pause. */
  const pausedAfter: number[] = []
  class WatchedClock extends SystemClock {
    override after(delayMs: number, task: () => void): () => void {
      // Longer ones are deadlines.
      if (delayMs <= 5 * SECOND) pausedAfter.push(proxy.requests.length)
      return super.after(delayMs, task)
    }
  }
  const ca = { directory: proxy.directory, minicaPem: proxy.rootPem, root: () => pebble.root() }
  const issuer = await world.issuer(ca, { clock: new WatchedClock() })
  await issuer.issue(requestFor(['app.example.com']), forever)
  const looks = proxy.requests.map(({ path }) => path)
  const looked = looks.findIndex((path) => path.startsWith('/my-order/'))
  t.match(looks[looked - 1], /^\/authZ\//)
  t.ok(
    pausedAfter.some((requests) => requests < looked),
    'the CA was given time to look at the proof',
  )
  t.notOk(pausedAfter.includes(looked), 'and none for the order')
})

t.test('challenges', async (t) => {
  const pebble = await world.startPebble({ config: { domainBlocklist: ['blocked.example'] } })
  /** Presents where no CA looks. */
  const useless = (type: 'http-01' | 'tls-alpn-01'): Solver => ({
    type,
    present: async () => {},
    cleanUp: async () => {},
  })

  t.test('the next type is tried when the first one fails', async (t) => {
    const issuer = await world.issuer(pebble, { solvers: [tlsAlpn01, useless('http-01')] })
    const certificate = await issuer.issue(requestFor(['app.example.com']), forever)
    t.same(certificate.names, ['app.example.com'])
    t.equal(certificate.provedBy, 'tls-alpn-01')
    t.match(world.log.warnings().at(-1), {
      msg: 'pebble: http-01 failed, trying tls-alpn-01',
      err: { code: 'DOMAIN_UNVALIDATED' },
    })
  })

  t.test('the next type is not tried where the request forbids another order', async (t) => {
    const issuer = await world.issuer(pebble, { solvers: [tlsAlpn01, useless('http-01')] })
    const failures: IssueError[] = []
    const mayOrderAgain = (failure: IssueError): boolean => failures.push(failure) === 0
    const request = requestFor(['app.example.com'], { mayOrderAgain })
    const error = await issueErrorOf(issuer.issue(request, forever))
    t.equal(error.code, 'DOMAIN_UNVALIDATED')
    t.same(failures, [error])
  })

  t.test('a name that fails by every type is the domain to blame', async (t) => {
    const issuer = await world.issuer(pebble, { solvers: [useless('http-01'), useless('tls-alpn-01')] })
    const error = await issueErrorOf(issuer.issue(requestFor(['app.example.com']), forever))
    t.match(error, { code: 'DOMAIN_UNVALIDATED', blame: 'domain', retry: 'later' })
    t.match(error.message, /^pebble: tls-alpn-01 for app\.example\.com: unauthorized: /)
    t.equal(error.problem?.type, 'urn:ietf:params:acme:error:unauthorized')
  })

  t.test('what a CA quotes of a key authorization does not reach the error', async (t) => {
    const wrong: Solver = {
      type: 'http-01',
      present: (challenge) => http01.present({ ...challenge, keyAuthorization: 'wrong' }),
      cleanUp: (challenge) => http01.cleanUp({ ...challenge, keyAuthorization: 'wrong' }),
    }
    const issuer = await world.issuer(pebble, { solvers: [wrong] })
    const error = await issueErrorOf(issuer.issue(requestFor(['app.example.com']), forever))
    t.match(error.message, /unauthorized: .*\[secret\]/)
    t.notMatch(JSON.stringify(error.problem), /[\w-]{43}\.[\w-]{43}/)
  })

  t.test('the others that were ordered with a failed name are let go of', async (t) => {
    const proxy = await world.startFaultProxy(pebble)
    const options = { directory: proxy.directory, endpointRoots: proxy.rootPem }
    const issuer = await world.issuer(pebble, { ...options, solvers: [useless('http-01')] })
    await issueErrorOf(issuer.issue(requestFor(['a.example.com', 'b.example.com']), forever))
    const authorizations = proxy.requests.filter(({ path }) => path.startsWith('/authZ/'))
    const [first, second] = new Set(authorizations.map(({ path }) => path))
    t.ok(first && second)
    t.match(proxy.requests.at(-1), { method: 'POST', path: second })
    t.equal(proxy.requests.at(-2)?.path, first, 'after the answer that it had failed')
  })

  t.test('a wildcard cannot be had by http-01', async (t) => {
    const issuer = await world.issuer(pebble)
    const error = await issueErrorOf(issuer.issue(requestFor(['*.example.com']), forever))
    t.match(error, { code: 'NO_CHALLENGE', blame: 'domain', retry: 'now' })
    t.match(error.message, /the CA offers .*dns-01.*, and we may answer http-01, tls-alpn-01/)
  })

  t.test('a name that this CA does not want may be had elsewhere', async (t) => {
    const issuer = await world.issuer(pebble)
    const error = await issueErrorOf(issuer.issue(requestFor(['www.blocked.example']), forever))
    t.match(error, { code: 'CA_REJECTED', blame: 'domain', retry: 'now' })
  })
})
