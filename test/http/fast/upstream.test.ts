/** What comes over a kept connection while a request for it is read, but not sent yet: no answer to that request. */
import t, { type Test } from 'tap'
import { FastWire } from '../../../src/http/fast/wire.ts'
import { Front, HOST } from '../front.ts'
import { RawClient } from '../raw-client.ts'
import { RawUpstream } from '../raw-upstream.ts'

function answer(text: string): string {
  return `HTTP/1.1 200 OK\r\nContent-Length: ${text.length}\r\n\r\n${text}`
}

/** A POST on a kept connection to the upstream, with which `meanwhile` is done before the proxy has read it. */
async function postWhile(t: Test, meanwhile: (upstream: RawUpstream) => void) {
  const upstream = await RawUpstream.start(t, (socket, _, index) => socket.write(answer(`honest ${index}`)))
  const front = await Front.start(t, (options) => new FastWire(options), { upstreams: [upstream.url] })
  const client = await RawClient.connect(t, front, { plain: true })
  client.send('GET / HTTP/1.1', `Host: ${HOST}`)
  t.match(await client.response(), /honest 0$/)
  // After the poll phase, so that one poll brings the proxy both.
  await new Promise<void>((resolve) => setImmediate(resolve))
  client.send('POST / HTTP/1.1', `Host: ${HOST}`, 'Content-Length: 0')
  meanwhile(upstream)
  return { response: await client.response(), upstream }
}

t.test('a response that comes before its request answers nobody', async (t) => {
  const { response, upstream } = await postWhile(t, ({ sockets }) => sockets[0]?.write(answer('poison')))
  t.match(response, /^HTTP\/1.1 200 OK[\s\S]*honest 1$/)
  t.match(upstream.requests, [/^GET /, /^POST /])
  t.equal(upstream.sockets.length, 2)
})

t.test(
  'a request that waits for a connection which ends was not sent, so that another takes it',
  async (t) => {
    const { response, upstream } = await postWhile(t, ({ sockets }) => sockets[0]?.end())
    t.match(response, /^HTTP\/1.1 200 OK[\s\S]*honest 1$/)
    t.match(upstream.requests, [/^GET /, /^POST /])
    t.equal(upstream.sockets.length, 2)
  },
)
