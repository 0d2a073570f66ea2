import t from 'tap'
import { didYouMean, formatPath } from '../../src/config/problems.ts'

t.test('paths are written as one would type them', async (t) => {
  t.equal(formatPath([]), '')
  t.equal(formatPath(['sites', 0, 'upstreams', 12]), 'sites[0].upstreams[12]')
  t.equal(formatPath(['cas', 'letsencrypt-staging', 'eab']), 'cas.letsencrypt-staging.eab')
  t.equal(formatPath(['cas', 'My "CA"']), 'cas["My \\"CA\\""]')
  t.equal(formatPath(['$schema']), '$schema')
})

t.test('the nearest of the candidates is meant, or none', async (t) => {
  const keys = ['hosts', 'upstreams', 'routes', 'tls', 'hsts', 'redirect', 'upstreamTls']
  const cases: [word: string, meant: string | undefined][] = [
    ['upstream', 'upstreams'],
    ['upstreamtls', 'upstreamTls'],
    ['hots', 'hosts'],
    ['ohsts', 'hosts'],
    ['TSL', 'tls'],
    ['rediretc', 'redirect'],
    ['certificate', undefined],
    ['x', undefined],
    ['', undefined],
  ]
  for (const [word, meant] of cases)
    t.equal(didYouMean(word, keys), meant && `did you mean "${meant}"?`, word)
})
