import t from 'tap'
import {
  findByHost,
  formatAddress,
  isAddressRange,
  isPrivateHost,
  normalizeHost,
  parseAddress,
  parseUpstream,
} from '../../src/config/addresses.ts'

t.test('a host has one form', async (t) => {
  const cases: [written: string, host: string | undefined][] = [
    ['App.Example.COM', 'app.example.com'],
    ['app.example.com.', 'app.example.com'],
    ['bücher.example', 'xn--bcher-kva.example'],
    ['XN--BCHER-KVA.example', 'xn--bcher-kva.example'],
    ['*.Bücher.example', '*.xn--bcher-kva.example'],
    ['localhost', 'localhost'],
    ['_svc.example.com', '_svc.example.com'],
    ['192.0.2.1', '192.0.2.1'],
    ['[2001:DB8:0::1]', '2001:db8::1'],
    ['2001:db8:0:0:0:0:0:1', '2001:db8::1'],
    ['::ffff:192.0.2.1', '::ffff:c000:201'],
    ['*.192.0.2.1', undefined],
    ['192.0.2.256', undefined],
    ['0x7f.1', undefined],
    ['fe80::1%eth0', undefined],
    ['*', undefined],
    ['*.*.example.com', undefined],
    ['a.*.example.com', undefined],
    ['a..example.com', undefined],
    ['-a.example.com', undefined],
    ['app.example.com:443', undefined],
    ['https://app.example.com', undefined],
    ['app.example.com/x', undefined],
    ['app.example.com?x', undefined],
    ['app\t.example.com', undefined],
    ['%61pp.example.com', undefined],
    ['app／x.example.com', undefined],
    ['１２７.0.0.1', undefined],
    ['exa mple.com', undefined],
    [`${'a'.repeat(64)}.example.com`, undefined],
    [`${'a.'.repeat(130)}com`, undefined],
    ['', undefined],
  ]
  for (const [written, host] of cases) t.equal(normalizeHost(written), host, written.slice(0, 40))
})

t.test('an address to listen on', async (t) => {
  const cases: [text: string, address: ReturnType<typeof parseAddress>][] = [
    [':443', { host: undefined, port: 443 }],
    ['0.0.0.0:80', { host: '0.0.0.0', port: 80 }],
    ['[::]:443', { host: '::', port: 443 }],
    ['localhost:8443', { host: 'localhost', port: 8443 }],
    ['127.0.0.1:0', { host: '127.0.0.1', port: 0 }],
    ['443', undefined],
    ['127.0.0.1', undefined],
    ['::1:443', undefined],
    ['[127.0.0.1]:443', undefined],
    ['example.com:443', undefined],
    [':65536', undefined],
    [':-1', undefined],
    ['', undefined],
  ]
  for (const [text, address] of cases) {
    t.strictSame(parseAddress(text), address, text)
    if (address !== undefined) t.equal(formatAddress(address), text)
  }
})

