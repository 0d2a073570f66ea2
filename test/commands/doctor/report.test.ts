import t from 'tap'
import { describe, summarize } from '../../../src/commands/doctor/report.ts'

const host = (name: string, usable: readonly string[], dependsOnOne: boolean) => ({
  host: name,
  usable,
  dependsOnOne,
  findings: [],
})

t.test('grouped by host, with columns and fixes', async (t) => {
  const text = describe({
    machine: [{ check: 'clock', verdict: 'ok', says: 'agrees' }],
    cas: [{ ca: 'a', findings: [{ check: 'directory', verdict: 'fail', says: 'is down', fix: 'wait' }] }],
    hosts: [
      {
        host: 'x.example',
        usable: [],
        dependsOnOne: true,
        findings: [{ check: 'CAA', ca: 'a', verdict: 'warn', says: 'hm', fix: 'ask' }],
      },
    ],
  })
  t.equal(
    text,
    [
      'This machine',
      '  ok    clock      agrees',
      '',
      'CA a',
      '  fail  directory  is down',
      '                   fix: wait',
      '',
      'x.example',
      '  warn  CAA (a)    hm',
      '                   fix: ask',
      '',
      '1 host depends on one CA alone: x.example (none can issue)',
    ].join('\n'),
  )
})

t.test('the summary', async (t) => {
  t.equal(summarize([host('a.example', ['a', 'b'], false)]), 'No host depends on one CA alone.')
  t.equal(
    summarize([host('a.example', ['a'], true), host('b.example', [], true), host('c.example', [], false)]),
    '2 hosts depend on one CA alone: a.example (a), b.example (none can issue)',
  )
  const many = Array.from({ length: 12 }, (_, index) => host(`h${index}`, ['a'], true))
  t.match(summarize(many), /^12 hosts depend on one CA alone: h0 \(a\), .*h9 \(a\), and 2 more$/)
})
