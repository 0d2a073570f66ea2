import { once } from 'node:events'
import http2 from 'node:http2'
import type { AddressInfo } from 'node:net'
import fc from 'fast-check'
import t from 'tap'
import { createStaticTable, HpackDecoder, HpackEncoder } from '../../../src/http/fast/hpack.ts'
import { decodeHuffman, encodeHuffman, huffmanLength } from '../../../src/http/fast/huffman.ts'

function decoder(): HpackDecoder {
  return new HpackDecoder(Buffer.alloc(128 * 1024), createStaticTable())
}

/** The fields of a block, or undefined when it cannot be decoded. */
function decode(hpack: HpackDecoder, hex: string | Buffer): string[] | undefined {
  const bytes = typeof hex === 'string' ? Buffer.from(hex.replaceAll(/\s/g, ''), 'hex') : hex
  const fields: string[] = []
  const ok = hpack.decode(bytes, 0, bytes.length, {
    onField: ({ name, value }) => fields.push(`${name}: ${value}`),
  })
  return ok ? fields : undefined
}

function encode(hpack: HpackEncoder, fields: readonly (readonly [string, string])[]): Buffer {
  const out = Buffer.alloc(64 * 1024)
  let o = hpack.begin(out, 0)
  for (const [name, value] of fields) {
    const bytes = Buffer.from(`${name}: ${value}\r\n`, 'latin1')
    o = hpack.lines(out, o, bytes, 0, bytes.length)
  }
  return out.subarray(0, o)
}

t.test('RFC 7541 appendix C.2: single fields', async (t) => {
  t.same(decode(decoder(), '400a 6375 7374 6f6d 2d6b 6579 0d63 7573 746f 6d2d 6865 6164 6572'), [
    'custom-key: custom-header',
  ])
  t.same(decode(decoder(), '040c 2f73 616d 706c 652f 7061 7468'), [':path: /sample/path'])
  t.same(decode(decoder(), '1008 7061 7373 776f 7264 0673 6563 7265 74'), ['password: secret'])
  t.same(decode(decoder(), '82'), [':method: GET'])
})

const REQUESTS = [
  [':method: GET', ':scheme: http', ':path: /', ':authority: www.example.com'],
  [':method: GET', ':scheme: http', ':path: /', ':authority: www.example.com', 'cache-control: no-cache'],
  [
    ':method: GET',
    ':scheme: https',
    ':path: /index.html',
    ':authority: www.example.com',
    'custom-key: custom-value',
  ],
]

t.test('RFC 7541 appendix C.3: requests without Huffman coding', async (t) => {
  const hpack = decoder()
  t.same(decode(hpack, '8286 8441 0f77 7777 2e65 7861 6d70 6c65 2e63 6f6d'), REQUESTS[0])
  t.same(decode(hpack, '8286 84be 5808 6e6f 2d63 6163 6865'), REQUESTS[1])
  t.same(
    decode(hpack, '8287 85bf 400a 6375 7374 6f6d 2d6b 6579 0c63 7573 746f 6d2d 7661 6c75 65'),
    REQUESTS[2],
  )
})

t.test('RFC 7541 appendix C.4: requests with Huffman coding', async (t) => {
  const hpack = decoder()
  t.same(decode(hpack, '8286 8441 8cf1 e3c2 e5f2 3a6b a0ab 90f4 ff'), REQUESTS[0])
  t.same(decode(hpack, '8286 84be 5886 a8eb 1064 9cbf'), REQUESTS[1])
  t.same(decode(hpack, '8287 85bf 4088 25a8 49e9 5ba9 7d7f 8925 a849 e95b b8e8 b4bf'), REQUESTS[2])
})

const RESPONSES = [
  [
    ':status: 302',
    'cache-control: private',
    'date: Mon, 21 Oct 2013 20:13:21 GMT',
    'location: https://www.example.com',
  ],
  [
    ':status: 307',
    'cache-control: private',
    'date: Mon, 21 Oct 2013 20:13:21 GMT',
    'location: https://www.example.com',
  ],
  [
    ':status: 200',
    'cache-control: private',
    'date: Mon, 21 Oct 2013 20:13:22 GMT',
    'location: https://www.example.com',
    'content-encoding: gzip',
    'set-cookie: foo=ASDJKHQKBZXOQWEOPIUAXQWEOIU; max-age=3600; version=1',
  ],
]
/** The vectors assume a table of 256 octets: a size update says so. */
const TABLE_OF_256 = '3fe101'

