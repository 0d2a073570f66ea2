/**
 * Connections to upstreams over HTTP/1.1: kept alive, pooled by backend, read into one shared buffer.
 *
 * A connection carries one exchange at a time: it writes what the exchange gives it, lexes the response, and tells the
 * exchange of heads, content and the end; then it goes back to its pool, unless either side asked to close, the
 * request was not sent whole, or something followed the response.
 *
 * Requests go out together, once all that this turn of the event loop has brought is read: an upstream that finds the
 * next one when it is done with one need not be woken for it, which costs more than a write.
 *
 * Serves `exchange.ts`, which decides what a failure means.
 */
import net from 'node:net'
import tls from 'node:tls'
import type { Backend } from '../../upstreams/backend.ts'
import { connectProblem } from '../../upstreams/connect-problem.ts'
import { BodyReader, type ContentSink, type Framing } from './body.ts'
import type { Timed } from './deadlines.ts'
import type { Engine, Flushable } from './engine.ts'
import type { Head } from './head.ts'
import { HeldPieces } from './held-pieces.ts'
import { lexResponseHead, MAX_HEAD_BYTES } from './lexer.ts'
import { LF } from './octets.ts'
import type { UpstreamConnection, UpstreamFault, UpstreamUser } from './upstream-connection.ts'
import { Http2Upstreams } from './upstream-http2-pool.ts'

/** How long an unused connection is kept where the upstream does not say. */
const IDLE_MS = 60_000
/** Margin on what the upstream says, for the time that our bytes are on their way. */
const IDLE_MARGIN_MS = 1000
const MAX_IDLE = 512
const MAX_INTERIM_RESPONSES = 32

type State = 'connecting' | 'idle' | 'head' | 'body' | 'dead'

export class Upstreams {
  readonly #engine: Engine
  readonly #http2: Http2Upstreams
  readonly #pools = new Map<Backend, UpstreamHttp1[]>()

  constructor(engine: Engine) {
    this.#engine = engine
    this.#http2 = new Http2Upstreams(engine)
  }

