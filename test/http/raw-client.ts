/** A client that sends and shows bytes, so that a test sees what is really on the wire. */
import { connect, type Socket } from 'node:net'
import { connect as connectTls } from 'node:tls'
import type { Test } from 'tap'
import { type Front, HOST, ROOT_PEM, until } from './front.ts'

export interface RawClientOptions {
  /** SNI; `HOST` when absent. */
  readonly serverName?: string
  /** On the plain port instead of the TLS port. */
  readonly plain?: boolean
  /** By ALPN; HTTP/1.1 when absent. */
  readonly protocol?: 'h2' | 'http/1.1'
}

export class RawClient {
  readonly socket: Socket
  /** Everything received, as latin1. */
  received = ''
  /** The other side has ended or broken the connection. */
  closed = false

  private constructor(socket: Socket) {
    this.socket = socket
    socket.on('data', (chunk) => {
      this.received += chunk.toString('latin1')
    })
    for (const event of ['end', 'close', 'error']) {
      socket.on(event, () => {
        this.closed = true
      })
    }
  }

  static async connect(t: Test, front: Front, options: RawClientOptions = {}): Promise<RawClient> {
    const host = '127.0.0.1'
    const socket = options.plain
      ? connect({ host, port: front.plainPort })
      : connectTls({
          host,
          port: front.tlsPort,
          servername: options.serverName ?? HOST,
          ca: ROOT_PEM,
          ALPNProtocols: [options.protocol ?? 'http/1.1'],
        })
    t.teardown(() => socket.destroy())
    const client = new RawClient(socket)
    await new Promise((resolve, reject) => {
      socket.once(options.plain ? 'connect' : 'secureConnect', resolve)
      socket.once('error', reject)
    })
    return client
  }

  write(...lines: string[]): void {
    this.socket.write(lines.join('\r\n'), 'latin1')
  }

  /** A request's head: the lines, and the empty line that ends it. */
  send(...lines: string[]): void {
    this.write(...lines, '', '')
  }

  /** What was received once it matches; fails when the connection ends before. */
  async receive(pattern: RegExp): Promise<string> {
    await until(() => pattern.test(this.received) || this.closed)
    if (!pattern.test(this.received))
      throw new Error(`closed before ${pattern}: ${JSON.stringify(this.received)}`)
    return this.received
  }

  /** One whole response with a Content-Length; what follows it stays in `received`. */
  async response(): Promise<string> {
    await this.receive(/\r\n\r\n/)
    const headEnd = this.received.indexOf('\r\n\r\n') + 4
    const length = Number(/^content-length: (\d+)/im.exec(this.received.slice(0, headEnd))?.[1] ?? 0)
    await until(() => this.received.length >= headEnd + length || this.closed)
    const response = this.received.slice(0, headEnd + length)
    this.received = this.received.slice(headEnd + length)
    return response
  }

  /** Everything that came until the other side closed. */
  async rest(): Promise<string> {
    await until(() => this.closed)
    return this.received
  }
}

export function statusOf(response: string): number {
  return Number(/^HTTP\/1\.[01] (\d{3}) /.exec(response)?.[1])
}
