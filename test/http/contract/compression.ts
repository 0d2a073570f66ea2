/** Responses in a content coding of ours. */
import { randomBytes } from 'node:crypto'
import { once } from 'node:events'
import type { ClientHttp2Session, OutgoingHttpHeaders } from 'node:http2'
import type { Socket } from 'node:net'
import { brotliDecompressSync, createGunzip, gunzipSync, zstdDecompressSync } from 'node:zlib'
import type { Test } from 'tap'
import { Front, HOST, type MakeWire, pour, stalled, until } from '../front.ts'
import { RawClient } from '../raw-client.ts'
import { bodyOf, fieldOf, fieldsOf, RawUpstream, type Respond } from '../raw-upstream.ts'
import { answerOf, connectHttp2 } from './http2.ts'

const TEXT = Array.from({ length: 20_000 }, (_, i) => `line ${i * 7919}\n`).join('')
const HEAD = 'HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\n'

const whole: Respond = (socket) =>
  socket.write(
    `${HEAD}ETag: "v1"\r\nAccept-Ranges: bytes\r\nVary: Cookie\r\nContent-Length: ${TEXT.length}\r\n\r\n${TEXT}`,
  )

/** The content of a chunked message, given as latin1. */
function dechunked(chunks: string): Buffer {
  const pieces: string[] = []
  for (let p = 0; ; ) {
    const lineEnd = chunks.indexOf('\r\n', p)
    const length = Number.parseInt(chunks.slice(p, lineEnd), 16)
    if (length === 0) return Buffer.from(pieces.join(''), 'latin1')
    pieces.push(chunks.slice(lineEnd + 2, lineEnd + 2 + length))
    p = lineEnd + 2 + length + 2
  }
}

