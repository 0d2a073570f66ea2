/**
 * The signed requests of RFC 8555, one method each: what comes back is checked, what goes wrong is an `IssueError`.
 * Tames acme-client, whose only user this is. It signs and knows the protocol; its HTTP, which has no deadline, no
 * abort, and retries of its own, is replaced by `CaHttp` without a setting that others in the process would feel.
 */
import type { AsyncLocalStorage } from 'node:async_hooks'
import { X509Certificate } from 'node:crypto'
import type { IncomingHttpHeaders } from 'node:http'
import { IssueError, messageOf, type ProblemDocument } from '../errors.ts'
import type {
  Client,
  Authorization as ClientAuthorization,
  Order as ClientOrder,
  Exchange,
} from './acme-client.ts'
import { type Directory, NONCE_PURPOSE } from './acme-directory.ts'
import { type CaHttp, type CaRequest, type Fields, fieldsOf, type Purpose } from './acme-http.ts'
import { cleanText, failure, isBadNonce, readProblem } from './acme-problem.ts'

/** Where requests go. */
export interface Endpoint {
  readonly http: CaHttp
  readonly directoryUrl: string
  readonly directory: Directory
}

export interface ExternalAccountBinding {
  readonly kid: string
  /** base64url. Secret. */
  readonly hmacKey: string
}

export interface Identifier {
  readonly type: 'dns' | 'ip'
  readonly value: string
}

export interface NewOrder {
  readonly identifiers: readonly Identifier[]
  readonly profile?: string
  readonly replaces?: string
}

/** RFC 8555 section 7.1.3, as far as it is used. */
export interface Order {
  readonly url: string
  readonly status: string
  readonly authorizations: readonly string[]
  readonly finalize: string
  readonly certificate: string | undefined
  readonly problem: ProblemDocument | undefined
  /** When the CA suggests to look again. */
  readonly retryAfterMs: number | undefined
}

/** RFC 8555 section 7.1.4. */
export interface Authorization {
  readonly url: string
  readonly status: string
  /** The identifier's value, without `*.`. */
  readonly name: string
  readonly challenges: readonly OfferedChallenge[]
  readonly retryAfterMs: number | undefined
}

export interface OfferedChallenge {
  readonly type: string
  readonly url: string
  readonly token: string
  readonly problem: ProblemDocument | undefined
}

/** A certificate chain, and where the CA offers others for the same certificate. */
export interface Download {
  /** Leaf first. Nothing is checked but that it is PEM. */
  readonly chainPem: string
  /** RFC 8555 section 7.4.2. */
  readonly alternates: readonly string[]
}

/** What acme-client 5.4 has and does not publish: `test/ca/acme.test.ts` tells when it goes. */
interface ClientInternals {
  readonly api: {
    apiResourceRequest(
      resource: string,
      payload: object,
      validStatuses: readonly number[],
      options: { readonly includeJwsKid: boolean },
    ): Promise<unknown>
  }
}

type Headers = Record<string, string>

/** What the last answer to a call said besides its body. */
interface Aside {
  readonly retryAfterMs: number | undefined
  /** Its `Link` fields, joined by commas (RFC 8288). */
  readonly link: string | undefined
}

/** A round: acme-client asks for an account without end where the CA names none. No honest round comes near. */
const MOST_EXCHANGES = 40
/** Of the 6 tries that acme-client makes each: of a CA that refuses half of all nonces, one call in a billion fails. */
const NONCE_ROUNDS = 5
const NONCE = /^[\w-]+$/
const TOKEN = /^[\w-]{1,256}$/
const ALTERNATE = /<([^>]*)>[^<]*;\s*rel="?alternate"?/gi
/** Each costs a download. */
const MOST_ALTERNATES = 8
/** RFC 8555 section 9.1: certificates, each whole, and nothing between them. */
const PEM_CHAIN = /^(?:\s*-----BEGIN CERTIFICATE-----[\w+/=\s]+-----END CERTIFICATE-----)+\s*$/

/**
 * Speaks for one account, about as long as one order takes. Every method rejects with an `IssueError`, or with the
 * signal's reason when it aborts.
 */
export class AcmeWire {
  readonly directory: Directory
  /** Undefined before `newAccount`. */
  readonly accountUrl: string | undefined
  readonly #endpoint: Endpoint
  readonly #client: Client
  readonly #exchanges: AsyncLocalStorage<Exchange>
  /** From earlier answers, so that a request costs one exchange. */
  readonly #nonces: string[] = []

