import fc from 'fast-check'
import t from 'tap'
import { VirtualClock } from '../../src/commands/simulate/virtual-clock.ts'
import { ProxyError } from '../../src/errors.ts'
import { AccessLog, type RequestRecord } from '../../src/http/access-log.ts'
import { Lines } from '../../src/log.ts'
import { Metrics } from '../../src/metrics.ts'
import { type MemoryLog, memoryLog } from '../support/log.ts'

const CLOCK = new VirtualClock(Date.parse('2026-06-19T12:00:00.000Z'))

const REQUEST: RequestRecord = {
  id: 'abc-1',
  method: 'GET',
  host: 'app.example.com',
  target: '/a\u001b[2J?token=secret',
  status: 200,
  bodyBytes: 5,
  durationMs: 1.26,
  upstream: 'http://127.0.0.1:1',
  clientAddress: '192.0.2.1',
  protocol: 'HTTP/1.1',
  error: undefined,
}

function record(access: boolean | number, random: () => number, ...requests: RequestRecord[]): MemoryLog {
  const memory = memoryLog()
  const accessLog = new AccessLog({
    clock: CLOCK,
    log: memory.log,
    metrics: new Metrics(),
    access: () => access,
    random,
  })
  for (const request of requests) accessLog.record(request)
  return memory
}

t.test('one line says what was asked, answered and how long it took; the query stays out', async (t) => {
  const [line] = record(true, () => 0.99, REQUEST).lines
  t.match(line, {
    level: 30,
    msg: 'request',
    id: 'abc-1',
    method: 'GET',
    host: 'app.example.com',
    path: '/a\u001b[2J',
    status: 200,
    bytes: 5,
    ms: 1.3,
    upstream: 'http://127.0.0.1:1',
    client: '192.0.2.1',
    protocol: 'HTTP/1.1',
  })
  t.notMatch(JSON.stringify(line), 'secret')
})

t.test('none, all, or a share of the lines', async (t) => {
  t.equal(record(false, () => 0, REQUEST).lines.length, 0)
  t.equal(record(0.25, () => 0.24, REQUEST).lines.length, 1)
  t.equal(record(0.25, () => 0.25, REQUEST).lines.length, 0)
})

t.test('a share that a reload changes holds from the next request on', async (t) => {
  const { lines, log } = memoryLog()
  let share = 0
  const accessLog = new AccessLog({
    clock: CLOCK,
    log,
    metrics: new Metrics(),
    access: () => share,
    random: () => 0.5,
  })
  accessLog.record(REQUEST)
  share = 1
  accessLog.record(REQUEST)
  t.equal(lines.length, 1)
})

t.test('a failure behind the proxy is a warning with its cause, in any case', async (t) => {
  const error = new ProxyError('UPSTREAM_TIMEOUT', 504, 'http://127.0.0.1:1: no answer in time')
  const misdirected = new ProxyError('MISDIRECTED', 421, 'not here')
  const { lines } = record(
    false,
    () => 0,
    { ...REQUEST, status: 504, error },
    { ...REQUEST, status: 421, error: misdirected },
  )
  t.equal(lines.length, 1)
  t.match(lines[0], { level: 40, msg: 'request failed', status: 504, err: { code: 'UPSTREAM_TIMEOUT' } })
})

t.test('every request is counted, logged or not', async (t) => {
  const metrics = new Metrics()
  const accessLog = new AccessLog({
    clock: CLOCK,
    log: memoryLog().log,
    metrics,
    access: () => false,
    random: () => 0,
  })
  accessLog.record(REQUEST)
  accessLog.record({ ...REQUEST, status: 499 })
  const { text } = await metrics.expose()
  t.match(text, 'holdfast_requests_total{code="200"} 1')
  t.match(text, 'holdfast_requests_total{code="499"} 1')
})

/** The text of the lines that are made by us, and what pino makes of the same. */
function bothWays(request: RequestRecord): { ours: string; theirs: unknown } {
  let ours = ''
  const memory = memoryLog()
  const lines = new Lines((text) => {
    ours += text
  })
  const options = { clock: CLOCK, metrics: new Metrics(), access: () => true, random: () => 0 }
  new AccessLog({ ...options, log: Object.assign(memoryLog().log, { lines }) }).record(request)
  lines.flush()
  new AccessLog({ ...options, log: memory.log }).record(request)
  return { ours, theirs: memory.lines[0] }
}

t.test('where the log is JSON, lines are what pino would make of them', async (t) => {
  const text = fc.string({ unit: 'binary', maxLength: 20 })
  const requests = fc.record<RequestRecord>({
    id: text,
    method: text,
    host: fc.option(text, { nil: undefined }),
    target: text,
    status: fc.integer({ min: 100, max: 599 }),
    bodyBytes: fc.nat(),
    durationMs: fc.double({ min: 0, max: 1e6, noNaN: true }),
    upstream: fc.option(text, { nil: undefined }),
    clientAddress: text,
    protocol: fc.constantFrom('HTTP/1.0', 'HTTP/1.1', 'HTTP/2'),
    error: fc.constant(undefined),
  })
  fc.assert(
    fc.property(requests, (request) => {
      const { ours, theirs } = bothWays(request)
      const { level, time, ...rest } = JSON.parse(ours)
      const { level: _, time: __, ...expected } = theirs as Record<string, unknown>
      return (
        ours.endsWith('}\n') &&
        level === 'info' &&
        time === '2026-06-19T12:00:00.000Z' &&
        JSON.stringify(rest) === JSON.stringify(expected)
      )
    }),
  )
  t.pass('for any request')
})

t.test('lines of one turn of the event loop are one write, and none is at a level that is off', async (t) => {
  const writes: string[] = []
  const lines = new Lines((text) => writes.push(text))
  const log = Object.assign(memoryLog().log, { lines })
  const options = { clock: CLOCK, metrics: new Metrics(), access: () => true, random: () => 0 }
  const accessLog = new AccessLog({ ...options, log })
  accessLog.record(REQUEST)
  accessLog.record(REQUEST)
  t.equal(writes.length, 0)
  await new Promise(setImmediate)
  t.equal(writes.length, 1)
  t.equal(writes[0]?.split('\n').length, 3)
  log.level = 'warn'
  accessLog.record(REQUEST)
  await new Promise(setImmediate)
  t.equal(writes.length, 1)
})
