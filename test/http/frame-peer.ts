/** One end of an HTTP/2 connection that sends the frames it is told to, and shows those that come. */
import { once } from 'node:events'
import { createServer } from 'node:net'
import type { Duplex } from 'node:stream'
import { createServer as createTlsServer } from 'node:tls'
import type { Test } from 'tap'
import { FLAG, FRAME, PREFACE, settingsFrame, writeFrameHeader } from '../../src/http/fast/frames.ts'
import { createStaticTable, HpackDecoder } from '../../src/http/fast/hpack.ts'
import { CREDENTIALS, portOf, until } from './front.ts'

export interface Frame {
  readonly type: number
  readonly flags: number
  readonly streamId: number
  readonly payload: Buffer
}

export type Fields = readonly (readonly [string, string])[]

export function frame(type: number, flags: number, streamId: number, payload: Buffer | string = ''): Buffer {
  const content = Buffer.from(payload as string)
  const bytes = Buffer.alloc(9 + content.length)
  writeFrameHeader(bytes, 0, content.length, type, flags, streamId)
  content.copy(bytes, 9)
  return bytes
}

export function uint32(...values: number[]): Buffer {
  const bytes = Buffer.alloc(4 * values.length)
  for (const [index, value] of values.entries()) bytes.writeUInt32BE(value, 4 * index)
  return bytes
}

/** A header block (RFC 7541 section 6.2.2) of whatever names and values, and so by no encoder that takes care. */
export function blockOf(fields: Fields): Buffer {
  const strings = fields.map(([name, value]) => [Buffer.of(0), string(name), string(value)])
  return Buffer.concat(strings.flat())
}

/** RFC 7541 section 5.2, without Huffman coding. */
function string(text: string): Buffer {
  const octets = Buffer.from(text, 'latin1')
  return Buffer.concat([integer(octets.length), octets])
}

/** RFC 7541 section 5.1, with a prefix of seven bits. */
function integer(value: number): Buffer {
  if (value < 0x7f) return Buffer.of(value)
  const octets = [0x7f]
  let rest = value - 0x7f
  for (; rest >= 0x80; rest >>>= 7) octets.push((rest & 0x7f) | 0x80)
  return Buffer.of(...octets, rest)
}

export class FramePeer {
  readonly socket: Duplex
  readonly frames: Frame[] = []
  closed = false
  readonly #decoder = new HpackDecoder(Buffer.alloc(400_000), createStaticTable())
  readonly #decoded: { readonly streamId: number; readonly fields: Fields }[] = []
  #pending: Buffer = Buffer.alloc(0)
  #skip: number

  /** `skip`: octets that come before the first frame. */
  constructor(socket: Duplex, skip = 0) {
    this.socket = socket
    this.#skip = skip
    socket.on('data', (data) => this.#take(data))
    socket.on('error', () => {})
    for (const event of ['end', 'close']) {
      socket.on(event, () => {
        this.closed = true
      })
    }
  }

  send(...frames: Buffer[]): void {
    if (this.socket.writable) this.socket.write(Buffer.concat(frames))
  }

  headers(streamId: number, fields: Fields, last = false): void {
    const flags = FLAG.END_HEADERS | (last ? FLAG.END_STREAM : 0)
    this.send(frame(FRAME.HEADERS, flags, streamId, blockOf(fields)))
  }

  data(streamId: number, content: Buffer | string, last = false): void {
    this.send(frame(FRAME.DATA, last ? FLAG.END_STREAM : 0, streamId, content))
  }

  async frame(matches: (frame: Frame) => boolean): Promise<Frame> {
    await until(() => this.frames.some(matches) || this.closed)
    const found = this.frames.find(matches)
    if (found === undefined) throw new Error('closed before the frame came')
    return found
  }

  /** The error of the GOAWAY that ends the connection. */
  async goAway(): Promise<number> {
    const { payload } = await this.frame(({ type }) => type === FRAME.GOAWAY)
    await until(() => this.closed)
    return payload.readUInt32BE(4)
  }

  async reset(streamId: number): Promise<number> {
    const { payload } = await this.frame((f) => f.type === FRAME.RST_STREAM && f.streamId === streamId)
    return payload.readUInt32BE(0)
  }

  /** Resolves with what came once the stream has ended from the other end. */
  async ended(streamId: number): Promise<string> {
    await this.frame(
      ({ type, flags, streamId: id }) =>
        id === streamId && type <= FRAME.HEADERS && (flags & FLAG.END_STREAM) !== 0,
    )
    return this.dataOf(streamId).toString()
  }

  dataOf(streamId: number): Buffer {
    const data = this.frames.filter((f) => f.type === FRAME.DATA && f.streamId === streamId)
    return Buffer.concat(data.map((f) => f.payload))
  }

  /** The `index`-th header block of the stream. */
  async fieldsOf(streamId: number, index = 0): Promise<Fields> {
    const blocks = () => this.#decoded.filter((block) => block.streamId === streamId)
    await until(() => blocks().length > index || this.closed)
    const block = blocks()[index]
    if (block === undefined) throw new Error('closed before the header block came')
    return block.fields
  }

  #take(data: Buffer): void {
    this.#pending = Buffer.concat([this.#pending, data])
    if (this.#pending.length < this.#skip) return
    this.#pending = this.#pending.subarray(this.#skip)
    this.#skip = 0
    while (this.#pending.length >= 9) {
      const length = this.#pending.readUIntBE(0, 3)
      if (this.#pending.length < 9 + length) return
      const received = {
        type: this.#pending[3]!,
        flags: this.#pending[4]!,
        streamId: this.#pending.readUInt32BE(5),
        payload: this.#pending.subarray(9, 9 + length),
      }
      this.frames.push(received)
      this.#pending = this.#pending.subarray(9 + length)
      if (received.type === FRAME.HEADERS) this.#decode(received)
    }
  }

  #decode({ streamId, payload }: Frame): void {
    const fields: [string, string][] = []
    this.#decoder.decode(payload, 0, payload.length, {
      onField: ({ name, value }) => fields.push([name, value]),
    })
    this.#decoded.push({ streamId, fields })
  }
}

/** An HTTP/2 upstream whose connections say their settings, and then what the test tells them to. */
export class FrameUpstream {
  readonly peers: FramePeer[] = []
  readonly url: string

  private constructor(url: string) {
    this.url = url
  }

  /** `first`: what a connection begins with. `alpn`: over TLS, which protocols to choose from. */
  static async start(t: Test, first: Buffer = settingsFrame([]), alpn?: string[]): Promise<FrameUpstream> {
    const server =
      alpn === undefined
        ? createServer()
        : createTlsServer({ cert: CREDENTIALS.chainPem, key: CREDENTIALS.keyPem, ALPNProtocols: alpn })
    await once(server.listen(0, '127.0.0.1'), 'listening')
    const upstream = new FrameUpstream(`${alpn === undefined ? 'h2c' : 'h2'}://127.0.0.1:${portOf(server)}`)
    server.on(alpn === undefined ? 'connection' : 'secureConnection', (socket: Duplex) => {
      upstream.peers.push(new FramePeer(socket, PREFACE.length))
      socket.write(first)
    })
    t.teardown(() => {
      server.close()
      for (const { socket } of upstream.peers) socket.destroy()
    })
    return upstream
  }

  /** The `index`-th connection, once it is there. */
  async peer(index = 0): Promise<FramePeer> {
    await until(() => this.peers.length > index)
    return this.peers[index]!
  }
}
