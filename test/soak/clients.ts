/** Clients that ask, check every answer, leave in the middle and come again. One line of requests each. */
import { once } from 'node:events'
import { type ClientHttp2Session, connect, constants } from 'node:http2'
import { Agent, request } from 'node:https'
import { setTimeout as delay } from 'node:timers/promises'
import type { Random } from '../fuzz/random.ts'
import { HOST, ROOT_PEM } from '../http/front.ts'
import { contentOf } from './app.ts'

export interface Question {
  readonly id: string
  readonly path: string
  /** Content to send; undefined for a GET. */
  readonly body: Buffer | undefined
  readonly expected: Buffer
  /** The upstream breaks off, or we leave, so that no whole answer must come. */
  readonly spoiled: 'by-upstream' | 'by-client' | undefined
}

export interface Answer {
  readonly status: number
  readonly id: string
  readonly body: Buffer
}

/** Resolves with a whole answer; rejects when there is none. */
export interface Client {
  ask(question: Question): Promise<Answer>
  /** Leaves, without a word; the next request makes a new connection. */
  leave(): void
}

/** How long a client that leaves in the middle looks at the answer first. */
const LOOK_MS = 20

export class Http1Client implements Client {
  readonly #port: number
  #agent: Agent | undefined

  constructor(port: number) {
    this.#port = port
  }

  async ask({ path, body, spoiled }: Question): Promise<Answer> {
    this.#agent ??= new Agent({ keepAlive: true, maxSockets: 1, ca: ROOT_PEM, servername: HOST })
    const sent = request({
      host: '127.0.0.1',
      port: this.#port,
      path,
      method: body === undefined ? 'GET' : 'POST',
      headers: { host: HOST },
      agent: this.#agent,
    })
    // What fails is told by what is awaited.
    sent.on('error', () => {})
    sent.end(body)
    if (spoiled === 'by-client') {
      sent.on('response', (response) => response.on('error', () => {}).resume())
      await delay(LOOK_MS * Math.random())
      sent.destroy()
      throw new Error('left')
    }
    const [response] = await once(sent, 'response').catch((error) => {
      throw new Error(`${error.message}, on a ${sent.reusedSocket ? 'kept' : 'new'} connection`)
    })
    const pieces: Buffer[] = []
    for await (const piece of response) pieces.push(piece)
    if (!response.complete) throw new Error('cut off')
    const id = String(response.headers['x-soak-id'])
    return { status: response.statusCode, id, body: Buffer.concat(pieces) }
  }

  leave(): void {
    this.#agent?.destroy()
    this.#agent = undefined
  }
}

export class Http2Client implements Client {
  readonly #port: number
  #session: ClientHttp2Session | undefined

  constructor(port: number) {
    this.#port = port
  }

  async ask({ path, body, spoiled }: Question): Promise<Answer> {
    if (this.#session === undefined || this.#session.closed || this.#session.destroyed) {
      this.#session = connect(`https://127.0.0.1:${this.#port}`, { ca: ROOT_PEM, servername: HOST })
      this.#session.on('error', () => {})
    }
    const stream = this.#session.request({
      ':path': path,
      ':authority': HOST,
      ':method': body === undefined ? 'GET' : 'POST',
    })
    // At once: what nobody listens to when a stream ends is thrown away by Node.
    const pieces: Buffer[] = []
    let head: { readonly [name: string]: unknown } = {}
    stream.on('error', () => {})
    stream.on('response', (headers) => {
      head = headers
    })
    stream.on('data', (piece) => pieces.push(piece))
    stream.end(body)
    if (spoiled === 'by-client') {
      await delay(LOOK_MS * Math.random())
      stream.close(constants.NGHTTP2_CANCEL)
      throw new Error('left')
    }
    await once(stream, 'close')
    if (stream.rstCode !== 0 || !stream.readableEnded) throw new Error(`reset: ${stream.rstCode}`)
    return { status: Number(head[':status']), id: String(head['x-soak-id']), body: Buffer.concat(pieces) }
  }

  leave(): void {
    this.#session?.destroy()
    this.#session = undefined
  }
}

const SMALL_BYTES = 2_000
const LARGE_BYTES = 300_000

/** Mostly small and whole; some are large, some uploads, and one in twenty is spoiled by either side. */
export function makeQuestion(random: Random, route: string, id: string): Question {
  const bytes = 2 + random.below(random.below(10) === 0 ? LARGE_BYTES : SMALL_BYTES)
  const spoiled = random.below(20) === 0 ? random.pick(['by-upstream', 'by-client'] as const) : undefined
  const isUpload = spoiled !== 'by-upstream' && random.below(4) === 0
  const sized = random.below(2) === 0 ? '&sized' : ''
  const abort = spoiled === 'by-upstream' ? '&abort' : ''
  const expected = contentOf(id, bytes)
  return {
    id,
    path: `${route}/${id}?id=${id}&bytes=${bytes}${sized}${abort}`,
    body: isUpload ? expected : undefined,
    expected,
    spoiled,
  }
}
