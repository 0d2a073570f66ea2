import t from 'tap'
import { Metrics } from '../src/metrics.ts'

t.test(
  'a response is counted in every bucket that is not below it, in the sum and in the count',
  async (t) => {
    const metrics = new Metrics()
    for (const durationMs of [0.4, 1, 1.5, 60_000]) metrics.requestDone(200, durationMs)
    const { text } = await metrics.expose()
    t.match(text, /^# TYPE holdfast_response_seconds histogram$/m)
    t.match(text, /^holdfast_response_seconds_bucket\{le="0.001"\} 2$/m, 'a bound belongs to its bucket')
    t.match(text, /^holdfast_response_seconds_bucket\{le="0.005"\} 3$/m)
    t.match(text, /^holdfast_response_seconds_bucket\{le="30"\} 3$/m)
    t.match(text, /^holdfast_response_seconds_bucket\{le="\+Inf"\} 4$/m)
    t.match(text, /^holdfast_response_seconds_sum 60.0029$/m)
    t.match(text, /^holdfast_response_seconds_count 4$/m)
  },
)

t.test('a gauge of several processes: the sum, or the least', async (t) => {
  const [one, other] = [new Metrics(), new Metrics()]
  for (const [metrics, value] of [
    [one, 1],
    [other, 0],
  ] as const) {
    metrics.gauge('total', 'It adds up.', ['of'], () => [[{ of: 'a' }, value]])
    metrics.gauge('least', 'All or none.', ['of'], () => [[{ of: 'a' }, value]], 'min')
  }
  const { text } = await one.expose([await other.snapshot()])
  t.match(text, /^total\{of="a"\} 1$/m)
  t.match(text, /^least\{of="a"\} 0$/m)
})

t.test('what other processes counted is added', async (t) => {
  const [one, other] = [new Metrics(), new Metrics()]
  one.requestDone(200, 1)
  other.requestDone(200, 2)
  const { text } = await one.expose([await other.snapshot()])
  t.match(text, /^holdfast_response_seconds_bucket\{le="0.001"\} 1$/m)
  t.match(text, /^holdfast_response_seconds_count 2$/m)
})
