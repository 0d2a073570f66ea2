/** What no real CA and no fault proxy does: an HTTPS endpoint that answers whatever a test wants, byte for byte. */
import { once } from 'node:events'
import type { IncomingMessage, ServerResponse } from 'node:http'
import { createServer } from 'node:https'
import type { AddressInfo, Socket } from 'node:net'
import type { Test } from 'tap'
import { Authority, type LeafOptions } from '../peers/authority.ts'

export interface LyingCa {
  /** `https://127.0.0.1:port` */
  readonly origin: string
  readonly rootPem: string
  /** Connections so far. */
  connections(): number
  /** Resolves when none is open. */
  idle(): Promise<void>
}

export async function startLyingCa(
  t: Test,
  answer: (request: IncomingMessage, response: ServerResponse) => void,
  leaf: LeafOptions = {},
): Promise<LyingCa> {
  const authority = await Authority.create('Root of a lying CA')
  const { certificatePem, keyPem } = await authority.issue(['127.0.0.1'], leaf)
  const server = createServer({ cert: certificatePem, key: keyPem }, answer)
  const open = new Set<Socket>()
  let connections = 0
  server.on('connection', (socket: Socket) => {
    connections++
    open.add(socket)
    socket.once('close', () => open.delete(socket))
  })
  t.teardown(() => {
    server.close()
    server.closeAllConnections()
  })
  await once(server.listen(0, '127.0.0.1'), 'listening')
  const { port } = server.address() as AddressInfo
  return {
    origin: `https://127.0.0.1:${port}`,
    rootPem: authority.certificatePem,
    connections: () => connections,
    async idle() {
      for (const socket of open) await once(socket, 'close')
    },
  }
}

export function json(
  response: ServerResponse,
  value: unknown,
  headers: Record<string, string> = {},
  status = 200,
): void {
  response.writeHead(status, { 'content-type': 'application/json', ...headers }).end(JSON.stringify(value))
}
