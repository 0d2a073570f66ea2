import { Resolver } from 'node:dns/promises'
import t from 'tap'
import {
  type CaaLookup,
  type CaaProperty,
  type CaaQuestion,
  judgeCaa,
  loadCaa,
  parseIssueValue,
} from '../../src/ca/caa.ts'
import { startBind } from '../peers/bind.ts'
import { startDns } from '../peers/dns.ts'

/** `0 issue "ca.example"` as zone files write it. */
function property(text: string): CaaProperty {
  const [, flags = '', tag = '', value = ''] = /^(\d+) (\S+) "(.*)"$/.exec(text) ?? []
  return { critical: Number(flags) >= 128, tag, value }
}

function judge(records: readonly string[], question: Partial<CaaQuestion> = {}): string {
  const verdict = judgeCaa(records.map(property), {
    wildcard: false,
    identities: ['ca1.example.net'],
    accountUri: undefined,
    challenges: ['tls-alpn-01', 'http-01'],
    ...question,
  })
  return verdict.permits ? verdict.challenges.join(' ') : `no: ${verdict.because}`
}

const BOTH = 'tls-alpn-01 http-01'
const OTHER_CA = { identities: ['ca2.example.org'] }
const WILD = { wildcard: true }

for (const [what, records, question, expected] of [
  ['no records', [], {}, BOTH],
  ['4.4 report: iodef alone restricts nothing', ['0 iodef "mailto:security@example.com"'], {}, BOTH],
  ['4.2 the CA is named', ['0 issue "ca1.example.net"'], {}, BOTH],
  ['4.2 another is named', ['0 issue "ca1.example.net"'], OTHER_CA, 'no: issuer'],
  ['4.2 both are named', ['0 issue "ca1.example.net"', '0 issue "ca2.example.org"'], OTHER_CA, BOTH],
  ['4.2 a parameter of the CA’s own', ['0 issue "ca1.example.net; account=230123"'], {}, BOTH],
  ['4.2 nobody', ['0 issue ";"'], {}, 'no: issuer'],
  ['4.2 malformed', ['0 issue "%%%%%"'], {}, 'no: issuer'],
  ['4.2 nobody, and one after all', ['0 issue ";"', '0 issue "ca1.example.net"'], {}, BOTH],
  ['4.2 case does not matter', ['0 issue "CA1.Example.NET"'], {}, BOTH],
  [
    '4.3 wild: plain name',
    ['0 issue "ca1.example.net"', '0 issuewild "ca2.example.org"'],
    OTHER_CA,
    'no: issuer',
  ],
  [
    '4.3 wild: wildcard',
    ['0 issue "ca1.example.net"', '0 issuewild "ca2.example.org"'],
    { ...OTHER_CA, ...WILD },
    BOTH,
  ],
  [
    '4.3 wild: wildcard at the CA of issue',
    ['0 issue "ca1.example.net"', '0 issuewild "ca2.example.org"'],
    WILD,
    'no: issuer',
  ],
  ['4.3 wild2: issue holds for wildcards too', ['0 issue "ca1.example.net"'], WILD, BOTH],
  [
    '4.3 wild2: issue holds against others’ wildcards',
    ['0 issue "ca1.example.net"'],
    { ...OTHER_CA, ...WILD },
    'no: issuer',
  ],
  [
    '4.3 wild3: nobody for plain names',
    ['0 issuewild "ca2.example.org"', '0 issue ";"'],
    OTHER_CA,
    'no: issuer',
  ],
  [
    '4.3 wild3: wildcards all the same',
    ['0 issuewild "ca2.example.org"', '0 issue ";"'],
    { ...OTHER_CA, ...WILD },
    BOTH,
  ],
  ['4.3 issuewild for nobody', ['0 issue "ca1.example.net"', '0 issuewild ";"'], WILD, 'no: issuer'],
  ['4.3 issuewild for nobody: plain name', ['0 issue "ca1.example.net"', '0 issuewild ";"'], {}, BOTH],
  ['4.3 wild4: issuewild says nothing of plain names', ['0 issuewild "ca1.example.net"'], OTHER_CA, BOTH],
  ['4.3 wild4: issuewild alone', ['0 issuewild "ca1.example.net"'], { ...OTHER_CA, ...WILD }, 'no: issuer'],
  ['4.5 critical and unknown', ['0 issue "ca1.example.net"', '128 tbs "Unknown"'], {}, 'no: critical'],
  ['4.5 unknown, not critical', ['0 issue "ca1.example.net"', '0 tbs "Unknown"'], {}, BOTH],
  ['4.5 critical and known', ['128 issue "ca1.example.net"'], {}, BOTH],
] as const) {
  t.test(`RFC 8659, ${what}`, async (t) => t.equal(judge(records, question), expected))
}

