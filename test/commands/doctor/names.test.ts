import t from 'tap'
import { checkName } from '../../../src/commands/doctor/names.ts'
import { resolveCa } from '../../../src/config/cas.ts'
import { wordsOf } from './words.ts'

const shortlived = { contact: [], profile: 'shortlived' }

for (const [host, ca, config, expected] of [
  ['app.example.com', 'letsencrypt', undefined, []],
  [
    'xn--bcher-kva.example.com',
    'letsencrypt',
    undefined,
    ['ok name: letsencrypt issues internationalized names'],
  ],
  [
    'xn--bcher-kva.example.com',
    'google',
    undefined,
    [
      'fail name: google issues no internationalized names | fix: add another CA to `tls.cas` for xn--bcher-kva.example.com',
    ],
  ],
  [
    '192.0.2.1',
    'letsencrypt',
    undefined,
    [
      'fail name: letsencrypt issues IP addresses by its profile shortlived only | fix: set "profile": "shortlived" in `cas.letsencrypt`',
    ],
  ],
  ['2001:db8::1', 'letsencrypt', shortlived, ['ok name: letsencrypt issues IP addresses']],
  [
    '*.example.com',
    'sslcom',
    undefined,
    ['fail name: sslcom issues no wildcards | fix: add another CA to `tls.cas` for *.example.com'],
  ],
  ['192.0.2.1', 'internal', undefined, []],
] as const) {
  t.test(`${host} from ${ca}`, async (t) => {
    const resolved = resolveCa(ca, config)
    t.ok(resolved)
    if (resolved) t.same(checkName(host, resolved).map(wordsOf), expected)
  })
}

t.test('nothing is known of a private CA', async (t) => {
  const corp = resolveCa('corp', { contact: [], directory: 'https://ca.corp.example/dir' })
  if (corp) t.same(checkName('192.0.2.1', corp), [])
  t.ok(corp)
})
