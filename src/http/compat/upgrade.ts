/**
 * The client's side of a request that wants to change its connection's protocol (RFC 9110 section 7.8), and of CONNECT.
 * Node has taken its parser away by then, so a response that is not 101 is written here, and ends the connection: what
 * the client sent after the head was meant for another protocol and must never be read as a request.
 */
import type { IncomingMessage } from 'node:http'
import type { Socket } from 'node:net'
import {
  type Downstream,
  type Field,
  type Peer,
  pairs,
  type ResponseHead,
  type Upgrade,
} from './downstream.ts'

/** HTTP itself and TLS are no protocols to tunnel: behind them the upstream would see requests that we have not. */
const REFUSED_PROTOCOLS = /^(?:h2c?|https?|tls)(?:\/|$)/i

/** The one protocol that this request can be upgraded to; undefined when it is an ordinary request to us. */
export function upgradeOf(request: IncomingMessage): string | undefined {
  const { upgrade } = request.headers
  if (request.httpVersion !== '1.1' || upgrade === undefined) return undefined
  if (!/^[\w.+-]+(?:\/[\w.+-]+)?$/.test(upgrade) || REFUSED_PROTOCOLS.test(upgrade)) return undefined
  const length = request.headers['content-length'] ?? '0'
  return length === '0' && request.headers['transfer-encoding'] === undefined ? upgrade : undefined
}

export class UpgradeDownstream implements Downstream {
  readonly peer: Peer
  readonly version = '1.1'
  readonly method: string
  readonly target: string
  readonly authority = undefined
  readonly fields: readonly Field[]
  readonly body = undefined
  readonly sink: Socket
  readonly upgrade: Upgrade | undefined
  onFault: Downstream['onFault'] = () => {}

  /** `head` is what the client has sent already of the other protocol. */
  constructor(peer: Peer, request: IncomingMessage, socket: Socket, head: Buffer) {
    this.peer = peer
    this.method = request.method ?? ''
    this.target = request.url ?? ''
    this.fields = pairs(request.rawHeaders)
    this.sink = socket
    const protocol = upgradeOf(request)
    this.upgrade =
      protocol === undefined
        ? undefined
        : {
            protocol,
            accept: (fields) => {
              this.#writeHead(101, 'Switching Protocols', fields)
              if (head.length > 0) socket.unshift(head)
              return socket
            },
          }
  }

  receivedTrailers(): Field[] {
    return []
  }

  sendInformation(status: number, fields: readonly Field[]): void {
    this.#writeHead(status, 'Information', fields)
  }

  sendHead({ status, reason, fields }: ResponseHead): void {
    this.#writeHead(status, reason, [...fields, ['Connection', 'close']])
  }

  end(): void {
    this.sink.destroySoon()
  }

  abort(): void {
    this.sink.destroy()
  }

  #writeHead(status: number, reason: string, fields: readonly Field[]): void {
    const lines = fields.map(([name, value]) => `${name}: ${value}\r\n`)
    this.sink.write(`HTTP/1.1 ${status} ${reason}\r\n${lines.join('')}\r\n`, 'latin1')
  }
}