  static async open(
    endpoint: Endpoint,
    accountKeyPem: string,
    accountUrl?: string,
    eab?: ExternalAccountBinding,
  ): Promise<AcmeWire> {
    const { Client, exchanges } = await import('./acme-client.ts')
    const client = new Client({
      directoryUrl: endpoint.directoryUrl,
      accountKey: accountKeyPem,
      ...(accountUrl === undefined ? {} : { accountUrl }),
      ...(eab === undefined ? {} : { externalAccountBinding: eab }),
    })
    return new AcmeWire(endpoint, client, exchanges, accountUrl)
  }

  private constructor(
    endpoint: Endpoint,
    client: Client,
    exchanges: AsyncLocalStorage<Exchange>,
    accountUrl: string | undefined,
  ) {
    this.directory = endpoint.directory
    this.accountUrl = accountUrl
    this.#endpoint = endpoint
    this.#client = client
    this.#exchanges = exchanges
  }

  /** Agrees to the CA's terms. Resolves with the account's URL. */
  newAccount(contact: readonly string[], signal: AbortSignal): Promise<string> {
    return this.#call(
      { doing: 'new account', refused: 'account' },
      signal,
      () => this.#client.createAccount({ termsOfServiceAgreed: true, contact: [...contact] }),
      () => this.#client.getAccountUrl(),
    )
  }

  /** RFC 8555 section 7.3.3: resolves with the URL by which the CA knows the key. Makes and changes nothing. */
  existingAccount(signal: AbortSignal): Promise<string> {
    const purpose: Purpose = { doing: 'account', refused: 'account' }
    return this.#call(
      purpose,
      signal,
      () => this.#client.createAccount({ onlyReturnExisting: true }),
      (body) => {
        const status = textOf(fieldsOf(body), 'status')
        if (status === 'valid') return this.#client.getAccountUrl()
        const what = `the CA says that it is ${cleanText(status)}`
        throw failure({ code: 'ACCOUNT_REJECTED', ca: this.#endpoint.http.ca, ...purpose, what })
      },
    )
  }

  updateContact(contact: readonly string[], signal: AbortSignal): Promise<void> {
    return this.#call({ doing: 'contact of the account', refused: 'account' }, signal, () =>
      this.#client.updateAccount({ contact: [...contact] }),
    )
  }

  /** RFC 8555 section 7.3.5. From then on this speaks with the new key. */
  changeKey(keyPem: string, signal: AbortSignal): Promise<void> {
    return this.#call({ doing: 'change of the account key', refused: 'account' }, signal, () =>
      this.#client.updateAccountKey(keyPem),
    )
  }

  /** RFC 8555 section 7.3.6: the account may do nothing any more. There is no way back. */
  deactivateAccount(signal: AbortSignal): Promise<void> {
    return this.#call({ doing: 'deactivation of the account', refused: 'account' }, signal, () =>
      this.#client.updateAccount({ status: 'deactivated' }),
    )
  }

  newOrder(order: NewOrder, signal: AbortSignal): Promise<Order> {
    const data = { ...order, identifiers: [...order.identifiers] }
    const purpose: Purpose = { doing: 'new order', refused: 'order' }
    return this.#call(purpose, signal, () => this.#client.createOrder(data), readOrder)
  }

  order(url: string, signal: AbortSignal): Promise<Order> {
    const purpose: Purpose = { doing: 'order', refused: 'order' }
    return this.#call(purpose, signal, () => this.#client.getOrder({ url } as ClientOrder), readOrder)
  }

  authorization(url: string, signal: AbortSignal): Promise<Authorization> {
    const order = { authorizations: [url] } as unknown as ClientOrder
    const purpose: Purpose = { doing: 'authorization', refused: 'order' }
    return this.#call(
      purpose,
      signal,
      () => this.#client.getAuthorizations(order),
      (body, aside) => readAuthorization((body as unknown[])[0], aside),
    )
  }

  /** RFC 8555 section 8.1. */
  keyAuthorization(challenge: OfferedChallenge): Promise<string> {
    return this.#client.getChallengeKeyAuthorization(asHttpChallenge(challenge))
  }

  /** Tells the CA to look. */
  acceptChallenge(challenge: OfferedChallenge, signal: AbortSignal): Promise<void> {
    return this.#call({ doing: `${challenge.type} challenge`, refused: 'order' }, signal, () =>
      this.#client.completeChallenge(asHttpChallenge(challenge)),
    )
  }

  deactivateAuthorization(url: string, signal: AbortSignal): Promise<void> {
    const authorization = { url } as ClientAuthorization
    return this.#call({ doing: 'deactivation of an authorization', refused: 'order' }, signal, () =>
      this.#client.deactivateAuthorization(authorization),
    )
  }

  /** @param csr DER */
  finalize({ url, finalize }: Order, csr: Buffer, signal: AbortSignal): Promise<Order> {
    const order = { url, finalize } as ClientOrder
    const purpose: Purpose = { doing: 'finalization', refused: 'order' }
    return this.#call(purpose, signal, () => this.#client.finalizeOrder(order, pemOf(csr)), readOrder)
  }

  download(certificate: string, signal: AbortSignal): Promise<Download> {
    const order = { status: 'valid', certificate } as ClientOrder
    const purpose: Purpose = { doing: 'download of the certificate', refused: 'order' }
    return this.#call(
      purpose,
      signal,
      () => this.#client.getCertificate(order),
      (body, { link = '' }) => ({ chainPem: readChain(body), alternates: alternatesIn(link, certificate) }),
    )
  }

  /** RFC 8555 section 7.6. */
  revoke(certificatePem: string, reason: number, signal: AbortSignal): Promise<void> {
    return this.#call({ doing: 'revocation', refused: 'order' }, signal, () =>
      this.#client.revokeCertificate(certificatePem, { reason }),
    )
  }

  /** As `revoke`, for the key of this wire is the certificate's own: no account is needed. */
  revokeByItsKey(certificatePem: string, reason: number, signal: AbortSignal): Promise<void> {
    const { raw } = new X509Certificate(certificatePem)
    // acme-client's own method signs with the URL of an account, always.
    const { api } = this.#client as unknown as ClientInternals
    return this.#call({ doing: 'revocation by the key', refused: 'order' }, signal, () =>
      api.apiResourceRequest('revokeCert', { certificate: raw.toString('base64url'), reason }, [200], {
        includeJwsKid: false,
      }),
    )
  }

  #call(purpose: Purpose, signal: AbortSignal, request: () => Promise<unknown>): Promise<void>
  #call<T>(
    purpose: Purpose,
    signal: AbortSignal,
    request: () => Promise<unknown>,
    read: (body: unknown, aside: Aside) => T,
  ): Promise<T>
  async #call<T>(
    purpose: Purpose,
    signal: AbortSignal,
    request: () => Promise<unknown>,
    read?: (body: unknown, aside: Aside) => T,
  ): Promise<T | undefined> {
    const { ca } = this.#endpoint.http
    for (let round = 1; ; round++) {
      const conversation = new Conversation(this.#endpoint, this.#nonces, purpose, signal)
      try {
        const body = await this.#exchanges.run(conversation.exchange, request)
        return read?.(body, conversation.aside)
      } catch (error) {
        signal.throwIfAborted()
        if (error instanceof IssueError) throw error
        if (conversation.badNonce === undefined) {
          const what = `an answer that RFC 8555 does not allow: ${cleanText(messageOf(error))}`
          throw failure({ code: 'CA_BAD_ANSWER', ca, doing: purpose.doing, what })
        }
        if (round === NONCE_ROUNDS) throw conversation.badNonce
      }
    }
  }
}

