import t from 'tap'
import { connectionOptions, FieldLines, hstsValue, viaValue } from '../../src/http/headers.ts'

t.test('the options of Connection', async (t) => {
  t.strictSame(connectionOptions('keep-alive, X-One ,,\tx-two'), ['keep-alive', 'x-one', 'x-two'])
  t.strictSame(connectionOptions(''), [])
})

t.test('Via grows at its end', async (t) => {
  t.equal(viaValue(undefined, '1.1'), '1.1 holdfast')
  t.equal(viaValue('', '2.0'), '2.0 holdfast')
  t.equal(viaValue('1.0 fred, 1.1 p.example.net', '1.1'), '1.0 fred, 1.1 p.example.net, 1.1 holdfast')
})

t.test('Strict-Transport-Security in seconds', async (t) => {
  const all = { maxAge: 31_536_000_999, includeSubDomains: true, preload: true }
  t.equal(hstsValue(false), undefined)
  t.equal(hstsValue(all), 'max-age=31536000; includeSubDomains; preload')
  t.equal(hstsValue({ ...all, maxAge: 0, includeSubDomains: false, preload: false }), 'max-age=0')
})

t.test('a field is found under any case of its name, and its lines are joined', async (t) => {
  const lines = new FieldLines(
    'GET /x-a:1 HTTP/1.1\r\nX-A: 1\r\nx-ab: 2\r\nx-A:\t3 \r\nCookie: a=b\r\ncookie: c=d\r\nEmpty:\r\n\r\n',
  )
  t.equal(lines.field('x-a'), '1, 3')
  t.equal(lines.field('x-ab'), '2')
  t.equal(lines.field('cookie'), 'a=b; c=d')
  t.equal(lines.field('empty'), '')
  t.equal(lines.field('x'), undefined)
  t.equal(new FieldLines('').field('x-a'), undefined)
})
