/**
 * TLS handshakes, the server's side: which certificate, which protocol, and what a refused client is told. Hides
 * node:tls. Receives fresh sockets from `listener.ts`; asks the inventory, the contexts and tls-alpn-01, all in memory
 * and synchronous; hands secured connections on.
 */
import { AsyncLocalStorage } from 'node:async_hooks'
import { constants } from 'node:crypto'
import type { Socket } from 'node:net'
import { createSecureContext, type SecureContext, Server, type TLSSocket, type TlsOptions } from 'node:tls'
import type { Certificate } from '../cert/certificate.ts'
import type { Inventory } from '../cert/inventory.ts'
import type { Log } from '../log.ts'
import type { Metrics } from '../metrics.ts'
import { type Connection, type Origin, plainAddress } from './connection.ts'
import type { Contexts } from './contexts.ts'

/** What a reload may change; it holds from the next connection on. */
export interface HandshakePolicy {
  readonly minVersion: '1.2' | '1.3'
  readonly handshakeTimeoutMs: number
  /** Its certificate is served to clients that send no name or an unknown one. Absent: they are refused. */
  readonly defaultHost?: string | undefined
}

/** What tls-alpn-01 shows to a CA. */
export interface ChallengeAnswer {
  readonly keyPem: string
  readonly certificatePem: string
}

type KeyType = 'ec' | 'rsa'

export interface HandshakeOptions {
  readonly policy: HandshakePolicy
  readonly log: Log
  readonly metrics: Pick<Metrics, 'handshakeDone' | 'handshakeFailed'>
  readonly inventory: Pick<Inventory, 'find'>
  readonly contexts: Contexts
  /** Session tickets are made and read with these 48 bytes. Secret. */
  readonly ticketKeys: Buffer
  /** For a server name in lower case, with a key of this type. Synchronous. */
  readonly challenge: (serverName: string, keyType: KeyType) => ChallengeAnswer | undefined
  /** Takes the socket over, with nothing read from it yet. */
  readonly onConnection: (socket: Socket, connection: Connection) => void
  /** How many may be under way at once, before the oldest is given up for a new one: 2048 when absent. */
  readonly maxHandshakes?: number
}

/** Some 120 MB when a flood fills it; at 50 ms a handshake, room for 40,000 a second. */
const MAX_HANDSHAKES = 2048

const ACME_PROTOCOL = 'acme-tls/1'

/** RFC 8446 sections 5.1 and 6: a record of type alert, version 3.3 and length 2, with fatal, unrecognized_name. */
const UNRECOGNIZED_NAME = Buffer.of(21, 3, 3, 0, 2, 2, 112)

/** Forward secrecy and AEAD only, in our order; hybrid key exchange against whoever records now to decrypt later. */
const DEFENCES: TlsOptions = {
  ciphers: [
    'TLS_AES_128_GCM_SHA256',
    'TLS_AES_256_GCM_SHA384',
    'TLS_CHACHA20_POLY1305_SHA256',
    'ECDHE-ECDSA-AES128-GCM-SHA256',
    'ECDHE-RSA-AES128-GCM-SHA256',
    'ECDHE-ECDSA-AES256-GCM-SHA384',
    'ECDHE-RSA-AES256-GCM-SHA384',
    'ECDHE-ECDSA-CHACHA20-POLY1305',
    'ECDHE-RSA-CHACHA20-POLY1305',
  ].join(':'),
  ecdhCurve: 'X25519MLKEM768:X25519:P-256:P-384',
  honorCipherOrder: true,
  // A client that puts ChaCha20 first has no AES in hardware: it gets what it asks for.
  secureOptions: constants.SSL_OP_PRIORITIZE_CHACHA | constants.SSL_OP_NO_RENEGOTIATION,
  // Left out, Node derives it from the command line.
  sessionIdContext: 'holdfast',
  sessionTimeout: 2 * 60 * 60,
}

/** A handshake under way. */
interface Handshake {
  /** Below the TLSSocket. Let go of in the end, for whatever the connection starts inherits the async context. */
  raw: Socket | undefined
  readonly origin: Origin
  /** The certificate that is shown, where it answers a challenge and is for the eyes of a CA only. */
  challenge: SecureContext | undefined
}

