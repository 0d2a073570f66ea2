/** What one HTTP/2 connection must not be able to cost: frames by hand, as no client library would send them. */
import type { Test } from 'tap'
import { Front, HOST, type MakeWire, until } from '../front.ts'
import { RawClient } from '../raw-client.ts'
import { fieldsOf, ok, RawUpstream } from '../raw-upstream.ts'

const DATA = 0
const HEADERS = 1
const RST_STREAM = 3
const SETTINGS = 4
const PING = 6
const GOAWAY = 7
const CONTINUATION = 9
const END_STREAM = 1
const END_HEADERS = 4
const CANCEL = Buffer.from([0, 0, 0, 8])

const PREFACE = Buffer.concat([Buffer.from('PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n'), frame(SETTINGS, 0, 0)])
/** GET https://HOST/ by HPACK's static table, the authority as a literal that is not indexed. */
const GET = Buffer.concat([Buffer.from([0x82, 0x87, 0x84, 0x01, HOST.length]), Buffer.from(HOST)])

function frame(type: number, flags: number, stream: number, payload: Buffer = Buffer.alloc(0)): Buffer {
  const head = Buffer.alloc(9)
  head.writeUIntBE(payload.length, 0, 3)
  head[3] = type
  head[4] = flags
  head.writeUInt32BE(stream, 5)
  return Buffer.concat([head, payload])
}

/** A field that is not indexed, by a name of one's own. */
function field(name: string, value: string): Buffer {
  return Buffer.concat([
    Buffer.from([0, name.length]),
    Buffer.from(name),
    Buffer.from([value.length]),
    Buffer.from(value),
  ])
}