export function compression(t: Test, makeWire: MakeWire): void {
  const start = async (t: Test, respond: Respond): Promise<[Front, RawUpstream]> => {
    const upstream = await RawUpstream.start(t, respond)
    const sites = [{ upstreams: [upstream.url], shaping: { compress: true as const } }]
    return [await Front.start(t, makeWire, { sites }), upstream]
  }
  const ask = (session: ClientHttp2Session, headers: OutgoingHttpHeaders): ReturnType<typeof answerOf> =>
    answerOf(session.request({ ':path': '/', ':authority': HOST, ...headers }))

  for (const [coding, decode] of [
    ['gzip', gunzipSync],
    ['br', brotliDecompressSync],
    ['zstd', zstdDecompressSync],
  ] as const) {
    t.test(
      `${coding} for a client that asks for it: smaller, the same when decoded, and said so`,
      async (t) => {
        const [front] = await start(t, whole)
        const { headers, body } = await ask(connectHttp2(t, front), { 'accept-encoding': coding })
        t.equal(headers['content-encoding'], coding)
        t.equal(headers['content-length'], undefined)
        t.equal(headers['accept-ranges'], undefined)
        t.equal(headers.etag, 'W/"v1"')
        t.equal(headers.vary, 'Cookie, Accept-Encoding')
        t.ok(body.length < TEXT.length / 2)
        t.equal(decode(body).toString(), TEXT)
        await until(() => front.requests.length === 1)
        t.match(front.requests[0], { bytes: body.length })
      },
    )
  }

  t.test('HTTP/1.1 clients get it in chunks, and the connection goes on', async (t) => {
    const [front] = await start(t, whole)
    const client = await RawClient.connect(t, front)
    for (let i = 0; i < 2; i++) {
      client.send('GET / HTTP/1.1', `Host: ${HOST}`, 'Accept-Encoding: gzip')
      const response = await client.receive(/\r\n0\r\n\r\n$/)
      client.received = ''
      t.equal(fieldOf(response, 'transfer-encoding'), 'chunked')
      t.equal(gunzipSync(dechunked(bodyOf(response))).toString(), TEXT)
    }
  })

  t.test('who does not ask gets what the upstream sent, and Vary', async (t) => {
    const [front] = await start(t, whole)
    const { headers, body } = await ask(connectHttp2(t, front), {})
    t.equal(headers['content-encoding'], undefined)
    t.equal(headers['content-length'], String(TEXT.length))
    t.equal(headers.etag, '"v1"')
    t.equal(headers.vary, 'Cookie, Accept-Encoding')
    t.equal(body.toString(), TEXT)
  })

  t.test('what is coded already passes as it is', async (t) => {
    const [front] = await start(t, (socket) =>
      socket.write(`${HEAD}Content-Encoding: br\r\nContent-Length: 2000\r\n\r\n${'x'.repeat(2000)}`),
    )
    const { headers, body } = await ask(connectHttp2(t, front), { 'accept-encoding': 'gzip, br' })
    t.match(headers, { 'content-encoding': 'br', 'content-length': '2000' })
    t.equal(body.length, 2000)
  })

  t.test('HEAD has the head of what is not compressed', async (t) => {
    const [front] = await start(t, (socket) => socket.write(`${HEAD}Content-Length: 5000\r\n\r\n`))
    const client = await RawClient.connect(t, front)
    client.send('HEAD / HTTP/1.1', `Host: ${HOST}`, 'Accept-Encoding: gzip')
    const response = await client.receive(/\r\n\r\n$/)
    t.ok(fieldsOf(response).includes('vary: Accept-Encoding'))
    t.equal(fieldOf(response, 'content-length'), '5000')
    t.equal(fieldOf(response, 'content-encoding'), undefined)
  })

  t.test('each piece of a stream arrives when it is sent; trailers too', async (t) => {
    let upstream: Socket | undefined
    const [front] = await start(t, (socket) => {
      upstream = socket
      socket.write(`${HEAD}Transfer-Encoding: chunked\r\nTrailer: X-Sum\r\n\r\n5\r\nfirst\r\n`)
    })
    const stream = connectHttp2(t, front).request({
      ':path': '/',
      ':authority': HOST,
      'accept-encoding': 'gzip',
    })
    const decoder = createGunzip()
    let text = ''
    decoder.on('data', (piece: Buffer) => {
      text += piece.toString()
    })
    stream.pipe(decoder)
    let trailers: object = {}
    stream.on('trailers', (received) => {
      trailers = received
    })
    await until(() => text === 'first')
    upstream?.write('6\r\nsecond\r\n')
    await until(() => text === 'firstsecond')
    upstream?.write('0\r\nX-Sum: 7\r\n\r\n')
    await once(decoder, 'end')
    t.match(trailers, { 'x-sum': '7' })
  })

  t.test('a client that does not read holds the upstream back, and gets it all in the end', async (t) => {
    const totalMib = 32
    let sent = (): number => 0
    const [front] = await start(t, (socket) => {
      socket.write(`${HEAD}Content-Length: ${totalMib * 2 ** 20}\r\n\r\n`)
      // Noise, which no coding makes smaller.
      sent = pour(socket, totalMib, randomBytes(2 ** 20))
    })
    const stream = connectHttp2(t, front).request({
      ':path': '/',
      ':authority': HOST,
      'accept-encoding': 'gzip',
    })
    await once(stream, 'response')
    const held = await stalled(() => sent())
    t.ok(held < totalMib, `${held} MiB were taken`)
    const decoder = createGunzip()
    let bytes = 0
    decoder.on('data', (piece: Buffer) => {
      bytes += piece.length
    })
    stream.pipe(decoder)
    await once(decoder, 'end')
    t.equal(bytes, totalMib * 2 ** 20)
  })

  t.test('a response that breaks off does not look whole', async (t) => {
    const [front] = await start(t, (socket) => {
      socket.write(`${HEAD}Content-Length: 100000\r\n\r\n${TEXT.slice(0, 50_000)}`, () => socket.destroy())
    })
    const client = await RawClient.connect(t, front)
    client.send('GET / HTTP/1.1', `Host: ${HOST}`, 'Accept-Encoding: gzip')
    t.notMatch(await client.rest(), /\r\n0\r\n\r\n$/)
    const stream = connectHttp2(t, front).request({
      ':path': '/',
      ':authority': HOST,
      'accept-encoding': 'gzip',
    })
    await t.rejects(answerOf(stream))
  })

  t.test('a client that leaves in the middle ends the upstream request', async (t) => {
    const [front, upstream] = await start(t, (socket) => {
      socket.write(`${HEAD}Transfer-Encoding: chunked\r\n\r\n5\r\nfirst\r\n`)
    })
    const client = await RawClient.connect(t, front)
    client.send('GET / HTTP/1.1', `Host: ${HOST}`, 'Accept-Encoding: br')
    await client.receive(/\r\n\r\n/)
    client.socket.destroy()
    await until(() => upstream.sockets[0]?.destroyed === true)
  })
}
