/** An upstream that shows the bytes it got and sends the bytes it is told to. */
import { once } from 'node:events'
import { createServer, type ListenOptions, type Server, type Socket } from 'node:net'
import { createServer as createTlsServer } from 'node:tls'
import type { Test } from 'tap'
import { CREDENTIALS } from './front.ts'

export type Respond = (socket: Socket, request: string, index: number) => void

export class RawUpstream {
  /** Each request as text (latin1): head, and content as it was framed. */
  readonly requests: string[] = []
  readonly sockets: Socket[] = []
  readonly url: string
  readonly #server: Server

  private constructor(server: Server, secure: boolean) {
    this.#server = server
    const address = server.address()
    this.url =
      typeof address === 'string'
        ? `unix:${address}`
        : `${secure ? 'https' : 'http'}://${address?.address}:${address?.port}`
  }

  /** `respond` is called for each whole request; `secure` speaks TLS with the tests' certificate. */
  static async start(
    t: Test,
    respond: Respond,
    secure = false,
    where: ListenOptions = { host: '127.0.0.1', port: 0 },
  ): Promise<RawUpstream> {
    const server = secure
      ? createTlsServer({ cert: CREDENTIALS.chainPem, key: CREDENTIALS.keyPem })
      : createServer()
    await once(server.listen(where), 'listening')
    const upstream = new RawUpstream(server, secure)
    server.on(secure ? 'secureConnection' : 'connection', (socket: Socket) => upstream.#take(socket, respond))
    t.teardown(() => upstream.stop())
    return upstream
  }

  stop(): void {
    this.#server.close()
    for (const socket of this.sockets) socket.destroy()
  }

  #take(socket: Socket, respond: Respond): void {
    this.sockets.push(socket)
    socket.on('error', () => {})
    let pending = ''
    socket.on('data', (chunk) => {
      pending += chunk.toString('latin1')
      for (let length = lengthOf(pending); length !== undefined; length = lengthOf(pending)) {
        const request = pending.slice(0, length)
        pending = pending.slice(length)
        respond(socket, request, this.requests.push(request) - 1)
      }
    })
  }
}

/** The length of the whole request that the text begins with; undefined when it is not whole yet. */
function lengthOf(text: string): number | undefined {
  const headEnd = text.indexOf('\r\n\r\n') + 4
  if (headEnd === 3) return undefined
  const head = text.slice(0, headEnd)
  if (/^transfer-encoding: chunked/im.test(head)) {
    const end = /(?:^|\r\n)0\r\n(?:[^\r\n]+\r\n)*\r\n/.exec(text.slice(headEnd))
    return end === null ? undefined : headEnd + end.index + end[0].length
  }
  const length = headEnd + Number(/^content-length: (\d+)/im.exec(head)?.[1] ?? 0)
  return text.length < length ? undefined : length
}

/** A request's or response's field lines, in lower case names and sorted, without those whose value changes. */
export function fieldsOf(message: string): string[] {
  const [, ...lines] = message.slice(0, message.indexOf('\r\n\r\n')).split('\r\n')
  return lines.map((line) => line.replace(/^[^:]+/, (name) => name.toLowerCase())).sort()
}

export function fieldOf(message: string, name: string): string | undefined {
  const line = fieldsOf(message).find((field) => field.startsWith(`${name}: `))
  return line?.slice(name.length + 2)
}

export function bodyOf(message: string): string {
  return message.slice(message.indexOf('\r\n\r\n') + 4)
}

/** A response with this content. */
export function ok(body = 'ok'): string {
  return `HTTP/1.1 200 OK\r\nContent-Length: ${body.length}\r\n\r\n${body}`
}
