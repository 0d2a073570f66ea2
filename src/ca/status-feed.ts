/**
 * The CAs' own status pages: polled every few minutes, they say whether a CA has announced trouble. That lowers its
 * preference, and no more: pages are written by people, late, and about services that are none of ours.
 *
 * Two formats are read, of which most status pages have one: Statuspage (`/api/v2/summary.json`) and Status.io
 * (`https://api.status.io/1.0/status/ID`). A feed that fails is ignored.
 */
import type { Ca } from '../config/cas.ts'
import { messageOf } from '../errors.ts'
import type { Log } from '../log.ts'
import { type Cancel, type Clock, HOUR, MINUTE, SECOND, withDeadline } from '../time.ts'

export interface Feed {
  readonly url: string
  /** Host name of the CA's ACME endpoint: where components of the page bear it, only they count. */
  readonly endpoint: string
}

export interface StatusFeedsOptions {
  readonly clock: Clock
  readonly random: () => number
  readonly log: Log
  readonly setTroubled: (ca: string, troubled: boolean) => void
}

const POLL_INTERVAL_MS = 5 * MINUTE
const POLL_LIMIT_MS = 10 * SECOND
const LARGEST_DOCUMENT = 1024 * 1024
/** Trouble that a feed told of counts no longer once the feed has failed for this long. */
const TRUST_MS = HOUR

interface Subscription {
  readonly feed: Feed
  troubled: boolean
  heardAt: number
  cancel: Cancel
}

export class StatusFeeds {
  readonly #options: StatusFeedsOptions
  readonly #subscriptions = new Map<string, Subscription>()
  readonly #stop = new AbortController()

  constructor(options: StatusFeedsOptions) {
    this.#options = options
  }

