/** HPACK: no block breaks the decoder or makes its table grow, and what the encoder writes is read back. */
import assert from 'node:assert/strict'
import {
  createStaticTable,
  HpackDecoder,
  HpackEncoder,
  type HpackField,
  TABLE_SIZE,
} from '../../src/http/fast/hpack.ts'
import type { Target } from './fuzzer.ts'

const SEEDS = [
  // RFC 7541 appendix C.
  '400a637573746f6d2d6b65790d637573746f6d2d686561646572',
  '040c2f73616d706c652f70617468',
  '100870617373776f726406736563726574',
  '828684410f7777772e6578616d706c652e636f6d',
  '828684be58086e6f2d6361636865',
  '828684418cf1e3c2e5f23a6ba0ab90f4ff',
  '828684be5886a8eb10649cbf',
  '828785bf408825a849e95ba97d7f8925a849e95bb8e8b4bf',
  '3fe10148033330325807707269766174656e821d75',
  '4882640258 85aec3771a4b6196d07abe941054d444a8200595040b8166e082a62d1bff6e919d29ad171863c78f0b97c8e9ae82ae43d3',
  '20',
  '3fe11f',
  '3fe11f20',
  'ff80808001',
  '7f0001610162',
]

function withLength(block: Buffer): Buffer {
  return Buffer.concat([Buffer.of(block.length), block])
}

/** More entries than the table holds. */
const FULL_TABLE = Buffer.concat(
  Array.from({ length: 19 }, (_, i) =>
    withLength(Buffer.concat([Buffer.of(0x40, 1, 97 + i, 0x7f, 73), Buffer.alloc(200, 97 + i)])),
  ),
)

/** Each weighs 32 octets at least (section 4.1). */
const MOST_ENTRIES = TABLE_SIZE / 32

export function hpackTarget(): Target {
  const scratch = Buffer.alloc(16 * 1024)
  const staticTable = createStaticTable()
  const out = Buffer.alloc(64 * 1024)
  return {
    name: 'hpack',
    seeds: [...SEEDS.map((hex) => withLength(Buffer.from(hex.replaceAll(' ', ''), 'hex'))), FULL_TABLE],
    words: [
      '82',
      'be',
      '40',
      '00',
      '10',
      '20',
      '3f',
      '3fe11f',
      '7f',
      'ff',
      '8c',
      '0161',
      '8161',
      '4001610162',
      'ffffff7f',
    ].map((hex) => Buffer.from(hex, 'hex')),
    run: (input) => {
      const decoder = new HpackDecoder(scratch, staticTable)
      const writer = new HpackEncoder()
      const reader = new HpackDecoder(scratch, staticTable)
      // An input is several blocks of one connection, each with its length before it.
      for (let p = 0; p < input.length; ) {
        const end = Math.min(input.length, p + 1 + (input[p] as number))
        const block = input.subarray(Math.min(p + 1, end), end)
        const fields: HpackField[] = []
        const valid = decoder.decode(block, 0, block.length, { onField: (field) => fields.push(field) })
        assert.ok(tableBytes(decoder) <= TABLE_SIZE, 'the table is within its size')
        // The peer may change the size of the table between blocks.
        if (end % 3 === 0) writer.setMaxSize((end * 37) % 5000)
        roundTrip(writer, reader, fields, out)
        if (!valid) break
        p = end
      }
    },
    stop: () => {},
  }
}

/** The weight of what an index reaches. */
function tableBytes(decoder: HpackDecoder): number {
  let bytes = 0
  const sink = {
    onField: ({ size }: HpackField) => {
      bytes += size
    },
  }
  for (let entry = 0; entry <= MOST_ENTRIES; entry++) {
    const index = 62 + entry
    const block = index < 127 ? Buffer.of(0x80 | index) : Buffer.of(0xff, index - 127)
    if (!decoder.decode(block, 0, block.length, sink)) break
  }
  return bytes
}

function roundTrip(
  writer: HpackEncoder,
  reader: HpackDecoder,
  fields: readonly HpackField[],
  out: Buffer,
): void {
  let o = writer.begin(out, 0)
  const sent: string[] = []
  for (const { name, value } of fields) {
    // No lines: what they come from refuses them before.
    if (name === '' || name.includes(':', 1) || value.includes('\r')) continue
    if (o + name.length + value.length + 20 > out.length) break
    const bytes = Buffer.from(`${name}: ${value}\r\n`, 'latin1')
    o = writer.lines(out, o, bytes, 0, bytes.length)
    sent.push(`${name.replace(/[A-Z]/g, (letter) => letter.toLowerCase())}\n${value}`)
  }
  const read: string[] = []
  const valid = reader.decode(out, 0, o, { onField: ({ name, value }) => read.push(`${name}\n${value}`) })
  assert.ok(valid, 'what was written can be read')
  assert.deepEqual(read, sent)
}
