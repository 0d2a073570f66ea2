/**
 * HTTP/2 to clients, by node:http2. Receives sockets from `wire.ts`; hands each stream to the exchange. Framing, HPACK,
 * flow control and the checks of RFC 9113 section 8 are Node's (nghttp2).
 */
import {
  constants,
  type IncomingHttpHeaders,
  type OutgoingHttpHeaders,
  performServerHandshake,
  type ServerHttp2Session,
  type ServerHttp2Stream,
  type ServerOptions,
} from 'node:http2'
import type { Socket } from 'node:net'
import { type Downstream, type Field, type Peer, pairs, type ResponseHead } from './downstream.ts'

/** What one connection may cost; Node's own limits on resets, CONTINUATION, PING and SETTINGS come on top. */
const LIMITS: ServerOptions = {
  settings: { maxConcurrentStreams: 128, maxHeaderListSize: 32 * 1024, enablePush: false },
  maxHeaderListPairs: 256,
  maxSessionInvalidFrames: 100,
  strictSingleValueFields: false,
}

export class Http2Server {
  readonly #sessions = new Map<ServerHttp2Session, Peer>()
  readonly #handle: (client: Downstream) => void
  #draining = false

  constructor(handle: (client: Downstream) => void) {
    this.#handle = handle
  }

  accept(socket: Socket, peer: Peer, idleLimitMs: number): void {
    const session = performServerHandshake(socket, LIMITS)
    let streams = 0
    this.#sessions.set(session, peer)
    session.on('error', () => session.destroy())
    session.on('close', () => this.#sessions.delete(session))
    session.on(
      'stream',
      (stream: ServerHttp2Stream, headers: IncomingHttpHeaders, _: number, raw: string[]) => {
        streams++
        stream.once('close', () => streams--)
        this.#handle(new Http2Downstream(peer, stream, headers, raw))
      },
    )
    session.setTimeout(idleLimitMs, () => {
      if (streams === 0) session.close()
    })
    if (this.#draining) session.close()
  }

  /** GOAWAY on every connection: the streams that are open may finish. */
  drain(): void {
    this.#draining = true
    this.retire(() => true)
  }

  /** As `drain`, those that are stale. */
  retire(isStale: (peer: Peer) => boolean): void {
    for (const [session, peer] of this.#sessions) if (isStale(peer)) session.close()
  }
}

class Http2Downstream implements Downstream {
  readonly peer: Peer
  readonly version = '2.0'
  readonly method: string
  readonly target: string
  readonly authority: string | undefined
  readonly fields: readonly Field[]
  readonly body: ServerHttp2Stream | undefined
  readonly sink: ServerHttp2Stream
  readonly upgrade = undefined
  onFault: Downstream['onFault'] = () => {}
  #received: Field[] = []
  #trailers: readonly Field[] = []

  constructor(peer: Peer, stream: ServerHttp2Stream, headers: IncomingHttpHeaders, raw: string[]) {
    this.peer = peer
    this.method = String(headers[':method'] ?? '')
    this.target = String(headers[':path'] ?? '')
    this.authority = headers[':authority'] === undefined ? undefined : String(headers[':authority'])
    this.fields = pairs(raw).filter(([name]) => !name.startsWith(':'))
    this.body = stream.endAfterHeaders ? undefined : stream
    this.sink = stream
    stream.on('trailers', (_headers: IncomingHttpHeaders, _flags: number, rawTrailers?: string[]) => {
      this.#received = pairs(rawTrailers ?? [])
    })
  }

  receivedTrailers(): Field[] {
    return this.#received
  }

  sendInformation(status: number, fields: readonly Field[]): void {
    if (!this.sink.closed) this.sink.additionalHeaders(block(fields, status))
  }

  sendHead({ status, fields, trailers }: ResponseHead): void {
    if (this.sink.closed) return
    this.sink.respond(block(fields, status), { waitForTrailers: trailers })
    this.sink.once('wantTrailers', () => this.sink.sendTrailers(block(this.#trailers)))
  }

  end(trailers: readonly Field[]): void {
    this.#trailers = trailers
    this.sink.end()
    if (this.body !== undefined && !this.body.readableEnded) this.sink.close(constants.NGHTTP2_NO_ERROR)
  }

  abort(): void {
    // With an error, since `close` would end the response first, as if it were whole, where nothing of it is on its way.
    this.sink.destroy(new Error('the response is cut off'))
  }
}

/** A header block as Node takes it: one entry a name, in lower case. */
function block(fields: readonly Field[], status?: number): OutgoingHttpHeaders {
  const headers: Record<string, string[]> = Object.create(null)
  for (const [name, value] of fields) {
    const lower = name.toLowerCase()
    const values = headers[lower]
    if (values === undefined) headers[lower] = [value]
    else values.push(value)
  }
  return status === undefined ? headers : Object.assign(headers, { ':status': status })
}
