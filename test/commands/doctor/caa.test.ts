import t from 'tap'
import type { AuthorityReport } from '../../../src/commands/doctor/authority.ts'
import { checkCaa, loadCaaState } from '../../../src/commands/doctor/caa.ts'
import { resolveCa } from '../../../src/config/cas.ts'
import { SystemClock } from '../../../src/time.ts'
import { wordsOf } from './words.ts'

const zerossl = resolveCa('zerossl', undefined)!
const authority: AuthorityReport = {
  ca: zerossl,
  findings: [],
  isDistrusted: false,
  usable: true,
  caaIdentities: ['sectigo.com'],
  accountUri: 'https://acme.zerossl.com/v2/DV90/account/1',
  aheadMs: 0,
}
const challenges = ['tls-alpn-01', 'http-01'] as const

function check(
  records: readonly [tag: string, value: string][],
  options: Partial<AuthorityReport> = {},
  host = 'app.example.com',
) {
  const properties = records.map(([tag, value]) => ({ tag, value, critical: tag === 'tbs' }))
  const found = checkCaa(
    host,
    { domain: 'example.com', properties },
    { ...authority, ...options },
    challenges,
  )
  return found.map(wordsOf).join('\n')
}

for (const [what, records, options, expected] of [
  ['no records', [], {}, 'ok CAA: no records: every CA may issue'],
  ['permitted', [['issue', 'sectigo.com']], {}, 'ok CAA: the CAA of example.com permits zerossl'],
  [
    'permitted by one challenge',
    [['issue', 'sectigo.com; validationmethods=http-01']],
    {},
    'ok CAA: the CAA of example.com permits zerossl, by http-01 only',
  ],
  [
    'another CA',
    [['issue', 'letsencrypt.org']],
    {},
    'fail CAA: the CAA of example.com does not name zerossl | fix: add `issue "sectigo.com"` to the CAA of example.com',
  ],
  [
    'another account',
    [['issue', 'sectigo.com; accounturi=https://x.example/2']],
    {},
    'fail CAA: `issue "sectigo.com; accounturi=https://x.example/2"` at example.com is for another account at zerossl | fix: set its accounturi to https://acme.zerossl.com/v2/DV90/account/1',
  ],
  [
    'an account, and none yet',
    [['issue', 'sectigo.com; accounturi=https://x.example/2']],
    { accountUri: undefined },
    'fail CAA: `issue "sectigo.com; accounturi=https://x.example/2"` at example.com is for one account at zerossl, and there is none here yet | fix: lift the accounturi until the first order has made the account, then name that one',
  ],
  [
    'other challenges',
    [['issue', 'sectigo.com; validationmethods=dns-01']],
    {},
    'fail CAA: `issue "sectigo.com; validationmethods=dns-01"` at example.com allows none of tls-alpn-01, http-01 | fix: add "tls-alpn-01,http-01" to its validationmethods',
  ],
  [
    'a critical tag',
    [
      ['issue', 'sectigo.com'],
      ['tbs', 'x'],
    ],
    {},
    'fail CAA: `tbs "x"` at example.com is critical, and CAs that do not know the tag must refuse | fix: remove it from the CAA of example.com, or clear its critical flag',
  ],
  [
    'a CA whose name is not known',
    [['issue', 'letsencrypt.org']],
    { caaIdentities: [] },
    'warn CAA: example.com has CAA records, and zerossl does not say by which name they would permit it | fix: ask who runs zerossl whether it heeds CAA, and for its issuer domain name',
  ],
] as const) {
  t.test(what, async (t) => t.equal(check(records as never, options), expected))
}

t.test('a wildcard is told to change the property that forbids it', async (t) => {
  const records: [string, string][] = [
    ['issue', 'sectigo.com'],
    ['issuewild', 'letsencrypt.org'],
  ]
  t.match(check(records, {}, '*.example.com'), 'add `issuewild "sectigo.com"` to the CAA of example.com')
})

t.test('a lookup that fails', async (t) => {
  const failing = (code: string) => {
    const reject = () => Promise.reject(Object.assign(new Error(`queryCaa ${code}`), { code }))
    return { resolveCaa: reject, resolveCname: reject }
  }
  const words = async (code: string) => {
    const state = await loadCaaState('app.example.com', failing(code) as never, new SystemClock())
    return checkCaa('app.example.com', state, authority, challenges).map(wordsOf)
  }
  t.same(await words('ESERVFAIL'), [
    'fail CAA: the name servers fail (queryCaa ESERVFAIL), and CAs take that for a refusal | fix: mend the name servers of app.example.com, or its DNSSEC',
  ])
  t.same(await words('ETIMEOUT'), [
    'warn CAA: could not be looked up: queryCaa ETIMEOUT | fix: name a resolver that works: --dns HOST:PORT',
  ])
})

t.test('an address has no CAA', async (t) => {
  const state = await loadCaaState('192.0.2.1', {} as never, new SystemClock())
  t.same(checkCaa('192.0.2.1', state, authority, challenges), [])
})