  /** Follows these feeds, by CA, and no others; the first poll is at once. */
  update(feeds: ReadonlyMap<string, Feed>): void {
    for (const [ca, { feed }] of this.#subscriptions) {
      const wanted = feeds.get(ca)
      if (wanted?.url !== feed.url || wanted.endpoint !== feed.endpoint) this.#leave(ca)
    }
    for (const [ca, feed] of feeds) {
      if (this.#subscriptions.has(ca)) continue
      const subscription = { feed, troubled: false, heardAt: 0, cancel: () => {} }
      this.#subscriptions.set(ca, subscription)
      void this.#poll(ca, subscription)
    }
  }

  stop(): void {
    this.#stop.abort()
    for (const { cancel } of this.#subscriptions.values()) cancel()
    this.#subscriptions.clear()
  }

  #leave(ca: string): void {
    this.#subscriptions.get(ca)?.cancel()
    this.#subscriptions.delete(ca)
    this.#options.setTroubled(ca, false)
  }

  /** Never rejects. */
  async #poll(ca: string, subscription: Subscription): Promise<void> {
    const { clock, log, random } = this.#options
    const { feed } = subscription
    try {
      const document = await withDeadline(clock, POLL_LIMIT_MS, feed.url, this.#stop.signal, (signal) =>
        download(feed.url, signal),
      )
      const troubled = isTroubled(document, feed.endpoint)
      if (troubled === undefined) throw new Error('it is no status document that is known here')
      subscription.heardAt = clock.monotonic()
      this.#note(ca, subscription, troubled)
    } catch (error) {
      log.debug({ ca, url: feed.url }, `the status feed of ${ca} cannot be read: ${messageOf(error)}`)
      if (clock.monotonic() - subscription.heardAt > TRUST_MS) this.#note(ca, subscription, false)
    }
    if (this.#subscriptions.get(ca) !== subscription) return
    const delayMs = POLL_INTERVAL_MS * (0.8 + 0.4 * random())
    subscription.cancel = clock.after(delayMs, () => void this.#poll(ca, subscription))
  }

  #note(ca: string, subscription: Subscription, troubled: boolean): void {
    const { log, setTroubled } = this.#options
    if (this.#subscriptions.get(ca) !== subscription) return
    // Told each time: health forgets it when the CA's config changes.
    setTroubled(ca, troubled)
    if (troubled === subscription.troubled) return
    subscription.troubled = troubled
    if (troubled) log.warn({ ca }, `the status page of ${ca} reports trouble: other CAs are asked first`)
    else log.info({ ca }, `the status page of ${ca} reports no trouble any more`)
  }
}

async function download(url: string, signal: AbortSignal): Promise<unknown> {
  const response = await fetch(url, { signal, headers: { accept: 'application/json' } })
  if (!response.ok || response.body === null) {
    await response.body?.cancel()
    throw new Error(`it answered ${response.status}`)
  }
  const parts: Uint8Array[] = []
  let bytes = 0
  for await (const part of response.body) {
    bytes += part.byteLength
    if (bytes > LARGEST_DOCUMENT) throw new Error('it is longer than a status document can be')
    parts.push(part)
  }
  return JSON.parse(Buffer.concat(parts).toString())
}

/**
 * Does a page report trouble (planned maintenance is none)? Undefined: it is of neither format.
 * @param endpoint only components whose name holds it count, where there are any
 */
export function isTroubled(document: unknown, endpoint: string): boolean | undefined {
  return troubleInStatuspage(document, endpoint) ?? troubleInStatusIo(document, endpoint)
}

const STATUSPAGE_TROUBLE = new Set(['degraded_performance', 'partial_outage', 'major_outage'])
const STATUSPAGE_INDICATORS = new Set(['none', 'minor', 'major', 'critical', 'maintenance'])

/** https://metastatuspage.com/api */
function troubleInStatuspage(document: unknown, endpoint: string): boolean | undefined {
  const indicator = textIn(fieldOf(fieldOf(document, 'status'), 'indicator'))
  if (indicator === undefined || !STATUSPAGE_INDICATORS.has(indicator)) return undefined
  const components = namedIn(fieldOf(document, 'components'), endpoint)
  if (components.length === 0) return indicator !== 'none' && indicator !== 'maintenance'
  return components.some((component) => STATUSPAGE_TROUBLE.has(textIn(fieldOf(component, 'status')) ?? ''))
}

/** 300 degraded performance, 400 partial disruption, 500 disruption, 600 security event. */
const STATUS_IO_TROUBLE = 300

/** https://kb.status.io/developers/public-status-api */
function troubleInStatusIo(document: unknown, endpoint: string): boolean | undefined {
  const result = fieldOf(document, 'result')
  const overall = fieldOf(fieldOf(result, 'status_overall'), 'status_code')
  if (typeof overall !== 'number') return undefined
  const components = namedIn(fieldOf(result, 'status'), endpoint)
  if (components.length === 0) return overall >= STATUS_IO_TROUBLE
  return components.some((component) => Number(fieldOf(component, 'status_code')) >= STATUS_IO_TROUBLE)
}

function namedIn(components: unknown, name: string): unknown[] {
  if (!Array.isArray(components)) return []
  return components.filter((component) => textIn(fieldOf(component, 'name'))?.includes(name))
}

function fieldOf(value: unknown, key: string): unknown {
  return typeof value === 'object' && value !== null ? (value as Record<string, unknown>)[key] : undefined
}

function textIn(value: unknown): string | undefined {
  return typeof value === 'string' ? value : undefined
}

/** The status pages of the CAs, by CA. */
export function feedsOf(cas: ReadonlyMap<string, Ca>): ReadonlyMap<string, Feed> {
  const feeds = [...cas.values()].flatMap((ca): [string, Feed][] =>
    ca.type === 'internal' || ca.statusFeed === undefined
      ? []
      : [[ca.name, { url: ca.statusFeed, endpoint: new URL(ca.directory).hostname }]],
  )
  return new Map(feeds)
}
