import t from 'tap'
import { plainAddress } from '../../src/config/addresses.ts'
import {
  AddressRanges,
  clientBehind,
  forwardingFields,
  isForwardingField,
  NO_FORWARDED_FIELDS,
} from '../../src/http/forwarded.ts'

t.test('trusted proxies', async (t) => {
  const trusted = new AddressRanges(['10.0.0.0/8', '192.0.2.7', 'fd00::/8', '2001:db8::1'])
  for (const [address, verdict] of [
    ['10.255.0.1', true],
    ['11.0.0.1', false],
    ['192.0.2.7', true],
    ['192.0.2.8', false],
    ['fd12::1', true],
    ['fe80::1', false],
    ['2001:db8::1', true],
    ['2001:db8::2', false],
    ['', false],
    ['nonsense', false],
  ] as const) {
    t.equal(trusted.contains(address), verdict, address)
  }
  t.equal(new AddressRanges([]).contains('10.0.0.1'), false)
})

t.test('behind trusted proxies the client is the last address that is none of theirs', async (t) => {
  const trusted = new AddressRanges(['10.0.0.0/8'])
  for (const [forwardedFor, client] of [
    ['198.51.100.7', '198.51.100.7'],
    ['198.51.100.7, 10.9.9.9', '198.51.100.7'],
    ['198.51.100.7, 203.0.113.5', '203.0.113.5'],
    ['198.51.100.7,10.9.9.9 ,\t10.9.9.8', '198.51.100.7'],
    ['::ffff:198.51.100.7', '198.51.100.7'],
    ['2001:db8::1, 10.9.9.9', '2001:db8::1'],
    ['10.9.9.9, 10.9.9.8', '10.9.9.9'],
    ['', '10.0.0.1'],
    [',', '10.0.0.1'],
    ['198.51.100.7, , 10.9.9.9,', '198.51.100.7'],
    ['198.51.100.7:5555', '198.51.100.7'],
    ['[2001:db8::7]:55, 10.9.9.9:1', '2001:db8::7'],
    ['[2001:db8::7]', '2001:db8::7'],
  ] as const)
    t.equal(clientBehind('10.0.0.1', forwardedFor, trusted), client, forwardedFor)
})

t.test('behind a proxy that does not say where the client is, it is in no range', async (t) => {
  const trusted = new AddressRanges(['10.0.0.0/8'])
  for (const forwardedFor of [
    'unknown',
    '198.51.100.7, unknown',
    '198.51.100.7, _hidden, 10.9.9.9',
    '1.2.3.4.5:80',
    '[10.1.1.1',
  ]) {
    const client = clientBehind('10.0.0.1', forwardedFor, trusted)
    t.equal(client, 'unknown', forwardedFor)
    t.notOk(new AddressRanges(['0.0.0.0/0', '::/0']).contains(client))
  }
})

t.test('an IPv4 client of a dual-stack socket', async (t) => {
  t.equal(plainAddress('::ffff:192.0.2.1'), '192.0.2.1')
  t.equal(plainAddress('192.0.2.1'), '192.0.2.1')
  t.equal(plainAddress('2001:db8::1'), '2001:db8::1')
  t.equal(plainAddress('::ffff:0:1'), '::ffff:0:1')
})

t.test(
  'a link-local client is known without its zone, which names nothing outside this machine',
  async (t) => {
    t.equal(plainAddress('fe80::1%eth0'), 'fe80::1')
    t.equal(plainAddress('::ffff:169.254.0.1%2'), '169.254.0.1')
  },
)

t.test('the fields that only proxies may set', async (t) => {
  for (const name of [
    'forwarded',
    'x-forwarded-for',
    'x-forwarded-port',
    'x_forwarded_for',
    'x-forwarded_proto',
    'x-real-ip',
    'x_real_ip',
    'x-request-id',
  ])
    t.equal(isForwardingField(name), true, name)
  for (const name of ['forwarded-x', 'x-forward', 'x-forwarded', 'xforwarded-for', 'from', 'x-real-ip-2'])
    t.equal(isForwardingField(name), false, name)
})

t.test('what is said of the client', async (t) => {
  const fields = (clientAddress: string, host: string, secure = true): Record<string, string> =>
    Object.fromEntries(forwardingFields({ clientAddress, secure, host }))
  t.strictSame(fields('192.0.2.1', 'example.com'), {
    'X-Forwarded-For': '192.0.2.1',
    'X-Forwarded-Proto': 'https',
    'X-Forwarded-Host': 'example.com',
    Forwarded: 'for=192.0.2.1;host=example.com;proto=https',
  })
  t.strictSame(fields('2001:db8::1', '[2001:db8::2]:8080', false), {
    'X-Forwarded-For': '2001:db8::1',
    'X-Forwarded-Proto': 'http',
    'X-Forwarded-Host': '[2001:db8::2]:8080',
    Forwarded: 'for="[2001:db8::1]";host="[2001:db8::2]:8080";proto=http',
  })
})

t.test('what a trusted proxy said is continued', async (t) => {
  const hop = { clientAddress: '10.0.0.1', secure: false, host: 'inner.example' }
  const said = {
    for: '203.0.113.7, 10.0.0.2',
    proto: 'https',
    host: 'outer.example',
    forwarded: 'for=203.0.113.7',
  }
  t.strictSame(Object.fromEntries(forwardingFields(hop, said)), {
    'X-Forwarded-For': '203.0.113.7, 10.0.0.2, 10.0.0.1',
    'X-Forwarded-Proto': 'https',
    'X-Forwarded-Host': 'outer.example',
    Forwarded: 'for=203.0.113.7, for=10.0.0.1;host=inner.example;proto=http',
  })
  t.strictSame(forwardingFields(hop, NO_FORWARDED_FIELDS), forwardingFields(hop))
})