const ACCOUNT = 'https://example.net/account/1234'
const OURS = { identities: ['example.net'], accountUri: ACCOUNT }
const EITHER_ACCOUNT = [
  `0 issue "example.net; accounturi=${ACCOUNT}"`,
  '0 issue "example.net; accounturi=https://example.net/account/2345"',
]
const TWO_ACCOUNTS = [
  `0 issue "example.net; accounturi=${ACCOUNT}; validationmethods=http-01"`,
  '0 issue "example.net; accounturi=https://example.net/account/2345; validationmethods=dns-01"',
]

for (const [what, records, question, expected] of [
  ['the account is ours', [`0 issue "example.net; accounturi=${ACCOUNT}"`], {}, BOTH],
  [
    'the account is another’s',
    ['0 issue "example.net; accounturi=https://example.net/account/2345"'],
    {},
    'no: account',
  ],
  [
    'there is no account yet',
    [`0 issue "example.net; accounturi=${ACCOUNT}"`],
    { accountUri: undefined },
    'no: account',
  ],
  [
    'two accounts in one property satisfy nobody',
    [`0 issue "example.net; accounturi=${ACCOUNT}; accounturi=${ACCOUNT}"`],
    {},
    'no: account',
  ],
  ['A: each of two accounts', EITHER_ACCOUNT, {}, BOTH],
  [
    'A: each of two accounts, the second',
    EITHER_ACCOUNT,
    { accountUri: 'https://example.net/account/2345' },
    BOTH,
  ],
  [
    'A: neither of two accounts',
    EITHER_ACCOUNT,
    { accountUri: 'https://example.net/account/3456' },
    'no: account',
  ],
  [
    '4: an account of another URI that begins as ours',
    [`0 issue "example.net; accounturi=${ACCOUNT}5"`],
    {},
    'no: account',
  ],
  [
    '4: a method of the CA’s own, beside ours',
    ['0 issue "example.net; validationmethods=http-01,ca-foo"'],
    {},
    'http-01',
  ],
  [
    'A: a method that nobody knows',
    ['0 issue "example.net; validationmethods=dns-01,xyz-01"'],
    {},
    'no: challenge',
  ],
  ['for wildcards too', ['0 issuewild "example.net; validationmethods=dns-01"'], WILD, 'no: challenge'],
  ['one method', ['0 issue "example.net; validationmethods=http-01"'], {}, 'http-01'],
  ['two methods', ['0 issue "example.net; validationmethods=http-01,tls-alpn-01"'], {}, BOTH],
  ['methods that are not ours', ['0 issue "example.net; validationmethods=dns-01"'], {}, 'no: challenge'],
  ['no method', ['0 issue "example.net; validationmethods="'], {}, 'no: challenge'],
  [
    'methods said twice satisfy nobody',
    ['0 issue "example.net; validationmethods=http-01; validationmethods=http-01"'],
    {},
    'no: challenge',
  ],
  [
    'methods of several properties add up',
    [
      '0 issue "example.net; validationmethods=http-01"',
      '0 issue "example.net; validationmethods=tls-alpn-01"',
    ],
    {},
    BOTH,
  ],
  ['account and method, each for itself', TWO_ACCOUNTS, {}, 'http-01'],
  [
    'account and method of another',
    TWO_ACCOUNTS,
    { accountUri: 'https://example.net/account/2345' },
    'no: challenge',
  ],
] as const) {
  t.test(`RFC 8657, ${what}`, async (t) => t.equal(judge(records, { ...OURS, ...question }), expected))
}

t.test('the grammar of issue values', async (t) => {
  const nobody = { issuer: '', parameters: [] }
  for (const [text, expected] of [
    ['', nobody],
    [' ; ', nobody],
    [' ca.example ', { issuer: 'ca.example', parameters: [] }],
    ['ca.example;', { issuer: 'ca.example', parameters: [] }],
    [
      'ca.example ; a = 1;B=2=3',
      {
        issuer: 'ca.example',
        parameters: [
          { tag: 'a', value: '1' },
          { tag: 'b', value: '2=3' },
        ],
      },
    ],
    ['ca.example. ', nobody],
    ['-ca.example', nobody],
    ['ca example', nobody],
    ['ca.example; a', nobody],
    ['ca.example; a=1;', nobody],
    ['ca.example; a=b c', nobody],
  ] as const) {
    t.same(parseIssueValue(text), expected, JSON.stringify(text))
  }
})

