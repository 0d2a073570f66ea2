/**
 * TLS handshakes, the server's side: which certificate, which protocol, and what a refused client is told. Hides
 * node:tls. Receives fresh sockets from `listener.ts`; asks the inventory, the contexts and tls-alpn-01, all in memory
 * and synchronous; hands secured connections on.
 */
import { AsyncLocalStorage } from 'node:async_hooks'
import { constants, hkdfSync } from 'node:crypto'
import type { Socket } from 'node:net'
import { createSecureContext, type SecureContext, Server, type TLSSocket, type TlsOptions } from 'node:tls'
import { type Certificate, commonNameOf } from '../cert/certificate.ts'
import { type ClientPolicy, describeEnd } from '../cert/client-policy.ts'
import type { Inventory } from '../cert/inventory.ts'
import { plainAddress } from '../config/addresses.ts'
import type { Log } from '../log.ts'
import type { Metrics } from '../metrics.ts'
import type { Clock } from '../time.ts'
import { ACME_PROTOCOL } from './client-hello.ts'
import type { Client, Connection, Origin } from './connection.ts'
import { Contexts } from './contexts.ts'

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
  readonly clock: Clock
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

/** RFC 8446 sections 5.1 and 6: a record of type alert, version 3.3 and length 2, with fatal, unrecognized_name. */
const UNRECOGNIZED_NAME = Buffer.of(21, 3, 3, 0, 2, 2, 112)

/** Of certificates whose sites ask clients for theirs, for each way of asking: a context holds the revocation lists too. */
const GUARDED_CAPACITY = 256

/** OpenSSL's limit, in octets. */
const MAX_SESSION_ID_CONTEXT = 32

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

/** The servers of node:tls for clients of one kind. */
interface Servers {
  /** Undefined: they are not asked for a certificate. */
  readonly clientPolicy: ClientPolicy | undefined
  readonly contexts: Contexts
  /** Clients that send no name get what the server itself holds, so there is one for each certificate that they may get. */
  readonly byCertificate: WeakMap<Certificate, Server>
  /** Refuses clients that send no name. */
  readonly strict: Server
  /** Do they choose a protocol? Otherwise they leave ALPN aside, as RFC 7301 section 3.2 allows. */
  readonly choose: boolean
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
  #openServers: Servers
  #guardedServers = new WeakMap<ClientPolicy, Servers>()
  /** By those that choose a protocol, those that do not and are like them otherwise. */
  readonly #silentServers = new WeakMap<Servers, Servers>()
  /** Whose certificate is asked for, for a handshake that ends when its async context is over. */
  readonly #asked = new WeakMap<TLSSocket, string>()
  /** Policies whose revocation lists have run out, and that was told. */
  readonly #toldOf = new Set<string>()

