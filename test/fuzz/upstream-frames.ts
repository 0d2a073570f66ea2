/** What an HTTP/2 upstream may send: the client gets whole, valid HTTP/1.1, or sees that the response is cut off. */
import assert from 'node:assert/strict'
import { once } from 'node:events'
import { createServer, type Socket } from 'node:net'
import { FLAG, FRAME, PREFACE, settingsFrame } from '../../src/http/fast/frames.ts'
import { readResponses } from '../http/differential/observer.ts'
import { blockOf, frame, uint32 } from '../http/frame-peer.ts'
import { HOST, portOf } from '../http/front.ts'
import { FRAMES } from './client-frames.ts'
import type { Target } from './fuzzer.ts'
import { MemoryWire } from './memory-wire.ts'

const OK = blockOf([
  [':status', '200'],
  ['x-a', 'b'],
])
const SIZED = blockOf([
  [':status', '200'],
  ['content-length', '4'],
])

const ANSWERS: readonly Buffer[] = [
  frame(
    FRAME.HEADERS,
    FLAG.END_HEADERS,
    1,
    blockOf([
      [':status', '103'],
      ['link', '</a>'],
    ]),
  ),
  frame(FRAME.HEADERS, FLAG.END_HEADERS, 1, OK),
  frame(FRAME.HEADERS, FLAG.END_HEADERS, 1, SIZED),
  frame(FRAME.HEADERS, FLAG.END_HEADERS | FLAG.END_STREAM, 1, blockOf([[':status', '204']])),
  frame(
    FRAME.HEADERS,
    FLAG.END_HEADERS,
    1,
    blockOf([
      [':status', '304'],
      ['content-length', '4'],
    ]),
  ),
  frame(FRAME.DATA, 0, 1, 'body'),
  frame(FRAME.DATA, FLAG.END_STREAM, 1, 'body'),
  frame(FRAME.DATA, FLAG.PADDED | FLAG.END_STREAM, 1, '\x02body\0\0'),
  frame(FRAME.HEADERS, FLAG.END_HEADERS | FLAG.END_STREAM, 1, blockOf([['x-sum', '1']])),
  frame(FRAME.RST_STREAM, 0, 1, uint32(7)),
  ...['a\0b', 'a\rb', 'a\nb'].map((value) =>
    frame(
      FRAME.HEADERS,
      FLAG.END_HEADERS,
      1,
      blockOf([
        [':status', '200'],
        ['x-a', value],
      ]),
    ),
  ),
  ...['x a', 'x:a', ''].map((name) =>
    frame(
      FRAME.HEADERS,
      FLAG.END_HEADERS,
      1,
      blockOf([
        [':status', '200'],
        [name, 'a'],
      ]),
    ),
  ),
]

const REQUEST = `GET /a HTTP/1.1\r\nHost: ${HOST}\r\nConnection: close\r\n\r\n`

export async function upstreamFramesTarget(): Promise<Target> {
  let answer: Buffer = Buffer.alloc(0)
  const server = createServer({ noDelay: true }, (socket: Socket) => {
    let received = Buffer.alloc(0)
    socket.on('error', () => {})
    socket.on('data', (data) => {
      received = Buffer.concat([received, data])
      if (!socket.writableEnded && hasRequest(received)) socket.end(answer)
    })
    socket.write(settingsFrame([]))
  })
  await once(server.listen(0, '127.0.0.1'), 'listening')
  const wire = new MemoryWire([`h2c://127.0.0.1:${portOf(server)}`])
  const words = [...ANSWERS, ...FRAMES.slice(9)]
  return {
    name: 'upstream-frames',
    seeds: ANSWERS.flatMap((first) => [1, 5, 6, 7, 8].map((then) => Buffer.concat([first, ANSWERS[then]!]))),
    words,
    run: async (input) => {
      answer = input
      const client = wire.connect('http/1.1')
      let received = ''
      client.on('data', (data: Buffer) => {
        received += data.toString('latin1')
      })
      client.write(REQUEST)
      await Promise.race([once(client, 'end'), once(client, 'close')])
      client.destroy()
      const { messages, rest, invalid } = readResponses(received, REQUEST, false)
      assert.ok(!invalid, `no HTTP/1.1: ${JSON.stringify(received)}`)
      const finals = messages.filter(({ start }) => !/^(?:own )?1/.test(start))
      assert.ok(finals.length + (rest === '' ? 0 : 1) === 1, `one response: ${JSON.stringify(received)}`)
    },
    stop: () => {
      server.close()
      void wire.stop()
    },
  }
}

/** Has a whole HEADERS frame come? */
function hasRequest(bytes: Buffer): boolean {
  for (let p = PREFACE.length; p + 9 <= bytes.length; p += 9 + bytes.readUIntBE(p, 3)) {
    if (bytes[p + 3] === FRAME.HEADERS) return p + 9 + bytes.readUIntBE(p, 3) <= bytes.length
  }
  return false
}
