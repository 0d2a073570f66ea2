/**
 * `client-http1.ts` and `frame-buffer.ts` hand a buffer to a TLS socket's `write` and use it again after the call. No
 * document of Node promises that this works; these tests fail when it stops being true.
 */
import { once } from 'node:events'
import type { AddressInfo } from 'node:net'
import tls from 'node:tls'
import t from 'tap'
import { CREDENTIALS, ROOT_PEM } from '../front.ts'

for (const maxVersion of ['TLSv1.2', 'TLSv1.3'] as const) {
  t.test(`a TLS socket has taken the octets when write returns: ${maxVersion}`, async (t) => {
    const server = tls.createServer({ cert: CREDENTIALS.chainPem, key: CREDENTIALS.keyPem, maxVersion })
    server.listen(0, '127.0.0.1')
    await once(server, 'listening')
    t.teardown(() => server.close())
    const accepted = once(server, 'secureConnection')
    const client = tls.connect({
      port: (server.address() as AddressInfo).port,
      host: '127.0.0.1',
      servername: 'localhost',
      ca: ROOT_PEM,
    })
    t.teardown(() => client.destroy())
    await once(client, 'secureConnect')
    const [socket] = (await accepted) as [tls.TLSSocket]

    const received: Buffer[] = []
    client.on('data', (data: Buffer) => received.push(data))
    const ended = once(client, 'end')

    const shared = Buffer.alloc(160 * 1024)
    const lengths = [1, 100, 16_384, 16_385, 65_536, shared.length]
    const expected: Buffer[] = []
    for (let round = 0; round < 60; round++) {
      const length = lengths[round % lengths.length] ?? 1
      shared.fill(round + 1)
      expected.push(Buffer.from(shared.subarray(0, length)))
      // The client is not reading at this moment: octets are still on their way when the buffer is used again.
      const written = new Promise((resolve) => socket.write(shared.subarray(0, length), resolve))
      shared.fill(0)
      await written
    }
    socket.end()
    await ended
    t.ok(Buffer.concat(received).equals(Buffer.concat(expected)))
  })
}