/** The exchanges that acme-client makes for one call: those that nobody needs to make are answered from memory. */
class Conversation {
  /** Set when the last answer refused the nonce; acme-client sees it and tries again. */
  badNonce: IssueError | undefined
  aside: Aside = { retryAfterMs: undefined, link: undefined }
  readonly #endpoint: Endpoint
  readonly #nonces: string[]
  readonly #purpose: Purpose
  readonly #signal: AbortSignal
  #exchanges = 0

  constructor(endpoint: Endpoint, nonces: string[], purpose: Purpose, signal: AbortSignal) {
    this.#endpoint = endpoint
    this.#nonces = nonces
    this.#purpose = purpose
    this.#signal = signal
  }

  readonly exchange: Exchange = async (request) => {
    const { http, directoryUrl, directory } = this.#endpoint
    if (request.url === directoryUrl) return { status: 200, headers: {}, data: { ...directory } }
    const nonce = request.url === directory.newNonce ? this.#nonces.pop() : undefined
    if (nonce !== undefined) return { status: 200, headers: { 'replay-nonce': nonce }, data: '' }
    if (++this.#exchanges > MOST_EXCHANGES) throw new Error('it leads in circles')
    const purpose = request.method === 'HEAD' ? NONCE_PURPOSE : this.#purpose
    try {
      const { status, headers, body, retryAfterMs } = await http.exchange(request, purpose, this.#signal)
      this.badNonce = undefined
      this.aside = { retryAfterMs, link: asText(headers.link) }
      return { status, headers: this.#keepNonce(request, headers), data: body }
    } catch (error) {
      if (!isBadNonce(error)) throw error
      this.badNonce = error
      return { status: 400, headers: {}, data: error.problem }
    }
  }

  #keepNonce({ method }: CaRequest, { location, 'replay-nonce': nonce }: IncomingHttpHeaders): Headers {
    const isNonce = typeof nonce === 'string' && NONCE.test(nonce)
    // acme-client takes the nonce that it has asked for by HEAD; the rest is for its next requests.
    if (isNonce && method !== 'HEAD') this.#nonces.push(nonce)
    return { ...(isNonce ? { 'replay-nonce': nonce } : {}), ...(location === undefined ? {} : { location }) }
  }
}

function readOrder(body: unknown, { retryAfterMs }: Aside): Order {
  const fields = fieldsOf(body)
  const { authorizations, certificate, error } = fields
  if (!Array.isArray(authorizations)) throw new Error('an order without authorizations')
  return {
    url: textOf(fields, 'url'),
    status: textOf(fields, 'status'),
    authorizations: authorizations.map(String),
    finalize: textOf(fields, 'finalize'),
    certificate: certificate === undefined ? undefined : textOf(fields, 'certificate'),
    problem: readProblem(error),
    retryAfterMs,
  }
}

function readAuthorization(body: unknown, { retryAfterMs }: Aside): Authorization {
  const fields = fieldsOf(body)
  const { challenges } = fields
  if (!Array.isArray(challenges)) throw new Error('an authorization without challenges')
  return {
    url: textOf(fields, 'url'),
    status: textOf(fields, 'status'),
    name: textOf(fieldsOf(fields.identifier), 'value'),
    challenges: challenges.map(fieldsOf).filter(hasToken).map(readChallenge),
    retryAfterMs,
  }
}

/** Others are of types that are not ours. A token may end up in a path: it is held to its alphabet. */
function hasToken({ token }: Fields): boolean {
  return typeof token === 'string' && TOKEN.test(token)
}

function readChallenge(fields: Fields): OfferedChallenge {
  return {
    type: textOf(fields, 'type'),
    url: textOf(fields, 'url'),
    token: textOf(fields, 'token'),
    problem: readProblem(fields.error),
  }
}

/** acme-client treats all types alike but for dns-01, whose key authorization it would hash. */
function asHttpChallenge({ url, token }: OfferedChallenge): Parameters<Client['completeChallenge']>[0] {
  return { type: 'http-01', status: 'pending', url, token }
}

function readChain(body: unknown): string {
  if (typeof body !== 'string' || !PEM_CHAIN.test(body)) throw new Error('no PEM certificate chain')
  return body
}

/** Relative ones count from where the certificate is. */
function alternatesIn(link: string, base: string): readonly string[] {
  return [...link.matchAll(ALTERNATE)]
    .map(([, url = '']) => (URL.canParse(url, base) ? new URL(url, base).href : undefined))
    .filter((url) => url !== undefined)
    .slice(0, MOST_ALTERNATES)
}

/** Node joins most fields that come repeatedly, and gives a list of some. */
function asText(field: string | readonly string[] | undefined): string | undefined {
  return typeof field === 'object' ? field.join(', ') : field
}

function textOf(fields: Fields, name: string): string {
  const value = fields[name]
  if (typeof value !== 'string' || value === '') throw new Error(`${name} is missing`)
  return value
}

function pemOf(csr: Buffer): string {
  const lines = csr.toString('base64').match(/.{1,64}/g) ?? []
  return ['-----BEGIN CERTIFICATE REQUEST-----', ...lines, '-----END CERTIFICATE REQUEST-----', ''].join('\n')
}
