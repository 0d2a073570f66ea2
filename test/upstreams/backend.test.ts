import { writeFileSync } from 'node:fs'
import { join } from 'node:path'
import t from 'tap'
import { parseUpstream } from '../../src/config/schema.ts'
import { type Backend, Backends } from '../../src/upstreams/backend.ts'
import { Names } from '../../src/upstreams/names.ts'
import { CREDENTIALS, ROOT_PEM } from '../http/front.ts'
import { makeCertificate } from '../support/certificates.ts'

type UpstreamTls = Parameters<Parameters<Parameters<Backends['renew']>[0]>[0]>[1]

function renew(backends: Backends, ...wanted: [string, UpstreamTls?][]): Backend[] {
  const found: Backend[] = []
  backends.renew((find) => {
    for (const [url, tls = { verify: true }] of wanted) found.push(find(parseUpstream(url)!, tls))
  })
  return found
}

t.test('routes to one upstream share its backend', async (t) => {
  const [one, two] = renew(new Backends(new Names()), ['http://127.0.0.1:1'], ['http://127.0.0.1:1'])
  t.equal(one, two)
})

t.test('ways of verifying are kept apart for https, and mean nothing for http', async (t) => {
  const [one, two] = renew(
    new Backends(new Names()),
    ['https://a.example'],
    ['https://a.example', { verify: false }],
  )
  t.not(one, two)
  const [three, four] = renew(
    new Backends(new Names()),
    ['http://a.example'],
    ['http://a.example', { verify: false }],
  )
  t.equal(three, four)
})

t.test('a root file that has changed makes a new backend', async (t) => {
  const roots = join(t.testdir({}), 'roots.pem')
  const backends = new Backends(new Names())
  const find = (): Backend | undefined => renew(backends, ['https://a.example', { verify: true, roots }])[0]
  writeFileSync(roots, ROOT_PEM)
  const first = find()
  t.equal(find(), first)
  writeFileSync(roots, `${ROOT_PEM}\n`)
  t.not(find(), first)
  t.equal(first?.retired.aborted, true)
})

t.test('a certificate to show that has changed makes a new backend', async (t) => {
  const folder = t.testdir({})
  const [certificate, key] = [join(folder, 'own.pem'), join(folder, 'own.key')]
  const backends = new Backends(new Names())
  const find = (): Backend | undefined =>
    renew(backends, ['https://a.example', { verify: true, certificate, key }])[0]
  writeFileSync(certificate, CREDENTIALS.chainPem)
  writeFileSync(key, CREDENTIALS.keyPem)
  const first = find()
  t.equal(find(), first)
  const other = await makeCertificate({ names: ['other.example'] })
  writeFileSync(certificate, other.chainPem)
  t.throws(find, {
    name: 'ConfigError',
    message: `sites.upstreamTls.certificate: ${certificate}: its first certificate does not belong to the private key in ${key}`,
  })
  t.equal(first?.retired.aborted, false, 'and changes nothing')
  writeFileSync(key, other.keyPem)
  t.not(find(), first)
  t.equal(first?.retired.aborted, true)
})

t.test('a certificate that cannot be shown is explained, and its key is in no message', (t) => {
  const folder = t.testdir({})
  const [certificate, key] = [join(folder, 'own.pem'), join(folder, 'own.key')]
  const fault = (): string => {
    try {
      renew(new Backends(new Names()), ['https://a.example', { verify: true, certificate, key }])
      return ''
    } catch (error) {
      return String(error)
    }
  }
  t.match(fault(), /own\.pem: cannot be read/)
  writeFileSync(certificate, CREDENTIALS.chainPem)
  t.match(fault(), /own\.key: cannot be read/)
  const damaged = CREDENTIALS.keyPem.replace(/\n(\w{8})/, '\nAAAAAAAA')
  writeFileSync(key, damaged)
  t.match(fault(), /own\.key: holds no PEM private key/)
  t.notMatch(fault(), damaged.split('\n')[1])
  writeFileSync(key, CREDENTIALS.keyPem.replaceAll('PRIVATE', 'ENCRYPTED PRIVATE'))
  t.match(fault(), /own\.key: the private key is encrypted/)
  t.end()
})

t.test('the name to verify: by config, else the upstream’s; none for an address', async (t) => {
  const [plain, byHost, byName, byAddress] = renew(
    new Backends(new Names()),
    ['http://a.example'],
    ['https://a.example'],
    ['https://a.example', { verify: true, serverName: 'b.example' }],
    ['https://192.0.2.1'],
  )
  t.equal(plain?.tls, undefined)
  t.match(byHost?.tls, { servername: 'a.example', rejectUnauthorized: true })
  t.equal(byName?.tls?.servername, 'b.example')
  t.equal(byAddress?.tls?.servername, '')
})
