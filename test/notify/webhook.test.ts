import { createHmac } from 'node:crypto'
import { once } from 'node:events'
import { createServer, type IncomingHttpHeaders, type RequestListener } from 'node:http'
import type { AddressInfo } from 'node:net'
import t, { type Test } from 'tap'
import { VirtualClock } from '../../src/commands/simulate/virtual-clock.ts'
import { composeMessage } from '../../src/notify/message.ts'
import { RefusedError } from '../../src/notify/outbox.ts'
import { post, type Webhook } from '../../src/notify/webhook.ts'
import { AT, degraded } from '../support/events.ts'

interface Posted {
  readonly method: string | undefined
  readonly headers: IncomingHttpHeaders
  readonly body: string
}

const MESSAGE = composeMessage('7', { last: degraded(), count: 1, since: AT, hosts: new Set() })
const SECRET = '0123456789abcdef'

t.test('json: the message itself, signed so that a receiver can verify it', async (t) => {
  const posted = await deliver(t, { format: 'json', secret: SECRET })
  t.equal(posted.method, 'POST')
  t.equal(posted.headers['content-type'], 'application/json')
  t.equal(posted.headers['holdfast-event'], 'ca.degraded')
  t.match(JSON.parse(posted.body), { id: '7', type: 'ca.degraded', title: 'letsencrypt is down', count: 1 })
  const [, time, signature] =
    /^t=(\d+),v1=([0-9a-f]{64})$/.exec(String(posted.headers['holdfast-signature'])) ?? []
  t.equal(Number(time) * 1000, new VirtualClock().now())
  t.equal(signature, createHmac('sha256', SECRET).update(`${time}.${posted.body}`).digest('hex'))
})

t.test('without a secret nothing is signed', async (t) => {
  t.equal((await deliver(t, { format: 'json' })).headers['holdfast-signature'], undefined)
})

t.test('slack: a text, in which nothing becomes a link or a mention', async (t) => {
  const event = { ...degraded(), message: '<!channel> & co' }
  const message = composeMessage('7', { last: event, count: 1, since: AT, hosts: new Set() })
  const posted = await deliver(t, { format: 'slack' }, message)
  const { text } = JSON.parse(posted.body)
  t.match(text, /^:warning: \*letsencrypt is down\*\n&lt;!channel&gt; &amp; co\./)
})

t.test('ntfy: the text as body, title and priority as fields', async (t) => {
  const { headers, body } = await deliver(t, { format: 'ntfy' })
  t.match(headers, { title: 'letsencrypt is down', priority: 'high', tags: 'warning' })
  t.match(body, /^letsencrypt: answered 503\./)
})

t.test('an answer that may change is an error, one that will not a refusal', async (t) => {
  for (const [status, isFinal] of [
    [500, false],
    [429, false],
    [404, true],
    [302, true],
  ] as const) {
    const url = await serve(t, (_, response) => response.writeHead(status, { location: '/other' }).end())
    const error = await post({ url, format: 'json' }, MESSAGE, new VirtualClock(), signal()).catch((e) => e)
    t.match(error.message, String(status))
    t.equal(error instanceof RefusedError, isFinal, String(status))
  }
})

t.test('an error does not show the URL, which may hold a token', async (t) => {
  const url = 'http://127.0.0.1:1/services/T0KEN'
  const error = await post({ url, format: 'json' }, MESSAGE, new VirtualClock(), signal()).catch((e) => e)
  t.match(error.message, /^no answer/)
  t.notMatch(JSON.stringify([error.message, String(error.cause), error.stack]), /T0KEN/)
})

function signal(): AbortSignal {
  return new AbortController().signal
}

async function deliver(t: Test, hook: Omit<Webhook, 'url'>, message = MESSAGE): Promise<Posted> {
  const { promise, resolve } = Promise.withResolvers<Posted>()
  const url = await serve(t, async (request, response) => {
    let body = ''
    for await (const chunk of request.setEncoding('utf8')) body += chunk
    response.writeHead(204).end()
    resolve({ method: request.method, headers: request.headers, body })
  })
  await post({ url, ...hook }, message, new VirtualClock(), signal())
  return promise
}

async function serve(t: Test, listener: RequestListener): Promise<string> {
  const server = createServer(listener).listen(0, '127.0.0.1')
  await once(server, 'listening')
  t.teardown(() => {
    server.closeAllConnections()
    server.close()
  })
  return `http://127.0.0.1:${(server.address() as AddressInfo).port}/hook`
}