t.test('RFC 7541 appendix C.5: responses without Huffman coding, with eviction', async (t) => {
  const hpack = decoder()
  t.same(
    decode(
      hpack,
      `${TABLE_OF_256} 4803 3330 3258 0770 7269 7661 7465 611d 4d6f 6e2c 2032 3120 4f63 7420 3230 3133 2032 303a 3133 3a32 3120 474d 546e 1768 7474 7073 3a2f 2f77 7777 2e65 7861 6d70 6c65 2e63 6f6d`,
    ),
    RESPONSES[0],
  )
  t.same(decode(hpack, '4803 3330 37c1 c0bf'), RESPONSES[1])
  t.same(
    decode(
      hpack,
      '88c1 611d 4d6f 6e2c 2032 3120 4f63 7420 3230 3133 2032 303a 3133 3a32 3220 474d 54c0 5a04 677a 6970 7738 666f 6f3d 4153 444a 4b48 514b 425a 584f 5157 454f 5049 5541 5851 5745 4f49 553b 206d 6178 2d61 6765 3d33 3630 303b 2076 6572 7369 6f6e 3d31',
    ),
    RESPONSES[2],
  )
})

t.test('RFC 7541 appendix C.6: responses with Huffman coding, with eviction', async (t) => {
  const hpack = decoder()
  t.same(
    decode(
      hpack,
      `${TABLE_OF_256} 4882 6402 5885 aec3 771a 4b61 96d0 7abe 9410 54d4 44a8 2005 9504 0b81 66e0 82a6 2d1b ff6e 919d 29ad 1718 63c7 8f0b 97c8 e9ae 82ae 43d3`,
    ),
    RESPONSES[0],
  )
  t.same(decode(hpack, '4883 640e ffc1 c0bf'), RESPONSES[1])
  t.same(
    decode(
      hpack,
      '88c1 6196 d07a be94 1054 d444 a820 0595 040b 8166 e084 a62d 1bff c05a 839b d9ab 77ad 94e7 821d d7f2 e6c7 b335 dfdf cd5b 3960 d5af 2708 7f36 72c1 ab27 0fb5 291f 9587 3160 65c0 03ed 4ee5 b106 3d50 07',
    ),
    RESPONSES[2],
  )
})

const REFUSED: [name: string, hex: string][] = [
  ['index 0', '80'],
  ['an index past the tables', 'be'],
  ['a name index past the tables', '7f0001 61'],
  ['an integer without end', 'ffffffffff'],
  ['an integer that overflows', 'ff ffffffffffffffff7f'],
  ['an integer cut short', 'ff80'],
  ['a string longer than the block', '400a 61'],
  ['a literal without value', '4001 61'],
  ['a literal without name', '40'],
  ['a size update past the limit', '3fe21f'],
  ['a size update after a field', '8220'],
  ['Huffman padding with zeros', '4001 6181 18'],
  ['Huffman padding of a whole octet', '4001 6182 1fff'],
  ['Huffman EOS', '4001 6184 ffff ffff'],
]

for (const [name, hex] of REFUSED) {
  t.test(`refuses ${name}`, async (t) => t.equal(decode(decoder(), hex), undefined))
}

t.test('an entry larger than the table empties it', async (t) => {
  const hpack = decoder()
  t.same(decode(hpack, '4001 6101 62'), ['a: b'])
  t.same(decode(hpack, 'be'), ['a: b'])
  const large = Buffer.concat([Buffer.from('4001617fa91f', 'hex'), Buffer.alloc(4136, 0x62)])
  t.equal(decode(hpack, large)?.length, 1)
  t.equal(decode(hpack, 'be'), undefined)
})

t.test('Huffman coding round-trips every octet string', async (t) => {
  const coded = Buffer.alloc(8192)
  const decoded = Buffer.alloc(8192)
  fc.assert(
    fc.property(fc.uint8Array({ maxLength: 300 }), (octets) => {
      const length = encodeHuffman(octets, 0, octets.length, coded, 0)
      t.equal(length, huffmanLength(octets, 0, octets.length))
      const back = decodeHuffman(coded, 0, length, decoded)
      return Buffer.from(octets).equals(decoded.subarray(0, back))
    }),
  )
})

