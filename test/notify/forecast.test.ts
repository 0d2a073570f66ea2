import t from 'tap'
import { describeExposure, forecast, type Supplied } from '../../src/notify/forecast.ts'
import { DAY, HOUR } from '../../src/time.ts'

const NOW = Date.parse('2026-11-24T12:00:00Z')
const none = (): boolean => false

function host(name: string, cas: string[], ...lefts: number[]): Supplied {
  return { host: name, cas, notAfters: lefts.map((left) => NOW + left) }
}

t.test('a host that only this CA supplies lives until the last of its certificates ends', async (t) => {
  const exposures = forecast('a', [host('x.example', ['a'], 2 * DAY, 5 * DAY)], none)
  t.same(exposures, [{ host: 'x.example', from: NOW + 5 * DAY }])
})

t.test('a host that another CA can supply is safe, and only while that one can', async (t) => {
  const hosts = [host('x.example', ['a', 'b'], DAY)]
  t.same(
    forecast('a', hosts, (ca) => ca === 'b'),
    [],
  )
  t.equal(forecast('a', hosts, none).length, 1)
})

t.test('another CA is asked for the most urgent host first, by when each must have it', async (t) => {
  const asked: unknown[] = []
  const hosts = [
    host('late.example', ['a', 'b'], DAY, 2 * DAY),
    host('soon.example', ['a', 'b'], HOUR),
    host('never.example', ['b', 'a']),
    host('other.example', ['b'], HOUR),
  ]
  const canIssue = (...question: unknown[]): boolean => asked.push(question) < 3
  t.same(forecast('a', hosts, canIssue), [{ host: 'late.example', from: NOW + 2 * DAY }])
  t.same(asked, [
    ['b', 'never.example', 0],
    ['b', 'soon.example', NOW + HOUR],
    ['b', 'late.example', NOW + 2 * DAY],
  ])
})

t.test('that the CA in question may look well does not help', async (t) => {
  t.equal(forecast('a', [host('x.example', ['a'], DAY)], () => true).length, 1)
})

t.test('a host of other CAs is not concerned', async (t) => {
  t.same(forecast('a', [host('x.example', ['b'], DAY), host('file.example', [], DAY)], none), [])
})

t.test('the first to expire comes first, and a host with nothing before all', async (t) => {
  const hosts = [
    host('late.example', ['a'], DAY),
    host('soon.example', ['a'], HOUR),
    host('never.example', ['a']),
  ]
  t.same(
    forecast('a', hosts, none).map((exposure) => exposure.host),
    ['never.example', 'soon.example', 'late.example'],
  )
})

t.test('in words', async (t) => {
  const words = (...lefts: number[]): string =>
    describeExposure(
      lefts.map((left) => ({ host: 'x.example', from: NOW + left })),
      NOW,
    )
  t.equal(words(), '')
  t.equal(words(2 * HOUR), '1 host expires on Tue 2026-11-24 14:00 UTC')
  t.equal(words(2 * HOUR, DAY), '2 hosts expire from Tue 2026-11-24 14:00 UTC on')
  t.equal(words(-HOUR), '1 host has no valid certificate already')
  t.equal(
    words(-HOUR, -1, DAY),
    '2 hosts have no valid certificate already, 1 host expires on Wed 2026-11-25 12:00 UTC',
  )
})
