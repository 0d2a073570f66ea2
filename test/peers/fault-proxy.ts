/**
 * What no real CA does on demand: an HTTPS proxy in front of an ACME server that fails in a chosen way. It keeps
 * `Host`, so the URLs in the answers lead back through it and JWS signatures stay right.
 */
import { X509Certificate } from 'node:crypto'
import { once } from 'node:events'
import type { IncomingMessage, ServerResponse } from 'node:http'
import { createServer, type Server } from 'node:https'
import type { Socket } from 'node:net'
import { setTimeout as delay } from 'node:timers/promises'
import type { Test } from 'tap'
import { Authority, type Credentials, namesOf } from './authority.ts'
import { type Exchange, exchange } from './exchange.ts'
import type { Pebble } from './pebble.ts'
import { freePort } from './process.ts'

const DAY_MS = 86_400_000

/** Answers of the proxy's own. */
const REFUSALS = {
  '503': {
    status: 503,
    headers: { 'content-type': 'text/html' },
    body: '<html><h1>503 Service Temporarily Unavailable</h1></html>',
  },
  '429': {
    status: 429,
    headers: { 'content-type': 'application/problem+json', 'retry-after': '86400' },
    body: problem(429, 'rateLimited', 'too many certificates already issued for this registered domain'),
  },
  html: { status: 200, headers: { 'content-type': 'text/html' }, body: '<html><h1>Welcome!</h1></html>' },
} as const

/** What the downloaded certificate may be replaced by; but for the fault named, all of it is as it should be. */
const FORGERIES = {
  /** Lapsed a day ago. */
  'expired-certificate': (leaf, issuer) =>
    issuer.issue(namesOf(leaf), {
      publicKey: spkiOf(leaf),
      notBefore: new Date(Date.now() - 9 * DAY_MS),
      notAfter: new Date(Date.now() - DAY_MS),
    }),
  /** For a key that the client does not have. */
  'foreign-certificate': (leaf, issuer) => issuer.issue(namesOf(leaf)),
  'wrong-name': (leaf, issuer) => issuer.issue(['not-asked-for.example'], { publicKey: spkiOf(leaf) }),
} satisfies Record<string, (leaf: X509Certificate, issuer: Authority) => Promise<Credentials>>

export type FaultKind =
  | keyof typeof REFUSALS
  | keyof typeof FORGERIES
  /** The port is closed, and with it every connection. */
  | 'refuse'
  /** The request is read and never answered. */
  | 'hang'
  /** The true answer, its body at one byte a second. */
  | 'drip'
  /** Every POST fails with `badNonce` and a fresh nonce that is good. */
  | 'bad-nonce'
  /** The PEM of the certificate ends halfway. */
  | 'truncated'
  /** The leaf is genuine, the certificate that follows it is another CA's. */
  | 'wrong-chain'

export interface Fault {
  readonly kind: FaultKind
  /** Only requests whose path matches; not for `refuse`. */
  readonly path?: RegExp
  /** Only so many answers, then all is well again; not for `refuse`. */
  readonly times?: number
}

export interface FaultProxyOptions {
  /** URL of the ACME directory behind the proxy. */
  readonly upstream: string
  /** Root to trust for it, PEM. */
  readonly upstreamRoot: string
  /** What the upstream signs leaves with; the forged certificates need it (`() => pebble.signer()`). */
  readonly signer?: () => Promise<Credentials>
}

/** A request as it arrived; `time` is in milliseconds since the epoch. */
export interface SeenRequest {
  readonly method: string
  readonly path: string
  readonly time: number
  /** Empty until it has arrived. */
  body: string
  /** Of the answer; absent until there is one. */
  status?: number
}

/** On a free port of 127.0.0.1, without a fault yet. */
export async function startFaultProxy(options: FaultProxyOptions): Promise<FaultProxy> {
  const root = await Authority.create('Root of a test fault proxy')
  const endpoint = await root.issue(['localhost', '127.0.0.1'])
  const proxy = new FaultProxy(options, await freePort(), root.certificatePem, endpoint)
  await proxy.setFault(undefined)
  return proxy
}

