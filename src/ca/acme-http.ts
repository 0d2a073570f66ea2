/**
 * One HTTPS exchange with a CA, bounded in every way: time (connect, TLS, head and body together), size, no redirects,
 * nothing but https. Hides node:https from the other `acme-*` files; a fault of the wire leaves here as an `IssueError`.
 */
import { once } from 'node:events'
import type { IncomingHttpHeaders, IncomingMessage, OutgoingHttpHeaders } from 'node:http'
import { Agent, request } from 'node:https'
import { distrustOf } from '../errors.ts'
import { type Clock, DAY, DeadlineError, SECOND, withDeadline } from '../time.ts'
import { type EndpointTrust, isFaultOfTime, TimelyAgent } from './acme-endpoint.ts'
import { cleanText, type Failure, failure, type Refused, readProblem, refusal } from './acme-problem.ts'

export interface CaHttpOptions {
  /** The CA's name in the config. */
  readonly ca: string
  /** Whom to trust for the endpoint. */
  readonly trust: EndpointTrust
  readonly exchangeLimitMs: number
  readonly clock: Clock
}

/** Why an exchange is made, for errors. */
export interface Purpose {
  /** For people: `new order`. */
  readonly doing: string
  readonly refused: Refused
}

export interface CaRequest {
  readonly method: 'GET' | 'HEAD' | 'POST'
  readonly url: string
  /** Sent as `application/jose+json`. */
  readonly body?: string
}

export interface CaAnswer {
  readonly status: number
  readonly headers: IncomingHttpHeaders
  /** JSON that is parsed, a PEM chain as text, or nothing: ''. */
  readonly body: unknown
  /** From now; undefined when the CA did not say. */
  readonly retryAfterMs: number | undefined
}

/** No answer of an honest CA comes near. */
const LARGEST_BODY_BYTES = 256 * 1024
const JSON_TYPE = /^application\/(\w+\+)?json\b/i
/** RFC 8555 section 9.1. */
const CHAIN_TYPE = /^application\/pem-certificate-chain\b/i
/** Longer waits are not believed. */
const LONGEST_RETRY_AFTER_MS = 7 * DAY

/** Keeps its connections alive between exchanges, until `close`. */
export class CaHttp {
  readonly ca: string
  readonly #options: CaHttpOptions
  readonly #agent: Agent
  readonly #timelyAgent: TimelyAgent

  constructor(options: CaHttpOptions) {
    this.ca = options.ca
    this.#options = options
    this.#agent = new Agent(options.trust.agentOptions())
    this.#timelyAgent = new TimelyAgent(options.trust, options.clock)
  }

  /**
   * The answer, if it is a success. A redirect is none: what is signed for one URL means nothing to another.
   *
   * @throws IssueError CA_UNREACHABLE, CA_TIMEOUT, CA_BAD_ANSWER, and whatever the CA's refusal amounts to; the
   *   signal's reason when it aborts
   */
  async exchange(outgoing: CaRequest, { doing, refused }: Purpose, signal: AbortSignal): Promise<CaAnswer> {
    const { ca, exchangeLimitMs, clock } = this.#options
    const host = hostOf(outgoing.url)
    if (host === undefined)
      throw failure({ code: 'CA_BAD_ANSWER', ca, doing, what: 'the CA names a URL that is not https' })
    let raw: RawAnswer
    try {
      raw = await withDeadline(clock, exchangeLimitMs, `the answer of ${host}`, signal, (limited) =>
        this.#send(outgoing, limited),
      )
    } catch (cause) {
      signal.throwIfAborted()
      throw failure({ ca, doing, ...faultOf(cause, host) })
    }
    const { status, headers, text } = raw
    const type = headers['content-type'] ?? ''
    const retryAfterMs = this.#retryAfterMs(headers)
    const json = JSON_TYPE.test(type) ? parseJson(text) : undefined
    if (status >= 300) throw refusal({ ca, doing, refused, status, problem: readProblem(json), retryAfterMs })
    if (text !== '' && json === undefined && !CHAIN_TYPE.test(type)) {
      const what = `${host} answers with what is no JSON (content-type: ${cleanText(type)})`
      throw failure({ code: 'CA_BAD_ANSWER', ca, doing, what })
    }
    return { status, headers, body: json ?? text, retryAfterMs }
  }

