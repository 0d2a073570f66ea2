/**
 * Has its CA revoked a certificate? Asks the CRLs that the certificate names, then the OCSP responders, as far as needed.
 * Hides their HTTP, which is bounded in time and size and follows no redirect; `server.ts` hands `isRevoked` to `renew/`.
 */
import type { X509Certificate } from 'node:crypto'
import { once } from 'node:events'
import { request as httpRequest, type IncomingMessage } from 'node:http'
import { request as httpsRequest } from 'node:https'
import type { Certificate } from '../cert/certificate.ts'
import { type Crl, crlPointsOf, readCrl } from '../cert/crl.ts'
import { certificateIdOf, createOcspRequest, ocspUrlsOf, readOcspAnswer } from '../cert/ocsp.ts'
import { type Profile, profileOf } from '../cert/profile.ts'
import { messageOf } from '../errors.ts'
import type { Log } from '../log.ts'
import { type Clock, MINUTE, SECOND, withDeadline } from '../time.ts'

export interface RevocationsOptions {
  readonly clock: Clock
  readonly log: Log
}

const EXCHANGE_LIMIT_MS = 8 * SECOND
const MEBIBYTE = 1024 * 1024
const LARGEST_CRL_BYTES = 16 * MEBIBYTE
const LARGEST_ANSWER_BYTES = 256 * 1024
/** A CA's clock may be ahead of ours. */
const CLOCK_SKEW_MS = 5 * MINUTE
/**
 * What was fetched serves all certificates of a review, and is asked for again at the next one: CAs publish new lists
 * long before the nextUpdate of the old.
 */
const KEPT_MS = 30 * MINUTE
/** Large CAs split their lists into hundreds. */
const MOST_KEPT = 1024
const MOST_KEPT_BYTES = 64 * MEBIBYTE

/** What came of a fetch. */
interface Kept {
  /** Undefined: nothing that can be believed. */
  readonly crl: Crl | undefined
  readonly bytes: number
  /** On the monotonic clock. */
  readonly until: number
}

interface Question {
  readonly profile: Profile
  readonly issuer: X509Certificate
  readonly signal: AbortSignal
}

interface Outgoing {
  readonly url: string
  /** Posted as an OCSP request; absent: a GET. */
  readonly body?: Buffer
  readonly limitBytes: number
}

/** Keeps CRLs in memory for half an hour, and for as long the knowledge of who does not answer. */
export class Revocations {
  readonly #options: RevocationsOptions
  /** Least recently used first. */
  readonly #kept = new Map<string, Kept>()
  #keptBytes = 0

  constructor(options: RevocationsOptions) {
    this.#options = options
  }