export function abuse(t: Test, makeWire: MakeWire): void {
  /** Sends the preface and then, until the connection ends, what `flood` makes of a counter. */
  const floods = async (t: Test, flood: (count: number) => Buffer, limit: number): Promise<RawUpstream> => {
    const up = await RawUpstream.start(t, () => {})
    const front = await Front.start(t, makeWire, { upstreams: [up.url] })
    const client = await RawClient.connect(t, front, { protocol: 'h2' })
    client.socket.write(PREFACE)
    let count = 0
    for (; count < limit && !client.closed; count++) {
      client.socket.write(flood(count))
      if (count % 20 === 0) await new Promise(setImmediate)
    }
    await until(() => client.closed)
    t.ok(count < limit || client.closed, `ended after ${count} frames at the most`)
    t.ok(framesOf(client.received).includes(GOAWAY) || client.received === '', 'with GOAWAY')
    return up
  }

  t.test('rapid reset ends the connection, and leaves no upstream request', async (t) => {
    const up = await floods(
      t,
      (count) => {
        const stream = 2 * count + 1
        return Buffer.concat([
          frame(HEADERS, END_STREAM | END_HEADERS, stream, GET),
          frame(RST_STREAM, 0, stream, CANCEL),
        ])
      },
      20_000,
    )
    await until(() => up.sockets.every((socket) => socket.destroyed))
  })

  t.test('endless CONTINUATION ends the connection', async (t) => {
    await floods(
      t,
      (count) =>
        count === 0
          ? frame(HEADERS, END_STREAM, 1, GET)
          : frame(CONTINUATION, 0, 1, field(`x-${count}`, 'x'.repeat(100))),
      20_000,
    )
  })

  t.test('empty CONTINUATION frames end the connection', async (t) => {
    await floods(
      t,
      (count) => (count === 0 ? frame(HEADERS, END_STREAM, 1, GET) : frame(CONTINUATION, 0, 1)),
      20_000,
    )
  })

  for (const [what, type, payload] of [
    ['PING', PING, Buffer.alloc(8)],
    ['SETTINGS', SETTINGS, Buffer.from([0, 3, 0, 0, 0, 100])],
  ] as const) {
    t.test(`a flood of ${what} whose answers are not read ends the connection`, async (t) => {
      const up = await RawUpstream.start(t, () => {})
      const front = await Front.start(t, makeWire, { upstreams: [up.url] })
      const client = await RawClient.connect(t, front, { protocol: 'h2' })
      client.socket.pause()
      client.socket.write(PREFACE)
      const batch = Buffer.concat(Array.from({ length: 1000 }, () => frame(type, 0, 0, payload)))
      let sent = 0
      while (!client.closed && sent < 2000) {
        sent++
        if (!client.socket.write(batch)) await new Promise((resolve) => setTimeout(resolve, 1))
      }
      t.ok(client.closed, `after ${sent * 1000} frames`)
    })
  }

  t.test('a PING with each message, by which gRPC measures the way, is no flood', async (t) => {
    const up = await RawUpstream.start(t, () => {})
    const front = await Front.start(t, makeWire, { upstreams: [up.url] })
    const client = await RawClient.connect(t, front, { protocol: 'h2' })
    // `:method: POST` is next to GET in the static table.
    const post = Buffer.concat([Buffer.of(0x83), GET.subarray(1)])
    client.socket.write(Buffer.concat([PREFACE, frame(HEADERS, END_HEADERS, 1, post)]))
    const measured = Buffer.concat([frame(DATA, 0, 1, Buffer.from('x')), frame(PING, 0, 0, Buffer.alloc(8))])
    const answered = (): number => framesOf(client.received).filter((type) => type === PING).length
    for (let sent = 20; sent <= 1500; sent += 20) {
      client.socket.write(Buffer.concat(Array.from({ length: 20 }, () => measured)))
      await until(() => answered() === sent || client.closed)
    }
    t.equal(answered(), 1500)
    t.notOk(client.closed)
  })

  for (const [what, bytes] of [
    ['no preface', Buffer.from('GET / HTTP/1.1\r\nHost: x\r\n\r\n')],
    ['DATA on stream 0', Buffer.concat([PREFACE, frame(DATA, 0, 0, Buffer.from('x'))])],
    ['DATA on an idle stream', Buffer.concat([PREFACE, frame(DATA, 0, 1, Buffer.from('x'))])],
    ['a frame that is too large', Buffer.concat([PREFACE, frame(DATA, 0, 1, Buffer.alloc(20_000))])],
    ['a PING of 7 bytes', Buffer.concat([PREFACE, frame(PING, 0, 0, Buffer.alloc(7))])],
    [
      'broken HPACK',
      Buffer.concat([
        PREFACE,
        frame(HEADERS, END_STREAM | END_HEADERS, 1, Buffer.from([0xff, 0xff, 0xff, 0xff, 0xff, 0xff])),
      ]),
    ],
    ['an even stream', Buffer.concat([PREFACE, frame(HEADERS, END_STREAM | END_HEADERS, 2, GET)])],
    [
      'frames between HEADERS and CONTINUATION',
      Buffer.concat([PREFACE, frame(HEADERS, END_STREAM, 1, GET), frame(PING, 0, 0, Buffer.alloc(8))]),
    ],
  ] as const) {
    t.test(`a connection error ends the connection: ${what}`, async (t) => {
      const up = await RawUpstream.start(t, (socket) => socket.write(ok()))
      const front = await Front.start(t, makeWire, { upstreams: [up.url] })
      const client = await RawClient.connect(t, front, { protocol: 'h2' })
      client.socket.write(bytes)
      t.ok(framesOf(await client.rest()).includes(GOAWAY), 'with GOAWAY')
      t.strictSame(up.requests, [])
    })
  }

  for (const [what, block] of [
    ['a field name in upper case', Buffer.concat([GET, field('X-Up', '1')])],
    ['a field of one hop', Buffer.concat([GET, field('connection', 'close')])],
    ['Transfer-Encoding', Buffer.concat([GET, field('transfer-encoding', 'chunked')])],
    ['TE other than trailers', Buffer.concat([GET, field('te', 'gzip')])],
    ['an unknown pseudo-header', Buffer.concat([GET, field(':x', '1')])],
    ['a pseudo-header after a field', Buffer.concat([field('x', '1'), GET])],
    ['two paths', Buffer.concat([GET.subarray(0, 3), Buffer.from([0x84]), GET.subarray(3)])],
    ['no path', Buffer.concat([GET.subarray(0, 2), GET.subarray(3)])],
    ['no method', GET.subarray(1)],
    ['a method in lower case', Buffer.concat([field(':method', 'head'), GET.subarray(1)])],
    ['an empty path', Buffer.concat([GET.subarray(0, 2), Buffer.from([0x04, 0]), GET.subarray(3)])],
    ['a length that the content does not have', Buffer.concat([GET, field('content-length', '5')])],
    ['two lengths', Buffer.concat([GET, field('content-length', '0'), field('content-length', '1')])],
  ] as const) {
    t.test(`a malformed request does not reach the upstream: ${what}`, async (t) => {
      const up = await RawUpstream.start(t, (socket) => socket.write(ok()))
      const front = await Front.start(t, makeWire, { upstreams: [up.url] })
      const client = await RawClient.connect(t, front, { protocol: 'h2' })
      client.socket.write(Buffer.concat([PREFACE, frame(HEADERS, END_STREAM | END_HEADERS, 1, block)]))
      await until(
        () =>
          client.closed || framesOf(client.received).some((type) => type === RST_STREAM || type === HEADERS),
      )
      t.notMatch(client.received, '\x88', 'no status 200')
      t.strictSame(up.requests, [])
    })
  }

  for (const [what, line] of [
    ['a line break in a value', field('x', 'a\r\nb: c')],
    ['a NUL in a value', field('x', 'a\0b')],
    ['a space in a name', field('x y', '1')],
    ['a colon in a name', field('x:y', '1')],
  ] as const) {
    t.test(`what cannot be a field is refused or dropped: ${what}`, async (t) => {
      const up = await RawUpstream.start(t, (socket) => socket.write(ok()))
      const front = await Front.start(t, makeWire, { upstreams: [up.url] })
      const client = await RawClient.connect(t, front, { protocol: 'h2' })
      const block = Buffer.concat([GET, line])
      client.socket.write(Buffer.concat([PREFACE, frame(HEADERS, END_STREAM | END_HEADERS, 1, block)]))
      await until(
        () =>
          client.closed || framesOf(client.received).some((type) => type === RST_STREAM || type === HEADERS),
      )
      t.strictSame(
        up.requests.flatMap(fieldsOf).filter((seen) => /^(x[ :\0]|b:)/.test(seen)),
        [],
      )
    })
  }
}

/** The types of the frames received. */
function framesOf(received: string): number[] {
  const bytes = Buffer.from(received, 'latin1')
  const types: number[] = []
  for (let at = 0; at + 9 <= bytes.length; at += 9 + bytes.readUIntBE(at, 3)) types.push(bytes[at + 3]!)
  return types
}
