/**
 * One request from its head to its log line: decide → answer, or pick an upstream → send → stream the response back.
 * Receives a `Downstream` from a server; asks the gateway; sends through the forwarder; ends in the access log.
 *
 * Over 500 lines: the phases of a request share its state, and each may end it.
 */
import type { ClientRequest, IncomingMessage } from 'node:http'
import type { Socket } from 'node:net'
import { messageOf, ProxyError } from '../../errors.ts'
import { IdleTimer } from '../../idle-timer.ts'
import type { Backend } from '../../upstreams/backend.ts'
import type { BalancedRequest } from '../../upstreams/strategies.ts'
import type { Waiter } from '../../upstreams/waiting-line.ts'
import { type Coding, type Compression, Compressor, compressionOf } from '../compression.ts'
import { rewriteTarget } from '../edits.ts'
import { joinedValues } from '../headers.ts'
import { errorPage, titleOf } from '../pages.ts'
import { tooLarge } from '../shaping.ts'
import type { RequestFields, Route, Verdict } from '../verdict.ts'
import type { WireOptions } from '../wire.ts'
import { type Downstream, type Field, pairs, type ResponseHead } from './downstream.ts'
import type { FailureStage, Forwarder } from './forwarder.ts'
import {
  clientHead,
  editedFields,
  endToEnd,
  endToEndTrailers,
  hasContent,
  type RequestHead,
  readHead,
  receivedRequestId,
  switchingFields,
  upstreamFields,
  valuesOf,
} from './messages.ts'
import { joinSockets } from './tunnel.ts'

/** RFC 9110 section 9.2.2: these may be sent again when it is not known whether the first one was served. */
const IDEMPOTENT: ReadonlySet<string> = new Set(['GET', 'HEAD', 'OPTIONS', 'TRACE', 'PUT', 'DELETE'])
/** Kept connections that may turn out to be closed before the request is given up. */
const MAX_RESENDS = 3

/** `waiting` for a response; `responding` once its head was sent; `over` when its end was, or when it was cut off. */
type Phase = 'waiting' | 'responding' | 'over'

export class Exchange implements RequestFields, Waiter {
  readonly #wire: WireOptions
  readonly #forwarder: Forwarder
  readonly #client: Downstream
  readonly #id: string
  /** See `Gateway.clientOf`. */
  readonly #clientAddress: string
  readonly #startedAt: number
  readonly #tried: Backend[] = []
  #phase: Phase = 'waiting'
  #head: RequestHead | undefined
  #route: Route | undefined
  #request: ClientRequest | undefined
  #resends = 0
  #retries = 0
  /** Where a place is taken. */
  #occupied: Backend | undefined
  /** Is all of the request on its way? */
  #sent = false
  #bodyIdle: IdleTimer | undefined
  #upstreamIdle: IdleTimer | undefined
  #status = 499
  #bodyBytes = 0
  #requestBytes = 0
  #error: ProxyError | undefined

  constructor(client: Downstream, wire: WireOptions, forwarder: Forwarder) {
    this.#client = client
    this.#wire = wire
    this.#forwarder = forwarder
    this.#id = wire.requestIds.continue(receivedRequestId(client))
    const { clientAddress, trusted } = client.peer
    this.#clientAddress = trusted
      ? wire.gateway.clientOf(clientAddress, valuesOf(client.fields, 'x-forwarded-for').join())
      : clientAddress
    this.#startedAt = wire.clock.monotonic()
  }

