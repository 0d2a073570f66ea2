/**
 * Carries exchanges through a proxy, one at a time, and tells what either side saw. Both sides are raw sockets, and what
 * they saw is read here by the letter of RFC 9112, with nothing forgiven: a proxy that sends on what could be read in two
 * ways has failed already.
 */
import { once } from 'node:events'
import { connect, createServer, type Server, type Socket } from 'node:net'
import type { Test } from 'tap'
import { Front, type FrontOptions, HOST, type MakeWire, portOf, until } from '../front.ts'
import type { Exchange } from './exchanges.ts'

export interface Message {
  /** `POST /x HTTP/1.1`, or the status. */
  readonly start: string
  /** `name: value`, names in lower case, in order of name; without those that say nothing of the message. */
  readonly fields: readonly string[]
  readonly body: string
  readonly trailers: readonly string[]
}

/** What became of one exchange. */
export interface Observation {
  /** Whole requests that the upstream got. */
  readonly upstream: readonly Message[]
  /** Octets that the upstream got and that are no valid request, nor the start of one. */
  readonly upstreamRubbish: string
  /** Final responses that the client got, and interim ones of the upstream; of the proxy's own, only the status. */
  readonly client: readonly Message[]
  /** What the client got beyond whole responses: a response that was cut off, or worse; `reset` where that ended it. */
  readonly clientRest: string
}

/** Asked last on every connection, so that each exchange ends: whoever took it for a body shows that by its absence. */
export const LAST = `GET /last HTTP/1.1\r\nHost: ${HOST}\r\nConnection: close\r\n\r\n`
const LAST_RESPONSE = 'HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nlast'

/** How octets are divided into writes: the index of each cut. */
export type Cuts = readonly number[]

export class Observer {
  readonly #front: Front
  readonly #upstream: RecordingUpstream

  private constructor(front: Front, upstream: RecordingUpstream) {
    this.#front = front
    this.#upstream = upstream
  }

  static async start(
    t: Test,
    makeWire: MakeWire,
    timeouts: FrontOptions['timeouts'] = {},
  ): Promise<Observer> {
    const upstream = await RecordingUpstream.start(t)
    const front = await Front.start(t, makeWire, {
      timeouts,
      sites: [{ upstreams: [upstream.url], balancing: { maxFails: 0 } }],
    })
    return new Observer(front, upstream)
  }

