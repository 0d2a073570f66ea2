/** One listening socket. Hides how Node binds, and what its errors mean to an operator. Serves `listener.ts`. */
import { once } from 'node:events'
import { type AddressInfo, createServer, type Server, type Socket } from 'node:net'
import { type Address, formatAddress } from '../config/addresses.ts'
import { type ConfigProblem, messageOf } from '../errors.ts'

/** Where the configuration asks to listen. */
export interface Place {
  readonly scheme: 'https' | 'http'
  readonly address: Address
  /** `listen.https[0]`, for errors. */
  readonly path: string
}

export interface EndpointOptions {
  readonly place: Place
  /** Do other processes listen there too? The kernel spreads connections over them. */
  readonly isShared: boolean
  /** Takes over a socket with nothing read from it yet. */
  readonly onSocket: (socket: Socket, endpoint: Endpoint) => void
  /** A connection could not be accepted; the endpoint goes on. */
  readonly onError: (error: Error) => void
}

export class Endpoint {
  readonly place: Place
  readonly #isShared: boolean
  readonly #server: Server
  readonly #onError: EndpointOptions['onError']
  #port = 0

  constructor({ place, isShared, onSocket, onError }: EndpointOptions) {
    this.place = place
    this.#isShared = isShared
    this.#onError = onError
    // In HTTP a client may end its side and still wait for the answer.
    this.#server = createServer({ allowHalfOpen: true, noDelay: true }, (socket) => onSocket(socket, this))
  }

  /** The one that it is bound to, where the place says 0 too; 0 before `open`. */
  get port(): number {
    return this.#port
  }

  /** Resolves once it accepts connections, or with what hinders it. */
  async open(): Promise<ConfigProblem | undefined> {
    const { host, port } = this.place.address
    try {
      // Of its own accord `::` would take IPv4 too, and leave no room for 0.0.0.0 beside it.
      const where = host === undefined ? { port } : { host, port, ipv6Only: host === '::' }
      this.#server.listen({ ...where, reusePort: this.#isShared })
      await once(this.#server, 'listening')
    } catch (error) {
      return explainListening(this.place, error)
    }
    this.#server.on('error', this.#onError)
    this.#port = (this.#server.address() as AddressInfo).port
    return undefined
  }

  /** The address is free when this returns; accepted connections live on. Idempotent. */
  close(): void {
    this.#server.close()
  }
}

/** Why nobody can listen there. */
export function explainListening(
  { address, path }: Pick<Place, 'address' | 'path'>,
  error: unknown,
): ConfigProblem {
  const where = formatAddress(address)
  switch (error instanceof Error && 'code' in error ? error.code : undefined) {
    case 'EADDRINUSE':
      return {
        path,
        message: `${where} is in use by another program`,
        hint: `\`ss -ltnp 'sport = :${address.port}'\` names it: stop it, or listen elsewhere`,
      }
    case 'EACCES':
      return {
        path,
        message: `this user may not listen on ${where}`,
        hint: 'ports below 1024 take root or CAP_NET_BIND_SERVICE: grant it, or listen on a port such as 8443',
      }
    case 'EADDRNOTAVAIL':
      return {
        path,
        message: `${where} is no address of this machine`,
        hint: `\`ip address\` lists them; ":${address.port}" stands for all`,
      }
    default:
      return { path, message: `cannot listen on ${where}: ${messageOf(error)}` }
  }
}
