import t from 'tap'
import { CompatWire } from '../../../src/http/compat/wire.ts'
import { Front, HOST } from '../front.ts'
import { RawClient } from '../raw-client.ts'
import { RawUpstream } from '../raw-upstream.ts'

t.test('a connection on which too many requests wait is closed', async (t) => {
  const up = await RawUpstream.start(t, () => {})
  const front = await Front.start(t, (options) => new CompatWire(options), { upstreams: [up.url] })
  const client = await RawClient.connect(t, front)
  const warnings: string[] = []
  const onWarning = ({ name }: Error): unknown => warnings.push(name)
  process.on('warning', onWarning)
  t.teardown(() => process.off('warning', onWarning))
  client.write(`GET / HTTP/1.1\r\nHost: ${HOST}\r\n\r\n`.repeat(100))
  t.equal(await client.rest(), '')
  t.ok(up.requests.length <= 1, 'the others did not reach the upstream')
  await new Promise((resolve) => setImmediate(resolve))
  t.notOk(warnings.includes('MaxListenersExceededWarning'), 'the socket is ended once')
})