  /**
   * Undefined: it cannot be told, for the certificate names no source, or comes without its issuer, or no source gives
   * an answer that proves anything. What the reason was is logged at debug. To be asked for one certificate after the
   * other: then each CRL is fetched once for all of them, and a server that does not answer is waited for once.
   *
   * @throws only the signal's reason, when it aborts
   */
  async isRevoked(certificate: Certificate, signal: AbortSignal): Promise<boolean | undefined> {
    signal.throwIfAborted()
    const { leaf, chain } = certificate
    const issuer = chain.slice(1).find((each) => leaf.checkIssued(each))
    if (issuer === undefined) return undefined
    const what = `the revocation of ${certificate.names[0]} from ${certificate.source}`
    return this.#attempt(what, signal, async () => {
      const question = { profile: profileOf(leaf), issuer, signal }
      return (await this.#askLists(question)) ?? (await this.#askResponders(question))
    })
  }

  async #askLists(question: Question): Promise<boolean | undefined> {
    for (const urls of crlPointsOf(question.profile)) {
      for (const url of urls.filter(isWeb)) {
        const crl = await this.#loadCrl(url, question)
        // Over plain HTTP anybody can send another list of the same CA.
        const isOurs = crl !== undefined && (crl.scope?.some((each) => urls.includes(each)) ?? true)
        if (isOurs) return crl.lists(question.profile.serial)
      }
    }
    return undefined
  }

  async #loadCrl(url: string, { issuer, signal }: Question): Promise<Crl | undefined> {
    const key = `${issuer.fingerprint256} ${url}`
    const kept = this.#recall(key)
    if (kept !== undefined && (kept.crl === undefined || this.#isCurrent(kept.crl))) return kept.crl
    let bytes = 0
    const crl = await this.#attempt(url, signal, async () => {
      const body = await this.#exchange({ url, limitBytes: LARGEST_CRL_BYTES }, signal)
      bytes = body.length
      return this.#current(await readCrl(body, issuer))
    })
    this.#keep(key, crl, crl === undefined ? 0 : bytes)
    return crl
  }

  async #askResponders({ profile, issuer, signal }: Question): Promise<boolean | undefined> {
    const urls = ocspUrlsOf(profile).filter(isWeb)
    if (urls.length === 0) return undefined
    const id = certificateIdOf(profile, issuer)
    const body = createOcspRequest(id)
    for (const url of urls) {
      const revoked = await this.#attempt(url, signal, async () => {
        const bytes = await this.#exchange({ url, body, limitBytes: LARGEST_ANSWER_BYTES }, signal)
        const answer = await readOcspAnswer(bytes, id, issuer, this.#options.clock.now())
        return this.#current(answer).revoked
      })
      if (revoked !== undefined) return revoked
    }
    return undefined
  }

  /** Undefined when `work` fails, which is told to who looks for it. */
  async #attempt<T>(what: string, signal: AbortSignal, work: () => Promise<T>): Promise<T | undefined> {
    try {
      return await work()
    } catch (error) {
      signal.throwIfAborted()
      this.#options.log.debug({ err: error }, `${what} cannot be told: ${messageOf(error)}`)
      return undefined
    }
  }

  /** The body of a 200. A server that gave no answer in time is not asked again for a while. */
  async #exchange(outgoing: Outgoing, signal: AbortSignal): Promise<Buffer> {
    const { origin } = new URL(outgoing.url)
    // A server that is slow with large lists may well be quick with small answers.
    const server = `${outgoing.body === undefined ? 'GET' : 'POST'} ${origin}`
    if (this.#recall(server) !== undefined) throw new Error(`${origin} did not answer lately`)
    const { clock } = this.#options
    let answer: { readonly status: number; readonly body: Buffer | undefined }
    try {
      answer = await withDeadline(clock, EXCHANGE_LIMIT_MS, `the answer of ${origin}`, signal, (limited) =>
        send(outgoing, limited),
      )
    } catch (error) {
      if (!signal.aborted) this.#keep(server, undefined, 0)
      throw error
    }
    const { status, body } = answer
    if (status !== 200) throw new Error(`${origin} answers with status ${status}`)
    if (body === undefined) throw new Error(`${origin} answers with more than ${outgoing.limitBytes} bytes`)
    return body
  }

  #current<T extends Pick<Crl, 'thisUpdate' | 'nextUpdate'>>(dated: T): T {
    if (!this.#isCurrent(dated)) throw new Error('it is of another time; is the clock right?')
    return dated
  }

  #isCurrent({ thisUpdate, nextUpdate }: Pick<Crl, 'thisUpdate' | 'nextUpdate'>): boolean {
    const now = this.#options.clock.now()
    return thisUpdate <= now + CLOCK_SKEW_MS && now < nextUpdate
  }

  #recall(key: string): Kept | undefined {
    const kept = this.#kept.get(key)
    if (kept === undefined) return undefined
    this.#drop(key, kept)
    if (this.#options.clock.monotonic() >= kept.until) return undefined
    this.#hold(key, kept)
    return kept
  }

  #keep(key: string, crl: Crl | undefined, bytes: number): void {
    const before = this.#kept.get(key)
    if (before !== undefined) this.#drop(key, before)
    this.#hold(key, { crl, bytes, until: this.#options.clock.monotonic() + KEPT_MS })
    for (const [oldest, kept] of this.#kept) {
      if (this.#kept.size <= MOST_KEPT && this.#keptBytes <= MOST_KEPT_BYTES) break
      this.#drop(oldest, kept)
    }
  }

  #hold(key: string, kept: Kept): void {
    this.#kept.set(key, kept)
    this.#keptBytes += kept.bytes
  }

  #drop(key: string, kept: Kept): void {
    this.#kept.delete(key)
    this.#keptBytes -= kept.bytes
  }
}

/** The names of CRLs may be of LDAP too. */
function isWeb(url: string): boolean {
  return URL.canParse(url) && /^https?:$/.test(new URL(url).protocol)
}

/** No body: it is larger than allowed, or comes with another status than 200. */
async function send(
  { url, body, limitBytes }: Outgoing,
  signal: AbortSignal,
): Promise<{ status: number; body: Buffer | undefined }> {
  const request = url.toLowerCase().startsWith('https:') ? httpsRequest : httpRequest
  const type = body === undefined ? {} : { 'content-type': 'application/ocsp-request' }
  const method = body === undefined ? 'GET' : 'POST'
  const outgoing = request(url, { method, signal, headers: { 'user-agent': 'holdfast', ...type } })
  // What breaks after the head breaks the reading of the body, and is met there.
  outgoing.on('error', () => {})
  outgoing.end(body)
  const [incoming] = (await once(outgoing, 'response')) as [IncomingMessage]
  const { statusCode: status = 0 } = incoming
  if (status === 200) return { status, body: await readBounded(incoming, limitBytes) }
  incoming.destroy()
  return { status, body: undefined }
}

async function readBounded(incoming: IncomingMessage, limitBytes: number): Promise<Buffer | undefined> {
  const chunks: Buffer[] = []
  let bodyBytes = 0
  // Leaving the loop early closes the connection.
  for await (const chunk of incoming as AsyncIterable<Buffer>) {
    bodyBytes += chunk.length
    if (bodyBytes > limitBytes) return undefined
    chunks.push(chunk)
  }
  return Buffer.concat(chunks)
}