  constructor(options: HandshakeOptions) {
    this.#options = options
    this.#policy = options.policy
    this.#ticketKeys = options.ticketKeys
    const pending = this.#pending
    this.#onRawClose = function () {
      pending.delete(this)
    }
    this.#openServers = this.#createServers()
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
    this.#openServers = this.#createServers()
    this.#guardedServers = new WeakMap()
  }

  #createServers(clientPolicy?: ClientPolicy): Servers {
    return {
      clientPolicy,
      contexts:
        clientPolicy === undefined ? this.#options.contexts : new Contexts(GUARDED_CAPACITY, clientPolicy),
      byCertificate: new WeakMap(),
      strict: this.#createServer(clientPolicy),
      choose: true,
    }
  }

  /** For streams that name no protocol: Node's callback could only refuse a client that offers any. */
  #silent(servers: Servers): Servers {
    const known = this.#silentServers.get(servers)
    if (known !== undefined) return known
    const strict = this.#createServer(servers.clientPolicy, undefined, false)
    const silent = { ...servers, byCertificate: new WeakMap(), strict, choose: false }
    this.#silentServers.set(servers, silent)
    return silent
  }

  #serversOf(clientPolicy: ClientPolicy | undefined): Servers {
    if (clientPolicy === undefined) return this.#openServers
    const known = this.#guardedServers.get(clientPolicy)
    if (known !== undefined) return known
    const servers = this.#createServers(clientPolicy)
    this.#guardedServers.set(clientPolicy, servers)
    return servers
  }

  /** Takes over a socket that a listening one has accepted; `origin` is what the connection is handed on with. */
  begin(raw: Socket, origin: Origin): void {
    if (this.#pending.size >= (this.#options.maxHandshakes ?? MAX_HANDSHAKES)) this.#giveUpOldest()
    this.#pending.add(raw)
    raw.on('close', this.#onRawClose)
    // Half-open is for answers: a client that ends its side during the handshake is gone.
    raw.allowHalfOpen = false
    const servers = this.#serversOf(origin.clientPolicy)
    const chosen = origin.stream?.alpn.length === 0 ? this.#silent(servers) : servers
    const server = this.#serverFor(chosen, plainAddress(raw.localAddress ?? ''))
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

  #serverFor(servers: Servers, localAddress: string): Server {
    const certificate = this.#certificateFor(localAddress)
    if (certificate === undefined) return servers.strict
    const known = servers.byCertificate.get(certificate)
    if (known !== undefined) return known
    const server = this.#createDefaultServer(servers, certificate)
    servers.byCertificate.set(certificate, server)
    return server
  }

  /** A certificate that OpenSSL refuses must not harm clients that ask for another one. */
  #createDefaultServer(servers: Servers, certificate: Certificate): Server {
    try {
      servers.contexts.warm(certificate)
      return this.#createServer(servers.clientPolicy, certificate, servers.choose)
    } catch (err) {
      this.#options.log.error({ err }, 'clients that send no server name are refused')
      return servers.strict
    }
  }

  #createServer(clientPolicy?: ClientPolicy, certificate?: Certificate, choose = true): Server {
    const handshakes = this
    const ALPNCallback: TlsOptions['ALPNCallback'] = function (this: TLSSocket, offer) {
      const name = (offer.servername || '').toLowerCase()
      return handshakes.#protocolFor(this, name, offer.protocols)
    }
    const server = new Server({
      ...DEFENCES,
      ...(certificate === undefined ? {} : { cert: certificate.chainPem, key: certificate.keyPem }),
      minVersion: `TLSv${this.#policy.minVersion}`,
      handshakeTimeout: this.#policy.handshakeTimeoutMs,
      ticketKeys: this.#ticketKeys,
      ...(clientPolicy && verification(clientPolicy, this.#ticketKeys)),
      SNICallback(this: TLSSocket, serverName, done) {
        const name = serverName.toLowerCase()
        const context = handshakes.#contextFor(this, name)
        if (context === undefined) handshakes.#refuse(() => done(new Error(`no certificate for "${name}"`)))
        else done(null, context)
      },
      ...(choose ? { ALPNCallback } : {}),
    })
    server.on('secureConnection', (socket) => this.#onSecure(socket))
    server.on('tlsClientError', (error, socket) => this.#onFailed(error, socket, clientPolicy))
    return server
  }

  /**
   * What to show to a client that asks for this name; undefined: it is to be refused. Runs before ALPN under TLS 1.2,
   * after it under TLS 1.3, and not at all for resumed sessions, which show no certificate.
   */
  #contextFor(socket: TLSSocket, name: string): SecureContext | undefined {
    const handshake = this.#handshake()
    const { clientPolicy, clientAddress } = handshake.origin
    if (clientPolicy !== undefined) this.#asked.set(socket, clientAddress)
    if (handshake.challenge !== undefined) return handshake.challenge
    const certificate = this.#certificateFor(name)
    if (certificate !== undefined) return this.#serversOf(clientPolicy).contexts.of(certificate)
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
    const { clientPolicy, ...origin } = handshake.origin
    const client = clientPolicy && this.#clientOf(socket, clientPolicy, origin.clientAddress)
    // RFC 8737 section 3: nothing is exchanged after the handshake.
    if (handshake.challenge !== undefined || socket.destroyed) socket.destroySoon()
    else if (client === 'refused') socket.destroy()
    else
      this.#options.onConnection(socket, {
        ...origin,
        ...(client && { client }),
        secure: true,
        serverName: socket.servername ? socket.servername.toLowerCase() : handshake.origin.serverName,
        protocol: socket.alpnProtocol === 'h2' ? 'h2' : 'http/1.1',
      })
  }

  /**
   * A resumed session brings the certificate of its first handshake, and OpenSSL's verdict from then: what time may have
   * changed since is asked again.
   */
  #clientOf(socket: TLSSocket, policy: ClientPolicy, clientAddress: string): Client | 'refused' {
    const certificate = socket.getPeerX509Certificate()
    const now = this.#options.clock.now()
    let fault: string | undefined
    if (certificate === undefined) fault = policy.required ? 'there is none' : undefined
    else if (!socket.authorized) fault = String(socket.authorizationError)
    else if (now >= Date.parse(certificate.validTo)) fault = 'CERT_HAS_EXPIRED'
    else if (now >= policy.crlsEndAt) fault = 'CRL_HAS_EXPIRED'
    if (fault === undefined) return { policy: policy.id, certificate }
    this.#tellOfRefusal(policy, fault, clientAddress, certificate?.subject)
    return 'refused'
  }

  #tellOfRefusal(policy: ClientPolicy, reason: string, client: string | undefined, subject?: string): void {
    const { clock, log } = this.#options
    const who = subject === undefined ? {} : { subject: commonNameOf(subject) }
    log.info({ client, reason, ...who }, `a client certificate was refused: ${reason}`)
    if (clock.now() < policy.crlsEndAt || this.#toldOf.has(policy.id)) return
    this.#toldOf.add(policy.id)
    log.error(describeEnd(policy))
  }

  /** Nothing was sent so far, so that the alert may go out in the clear, below TLS. */
  #refuse(done: () => void): void {
    this.#handshake().raw?.write(UNRECOGNIZED_NAME, done)
  }

  #onFailed(err: Error, socket: TLSSocket, clientPolicy: ClientPolicy | undefined): void {
    const { log, metrics } = this.#options
    metrics.handshakeFailed()
    if (log.isLevelEnabled('debug')) log.debug({ err, client: socket.remoteAddress }, 'TLS handshake failed')
    // Node has ended it without a word.
    if (clientPolicy !== undefined && socket.authorizationError)
      this.#tellOfRefusal(clientPolicy, String(socket.authorizationError), this.#asked.get(socket))
    // After a timeout Node leaves that to us.
    socket.destroy()
  }

  #handshake(): Handshake {
    const handshake = this.#current.getStore()
    if (handshake === undefined) throw new Error('node:tls called back outside of a handshake')
    return handshake
  }
}

/**
 * What makes a server ask for certificates. Its session tickets are made with keys of its own and bound to the policy, so
 * that no session is resumed that was not let in by the same one (RFC 8446 section 2.2: a resumed session asks nobody).
 * All processes that share the ticket keys derive the same.
 */
function verification({ id, required, ca, crls }: ClientPolicy, ticketKeys: Buffer): TlsOptions {
  return {
    requestCert: true,
    rejectUnauthorized: required,
    ca,
    crl: [...crls],
    sessionIdContext: id.slice(0, MAX_SESSION_ID_CONTEXT),
    ticketKeys: Buffer.from(
      hkdfSync('sha256', ticketKeys, '', `holdfast client policy ${id}`, ticketKeys.length),
    ),
  }
}

/** The documented way to hand a socket to a server that does not listen. */
function inject(server: Server, raw: Socket): void {
  server.emit('connection', raw)
}
