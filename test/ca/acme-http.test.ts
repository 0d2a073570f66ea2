import { once } from 'node:events'
import type { ServerResponse } from 'node:http'
import type { AddressInfo } from 'node:net'
import { createServer } from 'node:net'
import { createServer as createTlsServer } from 'node:tls'
import t, { type Test } from 'tap'
import { EndpointTrust } from '../../src/ca/acme-endpoint.ts'
import { CaHttp, type CaHttpOptions } from '../../src/ca/acme-http.ts'
import { VirtualClock } from '../../src/commands/simulate/virtual-clock.ts'
import { type Clock, DAY, HOUR, MINUTE, SECOND, SystemClock } from '../../src/time.ts'
import { Authority } from '../peers/authority.ts'
import { freePort } from '../peers/process.ts'
import { issueErrorOf } from './acme-world.ts'
import { json, startLyingCa } from './lying-ca.ts'

const purpose = { doing: 'test', refused: 'order' } as const
const forever = new AbortController().signal

/** A client of a CA that answers so. */
async function clientOf(
  t: Test,
  answer: (response: ServerResponse) => void,
  options: Partial<CaHttpOptions> = {},
) {
  const ca = await startLyingCa(t, (_request, response) => answer(response))
  const http = create({ trust: new EndpointTrust(ca.rootPem), ...options })
  t.teardown(() => http.close())
  const ask = (signal: AbortSignal = forever) =>
    http.exchange({ method: 'GET', url: `${ca.origin}/x` }, purpose, signal)
  return { ca, http, ask }
}

function create(options: Partial<CaHttpOptions> = {}): CaHttp {
  return new CaHttp({
    ca: 'liar',
    trust: new EndpointTrust(),
    exchangeLimitMs: 8 * SECOND,
    clock: new SystemClock(),
    ...options,
  })
}

t.test('answers with status, body and headers; what is called JSON is parsed', async (t) => {
  const { ask } = await clientOf(t, (response) => json(response, { a: 1 }, { 'replay-nonce': 'n' }))
  t.match(await ask(), { status: 200, body: { a: 1 }, headers: { 'replay-nonce': 'n' } })
})

t.test('a success that is neither JSON nor a chain is none', async (t) => {
  for (const [type, body] of [
    ['text/html', '<html></html>'],
    ['application/json', '{"a":'],
    ['application/jsonp', '{}'],
    ['', '{}'],
  ] as const) {
    const { ask } = await clientOf(t, (response) => {
      response.writeHead(200, type === '' ? {} : { 'content-type': type }).end(body)
    })
    t.match(await issueErrorOf(ask()), { code: 'CA_BAD_ANSWER', blame: 'ca' }, `${type} ${body}`)
  }
})

t.test('keeps its connection, and closes it in the end', async (t) => {
  const { ask, ca, http } = await clientOf(t, (response) => json(response, {}))
  await ask()
  await ask()
  t.equal(ca.connections(), 1)
  http.close()
  await ca.idle()
})

t.test('trusts the given roots and the runtime’s, and says what to do about others', async (t) => {
  const { ca } = await clientOf(t, (response) => json(response, {}))
  const http = create()
  const error = await issueErrorOf(http.exchange({ method: 'GET', url: ca.origin }, purpose, forever))
  t.match(error, { code: 'CA_UNREACHABLE', blame: 'ca', retry: 'now' })
  t.match(error.message, /^liar: test: cannot reach 127\.0\.0\.1:\d+: [^:;]*: set `roots` to the PEM file/)
})

t.test('nothing but https', async (t) => {
  const http = create()
  for (const url of ['http://127.0.0.1/', 'file:///etc/passwd', '/relative', '', undefined, 7, {}]) {
    const request = { method: 'GET', url: url as string } as const
    const error = await issueErrorOf(http.exchange(request, purpose, forever))
    t.match(error, { code: 'CA_BAD_ANSWER', message: 'liar: test: the CA names a URL that is not https' })
  }
})

t.test('nobody there', async (t) => {
  const port = await freePort()
  const http = create()
  for (const host of [`127.0.0.1:${port}`, 'no-such-host.invalid']) {
    const request = { method: 'GET', url: `https://${host}/` } as const
    const error = await issueErrorOf(http.exchange(request, purpose, forever))
    t.match(error, { code: 'CA_UNREACHABLE', blame: 'ca', retry: 'now' })
    t.match(error.message, `liar: test: cannot reach ${host}: `)
  }
})

t.test('a certificate for another name', async (t) => {
  const { ca } = await clientOf(t, (response) => json(response, {}))
  const http = create({ trust: new EndpointTrust(ca.rootPem) })
  const url = ca.origin.replace('127.0.0.1', 'localhost')
  const error = await issueErrorOf(http.exchange({ method: 'GET', url }, purpose, forever))
  t.match(error, { code: 'CA_UNREACHABLE', blame: 'ca' })
})

t.test('an endpoint whose certificate has expired, or is not valid yet', async (t) => {
  const now = Date.now()
  for (const [state, fromMs, toMs] of [
    ['has expired', -20 * HOUR, -HOUR],
    ['is not valid yet', 30 * DAY, 90 * DAY],
  ] as const) {
    const leaf = { notBefore: new Date(now + fromMs), notAfter: new Date(now + toMs) }
    const ca = await startLyingCa(t, (_request, response) => json(response, { a: 1 }), leaf)
    const at = (time: number): Clock => Object.assign(new SystemClock(), { now: () => time })
    const ask = (trust: EndpointTrust, clock: Clock, origin = ca.origin) => {
      const http = create({ trust, clock })
      t.teardown(() => http.close())
      return http.exchange({ method: 'GET', url: `${origin}/x` }, purpose, forever)
    }
    const trust = new EndpointTrust(ca.rootPem)
    const right = at(now + fromMs + HOUR)

    t.match(await ask(trust, right), { body: { a: 1 } }, `${state} by the machine's clock alone`)
    const refused = { code: 'CA_UNREACHABLE', blame: 'ca' } as const
    t.match(await issueErrorOf(ask(trust, at(now))), refused, `${state} indeed`)
    t.match(await issueErrorOf(ask(new EndpointTrust(), right)), refused, `${state}, and is of a stranger`)
    const elsewhere = ca.origin.replace('127.0.0.1', 'localhost')
    t.match(await issueErrorOf(ask(trust, right, elsewhere)), refused, `${state}, and is for another name`)
  }
})