  start(): void {
    const client = this.#client
    client.sink.on('error', () => {})
    client.sink.once('close', () => this.#onClose())
    client.onFault = (error) => this.#fail(error)
    const head = readHead(client)
    if (head instanceof ProxyError) this.#fail(head)
    else this.#carryOut(head)
  }

  #carryOut(head: RequestHead): void {
    this.#head = head
    const { secure, serverName, client } = this.#client.peer
    const { fields, method } = this.#client
    const { authority: host, target } = head
    this.#execute(
      this.#wire.gateway.decide({
        secure,
        serverName,
        client,
        method,
        host,
        target,
        clientAddress: this.#clientAddress,
        contentLength: Number(valuesOf(fields, 'content-length')[0] ?? -1),
        fields: this,
      }),
    )
  }

  #execute(verdict: Verdict): void {
    if (verdict.action === 'wait') {
      verdict.decision.then((decision) => {
        if (this.#phase === 'waiting') this.#execute(decision)
      })
    } else if (verdict.action === 'refuse') this.#fail(verdict.error, verdict.hsts)
    else if (verdict.action === 'answer') this.#answer(verdict.status, verdict.headers, verdict.body)
    else {
      this.#route = verdict.route
      this.#choose(verdict.route)
    }
  }

  /** As the upstream gets it, but for the route's own edits: what a client says of itself without being trusted is gone. */
  get #balanced(): BalancedRequest {
    const { authority = '' } = this.#head ?? {}
    const rules = { clientFields: this.#route?.clientFields, requestEdits: undefined }
    const field = (name: string): string | undefined => {
      const sent = upstreamFields(this.#client, authority, this.#id, rules)
      return joinedValues(
        name,
        sent.flatMap(([other, value]) => (other.toLowerCase() === name ? value : [])),
      )
    }
    return { clientAddress: this.#clientAddress, field }
  }

  field(name: string): string | undefined {
    return joinedValues(name, valuesOf(this.#client.fields, name))
  }

  #choose(route: Route): void {
    const backend = route.balancer.pick(this.#balanced)
    if (backend !== undefined) this.#ask(route, backend)
    else if (!route.balancer.wait(this)) this.#fail(route.balancer.refusal())
  }

  onTurn(): void {
    if (this.#route !== undefined) this.#choose(this.#route)
  }

  onWaitedTooLong(): void {
    if (this.#route !== undefined) this.#fail(this.#route.balancer.refusal())
  }

  #ask(route: Route, backend: Backend): void {
    this.#release()
    this.#occupied = backend
    this.#tried.push(backend)
    this.#send(route, backend)
  }

  #release(): void {
    if (this.#occupied !== undefined) this.#route?.balancer.release(this.#occupied)
    this.#occupied = undefined
  }

  /** Another upstream, where sending the request twice is safe and the route's budget allows it. */
  #another(route: Route): Backend | undefined {
    if (this.#phase !== 'waiting' || !this.#repeatable) return undefined
    const next = route.balancer.pickAgain(this.#balanced, this.#tried, this.#retries)
    if (next !== undefined) this.#retries++
    return next
  }

  get #repeatable(): boolean {
    return this.#client.body === undefined && IDEMPOTENT.has(this.#client.method)
  }

  #send(route: Route, backend: Backend): void {
    const { authority = '', target: sent = '' } = this.#head ?? {}
    const target = route.target ?? sent
    const outgoing = {
      method: this.#client.method,
      target: route.rewrite === undefined ? target : rewriteTarget(target, route.path, route.rewrite),
      fields: upstreamFields(this.#client, authority, this.#id, route),
      connectTimeoutMs: this.#wire.gateway.timeouts.connect,
    }
    try {
      const request = this.#forwarder.open(backend, outgoing, {
        connected: () => this.#sendBody(request),
        informed: (status, rawHeaders) => this.#inform(status, pairs(rawHeaders)),
        responded: (response) => {
          if (request === this.#request) this.#onResponse(route, backend, request, response)
        },
        switched: (response, socket, first) => {
          route.balancer.succeeded(backend)
          this.#switch(response, socket, first)
        },
        failed: (error, stage) => {
          if (request === this.#request) this.#onFailure(route, backend, error, stage)
        },
      })
      this.#request = request
    } catch (cause) {
      const message = `the request cannot be sent on: ${messageOf(cause)}`
      this.#fail(new ProxyError('REQUEST_INVALID', 400, message, { cause }))
    }
  }

  /** No response has begun; once one has, its own `error` says that it was cut off. */
  #onFailure(route: Route, backend: Backend, error: ProxyError, stage: FailureStage): void {
    if (this.#phase !== 'waiting') return
    this.#stopTimers()
    if (stage === 'reused' && this.#repeatable && this.#resends++ < MAX_RESENDS) {
      this.#send(route, backend)
      return
    }
    let next: Backend | undefined
    if (stage === 'connecting') {
      route.balancer.connectFailed(backend, error.message)
      next = route.balancer.pick(this.#balanced, this.#tried)
      if (next === undefined) {
        this.#release()
        // The others may be well, and only full.
        if (route.balancer.wait(this)) {
          this.#request = undefined
          return
        }
      }
    } else {
      route.balancer.failed(backend, error.message)
      if (error.code === 'UPSTREAM_UNREACHABLE') next = this.#another(route)
    }
    if (next === undefined) this.#fail(error)
    else this.#ask(route, next)
  }

  #onResponse(route: Route, backend: Backend, request: ClientRequest, response: IncomingMessage): void {
    const { statusCode = 0 } = response
    if (statusCode < 502 || statusCode > 504) route.balancer.succeeded(backend)
    else {
      route.balancer.failed(backend, `it answered ${statusCode}`)
      const next = this.#another(route)
      if (next !== undefined) {
        this.#stopTimers()
        this.#request = undefined
        response.on('error', () => {})
        request.destroy()
        this.#ask(route, next)
        return
      }
    }
    this.#respond(response)
  }

  #sendBody(request: ClientRequest): void {
    const { clock, gateway } = this.#wire
    const { body } = this.#client
    this.#upstreamIdle = new IdleTimer(clock, gateway.timeouts.response, () => this.#onUpstreamIdle())
    if (body === undefined) {
      this.#sent = true
      request.end()
      return
    }
    if (this.#head?.expectsContinue === true) this.#client.sendInformation(100, [])
    this.#bodyIdle = new IdleTimer(clock, gateway.timeouts.body, () => this.#onBodyIdle())
    body.on('data', (chunk: Buffer) => {
      if (this.#phase === 'over') return
      this.#requestBytes += chunk.length
      if (this.#requestBytes > (this.#route?.maxBodyBytes ?? Number.POSITIVE_INFINITY)) {
        this.#fail(tooLarge())
        return
      }
      this.#touch()
      if (!request.write(chunk)) body.pause()
    })
    request.on('drain', () => {
      this.#touch()
      body.resume()
    })
    body.once('end', () => {
      this.#bodyIdle?.stop()
      if (this.#phase === 'over') return
      this.#upstreamIdle?.touch()
      this.#sent = true
      const clientFields = this.#route?.clientFields
      const trailers = endToEndTrailers(this.#client.receivedTrailers())
      request.addTrailers(trailers.filter(([name]) => clientFields?.owns(name) !== true))
      request.end()
    })
  }

  #inform(status: number, fields: readonly Field[]): void {
    // 100 was not asked for upstream: the client was told to go on, or did not ask.
    if (this.#phase === 'waiting' && status !== 100) this.#client.sendInformation(status, endToEnd(fields))
  }

  #respond(response: IncomingMessage): void {
    this.#touch()
    response.on('error', (error) => this.#onCutOff(error))
    try {
      const head = clientHead(response, this.#client, this.#hsts, this.#route?.responseEdits)
      const compression = this.#compressionOf(response, head)
      const fields = compression === undefined ? head.fields : editedFields(head.fields, compression.edits)
      const cookie = this.#stickyCookie
      this.#sendHead({ ...head, fields: cookie === undefined ? fields : [...fields, ['Set-Cookie', cookie]] })
      if (compression?.coding !== undefined) this.#compress(response, compression.coding)
      else if (hasContent(this.#client.method, head.status)) this.#stream(response)
      else {
        response.resume()
        this.#end([])
      }
    } catch (cause) {
      const message = `${this.#upstream}: a response that cannot be sent on: ${messageOf(cause)}`
      this.#fail(new ProxyError('UPSTREAM_INVALID', 502, message, { cause }))
    }
  }

  #compressionOf(response: IncomingMessage, { status, fields }: ResponseHead): Compression | undefined {
    if (this.#route?.compress !== true) return undefined
    const facts = {
      method: this.#client.method,
      status,
      contentLength: Number(response.headers['content-length'] ?? -1),
      field: (name: string) => valuesOf(fields, name).join(', ') || undefined,
    }
    return compressionOf(facts, this.field('accept-encoding'))
  }

  #compress(response: IncomingMessage, coding: Coding): void {
    const { sink } = this.#client
    const compressor = new Compressor(coding, {
      onCompressed: (bytes) => {
        if (this.#phase === 'over') return
        this.#bodyBytes += bytes.length
        if (!sink.write(bytes)) compressor.pause()
      },
      onCompressedEnd: () => this.#end(endToEndTrailers(pairs(response.rawTrailers))),
      onCompressorDrain: () => response.resume(),
      onCompressorError: (error) => this.#onCutOff(error),
    })
    const flushes = response.headers['content-length'] === undefined
    sink.once('close', () => compressor.destroy())
    sink.on('drain', () => {
      this.#touch()
      compressor.resume()
    })
    response.on('data', (chunk: Buffer) => {
      if (this.#phase === 'over') return
      this.#touch()
      if (!compressor.write(chunk)) response.pause()
      if (flushes) compressor.flush()
    })
    response.once('end', () => compressor.end())
  }

  #stream(response: IncomingMessage): void {
    const { sink } = this.#client
    response.on('data', (chunk: Buffer) => {
      if (this.#phase === 'over') return
      this.#touch()
      this.#bodyBytes += chunk.length
      if (!sink.write(chunk)) response.pause()
    })
    sink.on('drain', () => {
      this.#touch()
      response.resume()
    })
    response.once('end', () => this.#end(endToEndTrailers(pairs(response.rawTrailers))))
  }

  #switch(response: IncomingMessage, upstream: Socket, first: Buffer): void {
    const { upgrade } = this.#client
    if (upgrade === undefined || this.#phase !== 'waiting') {
      upstream.destroy()
      const message = `${this.#upstream}: changed the protocol unasked`
      this.#fail(new ProxyError('UPSTREAM_INVALID', 502, message))
      return
    }
    this.#stopTimers()
    this.#phase = 'over'
    this.#status = 101
    const cookie = this.#stickyCookie
    const fields = switchingFields(response)
    const client = upgrade.accept(cookie === undefined ? fields : [...fields, ['Set-Cookie', cookie]])
    if (first.length > 0) upstream.unshift(first)
    const { clock, gateway } = this.#wire
    joinSockets(client, upstream, clock, gateway.timeouts.upgrade, (count) => {
      this.#bodyBytes += count
    })
  }

  #answer(status: number, fields: readonly (readonly [string, string])[], body: string): void {
    const sent: Field[] = fields.map(([name, value]) => [name, value])
    sent.push(['Date', new Date(this.#wire.clock.now()).toUTCString()])
    // RFC 9110 section 8.6.
    if (status !== 204) sent.push(['Content-Length', String(Buffer.byteLength(body))])
    const last = this.#error?.code === 'REQUEST_INVALID'
    this.#sendHead({ status, reason: titleOf(status), fields: sent, trailers: false, last })
    if (hasContent(this.#client.method, status)) {
      this.#bodyBytes = Buffer.byteLength(body)
      this.#client.sink.write(body)
    }
    this.#end([])
  }

  /** Ends the exchange with an error page, or, once a response has begun, by cutting it off. */
  #fail(error: ProxyError, hsts = this.#hsts): void {
    if (this.#phase === 'over') return
    this.#error = error
    this.#request?.destroy()
    if (this.#phase === 'responding') {
      this.#phase = 'over'
      this.#stopTimers()
      this.#client.abort()
      return
    }
    const page = errorPage(error.status, this.#id, valuesOf(this.#client.fields, 'accept').join())
    const fields: Field[] = [
      ['Content-Type', page.contentType],
      ['Cache-Control', 'no-store'],
    ]
    if (error.challenge !== undefined) fields.push(['WWW-Authenticate', error.challenge])
    if (error.retryAfter !== undefined) fields.push(['Retry-After', String(error.retryAfter)])
    if (hsts !== undefined) fields.push(['Strict-Transport-Security', hsts])
    this.#answer(error.status, fields, page.body)
  }

  #sendHead(head: ResponseHead): void {
    this.#client.sendHead(head)
    this.#phase = 'responding'
    this.#status = head.status
  }

  #end(trailers: readonly Field[]): void {
    if (this.#phase !== 'responding') return
    this.#phase = 'over'
    this.#stopTimers()
    if (!this.#sent) this.#request?.destroy()
    this.#client.end(trailers)
  }

  /** The upstream's connection broke in the middle of a response. */
  #onCutOff(cause: Error): void {
    const message = `${this.#upstream}: the response was cut off`
    this.#fail(new ProxyError('UPSTREAM_UNREACHABLE', 502, message, { cause }))
  }

  #onBodyIdle(): void {
    // When it is paused, the upstream does not take the body.
    if (this.#client.body?.isPaused() === true) return
    this.#fail(new ProxyError('REQUEST_TIMEOUT', 408, 'the body did not arrive in time'))
  }

  #onUpstreamIdle(): void {
    const { body, sink } = this.#client
    const waitsForClient = !this.#sent && body?.isPaused() === false
    if (this.#phase === 'waiting' && waitsForClient) return
    this.#fail(
      sink.writableNeedDrain
        ? new ProxyError('CLIENT_GONE', 499, 'the client did not read the response in time')
        : new ProxyError('UPSTREAM_TIMEOUT', 504, `${this.#upstream}: no answer in time`),
    )
    if (this.#occupied !== undefined && !sink.writableNeedDrain)
      this.#route?.balancer.failed(this.#occupied, 'no answer in time')
  }

  /** The response was sent, or the client is gone. */
  #onClose(): void {
    this.#stopTimers()
    this.#release()
    this.#route?.balancer.leave(this)
    if (this.#phase !== 'over') {
      this.#phase = 'over'
      this.#error = new ProxyError('CLIENT_GONE', 499, 'the client closed the connection')
      this.#request?.destroy()
    }
    const { method, target, version } = this.#client
    const { clock, accessLog } = this.#wire
    accessLog.record({
      id: this.#id,
      method,
      host: this.#head?.authority,
      target,
      status: this.#status,
      bodyBytes: this.#bodyBytes,
      durationMs: clock.monotonic() - this.#startedAt,
      upstream: this.#upstream,
      clientAddress: this.#clientAddress,
      protocol: version === '2.0' ? 'HTTP/2' : `HTTP/${version}`,
      error: this.#error,
    })
  }

  /** The upstream that was asked last. */
  get #upstream(): string | undefined {
    return this.#tried.at(-1)?.url
  }

  get #stickyCookie(): string | undefined {
    const backend = this.#tried.at(-1)
    const { secure } = this.#client.peer
    return backend && this.#route?.balancer.sticky?.setCookie(backend, this.#balanced, secure)
  }

  get #hsts(): string | undefined {
    return this.#client.peer.secure ? this.#route?.hsts : undefined
  }

  /** Something went either way: a client that listens to a response is not late with its body either. */
  #touch(): void {
    this.#bodyIdle?.touch()
    this.#upstreamIdle?.touch()
  }

  #stopTimers(): void {
    this.#bodyIdle?.stop()
    this.#upstreamIdle?.stop()
  }
}
