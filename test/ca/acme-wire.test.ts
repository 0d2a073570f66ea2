/** A CA that lies in ways that no real one does. Whatever it says, the answer is an `IssueError` that blames it. */
import t, { type Test } from 'tap'
import { AcmeIssuer } from '../../src/ca/acme.ts'
import { Http01Solver } from '../../src/challenge/http-01.ts'
import { TlsAlpn01Solver } from '../../src/challenge/tls-alpn-01.ts'
import { SystemClock } from '../../src/time.ts'
import { makeCertificate } from '../support/certificates.ts'
import { memoryLog } from '../support/log.ts'
import { issueErrorOf, requestFor } from './acme-world.ts'
import { json, startLyingCa } from './lying-ca.ts'

const forever = new AbortController().signal

/** What an honest CA would say, by path; `https://ca.invalid` stands for the CA's own origin in any text. */
const TRUTH: Record<string, unknown> = {
  '/dir': {
    newNonce: 'https://ca.invalid/nonce',
    newAccount: 'https://ca.invalid/account',
    newOrder: 'https://ca.invalid/new-order',
    revokeCert: 'https://ca.invalid/revoke',
    renewalInfo: 'https://ca.invalid/ari',
  },
  '/nonce': '',
  '/account': { status: 'valid' },
  '/new-order': {
    status: 'pending',
    authorizations: ['https://ca.invalid/authorization'],
    finalize: 'https://ca.invalid/finalize',
  },
  '/authorization': {
    status: 'pending',
    identifier: { type: 'dns', value: 'app.example.com' },
    challenges: [{ type: 'http-01', url: 'https://ca.invalid/challenge', token: 'token', status: 'pending' }],
  },
}

const STATUSES: Record<string, number> = { '/account': 201, '/new-order': 201 }
const LOCATIONS: Record<string, string> = {
  '/account': 'https://ca.invalid/account/1',
  '/new-order': 'https://ca.invalid/order/1',
}

interface Lies {
  /** A function gets how often the path was asked for before. */
  readonly answers?: Record<string, unknown>
  readonly statuses?: Record<string, number>
  readonly locations?: Record<string, string | undefined>
}

async function issuerAt(t: Test, { answers = {}, statuses = {}, locations = {} }: Lies) {
  let asked = 0
  const askedAt: Record<string, number> = {}
  const ca = await startLyingCa(t, (request, response) => {
    asked++
    const path = request.url ?? ''
    const before = askedAt[path] ?? 0
    askedAt[path] = before + 1
    const lie = answers[path]
    const known = typeof lie === 'function' ? lie(before) : path in answers ? lie : TRUTH[path]
    const location = path in locations ? locations[path] : LOCATIONS[path]
    const own = (text: string) => text.replaceAll('https://ca.invalid', ca.origin)
    const headers = {
      'replay-nonce': `nonce-${asked}`,
      ...(location === undefined ? {} : { location: own(location) }),
    }
    json(
      response,
      JSON.parse(own(JSON.stringify(known ?? null))),
      headers,
      statuses[path] ?? STATUSES[path] ?? 200,
    )
  })
  const issuer = new AcmeIssuer({
    id: 'liar',
    directory: `${ca.origin}/dir`,
    contact: [],
    endpointRoots: ca.rootPem,
    trust: () => 'any',
    solvers: [new Http01Solver(), new TlsAlpn01Solver(new SystemClock())],
    records: {
      loadAccount: async () => undefined,
      saveAccount: async () => {},
      removeAccount: async () => {},
      lock: async () => ({ lost: forever, release: async () => {} }),
    },
    clock: new SystemClock(),
    log: memoryLog().log,
  })
  return { issuer, asked: () => asked, askedAt }
}

const directory = TRUTH['/dir'] as object
const order = TRUTH['/new-order'] as object
const authorization = TRUTH['/authorization'] as object
const challenge = { type: 'http-01', url: 'https://ca.invalid/challenge', token: 'token', status: 'pending' }