  /** A connection for one exchange: the one used last, or, when there is none or `fresh` is asked for, a new one. */
  acquire(backend: Backend, user: UpstreamUser, fresh: boolean): UpstreamConnection {
    if (backend.protocol === 'h2') return this.#http2.acquire(backend, user)
    const idle = fresh ? undefined : this.#pools.get(backend)?.pop()
    if (idle === undefined) return new UpstreamHttp1(this.#engine, this, backend, user)
    idle.reuse(user)
    return idle
  }

  /** False: do not keep it, there are enough, or the backend is retired. */
  keep(connection: UpstreamHttp1): boolean {
    const { backend } = connection
    if (backend.retired.aborted) return false
    let pool = this.#pools.get(backend)
    if (pool === undefined) {
      pool = []
      this.#pools.set(backend, pool)
      backend.retired.addEventListener('abort', () => this.#closePool(backend), { once: true })
    }
    if (pool.length >= MAX_IDLE) return false
    pool.push(connection)
    return true
  }

  forget(connection: UpstreamHttp1): void {
    const pool = this.#pools.get(connection.backend)
    const index = pool?.indexOf(connection) ?? -1
    if (index !== -1) pool?.splice(index, 1)
  }

  /** Closes the idle connections. Those in use close after their exchange when their backend is retired. */
  close(): void {
    this.#http2.close()
    for (const backend of this.#pools.keys()) this.#closePool(backend)
  }

  #closePool(backend: Backend): void {
    const pool = this.#pools.get(backend) ?? []
    this.#pools.delete(backend)
    for (const connection of pool) connection.destroy()
  }
}

export class UpstreamHttp1 implements UpstreamConnection, ContentSink, Timed, Flushable {
  readonly backend: Backend
  deadline: number
  /** Has it carried an exchange before this one? Then the upstream may have closed it in the meantime. */
  reused = false
  readonly #engine: Engine
  readonly #upstreams: Upstreams
  readonly #socket: net.Socket
  readonly #body = new BodyReader()
  #state: State = 'connecting'
  #user: UpstreamUser | undefined
  /** The request's head, until the turn ends or a part of the body comes. */
  #unsent: Buffer | undefined
  /** Are a head and a part of its body gathered until the turn ends? */
  #corked = false
  /** Of the request, what waits for the turn to end or, while `#awaitsWrite`, for the socket. */
  readonly #held = new HeldPieces()
  /** Is a write on its way that tells of its end? */
  #awaitsWrite = false
  readonly #onWritten = (): void => this.#written()
  /** Start of a response head whose rest has not come. */
  #partial: Buffer | undefined
  #responseStarted = false
  #interimResponses = 0
  #close = false
  #paused = false
  #idleMs = IDLE_MS
  /** How long the upstream may be silent in an exchange. */
  #patienceMs: number
  /** From when on it takes no further exchange. */
  readonly #renewAt: number

  constructor(engine: Engine, upstreams: Upstreams, backend: Backend, user: UpstreamUser) {
    this.#engine = engine
    this.#upstreams = upstreams
    this.backend = backend
    this.#user = user
    this.deadline = engine.deadlines.now + engine.timeouts.connect
    this.#patienceMs = engine.timeouts.response
    this.#renewAt = engine.deadlines.now + backend.maxAgeMs
    this.#socket = backend.tls === undefined ? this.#connectPlain() : this.#connectTls(backend.tls)
    const socket = this.#socket
    socket.on(backend.tls === undefined ? 'connect' : 'secureConnect', () => this.#onConnect())
    socket.on('error', (error) => this.#onClose(connectProblem(error)))
    socket.on('end', () => this.#onEnd())
    socket.on('close', () => this.#onClose('the connection was closed'))
    socket.on('drain', () => {
      if (!this.#awaitsWrite) this.#user?.onDrain()
    })
    engine.deadlines.add(this)
  }

  #connectPlain(): net.Socket {
    const buffer = this.#engine.readBuffer
    return net.connect({
      ...this.backend.address,
      noDelay: true,
      onread: {
        buffer,
        callback: (length) => {
          this.#onBytes(buffer, 0, length)
          return !this.#paused
        },
      },
    })
  }

  #connectTls(options: NonNullable<Backend['tls']>): net.Socket {
    const socket = tls.connect({ ...this.backend.address, ALPNProtocols: ['http/1.1'], ...options })
    socket.setNoDelay(true)
    socket.on('data', (data: Buffer) => this.#onBytes(data, 0, data.length))
    return socket
  }

  #onConnect(): void {
    if (this.#state !== 'connecting') return
    this.#state = 'head'
    this.#await()
    this.#user?.onConnected()
  }

  reuse(user: UpstreamUser): void {
    this.#user = user
    this.#state = 'head'
    this.reused = true
    this.#responseStarted = false
    this.#interimResponses = 0
    this.#await()
  }

  sendHead(head: Buffer): void {
    this.#unsent = head
    this.#engine.flushSoon(this)
  }

  flush(): void {
    const head = this.#unsent
    this.#unsent = undefined
    if (this.#corked) {
      this.#corked = false
      this.#writeHeld()
      this.#socket.uncork()
    } else if (head !== undefined) this.#write(head)
  }

  writeBody(bytes: Buffer): boolean {
    return this.#write(this.#user?.chunked === true ? chunkOf(bytes) : bytes)
  }

  endBody(trailers: Buffer | undefined): void {
    if (this.#user?.chunked === true) this.#write(lastChunk(trailers))
  }

  #write(bytes: Buffer): boolean {
    const head = this.#unsent
    if (this.#state !== 'connecting') this.#await()
    if (head !== undefined) {
      // What comes of the body in the head's turn goes out with it.
      this.#unsent = undefined
      this.#corked = true
      this.#socket.cork()
      this.#socket.write(head)
    } else if (this.#corked || this.#awaitsWrite) return this.#hold(bytes)
    else if (this.#socket.writableLength > 0) {
      this.#awaitsWrite = true
      return this.#socket.write(bytes, this.#onWritten)
    }
    return this.#socket.write(bytes)
  }

  /** The socket would queue each piece by itself, at many times the size of a small one. */
  #hold(bytes: Buffer): boolean {
    this.#held.push(bytes)
    return this.#held.bytes + this.#socket.writableLength < this.#socket.writableHighWaterMark
  }

  #written(): void {
    this.#awaitsWrite = false
    this.#writeHeld()
    if (!this.#socket.writableNeedDrain) this.#user?.onDrain()
  }

  #writeHeld(): void {
    if (this.#held.bytes === 0) return
    this.#socket.cork()
    while (this.#held.bytes > 0) this.#socket.write(this.#held.take())
    this.#socket.uncork()
  }

  end(): void {
    this.flush()
    this.#writeHeld()
    this.#socket.end()
  }

  pause(): void {
    if (this.#paused) return
    this.#paused = true
    this.deadline = Number.POSITIVE_INFINITY
    this.#socket.pause()
  }

  resume(): void {
    if (!this.#paused) return
    this.#paused = false
    this.#await()
    this.#socket.resume()
  }

  destroy(): void {
    if (this.#state === 'dead') return
    this.#state = 'dead'
    this.#user = undefined
    this.#unsent = undefined
    this.#corked = false
    this.#held.clear()
    this.#engine.deadlines.delete(this)
    this.#socket.destroy()
  }

  onDeadline(): void {
    if (this.#state === 'idle') {
      this.#upstreams.forget(this)
      this.destroy()
    } else if (this.#state === 'connecting') this.#failConnect(new Error('the connection timed out'), true)
    else if (this.#waitsForClient()) this.#await()
    else this.#lose('timeout', 'the upstream went silent')
  }

  /** Has the upstream taken all there is of a request whose rest has not come? Then the silence is not its fault. */
  #waitsForClient(): boolean {
    return this.#state === 'head' && this.#user?.requestDone === false && this.#socket.writableLength === 0
  }

  onContent(bytes: Buffer, start: number, end: number): void {
    this.#user?.onContent(bytes, start, end)
  }

  #await(): void {
    if (!this.#paused) this.deadline = this.#engine.deadlines.now + this.#patienceMs
  }

  #onBytes(chunk: Buffer, chunkStart: number, chunkEnd: number): void {
    const user = this.#user
    if (this.#state === 'dead') return
    if (user === undefined) {
      // A response that nobody asked for: what follows on this connection cannot be trusted.
      this.#upstreams.forget(this)
      this.destroy()
      return
    }
    if (this.#isUnsent) {
      this.#lose('refused', 'it sent a response that nobody asked for')
      return
    }
    this.#await()
    this.#responseStarted = true
    let bytes = chunk
    let p = chunkStart
    let end = chunkEnd
    if (this.#partial !== undefined) {
      const fresh = chunk.subarray(chunkStart, chunkEnd)
      bytes = Buffer.concat([this.#partial, fresh])
      this.#partial = undefined
      p = 0
      end = bytes.length
      // Lexing again is worth it only when a line has ended.
      if (end < MAX_HEAD_BYTES && !fresh.includes(LF)) {
        this.#partial = bytes
        return
      }
    }
    while (p < end) {
      p = this.#state === 'head' ? this.#readHead(user, bytes, p, end) : this.#readBody(user, bytes, p, end)
      if (this.#user !== user) return
    }
    user.onReadEnd()
  }

  /** Returns the index after the head, or `end` when its rest has not come. */
  #readHead(user: UpstreamUser, bytes: Buffer, start: number, end: number): number {
    const head = this.#engine.responseHead
    const lines = this.#engine.responseLines
    const verdict = lexResponseHead(head, bytes, start, end, lines)
    if (verdict === 'incomplete') {
      this.#partial = Buffer.from(bytes.subarray(start, end))
      return end
    }
    if (verdict !== 'complete') return this.#invalid(verdict, end)
    const next = head.end
    const { status } = head
    if (status < 200 && status !== 101) {
      if (++this.#interimResponses > MAX_INTERIM_RESPONSES) return this.#invalid('too many 1xx', end)
      user.onResponseHead(head, lines)
      return next
    }
    if (status === 101 && (user.upgrade === '' || !user.requestDone || head.upgrade === '')) {
      return this.#invalid('a 101 that was not asked for', end)
    }
    this.#startBody(user, head)
    user.onResponseHead(head, lines)
    if (this.#user === user && this.#body.done) this.#finish(user, next < end)
    return next
  }

  /** RFC 9112 section 6.3. */
  #startBody(user: UpstreamUser, head: Head): void {
    const { status } = head
    const bodiless = user.isHead || status === 204 || status === 304
    let framing: Framing = 'until-close'
    if (bodiless) framing = 'none'
    else if (status === 101) this.#patienceMs = this.#engine.timeouts.upgrade
    else if (head.chunked) framing = 'chunked'
    else if (head.contentLength !== -1) framing = 'length'
    this.#close = head.close || framing === 'until-close'
    if (head.keepAliveSeconds !== -1) {
      this.#idleMs = Math.max(0, Math.min(IDLE_MS, head.keepAliveSeconds * 1000 - IDLE_MARGIN_MS))
    }
    this.#body.start(framing, head.contentLength)
    this.#state = 'body'
  }

  #readBody(user: UpstreamUser, bytes: Buffer, start: number, end: number): number {
    const next = this.#body.read(bytes, start, end, this)
    if (this.#user !== user) return end
    if (this.#body.fault !== '') return this.#invalid(this.#body.fault, end)
    if (this.#body.done) this.#finish(user, next < end)
    return next
  }

  #invalid(what: string, end: number): number {
    this.#lose('invalid', what)
    return end
  }

  #finish(user: UpstreamUser, excess: boolean): void {
    this.#user = undefined
    if (this.#close || excess || !user.requestDone || this.#held.bytes > 0) this.destroy()
    else this.#release()
    user.onResponseEnd(this.#body.trailers)
  }

  #release(): void {
    this.#state = 'idle'
    if (this.#paused) {
      this.#paused = false
      this.#socket.resume()
    }
    const { now } = this.#engine.deadlines
    this.deadline = Math.min(now + this.#idleMs, this.#renewAt)
    if (this.deadline <= now || !this.#upstreams.keep(this)) this.destroy()
  }

  #onEnd(): void {
    const user = this.#user
    if (user !== undefined && this.#state === 'body' && this.#body.framing === 'until-close') {
      this.#finish(user, false)
    } else this.#onClose('the upstream closed the connection')
  }

  #onClose(reason: string): void {
    if (this.#state === 'dead') return
    if (this.#state === 'connecting') this.#failConnect(new Error(reason), false)
    else if (this.#user !== undefined) this.#lose('closed', reason)
    else {
      this.#upstreams.forget(this)
      this.destroy()
    }
  }

  /** Has the upstream got nothing of the request yet? */
  get #isUnsent(): boolean {
    return this.#unsent !== undefined || this.#corked
  }

  #failConnect(error: Error, timedOut: boolean): void {
    const user = this.#user
    this.destroy()
    user?.onConnectFailed(error, timedOut)
  }

  #lose(fault: UpstreamFault, detail: string): void {
    const user = this.#user
    const isUnsent = this.#isUnsent
    this.destroy()
    user?.onLost(isUnsent ? 'refused' : fault, detail, this.#responseStarted)
  }
}

function chunkOf(bytes: Buffer): Buffer {
  const size = `${bytes.length.toString(16)}\r\n`
  const chunk = Buffer.allocUnsafe(size.length + bytes.length + 2)
  chunk.write(size, 0, 'latin1')
  bytes.copy(chunk, size.length)
  chunk.write('\r\n', size.length + bytes.length, 'latin1')
  return chunk
}

function lastChunk(trailers: Buffer | undefined): Buffer {
  if (trailers === undefined) return Buffer.from('0\r\n\r\n')
  return Buffer.concat([Buffer.from('0\r\n'), trailers, Buffer.from('\r\n')])
}
