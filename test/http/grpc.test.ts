/** gRPC between a real client and a real server, through the fast wire to an HTTP/2 upstream. */
import {
  Client,
  credentials,
  Metadata,
  Server,
  ServerCredentials,
  type ServerDuplexStream,
  type ServerReadableStream,
  type ServerUnaryCall,
  type ServerWritableStream,
  type ServiceError,
  type sendUnaryData,
} from '@grpc/grpc-js'
import t, { type Test } from 'tap'
import { FastWire } from '../../src/http/fast/wire.ts'
import { CREDENTIALS, Front, HOST, ROOT_PEM, until } from './front.ts'

const same = (bytes: Buffer): Buffer => bytes
const method = (path: string, requestStream: boolean, responseStream: boolean) => ({
  path,
  requestStream,
  responseStream,
  requestSerialize: same,
  requestDeserialize: same,
  responseSerialize: same,
  responseDeserialize: same,
})

interface Counts {
  /** Calls that wait for ever. */
  hanging: number
  cancelled: number
}

async function start(t: Test, secure: boolean): Promise<{ client: Client; counts: Counts }> {
  const counts = { hanging: 0, cancelled: 0 }
  const server = new Server({ 'grpc.max_receive_message_length': -1 })
  server.addService(
    {
      unary: method('/t/unary', false, false),
      gather: method('/t/gather', true, false),
      repeat: method('/t/repeat', false, true),
      chat: method('/t/chat', true, true),
    },
    {
      unary: (call: ServerUnaryCall<Buffer, Buffer>, answer: sendUnaryData<Buffer>) => {
        call.on('cancelled', () => counts.cancelled++)
        const text = call.request.subarray(0, 5).toString()
        const trailers = new Metadata()
        trailers.set('seen', String(call.metadata.get('mark')[0]))
        if (text === 'error') answer({ code: 9, details: 'not now', metadata: trailers })
        else if (text === 'hang') counts.hanging++
        else answer(null, call.request, trailers)
      },
      gather: (call: ServerReadableStream<Buffer, Buffer>, answer: sendUnaryData<Buffer>) => {
        const pieces: Buffer[] = []
        call.on('data', (bytes) => pieces.push(bytes))
        call.on('end', () => answer(null, Buffer.concat(pieces)))
      },
      repeat: (call: ServerWritableStream<Buffer, Buffer>) => {
        for (let i = 0; i < 20; i++) call.write(Buffer.from(`${call.request}${i}`))
        call.end()
      },
      chat: (call: ServerDuplexStream<Buffer, Buffer>) => {
        call.on('data', (bytes) => call.write(bytes))
        call.on('end', () => call.end())
      },
    },
  )
  const pair = { private_key: Buffer.from(CREDENTIALS.keyPem), cert_chain: Buffer.from(CREDENTIALS.chainPem) }
  const port = await new Promise<number>((resolve, reject) =>
    server.bindAsync(
      '127.0.0.1:0',
      secure ? ServerCredentials.createSsl(null, [pair]) : ServerCredentials.createInsecure(),
      (error, bound) => (error === null ? resolve(bound) : reject(error)),
    ),
  )
  t.teardown(() => server.forceShutdown())
  const site = { upstreams: [`${secure ? 'h2' : 'h2c'}://127.0.0.1:${port}`], upstreamTls: { verify: false } }
  const front = await Front.start(t, (options) => new FastWire(options), { sites: [site] })
  const client = new Client(`127.0.0.1:${front.tlsPort}`, credentials.createSsl(Buffer.from(ROOT_PEM)), {
    'grpc.ssl_target_name_override': HOST,
    'grpc.default_authority': HOST,
    'grpc.max_receive_message_length': -1,
  })
  t.teardown(() => client.close())
  return { client, counts }
}

const mark = new Metadata()
mark.set('mark', 'yes')

function unary(client: Client, message: Buffer): Promise<Buffer | undefined> {
  return new Promise((resolve, reject) =>
    client.makeUnaryRequest('/t/unary', same, same, message, mark, (error, value) =>
      error === null ? resolve(value) : reject(error),
    ),
  )
}

for (const secure of [false, true]) {
  t.test(`over ${secure ? 'h2' : 'h2c'}`, async (t) => {
    const { client, counts } = await start(t, secure)
    t.test('a unary call, small and of 5 MB', async (t) => {
      t.equal(String(await unary(client, Buffer.from('hello'))), 'hello')
      const big = Buffer.alloc(5_000_000, 'x')
      t.ok((await unary(client, big))?.equals(big))
    })
    t.test('a status, its details and metadata', async (t) => {
      const error = await unary(client, Buffer.from('error')).catch((error) => error)
      t.match(error, { code: 9, details: 'not now' })
      t.strictSame(error.metadata.get('seen'), ['yes'])
    })
    t.test('a stream to the server', async (t) => {
      const answer = new Promise<Buffer | undefined>((resolve, reject) => {
        const call = client.makeClientStreamRequest('/t/gather', same, same, mark, (error, value) =>
          error === null ? resolve(value) : reject(error),
        )
        for (const text of ['a', 'b', 'c']) call.write(Buffer.from(text))
        call.end()
      })
      t.equal(String(await answer), 'abc')
    })
    t.test('a stream from the server', async (t) => {
      const call = client.makeServerStreamRequest('/t/repeat', same, same, Buffer.from('m'), mark)
      const got: string[] = []
      call.on('data', (bytes) => got.push(String(bytes)))
      const status = await new Promise<{ code: number }>((resolve) => call.on('status', resolve))
      t.equal(status.code, 0)
      t.strictSame(
        got,
        Array.from({ length: 20 }, (_, i) => `m${i}`),
      )
    })
    t.test('streams both ways', async (t) => {
      const call = client.makeBidiStreamRequest('/t/chat', same, same, mark)
      const got: string[] = []
      call.on('data', (bytes) => {
        got.push(String(bytes))
        if (got.length < 20) call.write(Buffer.from(`m${got.length}`))
        else call.end()
      })
      call.write(Buffer.from('m0'))
      const status = await new Promise<{ code: number }>((resolve) => call.on('status', resolve))
      t.equal(status.code, 0)
      t.equal(got.length, 20)
    })
    t.test('a call that the client cancels is cancelled at the server', async (t) => {
      const failure = new Promise<ServiceError | null>((resolve) => {
        const call = client.makeUnaryRequest('/t/unary', same, same, Buffer.from('hang'), mark, resolve)
        until(() => counts.hanging > 0).then(() => call.cancel())
      })
      t.match(await failure, { code: 1 })
      await until(() => counts.cancelled > 0)
    })
  })
}
