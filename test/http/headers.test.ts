import t from 'tap'
import { connectionOptions, hstsValue, viaValue } from '../../src/http/headers.ts'

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