t.test('climbing the tree', async (t) => {
  type Zone = Record<string, { caa?: string; cname?: string; error?: string }>
  const answer = <T>(value: T | undefined, error = 'ENODATA') =>
    value === undefined
      ? Promise.reject(Object.assign(new Error(error), { code: error }))
      : Promise.resolve([value])
  const asked: string[] = []
  const zone = (records: Zone): CaaLookup =>
    ({
      resolveCaa(name: string) {
        asked.push(name)
        const { caa, error } = records[name] ?? {}
        return answer(caa && { critical: 0, type: 'CAA', issue: caa }, error ?? 'ENOTFOUND')
      },
      resolveCname: (name: string) => answer(records[name]?.cname),
    }) as CaaLookup
  const load = async (host: string, records: Zone) => {
    asked.length = 0
    const { domain, properties } = await loadCaa(host, zone(records))
    return `${domain}: ${properties.map(({ value }) => value).join()}`
  }

  t.test('up to the first that has records, and no further', async (t) => {
    const records = { 'example.com': { caa: 'near' }, com: { caa: 'far' } }
    t.equal(await load('a.b.example.com', records), 'example.com: near')
    t.same(asked, ['a.b.example.com', 'b.example.com', 'example.com'])
  })
  t.test('a wildcard begins at its parent', async (t) => {
    t.equal(await load('*.example.com', { 'example.com': { caa: 'x' } }), 'example.com: x')
    t.same(asked, ['example.com'])
  })
  t.test('nowhere', async (t) => t.equal(await load('a.example.com', {}), 'a.example.com: '))
  t.test('an alias lends the records of its target, though not of what is above that', async (t) => {
    const records: Zone = {
      'a.example.com': { cname: 'b.example.net' },
      'b.example.net': { cname: 'c.example.org' },
      'c.example.org': { caa: 'target' },
    }
    t.equal(await load('a.example.com', records), 'a.example.com: target')
    const above = {
      'a.example.com': { cname: 'b.example.net' },
      'example.net': { caa: 'wrong' },
      'example.com': { caa: 'right' },
    }
    t.equal(await load('a.example.com', above), 'example.com: right')
  })
  t.test('aliases in a circle end', async (t) => {
    const circle = { 'a.example.com': { cname: 'a.example.com' }, com: { caa: 'x' } }
    t.equal(await load('a.example.com', circle), 'com: x')
  })
  t.test('a name server that fails is no absence', async (t) => {
    const records = { 'a.example.com': { error: 'ESERVFAIL' }, 'example.com': { caa: 'x' } }
    await t.rejects(load('a.example.com', records), { code: 'ESERVFAIL' })
  })
  t.test('an address has none', (t) => t.rejects(load('192.0.2.1', {}), RangeError))
})

t.test('from a real name server', async (t) => {
  const dns = await startDns()
  t.teardown(() => dns.stop())
  const resolver = new Resolver()
  resolver.setServers([dns.address])
  await dns.addCaa('example.com', [
    { tag: 'issue', value: 'ca1.example.net; a=1' },
    { tag: 'tbs', value: 'Unknown' },
  ])
  await dns.addCname('alias.example.org', 'example.com')
  const properties = [
    { tag: 'issue', value: 'ca1.example.net; a=1', critical: false },
    { tag: 'tbs', value: 'Unknown', critical: false },
  ]
  t.same(await loadCaa('a.b.example.com', resolver), { domain: 'example.com', properties })
  t.same(await loadCaa('alias.example.org', resolver), { domain: 'alias.example.org', properties })
})

t.test('from bind9', async (t) => {
  const many = Array.from({ length: 40 }, (_, index) => `@ CAA 0 issue "ca${index}.example.net"`)
  const bind = await startBind({
    'example.com': `@ CAA 0 issue "ca1.example.net"
deep.empty A 127.0.0.1
*.wild CAA 0 issuewild "ca2.example.org"
alias CNAME target.example.org.
old DNAME new.example.org.
lapsed CNAME www.broken.example.
`,
    'example.org': `target CAA 128 issue "ca3.example; accounturi=https://ca3.example/1; validationmethods=http-01"
a.new CAA 0 issue ";"
`,
    'many.example': many.join('\n'),
    'broken.example': null,
  })
  t.teardown(() => bind.stop())
  const resolver = new Resolver({ timeout: 5000, tries: 1 })
  resolver.setServers([bind.address])
  const load = async (host: string): Promise<string> => {
    const { domain, properties } = await loadCaa(host, resolver)
    return [
      domain,
      ...properties.map(({ tag, value, critical }) => `${critical ? '!' : ''}${tag} ${value}`),
    ].join(' | ')
  }
  const apex = 'example.com | issue ca1.example.net'
  t.equal(await load('a.b.example.com'), apex, 'names that are not there')
  t.equal(await load('empty.example.com'), apex, 'a name that only has names below it')
  t.equal(await load('deep.empty.example.com'), apex, 'a name that has other records')
  t.equal(
    await load('*.x.wild.example.com'),
    'x.wild.example.com | issuewild ca2.example.org',
    'a wildcard record',
  )
  t.equal(
    await load('alias.example.com'),
    'alias.example.com | !issue ca3.example; accounturi=https://ca3.example/1; validationmethods=http-01',
    'an alias into another zone',
  )
  t.equal(await load('a.old.example.com'), 'a.old.example.com | issue ;', 'a tree that is an alias')
  t.equal((await loadCaa('www.many.example', resolver)).properties.length, 40, 'more than a datagram holds')
  await t.rejects(load('www.broken.example'), { code: 'ESERVFAIL' }, 'a zone that cannot be had')
  await t.rejects(load('lapsed.example.com'), { code: 'ESERVFAIL' }, 'nor through an alias')
})
