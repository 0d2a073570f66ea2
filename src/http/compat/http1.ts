/**
 * HTTP/1.1 to clients, by node:http. Receives sockets from `wire.ts`; hands each request to the exchange, one at a time
 * on a connection, so that pipelined requests reach the upstreams in their order.
 */
import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http'
import type { Socket } from 'node:net'
import type { Readable } from 'node:stream'
import { ProxyError } from '../../errors.ts'
import { type Clock, SECOND } from '../../time.ts'
import { type Downstream, type Field, flat, type Peer, pairs, type ResponseHead } from './downstream.ts'
import { UpgradeDownstream, upgradeOf } from './upgrade.ts'

/** Requests that may wait behind another on one connection. */
const MAX_PIPELINED = 64
/** How long the rest of a request is read and dropped after its response, so that the client gets to see the response. */
const LINGER_MS = 2 * SECOND
const MAX_HEAD_BYTES = 16 * 1024

export interface Http1Options {
  readonly clock: Clock
  readonly handle: (client: Downstream) => void
  /** The whole response, as bytes, to what is not even a request. */
  readonly refuse: (peer: Peer, error: ProxyError) => string
}

interface Http1Connection {
  readonly peer: Peer
  readonly bytesBefore: number
  /** The first is being answered. */
  readonly queue: Http1Downstream[]
  /** The response that is next to be sent is the last one. */
  closing: boolean
  /** It was sent: what comes now is not processed (RFC 9112 section 9.6). */
  closed: boolean
  /** Why the connection ends once the queue is empty. */
  fault: ProxyError | undefined
}

export class Http1Server {
  readonly #server: Server
  readonly #connections = new Map<Socket, Http1Connection>()
  readonly #options: Http1Options
  #draining = false

  constructor(options: Http1Options) {
    this.#options = options
    this.#server = createServer({
      maxHeaderSize: MAX_HEAD_BYTES,
      requireHostHeader: false,
      requestTimeout: 0,
      connectionsCheckingInterval: SECOND / 4,
      shouldUpgradeCallback: (request) => upgradeOf(request) !== undefined,
    })
    const onRequest = (request: IncomingMessage, response: ServerResponse): void =>
      this.#enqueue(request, response)
    this.#server.on('request', onRequest)
    this.#server.on('checkContinue', onRequest)
    this.#server.on('checkExpectation', onRequest)
    const onTakeover = (request: IncomingMessage, socket: Socket, head: Buffer): void =>
      this.#takeOver(request, socket, head)
    this.#server.on('upgrade', onTakeover)
    this.#server.on('connect', onTakeover)
    this.#server.on('clientError', (error: NodeJS.ErrnoException, socket: Socket) =>
      this.#onClientError(error, socket),
    )
    // The server never listens by itself; this is what starts its watch over slow heads.
    this.#server.emit('listening')
  }

  accept(socket: Socket, peer: Peer, limits: { headMs: number; keepAliveMs: number }): void {
    this.#server.headersTimeout = limits.headMs
    this.#server.keepAliveTimeout = limits.keepAliveMs
    this.#connections.set(socket, {
      peer,
      bytesBefore: socket.bytesRead,
      queue: [],
      closing: this.#draining,
      closed: false,
      fault: undefined,
    })
    socket.once('close', () => this.#connections.delete(socket))
    this.#server.emit('connection', socket)
  }

  /** Ends idle connections, and the others after their responses. Those that were upgraded stay. */
  drain(): void {
    this.#draining = true
    this.retire(() => true)
  }

  /** As `drain`, those that are stale. */
  retire(isStale: (peer: Peer) => boolean): void {
    for (const [socket, connection] of this.#connections) {
      if (!isStale(connection.peer)) continue
      connection.closing = true
      if (connection.queue.length === 0) socket.destroySoon()
    }
  }

  /** Stops the watch over slow heads; when all connections are closed. */
  close(): void {
    this.#server.close()
  }

  #enqueue(request: IncomingMessage, response: ServerResponse): void {
    const { socket } = request
    const connection = this.#connections.get(socket)
    if (connection === undefined || connection.queue.length > MAX_PIPELINED) {
      socket.destroy()
      return
    }
    if (connection.closed || connection.fault !== undefined) return
    const { httpVersion } = request
    if (httpVersion !== '1.1' && httpVersion !== '1.0') {
      this.#reject(
        socket,
        connection,
        new ProxyError('REQUEST_INVALID', 400, 'the version is not HTTP/1.0 or 1.1'),
      )
      return
    }
    const client = new Http1Downstream(connection, request, response, this.#options.clock)
    response.once('close', () => this.#next(socket, connection))
    if (connection.queue.push(client) === 1) this.#options.handle(client)
  }

  #next(socket: Socket, connection: Http1Connection): void {
    connection.queue.shift()
    if (connection.closed) return
    const [following] = connection.queue
    if (connection.closing || socket.destroyed) {
      connection.closed = true
      socket.destroySoon()
    } else if (following !== undefined) this.#options.handle(following)
    else if (connection.fault !== undefined) this.#refuse(socket, connection.peer, connection.fault)
  }

  #takeOver(request: IncomingMessage, socket: Socket, head: Buffer): void {
    const connection = this.#connections.get(socket)
    socket.on('error', () => socket.destroy())
    if (connection === undefined || connection.queue.length > 0) {
      socket.destroy()
      return
    }
    this.#connections.delete(socket)
    this.#options.handle(new UpgradeDownstream(connection.peer, request, socket, head))
  }

  /** Bytes that are no HTTP, a head or body that does not arrive in time, or a connection that broke. */
  #onClientError(error: NodeJS.ErrnoException, socket: Socket): void {
    const connection = this.#connections.get(socket)
    const fault = faultOf(error)
    if (connection === undefined || fault === undefined || !socket.writable) {
      socket.destroy()
      return
    }
    const last = connection.queue.at(-1)
    const silent = last === undefined && socket.bytesRead === connection.bytesBefore
    if (silent) socket.destroy()
    else if (last !== undefined && !last.complete) last.onFault(fault)
    else this.#reject(socket, connection, fault)
  }

  /** Ends the connection with an error page, after the responses to what came before. */
  #reject(socket: Socket, connection: Http1Connection, fault: ProxyError): void {
    if (connection.fault !== undefined) return
    connection.fault = fault
    if (connection.queue.length === 0) this.#refuse(socket, connection.peer, fault)
  }

  #refuse(socket: Socket, peer: Peer, error: ProxyError): void {
    socket.end(this.#options.refuse(peer, error), 'latin1')
    this.#options.clock.after(LINGER_MS, () => socket.destroy())
  }
}

