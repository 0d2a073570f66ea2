/**
 * What all connections of one fast wire share: policy, log, time, and the buffers that are used within one event only.
 * `wire.ts` makes it; connections, exchanges and upstreams receive it.
 */
import type { Timeouts } from '../../config/schema.ts'
import { type Clock, SECOND } from '../../time.ts'
import type { AccessLog } from '../access-log.ts'
import { MAX_CLIENT_FIELD_BYTES } from '../client-fields.ts'
import type { Gateway } from '../gateway.ts'
import { viaValue } from '../headers.ts'
import type { RequestIds } from '../request-id.ts'
import type { WireOptions } from '../wire.ts'
import { Deadlines } from './deadlines.ts'
import { HeadEditor } from './edits.ts'
import { Head, type HttpVersion } from './head.ts'
import { createStaticTable } from './hpack.ts'
import { MAX_HEAD_BYTES } from './lexer.ts'
import { NOTHING } from './octets.ts'

/** One read from an upstream: as much as a socket buffer holds, so that a large body takes few calls. */
const READ_BYTES = 256 * 1024
/** How much is gathered before it is written: more than one read from an upstream and a head. */
export const OUT_BYTES = 320 * 1024

/** Frames for an HTTP/2 client are gathered in as much. */
const FRAME_BUFFER_BYTES = 128 * 1024
const MAX_SPARE_BUFFERS = 32

/** Something that is written once the event loop has turned. */
export interface Flushable {
  flush(): void
}

const SHORTEST_STEP_MS = 10

export class Engine {
  readonly gateway: Gateway
  readonly accessLog: AccessLog
  readonly clock: Clock
  readonly requestIds: RequestIds
  readonly deadlines: Deadlines
  readonly hpackStatic = createStaticTable()

  readonly headEditor = new HeadEditor()

  /* Valid until the event that filled them is over. */
  readonly requestHead = new Head()
  readonly requestLines = Buffer.allocUnsafeSlow(2 * MAX_HEAD_BYTES + 8192 + MAX_CLIENT_FIELD_BYTES)
  readonly responseHead = new Head()
  readonly responseLines = Buffer.allocUnsafeSlow(2 * MAX_HEAD_BYTES + 8192)
  /** Where upstream sockets read into. */
  readonly readBuffer = Buffer.allocUnsafeSlow(READ_BYTES)
  /** What is about to be written to an HTTP/1.1 client. */
  readonly out = Buffer.allocUnsafeSlow(OUT_BYTES)
  readonly hpackScratch = Buffer.allocUnsafeSlow(128 * 1024)

  readonly #spareBuffers: Buffer[] = []
  #unflushed: Flushable[] = []

  readonly #via = { '1.0': viaLine('1.0'), '1.1': viaLine('1.1'), '2.0': viaLine('2.0') }
  #dateLine = NOTHING
  #dateLineMs = Number.NEGATIVE_INFINITY

  constructor(options: WireOptions) {
    this.gateway = options.gateway
    this.accessLog = options.accessLog
    this.clock = options.clock
    this.requestIds = options.requestIds
    this.deadlines = new Deadlines(options.clock, () => stepOf(this.gateway.timeouts))
    // Of a response, no field is dropped for what it claims of other hops.
    this.responseHead.trusted = true
  }

  /** The Via line to send on, for a message of `version` that came with `received`; empty for none. */
  viaLine(version: HttpVersion, received: string): Buffer {
    return received === '' ? this.#via[version] : viaLine(version, received)
  }

  /** RFC 9110 section 6.6.1: the line for a response that has none. */
  get dateLine(): Buffer {
    const now = this.clock.now()
    if (Math.abs(now - this.#dateLineMs) >= SECOND) {
      this.#dateLineMs = now - (now % SECOND)
      this.#dateLine = Buffer.from(`Date: ${new Date(now).toUTCString()}\r\n`)
    }
    return this.#dateLine
  }

  /** A buffer of at least `bytes`, until `giveBack`. */
  borrow(bytes: number): Buffer {
    if (bytes > FRAME_BUFFER_BYTES) return Buffer.allocUnsafeSlow(bytes)
    return this.#spareBuffers.pop() ?? Buffer.allocUnsafeSlow(FRAME_BUFFER_BYTES)
  }

  giveBack(buffer: Buffer): void {
    const spare = this.#spareBuffers
    if (buffer.length === FRAME_BUFFER_BYTES && spare.length < MAX_SPARE_BUFFERS) spare.push(buffer)
  }

  /** Flushes once, after the events of this turn of the event loop. */
  flushSoon(flushable: Flushable): void {
    if (this.#unflushed.push(flushable) === 1) setImmediate(() => this.#flushAll())
  }

  #flushAll(): void {
    const unflushed = this.#unflushed
    this.#unflushed = []
    for (const flushable of unflushed) flushable.flush()
  }

  /** In milliseconds; a reload may change them. */
  get timeouts(): Timeouts {
    return this.gateway.timeouts
  }
}

/** Fine enough for the shortest of the timeouts. */
function stepOf({ head, body, connect, response, keepAlive, upgrade }: Timeouts): number {
  const shortest = Math.min(head, body, connect, response, keepAlive, upgrade)
  return Math.min(SECOND, Math.max(SHORTEST_STEP_MS, shortest / 8))
}

function viaLine(version: HttpVersion, received?: string): Buffer {
  return Buffer.from(`Via: ${viaValue(received, version)}\r\n`, 'latin1')
}