t.test('what the encoder writes, the decoder reads, whatever comes again', async (t) => {
  const name = fc.constantFrom('server', 'x-a', 'content-type', 'set-cookie', 'date', 'x-a-rather-long-name')
  const value = fc.oneof(fc.constantFrom('a', 'text/html', 'x'.repeat(500)), fc.string({ maxLength: 200 }))
  const blocks = fc.array(fc.array(fc.tuple(name, value), { maxLength: 8 }), { maxLength: 12 })
  const sizes = fc.array(fc.constantFrom(0, 40, 256, 4096, 100_000), { maxLength: 2 })
  fc.assert(
    fc.property(fc.array(fc.tuple(sizes, blocks), { maxLength: 4 }), (phases) => {
      const writer = new HpackEncoder()
      const reader = decoder()
      for (const [changes, sent] of phases) {
        for (const size of changes) writer.setMaxSize(size)
        for (const fields of sent) {
          const latin = fields.map(([n, v]) => [n, Buffer.from(v, 'utf8').toString('latin1')] as const)
          t.strictSame(
            decode(reader, encode(writer, latin)),
            latin.map(([n, v]) => `${n}: ${v}`),
          )
        }
      }
    }),
    { numRuns: 200 },
  )
})

t.test('a field that comes again costs one octet from the third time on', async (t) => {
  const writer = new HpackEncoder()
  const sizes = [1, 2, 3].map(() => encode(writer, [['x-version', '1234567890']]).length)
  t.equal(sizes[2], 1)
  t.ok((sizes[0] ?? 0) > 20)
})

t.test('cookies are never put into the table', async (t) => {
  const writer = new HpackEncoder()
  for (let i = 0; i < 3; i++) {
    const block = encode(writer, [['Set-Cookie', 'a=b']])
    t.equal(block[0], 0x1f, 'never indexed')
    t.equal(block.length, 6)
  }
})

t.test('the status takes one octet where the static table has it', async (t) => {
  const writer = new HpackEncoder()
  const out = Buffer.alloc(16)
  t.equal(writer.status(out, 0, 404), 1)
  t.same(decode(decoder(), out.subarray(0, 1)), [':status: 404'])
  t.same(decode(decoder(), out.subarray(0, writer.status(out, 0, 418))), [':status: 418'])
})

t.test('random blocks never throw, and leave the table within its size', async () => {
  const hpack = decoder()
  fc.assert(
    fc.property(fc.uint8Array({ maxLength: 400 }), (octets) => {
      decode(hpack, Buffer.from(octets))
    }),
    { numRuns: 5000 },
  )
})

t.test('node:http2 writes blocks that the decoder reads', async (t) => {
  const server = http2.createServer()
  const blocks: Buffer[] = []
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  const net = await import('node:net')
  // A relay that copies the client's octets, from which the HEADERS frames are cut.
  const seen: Buffer[] = []
  const relay = net.createServer((socket) => {
    const up = net.connect((server.address() as AddressInfo).port, '127.0.0.1')
    socket.on('data', (data) => seen.push(data))
    socket.on('error', () => up.destroy())
    socket.pipe(up)
    up.pipe(socket)
  })
  relay.listen(0, '127.0.0.1')
  await once(relay, 'listening')
  server.on('stream', (stream) => {
    stream.respond({ ':status': 204 })
    stream.end()
  })
  const client = http2.connect(`http://127.0.0.1:${(relay.address() as AddressInfo).port}`)
  const sent: Record<string, string>[] = []
  for (let i = 0; i < 30; i++) {
    const headers = {
      ':path': `/${i % 3}?a=${'x'.repeat(i * 20)}`,
      'x-n': String(i % 4),
      'user-agent': 'a test',
      cookie: 'a=b',
    }
    sent.push(headers)
    const stream = client.request(headers)
    stream.resume()
    await once(stream, 'end')
  }
  client.close()
  relay.close()
  server.close()

  const all = Buffer.concat(seen).subarray(24)
  for (let p = 0; p + 9 <= all.length; ) {
    const length = all.readUIntBE(p, 3)
    if (all[p + 3] === 1)
      blocks.push(all.subarray(p + 9 + ((all[p + 4] ?? 0) & 0x20 ? 5 : 0), p + 9 + length))
    p += 9 + length
  }
  const hpack = decoder()
  t.equal(blocks.length, sent.length)
  blocks.forEach((block, i) => {
    const fields = decode(hpack, block) ?? []
    for (const [name, value] of Object.entries(sent[i] ?? {})) {
      t.ok(fields.includes(`${name}: ${Buffer.from(value, 'utf8').toString('latin1')}`), name)
    }
  })
})