  /** `cuts`: of the request with what follows it, and of the response. */
  async observe(exchange: Exchange, cuts: readonly [Cuts, Cuts] = [[], []]): Promise<Observation> {
    const upstream = this.#upstream
    await upstream.prepare(exchange, cuts[1])
    const socket = connect({ port: this.#front.plainPort, host: '127.0.0.1', noDelay: true })
    let received = ''
    socket.on('data', (data) => {
      received += data.toString('latin1')
    })
    let reset = false
    socket.on('error', () => {
      reset = true
    })
    const closed = new Promise((resolve) => socket.once('close', resolve))
    await once(socket, 'connect')
    await writePieces(socket, exchange.request + LAST, cuts[0])
    await closed
    await upstream.settled()
    const { messages, rest } = readResponses(received, exchange.request, reset)
    return {
      // An upstream that ends a connection without a word may be asked again.
      upstream: exchange.closes
        ? upstream.requests.filter(({ start }) => !start.startsWith('GET /last '))
        : upstream.requests,
      upstreamRubbish: upstream.rubbish,
      client: messages,
      clientRest: rest,
    }
  }
}

/** Each piece is on its way, and most likely read, before the next is written. */
async function writePieces(socket: Socket, text: string, cuts: Cuts): Promise<void> {
  let start = 0
  for (const cut of [...cuts, text.length]) {
    if (cut <= start || socket.destroyed) continue
    socket.write(text.slice(start, cut), 'latin1')
    start = cut
    for (let turn = 0; turn < 2; turn++) await new Promise(setImmediate)
  }
}

interface UpstreamConnection {
  readonly socket: Socket
  pending: string
  broken: boolean
}

class RecordingUpstream {
  readonly url: string
  requests: Message[] = []
  rubbish = ''
  readonly #connections = new Set<UpstreamConnection>()
  #exchange: Exchange | undefined
  #cuts: Cuts = []
  #answered = false
  #answering = false

  private constructor(server: Server) {
    this.url = `http://127.0.0.1:${portOf(server)}`
  }

  static async start(t: Test): Promise<RecordingUpstream> {
    const server = createServer({ noDelay: true })
    await once(server.listen(0, '127.0.0.1'), 'listening')
    const upstream = new RecordingUpstream(server)
    server.on('connection', (socket) => upstream.#take(socket))
    t.teardown(() => {
      server.close()
      for (const { socket } of upstream.#connections) socket.destroy()
    })
    return upstream
  }

  /** A hostile response meets a new connection: on an old one the proxies may ask again, each in its own way. */
  async prepare(exchange: Exchange, cuts: Cuts): Promise<void> {
    if (exchange.closes) {
      for (const { socket } of this.#connections) socket.end()
      await until(() => this.#connections.size === 0)
    }
    this.requests = []
    this.rubbish = ''
    this.#exchange = exchange
    this.#cuts = cuts
    this.#answered = false
  }

  /** Nothing is on its way any more. */
  settled(): Promise<void> {
    return until(
      () =>
        !this.#answering &&
        [...this.#connections].every(({ pending, socket }) => pending === '' && !socket.writableEnded),
    )
  }

  #take(socket: Socket): void {
    const connection: UpstreamConnection = { socket, pending: '', broken: false }
    this.#connections.add(connection)
    socket.on('error', () => {})
    socket.on('close', () => {
      this.#connections.delete(connection)
    })
    socket.on('data', (data) => {
      if (connection.broken) return
      connection.pending += data.toString('latin1')
      this.#read(connection)
    })
  }

  #read(connection: UpstreamConnection): void {
    while (connection.pending !== '') {
      const reading = readRequest(connection.pending)
      if (reading === 'incomplete') return
      if (reading === 'invalid') {
        this.rubbish += connection.pending
        connection.broken = true
        connection.socket.destroy()
        return
      }
      connection.pending = connection.pending.slice(reading.length)
      this.requests.push(reading.message)
      void this.#respond(connection.socket, reading.message)
    }
  }

  async #respond(socket: Socket, { start }: Message): Promise<void> {
    if (this.#answered || start.includes(' /last ') || this.#exchange === undefined) {
      socket.write(LAST_RESPONSE)
      return
    }
    this.#answered = true
    this.#answering = true
    const { response, closes } = this.#exchange
    await writePieces(socket, response, this.#cuts)
    if (closes) socket.end()
    this.#answering = false
  }
}

/* Reading, by the letter */

type Reading = { readonly message: Message; readonly length: number } | 'incomplete' | 'invalid'

/** What differs from run to run, or is the business of one hop. */
const UNTOLD = /^(?:date: |x-request-id: |keep-alive: |connection: (?:keep-alive|close)$)/

interface Head {
  readonly start: string
  readonly fields: string[]
  readonly length: number
}

function readHead(text: string): Head | 'incomplete' | 'invalid' {
  const end = text.indexOf('\r\n\r\n')
  if (end === -1) return 'incomplete'
  const [start = '', ...lines] = text.slice(0, end).split('\r\n')
  const fields = readFields(lines)
  if (!/^[ -~\x80-\xff]*$/.test(start) || fields === undefined) return 'invalid'
  return { start, fields, length: end + 4 }
}

/** RFC 9112 section 5, and obs-text. */
function readFields(lines: readonly string[]): string[] | undefined {
  const fields: string[] = []
  for (const line of lines) {
    const match =
      /^([\w!#$%&'*+.^`|~-]+):[ \t]*((?:[!-~\x80-\xff](?:[\t -~\x80-\xff]*[!-~\x80-\xff])?)?)[ \t]*$/.exec(
        line,
      )
    if (match === null) return undefined
    fields.push(`${match[1]?.toLowerCase()}: ${match[2]}`)
  }
  return fields
}

function valuesOf(fields: readonly string[], name: string): string[] {
  return fields.filter((field) => field.startsWith(`${name}: `)).map((field) => field.slice(name.length + 2))
}

/** What framing a head gives its content: `invalid` also for what RFC 9112 lets a recipient forgive. */
function framingOf(fields: readonly string[]): number | 'chunked' | 'none' | 'invalid' {
  const lengths = valuesOf(fields, 'content-length')
  const codings = valuesOf(fields, 'transfer-encoding')
  if (lengths.length + codings.length > 1) return 'invalid'
  if (codings[0] !== undefined) return codings[0] === 'chunked' ? 'chunked' : 'invalid'
  if (lengths[0] === undefined) return 'none'
  return /^(?:0|[1-9]\d{0,9})$/.test(lengths[0]) ? Number(lengths[0]) : 'invalid'
}

function readChunks(
  text: string,
): { body: string; trailers: string[]; length: number } | 'incomplete' | 'invalid' {
  let body = ''
  for (let at = 0; ; ) {
    const lineEnd = text.indexOf('\r\n', at)
    if (lineEnd === -1) return text.length - at > 16 ? 'invalid' : 'incomplete'
    const line = text.slice(at, lineEnd)
    if (!/^[\da-f]{1,8}$/i.test(line)) return 'invalid'
    const size = Number.parseInt(line, 16)
    at = lineEnd + 2
    if (size === 0) {
      const lines: string[] = []
      for (;;) {
        const end = text.indexOf('\r\n', at)
        if (end === -1) return 'incomplete'
        const trailer = text.slice(at, end)
        at = end + 2
        if (trailer === '') break
        lines.push(trailer)
      }
      const trailers = readFields(lines)
      return trailers === undefined ? 'invalid' : { body, trailers, length: at }
    }
    if (text.length < at + size + 2) return 'incomplete'
    body += text.slice(at, at + size)
    if (text.slice(at + size, at + size + 2) !== '\r\n') return 'invalid'
    at += size + 2
  }
}

function messageOf(start: string, head: Head, body: string, trailers: string[] = []): Message {
  const fields = head.fields.filter((field) => !UNTOLD.test(field)).sort()
  return { start, fields, body, trailers: trailers.sort() }
}

function readRequest(text: string): Reading {
  const head = readHead(text)
  if (typeof head === 'string') return head
  if (!/^[A-Z-]+ \/[!-~]* HTTP\/1\.1$/.test(head.start)) return 'invalid'
  if (valuesOf(head.fields, 'host').length !== 1) return 'invalid'
  return readBody(text, head, head.start, 'none')
}

function readBody(
  text: string,
  head: Head,
  start: string,
  without: 'none' | 'to-the-end' | 'incomplete',
): Reading {
  const framing = framingOf(head.fields)
  const rest = text.slice(head.length)
  if (framing === 'invalid') return 'invalid'
  if (framing === 'none' && without === 'incomplete') return 'incomplete'
  if (framing === 'chunked') {
    const content = readChunks(rest)
    if (typeof content === 'string') return content
    return {
      message: messageOf(start, head, content.body, content.trailers),
      length: head.length + content.length,
    }
  }
  const length = framing !== 'none' ? framing : without === 'none' ? 0 : rest.length
  if (rest.length < length) return 'incomplete'
  return { message: messageOf(start, head, rest.slice(0, length)), length: head.length + length }
}

export interface ResponseReading {
  readonly messages: readonly Message[]
  /** What comes after the last whole response, with nothing of it that differs from run to run. */
  readonly rest: string
  /** Can the rest not become a response, however it goes on? */
  readonly invalid: boolean
}

/**
 * The connection has ended, or was `reset`, so that `received` is all there is. `request` tells whether HEAD was asked for
 * first.
 */
export function readResponses(received: string, request: string, reset: boolean): ResponseReading {
  const messages: Message[] = []
  let rest = received
  let headAsked = /^\s*HEAD /.test(request)
  let reading: Reading = 'incomplete'
  while (rest !== '') {
    reading = readResponse(rest, headAsked, reset)
    if (typeof reading === 'string') break
    const { message, length } = reading
    rest = rest.slice(length)
    const isInterim = /^(?:own )?1/.test(message.start)
    if (!isInterim) headAsked = false
    // Whether a client that waits is told to go on, or refused at once.
    if (message.start !== 'own 100') messages.push(message)
  }
  const invalid = reading === 'invalid'
  // How much of it arrives before a reset is chance.
  if (reset) return { messages, rest: 'reset', invalid }
  return { messages, rest: rest.replaceAll(/(?<=\r\n)(?:Date|Connection|Keep-Alive): .*\r\n/gi, ''), invalid }
}

function readResponse(text: string, headAsked: boolean, reset: boolean): Reading {
  const head = readHead(text)
  if (typeof head === 'string') return head
  const status = /^HTTP\/1\.1 ([1-5]\d\d) [\t -~\x80-\xff]*$/.exec(head.start)?.[1]
  if (status === undefined) return 'invalid'
  const own = !head.fields.some((field) => field.startsWith('via: '))
  // An error page is sent also where HEAD could not be read.
  const asked = headAsked && !(own && /^\d{3} /.test(text.slice(head.length)))
  const bodiless = asked || status.startsWith('1') || status === '204' || status === '304'
  const reading: Reading = bodiless
    ? { message: messageOf(status, head, ''), length: head.length }
    : readBody(text, head, status, reset ? 'incomplete' : 'to-the-end')
  if (typeof reading === 'string' || !own) return reading
  return { message: { start: `own ${status}`, fields: [], body: '', trailers: [] }, length: reading.length }
}