t.test('a connection that breaks within the body', async (t) => {
  const { ask } = await clientOf(t, (response) => {
    response.writeHead(200, { 'content-length': 100 })
    response.write('half', () => response.socket?.destroy())
  })
  t.match(await issueErrorOf(ask()), { code: 'CA_UNREACHABLE', blame: 'ca' })
})

t.test('what is no HTTP', async (t) => {
  const authority = await Authority.create('Root')
  const { certificatePem: cert, keyPem: key } = await authority.issue(['127.0.0.1'])
  const server = createTlsServer({ cert, key }, (socket) => socket.end('SSH-2.0-OpenSSH_9.2\r\n'))
  t.teardown(() => server.close())
  await once(server.listen(0, '127.0.0.1'), 'listening')
  const url = `https://127.0.0.1:${(server.address() as AddressInfo).port}/`
  const http = create({ trust: new EndpointTrust(authority.certificatePem) })
  const error = await issueErrorOf(http.exchange({ method: 'GET', url }, purpose, forever))
  t.match(error, { code: 'CA_BAD_ANSWER', message: /does not speak HTTP$/ })
})

t.test('a body without end is cut off', async (t) => {
  const { ask, ca } = await clientOf(t, (response) => {
    const more = () => response.write('x'.repeat(65_536), () => response.destroyed || more())
    more()
  })
  const error = await issueErrorOf(ask())
  t.match(error, { code: 'CA_BAD_ANSWER', message: /answers with more than 262144 bytes$/ })
  await ca.idle()
})

t.test('redirects are not followed', async (t) => {
  let asked = 0
  const { ask } = await clientOf(t, (response) => {
    asked++
    response.writeHead(302, { location: '/elsewhere' }).end()
  })
  t.match(await issueErrorOf(ask()), { code: 'CA_BAD_ANSWER', blame: 'ca' })
  t.equal(asked, 1)
})

t.test('the deadline', async (t) => {
  const peers: Record<string, (response: ServerResponse) => void> = {
    'no head': () => {},
    'no body': (response) => response.writeHead(200).flushHeaders(),
    'a body that never ends': (response) => {
      response.write('{')
    },
  }
  for (const [name, answer] of Object.entries(peers)) {
    t.test(name, async (t) => {
      const clock = new VirtualClock()
      const { promise: asked, resolve } = Promise.withResolvers<void>()
      const asking = (response: ServerResponse) => {
        answer(response)
        resolve()
      }
      const { ask, ca } = await clientOf(t, asking, { clock })
      const error = issueErrorOf(ask())
      await asked
      await clock.advance(8 * SECOND)
      t.match(await error, { code: 'CA_TIMEOUT', blame: 'ca', retry: 'now' })
      t.match((await error).message, /^liar: test: the answer of 127\.0\.0\.1:\d+ took longer than 8s$/)
      await ca.idle()
    })
  }

  t.test('no TLS', async (t) => {
    const clock = new VirtualClock()
    const server = createServer()
    t.teardown(() => server.close())
    await once(server.listen(0, '127.0.0.1'), 'listening')
    const http = create({ clock })
    const url = `https://127.0.0.1:${(server.address() as AddressInfo).port}/`
    const error = issueErrorOf(http.exchange({ method: 'GET', url }, purpose, forever))
    await once(server, 'connection')
    await clock.advance(8 * SECOND)
    t.match(await error, { code: 'CA_TIMEOUT' })
  })
})

t.test('an abort closes the connection and gives its reason', async (t) => {
  const controller = new AbortController()
  const reason = new Error('enough')
  const { ask, ca } = await clientOf(t, () => controller.abort(reason))
  await t.rejects(ask(controller.signal), reason)
  await ca.idle()
})

t.test('Retry-After', async (t) => {
  const date = 'Fri, 19 Jun 2026 12:00:00 GMT'
  const clock = new VirtualClock(Date.parse(date))
  let header = ''
  const answer = (response: ServerResponse) =>
    json(response, {}, header === '' ? {} : { date, 'retry-after': header })
  const { ask } = await clientOf(t, answer, { clock })
  for (const [text, expected] of [
    ['', undefined],
    ['120', 2 * MINUTE],
    ['Fri, 19 Jun 2026 12:05:00 GMT', 5 * MINUTE],
    ['Fri, 19 Jun 2026 11:00:00 GMT', undefined],
    ['0', undefined],
    ['-5', undefined],
    ['soon', undefined],
    ['99999999999999999999', 7 * DAY],
    ['Fri, 01 Jan 9999 00:00:00 GMT', 7 * DAY],
  ] as const) {
    header = text
    t.equal((await ask()).retryAfterMs, expected, text)
  }
  clock.jump(-5 * DAY)
  header = 'Fri, 19 Jun 2026 12:05:00 GMT'
  t.equal((await ask()).retryAfterMs, 5 * MINUTE, "by the CA's clock, whatever ours shows")
})