/** What a failing parser means to the client; undefined when the connection itself failed. */
function faultOf(error: NodeJS.ErrnoException): ProxyError | undefined {
  const options = { cause: error }
  if (error.code === 'ERR_HTTP_REQUEST_TIMEOUT')
    return new ProxyError('REQUEST_TIMEOUT', 408, 'the head did not arrive in time', options)
  if (error.code === 'HPE_HEADER_OVERFLOW')
    return new ProxyError('REQUEST_INVALID', 431, 'the head is larger than 16 KiB', options)
  if (error.code === 'HPE_CHUNK_EXTENSIONS_OVERFLOW')
    return new ProxyError('REQUEST_INVALID', 413, 'the chunk extensions are too large', options)
  if (error.code?.startsWith('HPE_') === true)
    return new ProxyError('REQUEST_INVALID', 400, `the request is not HTTP/1.1: ${error.message}`, options)
  return undefined
}

class Http1Downstream implements Downstream {
  readonly peer: Peer
  readonly version: '1.0' | '1.1'
  readonly method: string
  readonly target: string
  readonly authority = undefined
  readonly fields: readonly Field[]
  readonly body: Readable | undefined
  readonly sink: ServerResponse
  readonly upgrade = undefined
  onFault: Downstream['onFault'] = () => {}
  readonly #request: IncomingMessage
  readonly #connection: Http1Connection
  readonly #clock: Clock
  /** Does the client wait until it is told to send its body? */
  #expected: boolean

  constructor(connection: Http1Connection, request: IncomingMessage, response: ServerResponse, clock: Clock) {
    this.#connection = connection
    this.#request = request
    this.#clock = clock
    this.peer = connection.peer
    this.version = request.httpVersion === '1.0' ? '1.0' : '1.1'
    this.method = request.method ?? ''
    this.target = request.url ?? ''
    this.fields = pairs(request.rawHeaders)
    const { 'content-length': length = '0', 'transfer-encoding': coding } = request.headers
    this.body = coding !== undefined || Number(length) !== 0 ? request : undefined
    this.sink = response
    this.#expected = request.headers.expect !== undefined && this.version === '1.1'
  }

  /** Has the whole request arrived? */
  get complete(): boolean {
    return this.#request.complete
  }

  receivedTrailers(): Field[] {
    return pairs(this.#request.rawTrailers)
  }

  sendInformation(status: number, fields: readonly Field[]): void {
    if (this.version === '1.0') return
    if (status === 100) {
      this.#expected = false
      this.sink.writeContinue()
    } else this.sink.writeInformation(status, flat(fields))
  }

  /** Where an expected body was not asked for, it may come or not: what follows cannot be told apart, and Node closes. */
  sendHead({ status, reason, fields, last }: ResponseHead): void {
    if (last || this.#expected) this.#connection.closing = true
    const all: readonly Field[] = this.#connection.closing ? [...fields, ['Connection', 'close']] : fields
    this.sink.writeHead(status, reason, flat(all))
    // A turn later, so that the head and a first piece of content that came with it leave together.
    setImmediate(() => {
      if (!this.sink.writableEnded) this.sink.flushHeaders()
    })
  }

  end(trailers: readonly Field[]): void {
    this.sink.addTrailers(trailers)
    this.sink.end()
    if (this.body === undefined || this.#request.complete) return
    const { socket } = this.#request
    const cancel = this.#clock.after(LINGER_MS, () => socket.destroy())
    this.#request.once('end', cancel).resume()
  }

  abort(): void {
    const { socket } = this.#request
    if (this.peer.secure) socket.destroy()
    else socket.resetAndDestroy()
  }
}
