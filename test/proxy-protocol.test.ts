import fc from 'fast-check'
import t from 'tap'
import { plainAddress } from '../src/config/addresses.ts'
import { proxyHeader, readProxyHeader } from '../src/proxy-protocol.ts'

const address = (family: 4 | 6): fc.Arbitrary<string> =>
  family === 4
    ? fc.ipV4()
    : fc
        .array(fc.integer({ min: 1, max: 0xffff }), { minLength: 8, maxLength: 8 })
        .map((groups) => groups.map((group) => group.toString(16)).join(':'))
const port = fc.integer({ min: 0, max: 65_535 })
const endpoints = fc.constantFrom(4 as const, 6 as const).chain((family) =>
  fc.record({
    clientAddress: address(family),
    clientPort: port,
    localAddress: address(family),
    localPort: port,
  }),
)

t.test('what is written is read again, at whatever octet it is split', async (t) => {
  fc.assert(
    fc.property(fc.constantFrom('v1' as const, 'v2' as const), endpoints, (version, ends) => {
      const header = proxyHeader(version, ends)
      for (let size = 0; size < header.length; size++) {
        if (readProxyHeader(header.subarray(0, size)) !== undefined) return false
      }
      const read = readProxyHeader(Buffer.concat([header, Buffer.from('GET /')]))
      t.strictSame(read, { size: header.length, endpoints: { ...ends } })
      return true
    }),
    { numRuns: 50 },
  )
})

t.test('octets of any kind never throw, and are judged before 16 KB', async () => {
  const starts = ['', 'PROXY ', 'PROXY TCP4 ', '\r\n\r\n\0\r\nQUIT\n', '\r\n\r\n\0\r\nQUIT\n!\x11']
  const rest = fc.uint8Array({ maxLength: 300 })
  fc.assert(
    fc.property(fc.constantFrom(...starts), rest, (start, octets) => {
      readProxyHeader(Buffer.concat([Buffer.from(start, 'latin1'), octets]))
      const full = Buffer.concat([Buffer.from(start, 'latin1'), octets, Buffer.alloc(17_000)])
      return readProxyHeader(full) !== undefined
    }),
  )
})

t.test('a health check of the proxy itself names nobody', async (t) => {
  const local = Buffer.from('0d0a0d0a000d0a515549540a20000000', 'hex')
  t.strictSame(readProxyHeader(local), { size: 16 })
  t.strictSame(readProxyHeader(Buffer.from('PROXY UNKNOWN\r\n')), { size: 15 })
})

t.test('a link-local client, as its socket tells of it, is told of without its zone', async (t) => {
  const clientAddress = plainAddress('fe80::1%eth0')
  const ends = { clientAddress, clientPort: 1, localAddress: plainAddress('fe80::2%eth0'), localPort: 2 }
  t.equal(String(proxyHeader('v1', ends)), 'PROXY TCP6 fe80::1 fe80::2 1 2\r\n')
  t.match(readProxyHeader(proxyHeader('v2', ends)), { endpoints: { ...ends, clientAddress: 'fe80::1' } })
})

t.test('TLVs are skipped', async (t) => {
  const header = proxyHeader('v2', {
    clientAddress: '192.0.2.1',
    clientPort: 1,
    localAddress: '192.0.2.2',
    localPort: 2,
  })
  const tlv = Buffer.from([0x04, 0, 3, 1, 2, 3])
  header.writeUInt16BE(12 + tlv.length, 14)
  const read = readProxyHeader(Buffer.concat([header, tlv]))
  t.match(read, { size: 34, endpoints: { clientAddress: '192.0.2.1' } })
})

for (const line of [
  'PROXY TCP4 192.0.2.1 192.0.2.2 1 65536\r\n',
  'PROXY TCP4 192.0.2.1 192.0.2.2 01 2\r\n',
  'PROXY TCP4 2001:db8::1 192.0.2.2 1 2\r\n',
  'PROXY TCP4 192.0.2.1 192.0.2.2 1 2 3\r\n',
  'PROXY TCP5 192.0.2.1 192.0.2.2 1 2\r\n',
  'GET / HTTP/1.1\r\n',
])
  t.test(`refused: ${line.trim()}`, async (t) => {
    t.equal(readProxyHeader(Buffer.from(line)), 'invalid')
  })

t.test('IPv4 in its mapped form is told as IPv4, and sent mapped beside an IPv6 address', async (t) => {
  const mixed = {
    clientAddress: '192.0.2.1',
    clientPort: 1,
    localAddress: '2001:db8::2',
    localPort: 2,
  }
  for (const version of ['v1', 'v2'] as const)
    t.match(readProxyHeader(proxyHeader(version, mixed)), { endpoints: mixed })
})