const LIES: Record<string, [Lies, RegExp]> = {
  'a directory that is null': [{ answers: { '/dir': null } }, /directory: newNonce is no https URL/],
  'a directory that is a list': [{ answers: { '/dir': [] } }, /directory: newNonce is no https URL/],
  'a directory without newOrder': [
    { answers: { '/dir': { ...directory, newOrder: undefined } } },
    /directory: newOrder is no https URL/,
  ],
  'a directory that leads to http': [
    { answers: { '/dir': { ...directory, newAccount: 'http://127.0.0.1/account' } } },
    /directory: newAccount is no https URL/,
  ],
  'renewal information at http': [
    { answers: { '/dir': { ...directory, renewalInfo: 'http://127.0.0.1/ari' } } },
    /directory: renewalInfo is no https URL/,
  ],
  'an account without a URL': [
    { locations: { '/account': undefined } },
    /new account: an answer that RFC 8555 does not allow: No account URL found/,
  ],
  'an account that exists and has no URL': [
    { statuses: { '/account': 200 }, locations: { '/account': undefined } },
    /new account: an answer that RFC 8555 does not allow: it leads in circles/,
  ],
  'an order without a URL': [
    { locations: { '/new-order': undefined } },
    /new order: an answer that RFC 8555 does not allow: Creating a new order did not return an order link/,
  ],
  'an order that is null': [
    { answers: { '/new-order': null } },
    /new order: an answer that RFC 8555 does not/,
  ],
  'an order without a status': [
    { answers: { '/new-order': { ...order, status: undefined } } },
    /new order: .*: status is missing/,
  ],
  'an order without authorizations': [
    { answers: { '/new-order': { ...order, authorizations: 'none' } } },
    /new order: .*: an order without authorizations/,
  ],
  'an authorization at http': [
    { answers: { '/new-order': { ...order, authorizations: ['http://127.0.0.1/'] } } },
    /authorization: the CA names a URL that is not https/,
  ],
  'an authorization that is a number': [
    { answers: { '/new-order': { ...order, authorizations: [7] } } },
    /authorization: the CA names a URL that is not https/,
  ],
  'an order that is valid at once': [
    { answers: { '/new-order': { ...order, status: 'valid', authorizations: [] } } },
    /order: the order is unexpectedly "valid"/,
  ],
  'an order in a status of its own making': [
    { answers: { '/new-order': { ...order, status: 'on\nhold', authorizations: [] } } },
    /order: the order is unexpectedly "on hold"/,
  ],
  'an authorization for a name that was not ordered': [
    {
      answers: { '/authorization': { ...authorization, identifier: { type: 'dns', value: 'evil.example' } } },
    },
    /order: asks to prove evil\.example, which was not ordered/,
  ],
  'an authorization without a name': [
    { answers: { '/authorization': { ...authorization, identifier: null } } },
    /authorization: .*: value is missing/,
  ],
  'an authorization without challenges': [
    { answers: { '/authorization': { ...authorization, challenges: null } } },
    /authorization: .*: an authorization without challenges/,
  ],
  'an authorization that was revoked before it was used': [
    { answers: { '/authorization': { ...authorization, status: 'revoked' } } },
    /order: the authorization is unexpectedly "revoked"/,
  ],
  'a certificate that is none': [
    {
      answers: {
        '/new-order': { ...order, status: 'ready', authorizations: [] },
        '/finalize': { ...order, status: 'valid', certificate: 'https://ca.invalid/certificate' },
        '/certificate': { pem: '' },
      },
    },
    /download of the certificate: .*: no PEM certificate chain/,
  ],
  'a valid order without a certificate': [
    {
      answers: {
        '/new-order': { ...order, status: 'ready', authorizations: [] },
        '/finalize': { ...order, status: 'valid' },
      },
    },
    /order: the order is valid and names no certificate/,
  ],
  'an order that fails without a reason': [
    { answers: { '/new-order': { ...order, status: 'invalid', authorizations: [] } } },
    /order: refused without a reason/,
  ],
  'a challenge without a URL': [
    { answers: { '/authorization': { ...authorization, challenges: [{ ...challenge, url: undefined }] } } },
    /authorization: .*: url is missing/,
  ],
}

