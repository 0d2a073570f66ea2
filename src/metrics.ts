/**
 * Counters and gauges for `/metrics`, in Prometheus' text format. The only user of prom-client.
 * What the hot path counts are plain integers here, read only when somebody scrapes.
 */
import { AggregatorRegistry, Counter, Gauge, Histogram, Registry } from 'prom-client'

/** Upper bounds in seconds. */
const RESPONSE_BUCKETS = [0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 1, 5, 30]

/** The metrics of one process at one moment: plain data, made by `snapshot`. */
export type MetricsSnapshot = Awaited<ReturnType<Registry['getMetricsAsJSON']>>

/**
 * A histogram without labels whose `count` costs a short loop: prom-client's own makes a key and closures for each
 * observation, which took more of a request than routing it.
 */
class PlainHistogram extends Histogram {
  readonly #counts = new Float64Array(RESPONSE_BUCKETS.length + 1)
  #sum = 0

  count(seconds: number): void {
    let bucket = 0
    while (seconds > (RESPONSE_BUCKETS[bucket] ?? Number.POSITIVE_INFINITY)) bucket++
    this.#counts[bucket] = (this.#counts[bucket] ?? 0) + 1
    this.#sum += seconds
  }

  override async get(): ReturnType<Histogram['get']> {
    const metric = await super.get()
    const { name } = metric
    let count = 0
    const buckets = [...RESPONSE_BUCKETS, '+Inf'].map((le, index) => {
      count += this.#counts[index] ?? 0
      return { labels: { le }, value: count, metricName: `${name}_bucket`, exemplar: null }
    })
    const rest = [
      { labels: {}, value: this.#sum, metricName: `${name}_sum` },
      { labels: {}, value: count, metricName: `${name}_count` },
    ]
    return { ...metric, values: [...buckets, ...rest] }
  }
}

export class Metrics {
  readonly #registry = new Registry()
  /** Requests by status code, index = code. */
  readonly #requestsByStatus = new Float64Array(600)
  #handshakes = 0
  #handshakesResumed = 0
  #handshakesFailed = 0
  readonly #responseSeconds: PlainHistogram
  readonly #caFailures: Counter
  readonly #issued: Counter
  readonly #events: Counter
  readonly #notifications: Counter

  constructor() {
    const registers = [this.#registry]
    const requests = this.#requestsByStatus
    new Counter({
      name: 'holdfast_requests_total',
      help: 'Requests answered, by status code.',
      labelNames: ['code'],
      registers,
      collect() {
        this.reset()
        requests.forEach((count, code) => {
          if (count > 0) this.inc({ code: String(code) }, count)
        })
      },
    })
    const handshakes = (): [string, number][] => [
      ['full', this.#handshakes - this.#handshakesResumed],
      ['resumed', this.#handshakesResumed],
      ['failed', this.#handshakesFailed],
    ]
    new Counter({
      name: 'holdfast_tls_handshakes_total',
      help: 'TLS handshakes, by result.',
      labelNames: ['result'],
      registers,
      collect() {
        this.reset()
        for (const [result, count] of handshakes()) this.inc({ result }, count)
      },
    })
    this.#responseSeconds = new PlainHistogram({
      name: 'holdfast_response_seconds',
      help: 'From the request head to the end of the response.',
      buckets: RESPONSE_BUCKETS,
      registers,
    })
    this.#caFailures = new Counter({
      name: 'holdfast_ca_failures_total',
      help: 'Failed issuances and probes, by CA and reason.',
      labelNames: ['ca', 'reason'],
      registers,
    })
    this.#issued = new Counter({
      name: 'holdfast_certificates_issued_total',
      help: 'Certificates issued, by CA.',
      labelNames: ['ca'],
      registers,
    })
    this.#events = new Counter({
      name: 'holdfast_events_total',
      help: 'Events, by type.',
      labelNames: ['type'],
      registers,
    })
    this.#notifications = new Counter({
      name: 'holdfast_notifications_total',
      help: 'Attempts to tell a target of `notify`, by result; `dropped` without an attempt.',
      labelNames: ['result'],
      registers,
    })
  }

  requestDone(status: number, durationMs: number): void {
    this.#requestsByStatus[status] = (this.#requestsByStatus[status] ?? 0) + 1
    this.#responseSeconds.count(durationMs / 1000)
  }

  handshakeDone(resumed: boolean): void {
    this.#handshakes++
    if (resumed) this.#handshakesResumed++
  }

  handshakeFailed(): void {
    this.#handshakesFailed++
  }

  caFailed(ca: string, reason: string): void {
    this.#caFailures.inc({ ca, reason })
  }

  certificateIssued(ca: string): void {
    this.#issued.inc({ ca })
  }

  eventHappened(type: string): void {
    this.#events.inc({ type })
  }

  notificationDone(result: 'sent' | 'failed' | 'dropped'): void {
    this.#notifications.inc({ result })
  }

  /** A gauge whose samples are computed at each scrape. `aggregator`: what becomes of those of several processes. */
  gauge(
    name: string,
    help: string,
    labelNames: string[],
    sample: () => Iterable<[Record<string, string>, number]>,
    aggregator: 'sum' | 'min' = 'sum',
  ): void {
    new Gauge({
      name,
      help,
      labelNames,
      aggregator,
      registers: [this.#registry],
      collect() {
        this.reset()
        for (const [labels, value] of sample()) this.set(labels, value)
      },
    })
  }

  snapshot(): Promise<MetricsSnapshot> {
    return this.#registry.getMetricsAsJSON()
  }

  /** The exposition text with what other processes counted added, and its content type. */
  async expose(others: readonly MetricsSnapshot[] = []): Promise<{ text: string; contentType: string }> {
    const all = AggregatorRegistry.aggregate([await this.snapshot(), ...others])
    return { text: await all.metrics(), contentType: this.#registry.contentType }
  }
}