  /** Closes every connection. */
  close(): void {
    this.#agent.destroy()
    this.#timelyAgent.destroy()
  }

  /** What has failed by the endpoint's dates was never sent. */
  async #send(outgoing: CaRequest, signal: AbortSignal): Promise<RawAnswer> {
    try {
      return await send(outgoing, this.#agent, signal)
    } catch (error) {
      if (!isFaultOfTime(error)) throw error
      return await send(outgoing, this.#timelyAgent, signal)
    }
  }

  /** RFC 9110 section 10.2.3: seconds, or a date. */
  #retryAfterMs({ 'retry-after': header, date = '' }: IncomingHttpHeaders): number | undefined {
    if (header === undefined) return undefined
    // By the CA's own clock, where it tells the time.
    const now = Date.parse(date) || this.#options.clock.now()
    const waitMs = /^\d+$/.test(header) ? Number(header) * SECOND : Date.parse(header) - now
    return waitMs > 0 ? Math.min(waitMs, LONGEST_RETRY_AFTER_MS) : undefined
  }
}

interface RawAnswer {
  readonly status: number
  readonly headers: IncomingHttpHeaders
  readonly text: string
}

async function send({ method, url, body }: CaRequest, agent: Agent, signal: AbortSignal): Promise<RawAnswer> {
  const outgoing = request(url, { method, agent, signal, headers: headersFor(body) })
  // What breaks after the head breaks the reading of the body, and is met there.
  outgoing.on('error', () => {})
  outgoing.end(body)
  const [incoming] = (await once(outgoing, 'response')) as [IncomingMessage]
  const { statusCode: status = 0, headers } = incoming
  return { status, headers, text: await readBounded(incoming) }
}

function headersFor(body: string | undefined): OutgoingHttpHeaders {
  const type = body === undefined ? {} : { 'content-type': 'application/jose+json' }
  return { 'user-agent': 'holdfast', ...type }
}

export type Fields = Readonly<Record<string, unknown>>

/** The members of a JSON object; none of anything else. */
export function fieldsOf(value: unknown): Fields {
  return typeof value === 'object' && value !== null ? (value as Fields) : {}
}

function hostOf(url: unknown): string | undefined {
  if (typeof url !== 'string' || !URL.canParse(url)) return undefined
  const { protocol, host } = new URL(url)
  return protocol === 'https:' ? host : undefined
}

function parseJson(text: string): unknown {
  try {
    return JSON.parse(text)
  } catch {
    return undefined
  }
}

class TooLargeError extends Error {}

async function readBounded(incoming: IncomingMessage): Promise<string> {
  const chunks: Buffer[] = []
  let bodyBytes = 0
  // Leaving the loop early closes the connection.
  for await (const chunk of incoming as AsyncIterable<Buffer>) {
    bodyBytes += chunk.length
    if (bodyBytes > LARGEST_BODY_BYTES) throw new TooLargeError()
    chunks.push(chunk)
  }
  return Buffer.concat(chunks).toString()
}

function faultOf(cause: unknown, host: string): Pick<Failure, 'code' | 'what' | 'cause'> {
  if (cause instanceof DeadlineError) return { code: 'CA_TIMEOUT', what: cause.message }
  if (cause instanceof TooLargeError)
    return { code: 'CA_BAD_ANSWER', what: `${host} answers with more than ${LARGEST_BODY_BYTES} bytes` }
  const { code, message } = cause as NodeJS.ErrnoException
  if (code?.startsWith('HPE_')) return { code: 'CA_BAD_ANSWER', what: `${host} does not speak HTTP`, cause }
  const distrust = distrustOf(cause)
  const hint = distrust === undefined ? '' : ': set `roots` to the PEM file of the root that it chains to'
  return {
    code: 'CA_UNREACHABLE',
    what: `cannot reach ${host}: ${cleanText(distrust ?? (message || String(code)))}${hint}`,
    cause,
  }
}
