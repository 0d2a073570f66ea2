/**
 * The sockets that clients connect to: opened all or none, changed by a reload without touching those that stay, closed
 * before the rest is drained. Receives addresses from the configuration; hands on connections, TLS done.
 */
import { BlockList, isIP, type Socket } from 'node:net'
import type { GuardedSite } from '../cert/client-policy.ts'
import { type Address, findByHost, formatAddress, plainAddress } from '../config/addresses.ts'
import { ConfigError } from '../errors.ts'
import { type ProxyHeader, readProxyHeader } from '../proxy-protocol.ts'
import { type ClientHello, readClientHello } from './client-hello.ts'
import type { Origin } from './connection.ts'
import { Endpoint, type Place } from './endpoint.ts'
import { type HandshakeOptions, type HandshakePolicy, Handshakes } from './handshakes.ts'
import { type Preface, Prefaces } from './prefaces.ts'

/** What a reload may change. */
export interface ListenerPolicy extends HandshakePolicy {
  readonly https: readonly Address[]
  readonly http: readonly Address[]
  /** Addresses and ranges of the proxies whose connections begin with a PROXY header, all of them; no others may. */
  readonly proxyProtocol: readonly string[]
  /** By host, all of them; none: every site speaks HTTP with whoever comes, and no ClientHello is read ahead. */
  readonly sites: ReadonlyMap<string, ListenedSite>
}

/** What is to be known of a site before its handshakes. */
export type ListenedSite = Pick<GuardedSite, 'stream' | 'clientPolicy'>

export interface ListenerOptions extends HandshakeOptions {
  readonly policy: ListenerPolicy
  /** Do other processes listen on the same addresses? */
  readonly sharesPorts: boolean
}

export class Listener {
  readonly #options: ListenerOptions
  readonly #handshakes: Handshakes
  readonly #prefaces: Prefaces
  #policy: ListenerPolicy
  #proxies: BlockList | undefined
  #endpoints: Endpoint[] = []

