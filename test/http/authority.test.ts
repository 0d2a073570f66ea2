import t from 'tap'
import { authorityOf, hostOf, originForm } from '../../src/http/authority.ts'

t.test('the host of a Host field', async (t) => {
  for (const [field, host] of [
    ['example.com', 'example.com'],
    ['EXAMPLE.com', 'example.com'],
    ['example.com:8443', 'example.com'],
    ['example.com:', 'example.com'],
    ['example.com.', 'example.com'],
    ['xn--bcher-kva.example', 'xn--bcher-kva.example'],
    ['a_b.example', 'a_b.example'],
    ['localhost', 'localhost'],
    ['192.0.2.1:80', '192.0.2.1'],
    ['[2001:DB8:0:0::1]:443', '2001:db8::1'],
    ['[::1]', '::1'],
    ['', undefined],
    ['.', undefined],
    ['.example.com', undefined],
    ['example..com', undefined],
    ['example.com..', undefined],
    ['example.com:x', undefined],
    ['example.com:123456', undefined],
    ['example.com:80:80', undefined],
    ['user@example.com', undefined],
    ['example.com/x', undefined],
    ['example.com,example.com', undefined],
    ['example.com example.com', undefined],
    [' example.com', undefined],
    ['ex%61mple.com', undefined],
    ['bücher.example', undefined],
    ['*.example.com', undefined],
    ['2001:db8::1', undefined],
    ['[::1', undefined],
    ['[192.0.2.1]', undefined],
    ['[::1%eth0]', undefined],
  ] as const) {
    t.equal(hostOf(field), host, JSON.stringify(field))
  }
})

t.test('the authority of a host', async (t) => {
  t.equal(authorityOf('example.com', 443, 443), 'example.com')
  t.equal(authorityOf('example.com', 8443, 443), 'example.com:8443')
  t.equal(authorityOf('2001:db8::1', 443, 443), '[2001:db8::1]')
  t.equal(authorityOf('2001:db8::1', 8443, 443), '[2001:db8::1]:8443')
})

t.test('a target in origin form', async (t) => {
  for (const [target, form] of [
    ['/', '/'],
    ['/a//b?c=/d', '/a//b?c=/d'],
    ['//evil.example/x', '//evil.example/x'],
    ['/\xe9', '/\xe9'],
    ['http://example.com/a?b', '/a?b'],
    ['HTTPS://Example.COM/a', '/a'],
    ['http://example.com', '/'],
    ['http://example.com?b', '/?b'],
    ['http://else.example/', undefined],
    ['http://example.com:80/', undefined],
    ['http://u@example.com/', undefined],
    ['http:///a', undefined],
    ['ftp://example.com/', undefined],
    ['example.com/a', undefined],
    ['*', undefined],
    ['', undefined],
    ['/a#b', undefined],
    ['/a b', undefined],
    ['/a\tb', undefined],
    ['/a\nb', undefined],
    ['/a\0b', undefined],
    ['/a\x7fb', undefined],
    ['/a\u0101b', undefined],
  ] as const) {
    t.equal(originForm(target, 'example.com'), form, JSON.stringify(target))
  }
})
