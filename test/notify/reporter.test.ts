import t from 'tap'
import type { CaSnapshot } from '../../src/ca/health.ts'
import { VirtualClock } from '../../src/commands/simulate/virtual-clock.ts'
import type { CertificateObtained, DatedEvent } from '../../src/events.ts'
import { type Failovers, Reporter } from '../../src/notify/reporter.ts'
import { makeCertificate } from '../support/certificates.ts'

function makeReporter() {
  const clock = new VirtualClock()
  const events: DatedEvent[] = []
  const down = new Set<string>()
  let kept: Failovers = {}
  const start = (): Reporter =>
    new Reporter({
      clock,
      stateOf: (ca) => (ca === 'gone' ? undefined : down.has(ca) ? 'down' : 'up'),
      exposure: (ca) => `exposed to ${ca}`,
      emit: (event) => events.push(event),
      onFailovers: () => {
        kept = JSON.parse(JSON.stringify(reporter.failovers))
      },
    })
  let reporter = start()
  const restart = (): void => {
    reporter = start()
    reporter.restore(kept)
  }
  const change = (id: string, state: 'up' | 'down'): void => {
    if (state === 'down') down.add(id)
    else down.delete(id)
    reporter.caChanged(snapshot(id, state))
  }
  const types = (): string[] => events.map(({ type }) => type)
  return { clock, down, events, reporter, restart, change, types }
}

function snapshot(id: string, state: 'up' | 'down'): CaSnapshot {
  return {
    id,
    state,
    troubled: false,
    since: 0,
    lastAnswerAt: undefined,
    lastFailure: { at: 0, reason: 'CA_UNAVAILABLE', message: `${id}: answered 503` },
    retryAt: undefined,
    usualMs: 5000,
  }
}

function issued(host: string, ca: string, refused: string[]): CertificateObtained {
  return {
    type: 'certificate.renewed',
    host,
    role: 'live',
    ca,
    notAfter: '2026-09-01T00:00:00Z',
    refused: refused.map((each) => ({ ca: each, reason: 'CA_SKIPPED' })),
  }
}

t.test('an outage is dated, and says why and what it would cost', async (t) => {
  const { clock, events, change } = makeReporter()
  change('a', 'down')
  t.match(events, [
    {
      type: 'ca.degraded',
      ca: 'a',
      reason: 'CA_UNAVAILABLE',
      exposure: 'exposed to a',
      at: new Date(clock.now()).toISOString(),
    },
  ])
})

t.test('a failover is one pair of events an outage, whatever the number of hosts', async (t) => {
  const { change, events, reporter, types } = makeReporter()
  change('a', 'down')
  for (let index = 0; index < 20; index++) reporter.renewal(issued(`h${index}.example`, 'b', ['a']))
  reporter.renewal(issued('last.example', 'c', ['a']))
  change('a', 'up')
  t.same(
    types().filter((type) => type !== 'certificate.renewed'),
    ['ca.degraded', 'failover.started', 'ca.recovered', 'failover.ended'],
  )
  t.match(events.at(-1), { ca: 'a', instead: ['b', 'c'], certificates: 21 })
})

t.test('a CA that refuses one order is not failed over from', async (t) => {
  const { reporter, types } = makeReporter()
  reporter.renewal(issued('x.example', 'b', ['a']))
  t.same(types(), ['certificate.renewed'])
})

t.test('an outage that nobody was hurt by has no failover', async (t) => {
  const { change, types } = makeReporter()
  change('a', 'down')
  change('a', 'up')
  t.same(types(), ['ca.degraded', 'ca.recovered'])
})

t.test('a failover that outlasts a restart ends once, with all that came of it', async (t) => {
  const { events, reporter, restart, change, types } = makeReporter()
  change('a', 'down')
  reporter.renewal(issued('one.example.com', 'b', ['a']))
  restart()
  t.notOk(types().includes('failover.ended'))
  change('a', 'up')
  t.match(events.at(-1), { type: 'failover.ended', ca: 'a', instead: ['b'], certificates: 1 })
  restart()
  t.equal(types().filter((type) => type === 'failover.ended').length, 1)
})

t.test('a failover that ended while nothing ran is told at the start, unless its CA is gone', async (t) => {
  const { down, events, reporter, restart, change, types } = makeReporter()
  change('a', 'down')
  reporter.renewal(issued('one.example.com', 'b', ['a', 'gone']))
  down.clear()
  restart()
  t.match(events.at(-1), { type: 'failover.ended', ca: 'a' })
  t.equal(types().filter((type) => type === 'failover.ended').length, 1)
})

t.test('a certificate that must go is told of for each host that has it', async (t) => {
  const { events, reporter } = makeReporter()
  const hosts = ['one.example.com', 'two.example.com']
  const certificate = await makeCertificate({ names: hosts, source: 'a' })
  reporter.verdict(certificate, hosts, 'revoked')
  const { serial } = certificate
  t.match(
    events,
    hosts.map((host) => ({ type: 'certificate.revoked', host, source: 'a', serial, fault: 'revoked' })),
  )
})