  constructor(options: ListenerOptions) {
    this.#options = options
    this.#handshakes = new Handshakes(options)
    this.#policy = options.policy
    this.#proxies = rangesOf(options.policy)
    this.#prefaces = new Prefaces({
      clock: options.clock,
      limitMs: () => this.#policy.handshakeTimeoutMs,
    })
  }

  /** Opens every address; or none, and rejects with a ConfigError that explains each one that cannot be had. */
  async start(): Promise<void> {
    this.#endpoints = await this.#open(placesOf(this.#options.policy))
  }

  /**
   * Opens what is new, then closes what is gone; what is gone and holds the port of something new is closed before.
   * Rejects as `start` does, and all is as it was. To be awaited before the next call.
   */
  async update(policy: ListenerPolicy): Promise<void> {
    const places = placesOf(policy)
    const fresh = places.filter((place) => !this.#endpoints.some((each) => isSame(each.place, place)))
    const gone = this.#endpoints.filter((endpoint) => !places.some((each) => isSame(each, endpoint.place)))
    const inTheWay = gone.filter(({ port }) => fresh.some(({ address }) => address.port === port))
    this.#close(inTheWay)
    try {
      this.#endpoints.push(...(await this.#open(fresh)))
    } catch (error) {
      this.#endpoints.push(...(await this.#open(inTheWay.map(({ place }) => place))))
      throw error
    }
    this.#close(gone)
    this.#policy = policy
    this.#proxies = rangesOf(policy)
    this.#handshakes.update(policy)
  }

  /** See `HandshakeOptions`; holds from the next handshake on. */
  setTicketKeys(ticketKeys: Buffer): void {
    this.#handshakes.setTicketKeys(ticketKeys)
  }

  /** The addresses are free when this returns; handshakes under way may still become connections. */
  stopAccepting(): void {
    this.#close(this.#endpoints)
  }

  /** Accepts no more, and ends the handshakes under way; connections that were handed on are not touched. */
  stop(): void {
    this.stopAccepting()
    this.#prefaces.stop()
    this.#handshakes.stop()
  }

  /** Where it listens now: as configured, but with the real port for port 0. */
  addresses(): { https: Address[]; http: Address[] } {
    return { https: this.#addressesOf('https'), http: this.#addressesOf('http') }
  }

  #addressesOf(scheme: Place['scheme']): Address[] {
    return this.#endpoints
      .filter(({ place }) => place.scheme === scheme)
      .map(({ place, port }) => ({ host: place.address.host, port }))
  }

  async #open(places: readonly Place[]): Promise<Endpoint[]> {
    const endpoints = places.map(
      (place) =>
        new Endpoint({
          place,
          isShared: this.#options.sharesPorts,
          onSocket: (socket, { port }) => this.#accept(socket, place.scheme, port),
          onError: (err) => this.#complain(err, place),
        }),
    )
    const outcomes = await Promise.all(endpoints.map((endpoint) => endpoint.open()))
    const problems = outcomes.filter((outcome) => outcome !== undefined)
    if (problems.length === 0) return endpoints
    for (const endpoint of endpoints) endpoint.close()
    throw new ConfigError(problems)
  }

  #close(endpoints: readonly Endpoint[]): void {
    for (const endpoint of endpoints) endpoint.close()
    this.#endpoints = this.#endpoints.filter((endpoint) => !endpoints.includes(endpoint))
  }

  #complain(err: Error, { address }: Place): void {
    this.#options.log.error({ err, address: formatAddress(address) }, 'a connection could not be accepted')
  }

  #accept(socket: Socket, scheme: Place['scheme'], localPort: number): void {
    if (socket.remoteAddress === undefined) {
      socket.destroy()
      return
    }
    const peer = plainAddress(socket.remoteAddress)
    const direct = {
      clientAddress: peer,
      clientPort: socket.remotePort ?? 0,
      localAddress: plainAddress(socket.localAddress ?? ''),
      localPort,
    }
    if (this.#proxies === undefined || !this.#proxies.check(peer, isIP(peer) === 6 ? 'ipv6' : 'ipv4'))
      this.#enter(socket, scheme, direct)
    else
      this.#prefaces.read(socket, findProxyHeader, (header) => {
        if (header === 'invalid') this.#refuse(socket, peer)
        else this.#enter(socket, scheme, header.endpoints ?? direct)
      })
  }

  #refuse(socket: Socket, peer: string): void {
    this.#options.log.warn(
      { proxy: peer },
      'a proxy of `listen.proxyProtocol` sent no PROXY header: make it send one, or take it out of the list',
    )
    socket.destroy()
  }

  #enter(socket: Socket, scheme: Place['scheme'], arrival: Arrival): void {
    const origin = { ...arrival, serverName: undefined, stream: undefined }
    if (scheme === 'http') this.#handOn(socket, origin)
    else if (this.#policy.sites.size === 0) this.#handshakes.begin(socket, origin)
    else this.#prefaces.read(socket, findClientHello, (hello) => this.#sort(socket, arrival, hello))
  }

  /** What is no ClientHello gets its answer from TLS. */
  #sort(socket: Socket, arrival: Arrival, hello: ClientHello | 'invalid'): void {
    const { serverName, isValidation } = hello === 'invalid' ? UNKNOWN : hello
    const site = this.#siteFor(serverName ?? plainAddress(socket.localAddress ?? ''))
    const stream = site?.stream
    if (stream?.mode === 'passthrough') this.#handOn(socket, { ...arrival, serverName, stream })
    // A CA has no certificate for us. The connection ends with the handshake, and is for no site meanwhile.
    else if (isValidation) this.#handshakes.begin(socket, { ...arrival, serverName, stream: undefined })
    else {
      const clientPolicy = site?.clientPolicy
      this.#handshakes.begin(socket, { ...arrival, serverName, stream, clientPolicy })
    }
  }

  /** As certificates are chosen: where the name is unknown, the default host stands in. */
  #siteFor(name: string): ListenedSite | undefined {
    const { sites, defaultHost } = this.#policy
    return findByHost(sites, name) ?? (defaultHost === undefined ? undefined : sites.get(defaultHost))
  }

  #handOn(socket: Socket, origin: Origin): void {
    this.#options.onConnection(socket, { ...origin, secure: false, protocol: 'http/1.1' })
  }
}

/** Of bytes that are no ClientHello. */
const UNKNOWN: ClientHello = { serverName: undefined, isValidation: false }

/** Both ends as the client sees them. A proxy that names nobody speaks for itself. */
type Arrival = Pick<Origin, 'clientAddress' | 'clientPort' | 'localAddress' | 'localPort'>

function findClientHello(bytes: Buffer): Preface<ClientHello | 'invalid'> {
  const hello = readClientHello(bytes)
  return hello === undefined ? undefined : { value: hello, size: 0 }
}

/** undefined: nobody sends PROXY headers, and no connection pays for the question. */
function rangesOf({ proxyProtocol }: ListenerPolicy): BlockList | undefined {
  if (proxyProtocol.length === 0) return undefined
  const ranges = new BlockList()
  for (const range of proxyProtocol) {
    const [base = '', bits] = range.split('/')
    const family = isIP(base) === 6 ? 'ipv6' : 'ipv4'
    ranges.addSubnet(base, Number(bits ?? (family === 'ipv6' ? 128 : 32)), family)
  }
  return ranges
}

function findProxyHeader(bytes: Buffer): Preface<ProxyHeader | 'invalid'> {
  const header = readProxyHeader(bytes)
  if (header === undefined) return undefined
  return { value: header, size: header === 'invalid' ? 0 : header.size }
}

function placesOf({ https, http }: ListenerPolicy): Place[] {
  return [
    ...https.map((address, index) => ({ scheme: 'https' as const, address, path: `listen.https[${index}]` })),
    ...http.map((address, index) => ({ scheme: 'http' as const, address, path: `listen.http[${index}]` })),
  ]
}

function isSame(a: Place, b: Place): boolean {
  return a.scheme === b.scheme && formatAddress(a.address) === formatAddress(b.address)
}
