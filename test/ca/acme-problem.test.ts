import t from 'tap'
import { cleanText, type Refused, readProblem, refusal } from '../../src/ca/acme-problem.ts'
import { HOUR } from '../../src/time.ts'

const acme = (name: string) => `urn:ietf:params:acme:error:${name}`

/** Refused, status, type (none: no problem document) → code, blame, retry. */
const VERDICTS: readonly [Refused, number, string | undefined, string][] = [
  // A CA in trouble, whatever it says.
  ['order', 500, acme('serverInternal'), 'CA_UNAVAILABLE ca now'],
  ['order', 503, undefined, 'CA_UNAVAILABLE ca now'],
  ['order', 503, acme('rateLimited'), 'CA_UNAVAILABLE ca now'],
  ['anonymous', 502, undefined, 'CA_UNAVAILABLE ca now'],
  ['validation', 0, acme('serverInternal'), 'CA_UNAVAILABLE ca now'],
  // Limits: of the account, unless nobody has said who he is.
  ['order', 429, acme('rateLimited'), 'CA_RATE_LIMITED account now'],
  ['order', 403, acme('rateLimited'), 'CA_RATE_LIMITED account now'],
  ['order', 429, undefined, 'CA_RATE_LIMITED account now'],
  ['account', 429, acme('rateLimited'), 'CA_RATE_LIMITED account now'],
  ['anonymous', 429, undefined, 'CA_RATE_LIMITED ca now'],
  ['anonymous', 429, acme('rateLimited'), 'CA_RATE_LIMITED ca now'],
  // Nonsense.
  ['order', 400, acme('badNonce'), 'CA_BAD_ANSWER ca now'],
  ['order', 404, undefined, 'CA_BAD_ANSWER ca now'],
  ['anonymous', 404, undefined, 'CA_BAD_ANSWER ca now'],
  ['order', 302, undefined, 'CA_BAD_ANSWER ca now'],
  ['order', 0, undefined, 'CA_BAD_ANSWER ca now'],
  // The account.
  ['order', 400, acme('accountDoesNotExist'), 'ACCOUNT_REJECTED account now'],
  ['account', 401, acme('externalAccountRequired'), 'ACCOUNT_REJECTED account now'],
  ['order', 403, acme('userActionRequired'), 'ACCOUNT_REJECTED account now'],
  ['account', 400, acme('invalidContact'), 'ACCOUNT_REJECTED account now'],
  ['account', 400, acme('malformed'), 'ACCOUNT_REJECTED account now'],
  ['order', 403, acme('unauthorized'), 'ACCOUNT_REJECTED account now'],
  // The request.
  ['order', 400, acme('malformed'), 'CA_REJECTED account now'],
  ['order', 400, acme('badCSR'), 'CA_REJECTED account now'],
  ['order', 409, acme('alreadyReplaced'), 'CA_REJECTED account now'],
  ['order', 400, acme('invalidProfile'), 'CA_REJECTED account now'],
  ['order', 400, 'about:blank', 'CA_REJECTED account now'],
  ['anonymous', 404, acme('malformed'), 'CA_REJECTED account now'],
  // The domain.
  ['validation', 0, acme('unauthorized'), 'DOMAIN_UNVALIDATED domain later'],
  ['validation', 0, acme('incorrectResponse'), 'DOMAIN_UNVALIDATED domain later'],
  ['validation', 0, acme('connection'), 'DOMAIN_UNVALIDATED domain later'],
  ['validation', 0, acme('dns'), 'DOMAIN_UNVALIDATED domain later'],
  ['validation', 0, acme('tls'), 'DOMAIN_UNVALIDATED domain later'],
  ['validation', 0, acme('somethingNew'), 'DOMAIN_UNVALIDATED domain later'],
  ['validation', 0, undefined, 'DOMAIN_UNVALIDATED domain later'],
  ['order', 400, acme('dns'), 'DOMAIN_UNVALIDATED domain later'],
  // The domain as this CA sees it.
  ['validation', 0, acme('caa'), 'DOMAIN_UNVALIDATED domain now'],
  ['order', 403, acme('caa'), 'DOMAIN_UNVALIDATED domain now'],
  ['order', 400, acme('rejectedIdentifier'), 'CA_REJECTED domain now'],
  ['order', 400, acme('unsupportedIdentifier'), 'CA_REJECTED domain now'],
]

for (const [refused, status, type, expected] of VERDICTS) {
  t.test(`${refused} refused with ${status} ${type ?? 'and no problem document'}: ${expected}`, async (t) => {
    const problem = type === undefined ? undefined : { type }
    const { code, blame, retry } = refusal({ ca: 'ca', doing: 'x', refused, status, problem })
    t.equal(`${code} ${blame} ${retry}`, expected)
  })
}

t.test('the message says which CA, at what, and what it says itself', async (t) => {
  const problem = { type: acme('rateLimited'), detail: 'too many certificates' }
  const error = refusal({
    ca: 'letsencrypt',
    doing: 'new order',
    refused: 'order',
    status: 429,
    problem,
    retryAfterMs: 24 * HOUR,
  })
  t.equal(error.message, 'letsencrypt: new order: 429 rateLimited: too many certificates (asks to wait 1d)')
  t.match(error, { retryAfterMs: 24 * HOUR, problem })
})

t.test('the message tells the names of subproblems apart', async (t) => {
  const problem = readProblem({
    type: acme('rejectedIdentifier'),
    detail: 'Some names are refused',
    subproblems: [
      {
        type: acme('rejectedIdentifier'),
        detail: 'a policy',
        identifier: { type: 'dns', value: 'a.example' },
      },
      { type: acme('caa'), identifier: { type: 'dns', value: 'b.example' }, subproblems: [{ type: 'x' }] },
      'nonsense',
    ],
  })
  const { message } = refusal({ ca: 'ca', doing: 'new order', refused: 'order', status: 400, problem })
  t.equal(
    message,
    'ca: new order: 400 rejectedIdentifier: Some names are refused; a.example: a policy; b.example: caa',
  )
})

t.test('a message without anything to say still says so', async (t) => {
  const { message } = refusal({ ca: 'ca', doing: 'order', refused: 'order', problem: undefined })
  t.equal(message, 'ca: order: refused without a reason')
})

t.test('what is no problem document is not taken for one', async (t) => {
  for (const value of [undefined, null, '', 'text', 7, [], {}, { type: 7 }, { detail: 'no type' }]) {
    t.equal(readProblem(value), undefined)
  }
  t.same(readProblem({ type: 'x', detail: 7, status: '400', identifier: 'a', extra: {} }), { type: 'x' })
})

t.test('text of the CA’s becomes one bounded line without secrets', async (t) => {
  t.equal(cleanText('a\r\nb\u001b[31mc\u2028d'), 'a b [31mc d')
  t.equal(cleanText('x'.repeat(10_000)).length, 501)
  const token = 'LoqXcYV8q5ONbJQxbmR7SCTNo3tiAXDfowyjxAjEuX0'
  const thumbprint = '9jg46WB3rR_AHD-EBXdN7cBkH1WOu0tA3M9fm21mqTI'
  t.equal(cleanText(`not "${token}.${thumbprint}" but`), 'not "[secret]" but')
  t.equal(
    cleanText(`http://a.example/.well-known/acme-challenge/${token}: 404`),
    'http://a.example/.well-known/acme-challenge/[secret]: 404',
  )
  t.equal(
    cleanText('a-long-name-of-a-host.example.com: NXDOMAIN'),
    'a-long-name-of-a-host.example.com: NXDOMAIN',
  )
})
