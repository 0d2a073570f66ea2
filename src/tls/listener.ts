/**
 * The sockets that clients connect to: opened all or none, changed by a reload without touching those that stay, closed
 * before the rest is drained. Receives addresses from the configuration; hands on connections, TLS done.
 */
import type { Socket } from 'node:net'
import { type Address, formatAddress } from '../config/addresses.ts'
import { ConfigError } from '../errors.ts'
import { plainAddress } from './connection.ts'
import { Endpoint, type Place } from './endpoint.ts'
import { type HandshakeOptions, type HandshakePolicy, Handshakes } from './handshakes.ts'

/** What a reload may change. */
export interface ListenerPolicy extends HandshakePolicy {
  readonly https: readonly Address[]
  readonly http: readonly Address[]
}

export interface ListenerOptions extends HandshakeOptions {
  readonly policy: ListenerPolicy
  /** Do other processes listen on the same addresses? */
  readonly sharesPorts: boolean
}

export class Listener {
  readonly #options: ListenerOptions
  readonly #handshakes: Handshakes
  #endpoints: Endpoint[] = []

  constructor(options: ListenerOptions) {
    this.#options = options
    this.#handshakes = new Handshakes(options)
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
    if (scheme === 'https') this.#handshakes.begin(socket, localPort)
    else this.#handOn(socket, localPort)
  }

  #handOn(socket: Socket, localPort: number): void {
    const clientAddress = socket.remoteAddress
    if (clientAddress === undefined) socket.destroy()
    else
      this.#options.onConnection(socket, {
        secure: false,
        serverName: undefined,
        protocol: 'http/1.1',
        clientAddress: plainAddress(clientAddress),
        localPort,
      })
  }
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
