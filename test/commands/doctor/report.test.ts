import t from 'tap'
import type { HostReport } from '../../../src/commands/doctor/examination.ts'
import { describe } from '../../../src/commands/doctor/report.ts'
import type { Standing } from '../../../src/commands/doctor/standing.ts'

const cas = ['a', 'b'].map((ca) => ({ ca, findings: [] }))

function host(name: string, standings: Readonly<Record<string, Standing>>, more: Partial<HostReport> = {}) {
  return {
    host: name,
    usable: [],
    dependsOnOne: false,
    cas: Object.entries(standings).map(([ca, standing]) => ({ ca, standing })),
    failover: 'ready',
    findings: [],
    ...more,
  } satisfies HostReport
}

t.test('a table of hosts and CAs, then the findings by their subject, each with its fix', async (t) => {
  const text = describe({
    machine: [{ check: 'clock', verdict: 'ok', says: 'agrees' }],
    cas: [
      { ca: 'letsencrypt', findings: [{ check: 'directory', verdict: 'ok', says: 'answers' }] },
      { ca: 'b', findings: [{ check: 'directory', verdict: 'fail', says: 'is down', fix: 'wait' }] },
    ],
    hosts: [
      host('www.x.example', { letsencrypt: 'ok' }),
      host(
        'x.example',
        { b: 'unreachable', letsencrypt: 'CAA forbids' },
        {
          dependsOnOne: true,
          failover: 'no CA',
          findings: [{ check: 'CAA', ca: 'letsencrypt', verdict: 'fail', says: 'hm', fix: 'add it' }],
        },
      ),
    ],
  })
  t.equal(
    text,
    [
      'HOST           letsencrypt  b            FAILOVER',
      'www.x.example  ok           -            ready',
      'x.example      CAA forbids  unreachable  no CA',
      '',
      'This machine',
      '  ok    clock              agrees',
      '',
      'CA letsencrypt',
      '  ok    directory          answers',
      '',
      'CA b',
      '  fail  directory          is down',
      '                           fix: wait',
      '',
      'x.example',
      '  fail  CAA (letsencrypt)  hm',
      '                           fix: add it',
      '',
      '1 of 2 hosts has no CA that can issue.',
    ].join('\n'),
  )
})

t.test('what the table says is not said again', async (t) => {
  const text = describe({
    machine: [{ check: 'instance', verdict: 'warn', says: 'none runs', fix: 'start it' }],
    cas,
    hosts: [
      host(
        'x.example',
        { a: 'ok', b: 'ok' },
        {
          findings: [
            { check: 'CAs', verdict: 'ok', says: '2 can issue: a, b' },
            { check: 'reach', verdict: 'warn', says: 'not tried: no instance runs', fix: 'start it' },
            { check: 'address', verdict: 'ok', says: '192.0.2.1' },
          ],
        },
      ),
    ],
  })
  t.match(text, /^x\.example\n {2}ok {4}address {3}192\.0\.2\.1\n\nNo host depends on one CA alone\.$/m)
  t.equal(text.split('start it').length, 2)
})

t.test('why too few CAs can issue, and what to do, stays below the table', async (t) => {
  const alone = { check: 'CAs', verdict: 'fail', says: 'a alone can issue', fix: 'add another' } as const
  const text = describe({
    machine: [],
    cas,
    hosts: [host('x.example', { a: 'ok' }, { dependsOnOne: true, findings: [alone] })],
  })
  t.match(text, /^ {2}fail {2}CAs {2}a alone can issue\n {13}fix: add another$/m)
})

t.test('what it amounts to tells hosts with one CA from those with none', async (t) => {
  const [alone, without] = [
    { usable: ['a'], dependsOnOne: true },
    { usable: [], dependsOnOne: true },
  ]
  const verdictOn = (...reports: Partial<HostReport>[]) =>
    describe({ machine: [], cas, hosts: reports.map((more, index) => host(`h${index}`, {}, more)) })
      .split('\n')
      .at(-1)
  t.strictSame(
    [
      verdictOn({}, {}),
      verdictOn(alone, {}),
      verdictOn(alone, alone),
      verdictOn(without, without),
      verdictOn(alone, without, {}),
    ],
    [
      'No host depends on one CA alone.',
      '1 of 2 hosts depends on one CA alone.',
      '2 of 2 hosts depend on one CA alone.',
      '2 of 2 hosts have no CA that can issue.',
      '1 of 3 hosts has no CA that can issue. 1 of 3 hosts depends on one CA alone.',
    ],
  )
})

t.test('a CA that supplies no host has a column all the same', async (t) => {
  const text = describe({ machine: [], cas, hosts: [host('*.x.example', { a: 'ok', c: 'cannot issue' })] })
  t.match(text, /^HOST {9}a {3}b {2}c {13}FAILOVER\n\*\.x\.example {2}ok {2}- {2}cannot issue {2}ready$/m)
})

t.test('up to fifty hosts have a row each; of more, those that are alike share one', async (t) => {
  const rowsOf = (count: number) => {
    const alike = Array.from({ length: count - 1 }, (_, index) => host(`h${index}`, { a: 'ok', b: 'ok' }))
    const other = host('other', { a: 'ok', b: 'unreachable' }, { failover: 'one CA alone' })
    const [table = ''] = describe({ machine: [], cas, hosts: [...alike, other] }).split('\n\n')
    return table.split('\n').slice(1)
  }
  t.equal(rowsOf(50).length, 50)
  t.same(rowsOf(51), [
    'h0 and 49 more  ok  ok           ready',
    'other           ok  unreachable  one CA alone',
  ])
})
