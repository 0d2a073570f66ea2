/** gRPC between a real client and a real server, through the fast wire to an HTTP/2 upstream. */
import {
  Client,
  credentials,
  Metadata,
  Server,
  ServerCredentials,
  type ServerDuplexStream,
  type ServerUnaryCall,
  type sendUnaryData,
} from '@grpc/grpc-js'
import t, { type Test } from 'tap'
import { FastWire } from '../../src/http/fast/wire.ts'
import { CREDENTIALS, Front, HOST, ROOT_PEM, until } from './front.ts'

const same = (bytes: Buffer): Buffer => bytes
const method = (path: string, streams: boolean) => ({
  path,
  requestStream: streams,
  responseStream: streams,
  requestSerialize: same,
  requestDeserialize: same,
  responseSerialize: same,
  responseDeserialize: same,
})

async function start(t: Test, secure: boolean): Promise<{ client: Client; cancelled: () => number }> {
  let cancelled = 0
  const server = new Server({ 'grpc.max_receive_message_length': -1 })
  server.addService(
    { unary: method('/t/unary', false), chat: method('/t/chat', true) },
    {
      unary: (call: ServerUnaryCall<Buffer, Buffer>, answer: sendUnaryData<Buffer>) => {
        call.on('cancelled', () => cancelled++)
        const text = call.request.subarray(0, 5).toString()
        const trailers = new Metadata()
        trailers.set('seen', String(call.metadata.get('mark')[0]))
        if (text === 'error') answer({ code: 9, details: 'not now', metadata: trailers })
        else if (text !== 'hang') answer(null, call.request, trailers)
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
  return { client, cancelled: () => cancelled }
}

const mark = new Metadata()
mark.set('mark', 'yes')

function unary(client: Client, message: Buffer, deadlineMs = 20_000): Promise<Buffer | undefined> {
  const options = { deadline: Date.now() + deadlineMs }
  return new Promise((resolve, reject) =>
    client.makeUnaryRequest('/t/unary', same, same, message, mark, options, (error, value) =>
      error === null ? resolve(value) : reject(error),
    ),
  )
}

for (const secure of [false, true]) {
  t.test(`over ${secure ? 'h2' : 'h2c'}`, async (t) => {
    const { client, cancelled } = await start(t, secure)
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
    t.test('a deadline cancels the call at the server', async (t) => {
      await t.rejects(unary(client, Buffer.from('hang'), 300), { code: 4 })
      await until(() => cancelled() > 0)
    })
  })
}
