import { once } from 'node:events'
import { type AddressInfo, createServer } from 'node:net'
import { type ConnectionOptions, connect } from 'node:tls'
import fc from 'fast-check'
import t from 'tap'
import { readClientHello } from '../../src/tls/client-hello.ts'

/** The first octets that Node's own client sends. */
async function helloOf(options: ConnectionOptions): Promise<Buffer> {
  const server = createServer().listen(0, '127.0.0.1')
  await once(server, 'listening')
  const client = connect({ port: (server.address() as AddressInfo).port, host: '127.0.0.1', ...options })
  client.on('error', () => {})
  const [socket] = await once(server, 'connection')
  const [bytes] = await once(socket, 'data')
  client.destroy()
  server.close()
  return bytes
}

t.test('the name is read in lower case, at whatever octet the hello is split', async (t) => {
  for (const maxVersion of ['TLSv1.2', 'TLSv1.3'] as const) {
    const hello = await helloOf({ servername: 'App.Example.com', maxVersion })
    for (let size = 0; size < hello.length; size++)
      t.equal(readClientHello(hello.subarray(0, size)), undefined)
    t.strictSame(readClientHello(hello), { serverName: 'app.example.com', isValidation: false })
  }
})

t.test('a hello in many records is put together', async (t) => {
  const hello = await helloOf({ servername: 'app.example.com' })
  const message = hello.subarray(5)
  const records = [...message].map((octet) => Buffer.from([22, 3, 1, 0, 1, octet]))
  t.strictSame(readClientHello(Buffer.concat(records)), {
    serverName: 'app.example.com',
    isValidation: false,
  })
})

t.test('a client without a name has none', async (t) => {
  t.strictSame(readClientHello(await helloOf({ servername: '' })), {
    serverName: undefined,
    isValidation: false,
  })
})

t.test('a CA that validates is told by what it offers', async (t) => {
  for (const [ALPNProtocols, isValidation] of [
    [['acme-tls/1'], true],
    [['acme-tls/1', 'http/1.1'], false],
    [['http/1.1', 'acme-tls/1'], false],
    [['h2'], false],
  ] as const) {
    const hello = await helloOf({ servername: 'app.example.com', ALPNProtocols: [...ALPNProtocols] })
    t.strictSame(readClientHello(hello), { serverName: 'app.example.com', isValidation })
  }
})

t.test('damaged hellos never throw, and none is waited for past its bound', async (t) => {
  const hello = await helloOf({ servername: 'app.example.com' })
  const damage = fc.array(fc.tuple(fc.nat(hello.length - 1), fc.nat(255)), { minLength: 1, maxLength: 8 })
  fc.assert(
    fc.property(damage, (changes) => {
      const damaged = Buffer.from(hello)
      for (const [at, octet] of changes) damaged[at] = octet
      readClientHello(damaged)
      return readClientHello(Buffer.concat([damaged, Buffer.alloc(140_000)])) !== undefined
    }),
    { numRuns: 2000 },
  )
  t.equal(readClientHello(Buffer.from('GET / HTTP/1.1\r\n')), 'invalid')
})