export class Handshakes {
  readonly #options: HandshakeOptions
  #ticketKeys: Buffer
  /** Callbacks of node:tls tell the TLSSocket at best, never the socket that it was made from; the async context does. */
  readonly #current = new AsyncLocalStorage<Handshake>()
  /** Oldest first. */
  readonly #pending = new Set<Socket>()
  /** One function for all sockets. */
  readonly #onRawClose: (this: Socket) => void
  #policy: HandshakePolicy
  /** Clients that send no name get what the server itself holds, so there is one for each certificate that they may get. */
  #servers = new WeakMap<Certificate, Server>()
  /** Refuses clients that send no name. */
  #strictServer: Server

  constructor(options: HandshakeOptions) {
    this.#options = options
    this.#policy = options.policy
    this.#ticketKeys = options.ticketKeys
    const pending = this.#pending
    this.#onRawClose = function () {
      pending.delete(this)
    }
    this.#strictServer = this.#createServer()
  }

  update(policy: HandshakePolicy): void {
    this.#policy = policy
    this.#renewServers()
  }

  /** Sessions of before are not resumed any more: their clients make a full handshake. */
  setTicketKeys(ticketKeys: Buffer): void {
    this.#ticketKeys = ticketKeys
    this.#renewServers()
  }

  #renewServers(): void {
    this.#servers = new WeakMap()
    this.#strictServer = this.#createServer()
  }

  /** Takes over a socket that a listening one has accepted; `origin` is what the connection is handed on with. */
  begin(raw: Socket, origin: Origin): void {
    if (this.#pending.size >= (this.#options.maxHandshakes ?? MAX_HANDSHAKES)) this.#giveUpOldest()
    this.#pending.add(raw)
    raw.on('close', this.#onRawClose)
    // Half-open is for answers: a client that ends its side during the handshake is gone.
    raw.allowHalfOpen = false
    const server = this.#serverFor(plainAddress(raw.localAddress ?? ''))
    this.#current.run({ raw, origin, challenge: undefined }, inject, server, raw)
  }

  /** Ends what is under way; connections that were handed on are not touched. */
  stop(): void {
    for (const raw of this.#pending) raw.destroy()
  }

  #giveUpOldest(): void {
    const [oldest] = this.#pending
    if (oldest === undefined) return
    this.#pending.delete(oldest)
    oldest.destroy()
  }

  #serverFor(localAddress: string): Server {
    const certificate = this.#certificateFor(localAddress)
    if (certificate === undefined) return this.#strictServer
    const known = this.#servers.get(certificate)
    if (known !== undefined) return known
    const server = this.#createDefaultServer(certificate)
    this.#servers.set(certificate, server)
    return server
  }

  /** A certificate that OpenSSL refuses must not harm clients that ask for another one. */
  #createDefaultServer(certificate: Certificate): Server {
    try {
      this.#options.contexts.warm(certificate)
      return this.#createServer(certificate)
    } catch (err) {
      this.#options.log.error({ err }, 'clients that send no server name are refused')
      return this.#strictServer
    }
  }

  #createServer(certificate?: Certificate): Server {
    const handshakes = this
    const server = new Server({
      ...DEFENCES,
      ...(certificate === undefined ? {} : { cert: certificate.chainPem, key: certificate.keyPem }),
      minVersion: `TLSv${this.#policy.minVersion}`,
      handshakeTimeout: this.#policy.handshakeTimeoutMs,
      ticketKeys: this.#ticketKeys,
      SNICallback(this: TLSSocket, serverName, done) {
        const name = serverName.toLowerCase()
        const context = handshakes.#contextFor(this, name)
        if (context === undefined) handshakes.#refuse(() => done(new Error(`no certificate for "${name}"`)))
        else done(null, context)
      },
      ALPNCallback(this: TLSSocket, offer) {
        const name = (offer.servername || '').toLowerCase()
        return handshakes.#protocolFor(this, name, offer.protocols)
      },
    })
    server.on('secureConnection', (socket) => this.#onSecure(socket))
    server.on('tlsClientError', (error, socket) => this.#onFailed(error, socket))
    return server
  }

  /**
   * What to show to a client that asks for this name; undefined: it is to be refused. Runs before ALPN under TLS 1.2,
   * after it under TLS 1.3, and not at all for resumed sessions, which show no certificate.
   */
  #contextFor(socket: TLSSocket, name: string): SecureContext | undefined {
    const handshake = this.#handshake()
    if (handshake.challenge !== undefined) return handshake.challenge
    const certificate = this.#certificateFor(name)
    if (certificate !== undefined) return this.#options.contexts.of(certificate)
    // A CA that speaks TLS 1.2 has yet to say that it came for a challenge.
    if (socket.getProtocol() === 'TLSv1.2') handshake.challenge = this.#challengeFor(name)
    return handshake.challenge
  }

  /** RFC 7301 section 3.2. Undefined: the client gets the alert no_application_protocol. */
  #protocolFor(socket: TLSSocket, name: string, offered: readonly string[]): string | undefined {
    const handshake = this.#handshake()
    if (offered.length === 1 && offered[0] === ACME_PROTOCOL) {
      handshake.challenge ??= this.#challengeFor(name)
      if (handshake.challenge === undefined) return undefined
      socket.setKeyCert(handshake.challenge)
      return ACME_PROTOCOL
    }
    if (handshake.challenge !== undefined) {
      this.#refuse(() => {})
      return undefined
    }
    const { stream } = handshake.origin
    if (stream !== undefined) return stream.alpn.find((protocol) => offered.includes(protocol))
    if (offered.includes('h2')) return 'h2'
    return offered.includes('http/1.1') ? 'http/1.1' : undefined
  }

  #challengeFor(name: string): SecureContext | undefined {
    // Under TLS 1.2 the cipher suite is settled before ALPN, and with it the type of the key.
    const live = this.#certificateFor(name)
    const keyType = live?.leaf.publicKey.asymmetricKeyType === 'rsa' ? 'rsa' : 'ec'
    const answer = this.#options.challenge(name, keyType)
    return answer && createSecureContext({ cert: answer.certificatePem, key: answer.keyPem })
  }

  #certificateFor(name: string): Certificate | undefined {
    const { inventory } = this.#options
    const { defaultHost } = this.#policy
    return inventory.find(name) ?? (defaultHost === undefined ? undefined : inventory.find(defaultHost))
  }

  #onSecure(socket: TLSSocket): void {
    const handshake = this.#handshake()
    if (handshake.raw !== undefined) this.#pending.delete(handshake.raw)
    handshake.raw = undefined
    socket.allowHalfOpen = true
    this.#options.metrics.handshakeDone(socket.isSessionReused())
    // RFC 8737 section 3: nothing is exchanged after the handshake.
    if (handshake.challenge !== undefined || socket.remoteAddress === undefined) socket.destroySoon()
    else
      this.#options.onConnection(socket, {
        ...handshake.origin,
        secure: true,
        serverName: socket.servername ? socket.servername.toLowerCase() : handshake.origin.serverName,
        protocol: socket.alpnProtocol === 'h2' ? 'h2' : 'http/1.1',
      })
  }

  /** Nothing was sent so far, so that the alert may go out in the clear, below TLS. */
  #refuse(done: () => void): void {
    this.#handshake().raw?.write(UNRECOGNIZED_NAME, done)
  }

  #onFailed(err: Error, socket: TLSSocket): void {
    const { log, metrics } = this.#options
    metrics.handshakeFailed()
    if (log.isLevelEnabled('debug')) log.debug({ err, client: socket.remoteAddress }, 'TLS handshake failed')
    // After a timeout Node leaves that to us.
    socket.destroy()
  }

  #handshake(): Handshake {
    const handshake = this.#current.getStore()
    if (handshake === undefined) throw new Error('node:tls called back outside of a handshake')
    return handshake
  }
}

/** The documented way to hand a socket to a server that does not listen. */
function inject(server: Server, raw: Socket): void {
  server.emit('connection', raw)
}
