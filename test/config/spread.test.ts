import fc from 'fast-check'
import t from 'tap'
import { configSchema } from '../../src/config/schema.ts'
import { resolveSites } from '../../src/config/sites.ts'
import { spreadCas } from '../../src/config/spread.ts'

const all = () => true
const hosts = Array.from({ length: 3000 }, (_, index) => `host-${index}.example.com`)

t.test('each CA is first for an equal share of hosts', async (t) => {
  for (const cas of [
    ['a', 'b'],
    ['a', 'b', 'c'],
  ]) {
    const shares = Map.groupBy(hosts, (host) => spreadCas(host, cas, all)[0])
    const fair = hosts.length / cas.length
    for (const ca of cas) t.ok(Math.abs((shares.get(ca)?.length ?? 0) - fair) < fair * 0.1, `${ca} of ${cas}`)
  }
})

t.test('one that is added leaves the order of the others', async () => {
  const cas = fc.uniqueArray(fc.string({ minLength: 1 }), { minLength: 2, maxLength: 6 })
  fc.assert(
    fc.property(fc.domain(), cas, (host, [added = '', ...others]) => {
      const after = spreadCas(host, [...others, added], all).filter((ca) => ca !== added)
      return after.join('\n') === spreadCas(host, others, all).join('\n')
    }),
  )
})

t.test('private CAs keep their place', async (t) => {
  for (const host of hosts.slice(0, 50)) {
    const spread = spreadCas(host, ['a', 'private', 'b'], (ca) => ca !== 'private')
    t.equal(spread[1], 'private')
    t.same([...spread].sort(), ['a', 'b', 'private'])
  }
})

t.test('the config spreads only when it says so', async (t) => {
  const firsts = (tls: object) => {
    const eab = { kid: 'kid', hmacKey: 'aG1hYw' }
    const sites = [{ hosts: hosts.slice(0, 50), upstreams: ['http://127.0.0.1:3000'] }]
    const config = configSchema.parse({ cas: { letsencrypt: {}, zerossl: { eab } }, tls, sites })
    return new Set(resolveSites(config).map((site) => (site.tls.kind === 'issued' ? site.tls.cas[0] : '')))
  }
  t.same([...firsts({})], ['letsencrypt'])
  t.same([...firsts({ spread: true })].sort(), ['letsencrypt', 'zerossl'])
})
