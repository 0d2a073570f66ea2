/** What an HTTP/2 client may send: the answer is valid HTTP/2, and the same however the frames are cut. */
import assert from 'node:assert/strict'
import { FLAG, FRAME, MAX_FRAME_BYTES, PREFACE, SETTING, settingsFrame } from '../../src/http/fast/frames.ts'
import { createStaticTable, HpackDecoder } from '../../src/http/fast/hpack.ts'
import { blockOf, frame, uint32 } from '../http/frame-peer.ts'
import { HOST } from '../http/front.ts'
import type { Target } from './fuzzer.ts'
import { MemoryWire } from './memory-wire.ts'
import { Random } from './random.ts'

/** Turns of the event loop after which everything that follows from an input has happened: each write takes one. */
const TURNS = 6

const GET = blockOf([
  [':method', 'GET'],
  [':scheme', 'http'],
  [':path', '/a'],
  [':authority', HOST],
])
const POST = blockOf([
  [':method', 'POST'],
  [':scheme', 'http'],
  [':path', '/a'],
  [':authority', HOST],
  ['content-length', '4'],
  ['x-a', 'b'],
])
const WHOLE = FLAG.END_STREAM | FLAG.END_HEADERS

export const FRAMES: readonly Buffer[] = [
  frame(FRAME.HEADERS, WHOLE, 1, GET),
  frame(FRAME.HEADERS, WHOLE, 3, GET),
  frame(FRAME.HEADERS, FLAG.END_HEADERS, 1, POST),
  frame(FRAME.HEADERS, FLAG.END_STREAM, 5, GET.subarray(0, 5)),
  frame(FRAME.CONTINUATION, FLAG.END_HEADERS, 5, GET.subarray(5)),
  frame(
    FRAME.HEADERS,
    WHOLE | FLAG.PADDED | FLAG.PRIORITY,
    7,
    Buffer.concat([Buffer.of(2, 0, 0, 0, 0, 16), GET, Buffer.alloc(2)]),
  ),
  frame(FRAME.DATA, FLAG.END_STREAM, 1, 'body'),
  frame(FRAME.DATA, FLAG.PADDED, 1, '\x01b\0'),
  frame(FRAME.HEADERS, WHOLE, 1, blockOf([['x-sum', '1']])),
  frame(FRAME.PRIORITY, 0, 1, Buffer.alloc(5)),
  frame(FRAME.RST_STREAM, 0, 1, uint32(8)),
  frame(FRAME.PING, 0, 0, '12345678'),
  frame(FRAME.PING, FLAG.ACK, 0, '12345678'),
  frame(FRAME.GOAWAY, 0, 0, uint32(0, 0)),
  frame(FRAME.WINDOW_UPDATE, 0, 0, uint32(1000)),
  frame(FRAME.WINDOW_UPDATE, 0, 1, uint32(2 ** 31 - 1)),
  frame(FRAME.SETTINGS, FLAG.ACK, 0),
  settingsFrame([]),
  settingsFrame([[SETTING.INITIAL_WINDOW_SIZE, 0]]),
  settingsFrame([
    [SETTING.INITIAL_WINDOW_SIZE, 2 ** 31 - 1],
    [SETTING.HEADER_TABLE_SIZE, 0],
  ]),
  settingsFrame([
    [SETTING.MAX_FRAME_SIZE, 16_384],
    [SETTING.ENABLE_PUSH, 0],
    [SETTING.MAX_CONCURRENT_STREAMS, 1],
  ]),
  frame(FRAME.PUSH_PROMISE, FLAG.END_HEADERS, 1, uint32(2)),
  frame(0x20, 0, 0, 'unknown'),
]

export function clientFramesTarget(): Target {
  const wire = new MemoryWire([])
  const answerTo = async (pieces: readonly Buffer[]): Promise<Buffer> => {
    const client = wire.connect('h2')
    const received: Buffer[] = []
    client.on('data', (data: Buffer) => received.push(data))
    for (const piece of [PREFACE, settingsFrame([]), ...pieces]) {
      if (!client.destroyed) client.write(piece)
      await turns(1)
    }
    await turns(TURNS)
    client.destroy()
    return Buffer.concat(received)
  }
  const seeds = FRAMES.map((first, i) => Buffer.concat([first, ...FRAMES.slice(i + 1, i + 4)]))
  return {
    name: 'client-frames',
    seeds: [...seeds, Buffer.concat(FRAMES.slice(0, 12))],
    words: FRAMES,
    run: async (input) => {
      const whole = readFrames(await answerTo([input]))
      const cut = readFrames(await answerTo(Random.of(input).cut(input)))
      assert.deepEqual(cut, whole, 'cut')
    },
    stop: () => void wire.stop(),
  }
}

export async function turns(count: number): Promise<void> {
  for (let turn = 0; turn < count; turn++) await new Promise(setImmediate)
}

/** Each frame in short, in the order of its stream. @throws when it is no valid HTTP/2 */
function readFrames(bytes: Buffer): string[] {
  const decoder = new HpackDecoder(Buffer.alloc(64 * 1024), createStaticTable())
  const frames: string[] = []
  let ended = false
  for (let p = 0; p < bytes.length; ) {
    assert.ok(bytes.length - p >= 9, 'a whole frame header')
    const length = bytes.readUIntBE(p, 3)
    assert.ok(length <= MAX_FRAME_BYTES, 'a frame within the limit')
    const [type, flags] = [bytes[p + 3]!, bytes[p + 4]!]
    const streamId = bytes.readUInt32BE(p + 5)
    const payload = bytes.subarray(p + 9, p + 9 + length)
    assert.equal(payload.length, length, 'a whole frame')
    assert.ok(!ended, 'nothing after the GOAWAY that tells of an error')
    assert.ok(streamId === 0 || streamId % 2 === 1, 'a stream of the client')
    if (p === 0) assert.equal(type, FRAME.SETTINGS, 'settings come first')
    let told = payload.toString('hex')
    if (type === FRAME.HEADERS) {
      const fields: string[] = []
      assert.ok(
        decoder.decode(payload, 0, length, {
          onField: ({ name, value }) => fields.push(`${name}: ${value}`),
        }),
        'a header block',
      )
      told = fields.join(', ')
    }
    if (type === FRAME.GOAWAY) ended = payload.readUInt32BE(4) !== 0
    frames.push(`${type} ${flags} ${streamId} ${told}`)
    p += 9 + length
  }
  return frames
}