t.test('an upstream has one form', async (t) => {
  const cases: [text: string, upstream: [url: string, host: string, port: number] | undefined][] = [
    ['http://app:3000', ['http://app:3000', 'app', 3000]],
    ['HTTP://App:80/', ['http://app', 'app', 80]],
    ['https://10.0.0.1', ['https://10.0.0.1', '10.0.0.1', 443]],
    ['https://[::1]:8443', ['https://[::1]:8443', '::1', 8443]],
    ['http://bücher.example', ['http://xn--bcher-kva.example', 'xn--bcher-kva.example', 80]],
    ['h2c://app:50051', ['h2c://app:50051', 'app', 50051]],
    ['H2://App:443', ['h2://app', 'app', 443]],
    ['h2c://app', ['h2c://app', 'app', 80]],
    ['h2://app/path', undefined],
    ['h3://app', undefined],
    ['app:3000', undefined],
    ['http:app', undefined],
    ['http:///app', undefined],
    ['http://app:0', undefined],
    ['http://app:99999', undefined],
    ['http://app/path', undefined],
    ['http://app?x', undefined],
    ['http://app#x', undefined],
    ['http://user@app', undefined],
    ['ftp://app', undefined],
    ['unix:/run/app.sock', ['unix:/run/app.sock', 'localhost', 0]],
    ['UNIX+H2C:/run/My App.sock', ['unix+h2c:/run/My App.sock', 'localhost', 0]],
    [`unix:/${'x'.repeat(106)}`, [`unix:/${'x'.repeat(106)}`, 'localhost', 0]],
    [`unix:/${'x'.repeat(107)}`, undefined],
    ['unix:app.sock', undefined],
    ['unix:/', undefined],
    ['unix:/run/', undefined],
    ['unix+h2:/run/app.sock', undefined],
    ['unix:/run/a\nb', undefined],
    ['http://unix:/run/app.sock', undefined],
    ['', undefined],
  ]
  for (const [text, expected] of cases) {
    const found = parseUpstream(text)
    t.strictSame(found && [found.url, found.host, found.port], expected, text)
    if (found === undefined) continue
    t.equal(found.secure, /^(https|h2):/.test(found.url), text)
    t.equal(found.protocol, /^(unix\+)?h2/.test(found.url) ? 'h2' : 'http/1.1', text)
    t.equal(found.socketPath, /^unix.*?:(.*)$/.exec(found.url)?.[1], text)
  }
})

t.test('an address range', async (t) => {
  for (const text of ['10.0.0.0/8', 'fd00::/8', '192.0.2.1', '::1', '0.0.0.0/0', '::/128'])
    t.ok(isAddressRange(text), text)
  for (const text of ['10.0.0.0/33', '::/129', '10.0.0.0/', '10/8', 'example.com', '10.0.0.0/8/8', '/8', ''])
    t.notOk(isAddressRange(text), text)
})

t.test('private hosts are those that no public CA can check', async (t) => {
  const hidden = [
    'localhost',
    'app.localhost',
    'printer.local',
    'db.internal',
    'nas.home.arpa',
    'intranet',
    'a.lan',
    '*.corp',
  ]
  const addresses = [
    '10.1.2.3',
    '172.31.0.1',
    '192.168.0.1',
    '127.0.0.1',
    '169.254.1.1',
    '100.64.0.1',
    '::1',
    'fd12::1',
    'fe80::1',
  ]
  for (const host of [...hidden, ...addresses]) t.ok(isPrivateHost(host), host)
  const open = [
    'example.com',
    '*.example.com',
    'local.example.com',
    'mylocal.org',
    'internal.io',
    '8.8.8.8',
    '172.32.0.1',
    '2606:4700::1',
  ]
  for (const host of open) t.notOk(isPrivateHost(host), host)
})

t.test('a tcp:// upstream has a port of its own, which stays', (t) => {
  t.match(parseUpstream('TCP://DB.example.com:80'), {
    url: 'tcp://db.example.com:80',
    protocol: 'tcp',
    secure: false,
    host: 'db.example.com',
    port: 80,
  })
  t.match(parseUpstream('tcp://[::1]:5432'), { url: 'tcp://[::1]:5432', host: '::1', port: 5432 })
  for (const text of ['tcp://db', 'tcp://db:0', 'tcp://db:70000', 'tcp://db:1/a', 'tcp://u@db:1', 'tcp:db:1'])
    t.equal(parseUpstream(text), undefined, text)
  t.end()
})

t.test('a name is found by itself, else by the wildcard for its first label', (t) => {
  const table = new Map([
    ['a.example.com', 1],
    ['*.example.com', 2],
  ])
  t.equal(findByHost(table, 'a.example.com'), 1)
  t.equal(findByHost(table, 'b.example.com'), 2)
  for (const name of ['example.com', 'a.b.example.com', 'localhost'])
    t.equal(findByHost(table, name), undefined)
  t.end()
})