/** In front of a Pebble, whose keys it may sign lies with; ends with `t`. */
export async function startFaultProxyBefore(
  t: Test,
  pebble: Pick<Pebble, 'directory' | 'minicaPem' | 'signer'>,
): Promise<FaultProxy> {
  const { directory: upstream, minicaPem: upstreamRoot } = pebble
  const proxy = await startFaultProxy({ upstream, upstreamRoot, signer: () => pebble.signer() })
  t.teardown(() => proxy.stop())
  return proxy
}

export class FaultProxy {
  /** URL of the ACME directory, through the proxy. */
  readonly directory: string
  /** Root that the proxy's own certificate chains to. */
  readonly rootPem: string
  /** Every request so far; set its `length` to 0 to count anew. */
  readonly requests: SeenRequest[] = []
  readonly #options: FaultProxyOptions
  readonly #port: number
  readonly #server: Server
  readonly #sockets = new Set<Socket>()
  #fault: Fault | undefined
  #timesLeft = 0
  #look: () => void = () => {}

  /** Use `startFaultProxy`. */
  constructor(options: FaultProxyOptions, port: number, rootPem: string, endpoint: Credentials) {
    this.directory = `https://127.0.0.1:${port}${new URL(options.upstream).pathname}`
    this.rootPem = rootPem
    this.#options = options
    this.#port = port
    this.#server = createServer({ cert: endpoint.certificatePem, key: endpoint.keyPem })
    this.#server.on('request', (request, response) => void this.#handle(request, response))
    this.#server.on('connection', (socket: Socket) => {
      this.#sockets.add(socket)
      socket.once('close', () => this.#sockets.delete(socket))
    })
  }

  /** From the next request on; none with `undefined`. Requests that hang already go on hanging. */
  async setFault(fault: FaultKind | Fault | undefined): Promise<void> {
    this.#fault = typeof fault === 'string' ? { kind: fault } : fault
    this.#timesLeft = this.#fault?.times ?? Number.POSITIVE_INFINITY
    if (this.#fault?.kind === 'refuse') await this.stop()
    else if (!this.#server.listening) {
      this.#server.listen(this.#port, '127.0.0.1')
      await once(this.#server, 'listening')
    }
  }

  /** Resolves once `requests` holds so many. */
  requested(count: number): Promise<void> {
    return new Promise((resolve) => {
      this.#look = () => {
        if (this.requests.length >= count) resolve()
      }
      this.#look()
    })
  }

  /** Resolves once no client is connected: whatever one that has died had sent is in `requests`. */
  async deserted(): Promise<void> {
    const closed = (socket: Socket) => new Promise((resolve) => socket.once('close', resolve))
    while (this.#sockets.size > 0) await Promise.all([...this.#sockets].map(closed))
  }

  /** Closes the port and all connections. Idempotent. */
  async stop(): Promise<void> {
    if (!this.#server.listening) return
    const closed = once(this.#server, 'close')
    this.#server.close()
    for (const socket of this.#sockets) socket.destroy()
    await closed
  }

  async #handle(request: IncomingMessage, response: ServerResponse): Promise<void> {
    const path = request.url ?? ''
    const seen: SeenRequest = { method: request.method ?? '', path, time: Date.now(), body: '' }
    this.requests.push(seen)
    this.#look()
    const gone = new AbortController()
    response.once('close', () => gone.abort())
    try {
      const body = Buffer.concat(await request.toArray())
      seen.body = body.toString()
      const fault = this.#timesLeft > 0 && this.#fault?.path?.test(path) !== false ? this.#fault : undefined
      await this.#answer(request, body, response, fault?.kind, gone.signal)
      if (response.headersSent) seen.status = response.statusCode
    } catch {
      // The upstream or the client has gone: the client sees what it would see without a proxy.
      response.destroy()
    }
  }

  async #answer(
    request: IncomingMessage,
    body: Buffer,
    response: ServerResponse,
    fault: FaultKind | undefined,
    signal: AbortSignal,
  ): Promise<void> {
    if (fault === 'hang') {
      this.#timesLeft--
    } else if (fault === '503' || fault === '429' || fault === 'html') {
      this.#timesLeft--
      send(response, REFUSALS[fault])
    } else if (fault === 'bad-nonce' && request.method === 'POST') {
      this.#timesLeft--
      send(response, await this.#badNonce(signal))
    } else {
      const answer = await this.#forward(request, body, signal)
      if (fault === 'drip') {
        this.#timesLeft--
        await drip(response, answer, signal)
      } else if (fault !== undefined && isCertificate(answer)) {
        this.#timesLeft--
        send(response, { ...answer, body: await this.#forge(fault, answer.body.toString()) })
      } else send(response, answer)
    }
  }

  #forward(request: IncomingMessage, body: Buffer, signal: AbortSignal): Promise<Exchange> {
    return exchange(new URL(request.url ?? '', this.#options.upstream).href, {
      method: request.method ?? '',
      headers: request.headers,
      body,
      ca: this.#options.upstreamRoot,
      signal,
    })
  }

  async #badNonce(signal: AbortSignal): Promise<Answer> {
    const settings = { ca: this.#options.upstreamRoot, headers: { 'user-agent': 'fault-proxy' }, signal }
    const directory = await exchange(this.#options.upstream, settings)
    const { newNonce } = JSON.parse(directory.body.toString()) as { newNonce: string }
    const { headers } = await exchange(newNonce, { ...settings, method: 'HEAD' })
    return {
      status: 400,
      headers: { 'content-type': 'application/problem+json', 'replay-nonce': headers['replay-nonce'] },
      body: problem(400, 'badNonce', 'JWS has an invalid anti-replay nonce'),
    }
  }

  async #forge(fault: FaultKind, chainPem: string): Promise<string> {
    if (fault === 'truncated') return chainPem.slice(0, chainPem.length / 2)
    const leaf = new X509Certificate(chainPem)
    if (fault === 'wrong-chain') {
      return leaf.toString() + (await Authority.create('Another CA')).certificatePem
    }
    if (!isForgery(fault)) return chainPem
    if (this.#options.signer === undefined) throw new Error(`the fault ${fault} needs the option "signer"`)
    const signer = await this.#options.signer()
    const forged = await FORGERIES[fault](leaf, await Authority.load(signer))
    return forged.certificatePem + signer.certificatePem
  }
}

type Answer = Pick<Exchange, 'status' | 'headers'> & { readonly body: Buffer | string }

function send(response: ServerResponse, answer: Answer): void {
  writeHead(response, answer)
  response.end(answer.body)
}

async function drip(response: ServerResponse, answer: Answer, signal: AbortSignal): Promise<void> {
  writeHead(response, answer)
  response.flushHeaders()
  for (const byte of Buffer.from(answer.body)) {
    response.write(Buffer.of(byte))
    await delay(1000, undefined, { signal, ref: false })
  }
  response.end()
}

function writeHead(response: ServerResponse, answer: Answer): void {
  const { connection, 'transfer-encoding': _, ...headers } = answer.headers
  const length = response.req.method === 'HEAD' ? {} : { 'content-length': Buffer.byteLength(answer.body) }
  response.writeHead(answer.status, { ...headers, ...length })
}

function isCertificate(answer: Exchange): boolean {
  return (answer.headers['content-type'] ?? '').startsWith('application/pem-certificate-chain')
}

function isForgery(fault: FaultKind): fault is keyof typeof FORGERIES {
  return fault in FORGERIES
}

function spkiOf(certificate: X509Certificate): Buffer {
  return certificate.publicKey.export({ type: 'spki', format: 'der' })
}

function problem(status: number, type: string, detail: string): string {
  return JSON.stringify({ type: `urn:ietf:params:acme:error:${type}`, detail, status })
}