for (const [name, [lies, message]] of Object.entries(LIES)) {
  t.test(name, async (t) => {
    const { issuer, asked } = await issuerAt(t, lies)
    const error = await issueErrorOf(issuer.issue(requestFor(['app.example.com']), forever))
    t.match(error, { code: 'CA_BAD_ANSWER', blame: 'ca', retry: 'now' })
    t.match(error.message, message)
    t.ok(asked() < 60)
  })
}

t.test('which failed validations are tried again by another challenge', async (t) => {
  for (const [type, verdict, orders] of [
    ['connection', 'DOMAIN_UNVALIDATED domain later', 2],
    ['caa', 'DOMAIN_UNVALIDATED domain now', 1],
    ['serverInternal', 'CA_UNAVAILABLE ca now', 1],
  ] as const) {
    const problem = { type: `urn:ietf:params:acme:error:${type}`, detail: 'for a reason' }
    const challenges = [challenge, { ...challenge, type: 'tls-alpn-01' }].map((each) => ({
      ...each,
      error: problem,
    }))
    const { issuer, askedAt } = await issuerAt(t, {
      answers: {
        '/authorization': (before: number) => ({
          ...authorization,
          status: before % 2 === 0 ? 'pending' : 'invalid',
          challenges,
        }),
        '/challenge': { status: 'processing' },
      },
    })
    const error = await issueErrorOf(issuer.issue(requestFor(['app.example.com']), forever))
    t.equal(`${error.code} ${error.blame} ${error.retry}`, verdict)
    t.match(error.message, `for app.example.com: ${type}: for a reason`)
    t.equal(askedAt['/new-order'], orders, type)
  }
})

t.test('a token that would lead out of its path is not presented', async (t) => {
  for (const token of ['../../admin', 'a/b', '', 7, 'x'.repeat(1000)]) {
    const answers = { '/authorization': { ...authorization, challenges: [{ ...challenge, token }] } }
    const { issuer } = await issuerAt(t, { answers })
    t.match(await issueErrorOf(issuer.issue(requestFor(['app.example.com']), forever)), {
      code: 'NO_CHALLENGE',
    })
  }
})

t.test('a renewal window that is none is not believed', async (t) => {
  const certificate = await makeCertificate({ names: ['app.example.com'] })
  const window = { start: '2030-01-01T00:00:00Z', end: '2030-01-02T00:00:00Z' }
  for (const suggestedWindow of [
    undefined,
    null,
    'soon',
    {},
    { ...window, end: 'never' },
    { start: window.end, end: window.start },
    { start: window.start, end: window.start },
  ]) {
    const { issuer } = await issuerAt(t, { answers: { [`/ari/${certificate.ariId}`]: { suggestedWindow } } })
    const error = await issueErrorOf(issuer.renewalInfo(certificate, forever))
    t.match(error, { code: 'CA_BAD_ANSWER', blame: 'ca' })
    t.match(error.message, 'liar: renewal information: suggestedWindow is no window')
  }
})

t.test('a link that explains a window is kept if it is https', async (t) => {
  const certificate = await makeCertificate({ names: ['app.example.com'] })
  const suggestedWindow = { start: '2030-01-01T00:00:00Z', end: '2030-01-02T00:00:00Z' }
  for (const [explanationURL, expected] of [
    ['https://example.com/why', 'https://example.com/why'],
    ['javascript:alert(1)', undefined],
    [7, undefined],
  ] as const) {
    const answers = { [`/ari/${certificate.ariId}`]: { suggestedWindow, explanationURL } }
    const { issuer } = await issuerAt(t, { answers })
    t.equal((await issuer.renewalInfo(certificate, forever))?.explanationUrl, expected)
  }
})
