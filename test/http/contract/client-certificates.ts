/** What an upstream learns of a client's certificate, and what clients may not say of themselves. */
import { X509Certificate } from 'node:crypto'
import { once } from 'node:events'
import { writeFileSync } from 'node:fs'
import { createSecureServer as createHttp2Server } from 'node:http2'
import { createServer as createHttpsServer } from 'node:https'
import { join } from 'node:path'
import type { TLSSocket } from 'node:tls'
import type { Test } from 'tap'
import { generateKeyPem } from '../../../src/cert/x509.ts'
import type { Client } from '../../../src/http/client-fields.ts'
import { makeClient } from '../../support/clients.ts'
import { signOdd } from '../../support/openssl.ts'
import { Revoker } from '../../support/revoker.ts'
import {
  CREDENTIALS,
  Front,
  HOST,
  type MakeWire,
  portOf,
  ROOT_PEM,
  type SiteOptions,
  until,
} from '../front.ts'
import { RawClient, statusOf } from '../raw-client.ts'
import { fieldsOf, ok, RawUpstream } from '../raw-upstream.ts'
import { answerOf, connectHttp2 } from './http2.ts'

const POLICY = {
  id: 'some-policy',
  required: false,
  ca: '',
  crls: [],
  crlsEndAt: Infinity,
  crlFile: undefined,
}
const HEADERS = {
  certificate: 'Client-Cert',
  subject: 'X-Client-Subject',
  fingerprint: 'X-Client-Fingerprint',
}

/** All that a client may try, in every spelling that an upstream could take for ours. */
const SPOOFS = [
  'Client-Cert: :spoof:',
  'client-cert: :spoof:',
  'Client_Cert: :spoof:',
  'CLIENT-CERT-CHAIN: :spoof:',
  'X-Client-Subject: CN=spoof',
  'x_client_subject: CN=spoof',
  'X-Client_Subject: CN=spoof',
  'x.client.subject: CN=spoof',
  'X-Client-Fingerprint: spoof',
]

export async function clientCertificates(t: Test, makeWire: MakeWire): Promise<void> {
  const certificate = await makeCertificate('/O=Acme/CN=alice')
  const known: Client = { policy: POLICY.id, certificate }
  const nobody: Client = { policy: POLICY.id, certificate: undefined }
  const told = [
    `client-cert: :${certificate.raw.toString('base64')}:`,
    `x-client-fingerprint: ${certificate.fingerprint256.replaceAll(':', '').toLowerCase()}`,
    'x-client-subject: CN=alice,O=Acme',
  ]

  const start = async (t: Test, client: Client | undefined, headers: object = HEADERS) => {
    const upstream = await RawUpstream.start(t, (socket) => socket.write(ok()))
    const site: SiteOptions = {
      upstreams: [upstream.url],
      clientPolicy: POLICY,
      clientCertificates: { mode: 'optional', ca: '/unused', headers },
    }
    const front = await Front.start(t, makeWire, { sites: [site], ...(client && { client }) })
    return { upstream, front }
  }
  /** The fields of the first request that tell of the client, or seem to. */
  const tellingOf = ({ requests }: RawUpstream) =>
    fieldsOf(requests.at(-1) ?? '').filter((line) => /^x?[-_.]?client|spoof/.test(line))

  t.test('the upstream is told who the client is, at each request', async (t) => {
    const { upstream, front } = await start(t, known)
    const client = await RawClient.connect(t, front)
    for (let request = 0; request < 2; request++) {
      client.send('GET / HTTP/1.1', `Host: ${HOST}`)
      t.equal(statusOf(await client.response()), 200)
      t.strictSame(tellingOf(upstream), told)
    }
    const session = connectHttp2(t, front)
    for (let request = 0; request < 2; request++) {
      t.equal((await answerOf(session.request({ ':authority': HOST }))).status, 200)
      t.strictSame(tellingOf(upstream), told)
    }
  })

  t.test('what a client says of itself is dropped, with a certificate and without', async (t) => {
    for (const [client, expected] of [
      [known, told],
      [nobody, []],
    ] as const) {
      const { upstream, front } = await start(t, client)
      const raw = await RawClient.connect(t, front)
      raw.send('GET / HTTP/1.1', ...SPOOFS, `Host: ${HOST}`, ...SPOOFS, 'X-Kept: 1')
      t.equal(statusOf(await raw.response()), 200)
      t.strictSame(tellingOf(upstream), expected)
      t.ok(fieldsOf(upstream.requests[0] ?? '').includes('x-kept: 1'))

      const fields = Object.fromEntries(SPOOFS.map((line) => line.toLowerCase().split(': ')))
      const session = connectHttp2(t, front)
      const stream = session.request({ ':authority': HOST, ...fields, 'x-kept': '1' })
      t.equal((await answerOf(stream)).status, 200)
      t.strictSame(tellingOf(upstream), expected)
      t.ok(fieldsOf(upstream.requests[1] ?? '').includes('x-kept: 1'))
    }
  })

  t.test('nor does it reach the same upstream by another site', async (t) => {
    const [shared, apart] = [await startUpstream(t), await startUpstream(t)]
    const sites: SiteOptions[] = [
      {
        hosts: ['guarded.example.com'],
        upstreams: [shared.url],
        clientPolicy: POLICY,
        clientCertificates: { mode: 'required', ca: '/unused', headers: HEADERS },
      },
      {
        routes: [
          { path: '/', upstreams: [apart.url] },
          { path: '/shared', upstreams: [apart.url, shared.url] },
        ],
      },
      { hosts: ['two.example.com'], upstreams: [apart.url] },
    ]
    const front = await Front.start(t, makeWire, { sites })
    const client = await RawClient.connect(t, front, { plain: true })
    for (const target of ['/shared', '/shared', '/']) {
      client.send(`GET ${target} HTTP/1.1`, `Host: ${HOST}`, ...SPOOFS)
      t.equal(statusOf(await client.response()), 200)
    }
    for (const request of [...shared.requests, ...apart.requests]) t.notMatch(request, /spoof/)
    t.equal(shared.requests.length, 1)

    client.send('GET / HTTP/1.1', 'Host: two.example.com', ...SPOOFS)
    t.equal(statusOf(await client.response()), 200)
    t.match(apart.requests.at(-1), /spoof/, 'elsewhere they are fields like any other')
  })

  t.test('nor does it pass in trailers', async (t) => {
    const { upstream, front } = await start(t, known)
    const client = await RawClient.connect(t, front)
    client.send('POST / HTTP/1.1', `Host: ${HOST}`, 'Transfer-Encoding: chunked', 'Trailer: X-Sum')
    client.write('1', 'a', '0', 'X-Sum: 1', ...SPOOFS, '', '')
    t.equal(statusOf(await client.response()), 200)
    t.match(upstream.requests[0], /x-sum: 1/i)
    t.notMatch(upstream.requests[0], /spoof/)

    const stream = connectHttp2(t, front).request(
      { ':authority': HOST, ':method': 'POST' },
      { waitForTrailers: true },
    )
    stream.on('wantTrailers', () =>
      stream.sendTrailers({ 'client-cert': 'spoof', x_client_subject: 'spoof' }),
    )
    stream.end('a')
    t.equal((await answerOf(stream)).status, 200)
    t.notMatch(upstream.requests[1], /spoof/)
  })

  t.test('Connection cannot take away what is said of the client', async (t) => {
    const { upstream, front } = await start(t, known)
    const client = await RawClient.connect(t, front)
    client.send('GET / HTTP/1.1', `Host: ${HOST}`, 'Connection: Client-Cert, X-Client-Subject')
    t.equal(statusOf(await client.response()), 200)
    t.strictSame(tellingOf(upstream), told)
  })

  t.test('where the site names no fields, nothing is said, by nobody', async (t) => {
    const { upstream, front } = await start(t, known, {})
    const client = await RawClient.connect(t, front)
    client.send('GET / HTTP/1.1', `Host: ${HOST}`, 'Client-Cert: :spoof:')
    t.equal(statusOf(await client.response()), 200)
    t.strictSame(tellingOf(upstream), [])
  })

  t.test('a certificate that no head has room for is refused', async (t) => {
    const names = Array.from({ length: 600 }, (_, index) => `DNS:${index}.names.example.com`).join()
    const large = await makeCertificate('/CN=large', `subjectAltName=${names}`)
    const { upstream, front } = await start(t, { policy: POLICY.id, certificate: large })
    const client = await RawClient.connect(t, front)
    client.send('GET / HTTP/1.1', `Host: ${HOST}`)
    t.equal(statusOf(await client.response()), 431)
    t.strictSame(upstream.requests, [])
  })

  t.test('connections that are stale end after what is in flight', async (t) => {
    let answer = (): void => {}
    const upstream = await RawUpstream.start(t, (socket) => {
      answer = () => socket.write(ok())
    })
    const sites = [
      { upstreams: [upstream.url], clientPolicy: POLICY },
      { hosts: ['two.example.com'], upstreams: [upstream.url] },
    ]
    const front = await Front.start(t, makeWire, { sites, client: known })
    const isStale = ({ client }: { client?: Client | undefined }) => client?.policy === POLICY.id
    const [idle, busy] = [await RawClient.connect(t, front), await RawClient.connect(t, front)]
    const session = connectHttp2(t, front)
    const stream = session.request({ ':authority': HOST })
    await until(() => upstream.requests.length === 1)
    const answerStream = answer
    busy.send('GET / HTTP/1.1', `Host: ${HOST}`)
    await until(() => upstream.requests.length === 2)

    const other = await RawClient.connect(t, front, { plain: true })
    front.wire.retire(isStale)
    await until(() => idle.closed)
    t.equal(busy.closed, false)
    answer()
    t.match(await busy.response(), /\r\nconnection: close\r\n/i)
    await until(() => busy.closed)
    answerStream()
    t.equal((await answerOf(stream)).status, 200)
    await until(() => session.closed)

    other.send('GET / HTTP/1.1', 'Host: two.example.com')
    await until(() => upstream.requests.length === 3)
    answer()
    t.notMatch(await other.response(), /\r\nconnection: close\r\n/i)
  })

  t.test('an upstream that asks for a certificate is shown that of the site', async (t) =>
    shownToUpstream(t, makeWire, 'https'),
  )

  t.test('421 for whoever was not asked by the policy of the site', async (t) => {
    for (const client of [undefined, { policy: 'another', certificate }]) {
      const { upstream, front } = await start(t, client)
      const raw = await RawClient.connect(t, front)
      raw.send('GET / HTTP/1.1', `Host: ${HOST}`)
      t.equal(statusOf(await raw.response()), 421)
      t.equal((await answerOf(connectHttp2(t, front).request({ ':authority': HOST }))).status, 421)
      t.strictSame(upstream.requests, [])
    }
  })
}

function startUpstream(t: Test): Promise<RawUpstream> {
  return RawUpstream.start(t, (socket) => socket.write(ok()))
}

/** Whom an upstream takes the proxy for: the one that the site names, another one after a reload, and nobody. */
export async function shownToUpstream(t: Test, makeWire: MakeWire, protocol: 'https' | 'h2'): Promise<void> {
  const clients = await Revoker.create()
  const own = await makeClient({ issuer: clients.authority, subject: '/CN=holdfast' })
  const other = await makeClient({ issuer: clients.authority, subject: '/CN=other' })
  const folder = t.testdir({ 'roots.pem': ROOT_PEM, 'own.pem': own.cert + own.key })
  const certificate = join(folder, 'own.pem')
  const url = await startAsking(t, clients.authority.certificatePem, protocol)
  const upstreamTls = { verify: true, roots: join(folder, 'roots.pem') }
  const sites = [{ upstreams: [url], upstreamTls: { ...upstreamTls, certificate } }]
  const front = await Front.start(t, makeWire, { sites })
  /** What the upstream says, or our status. */
  const ask = async (): Promise<string> => {
    const client = await RawClient.connect(t, front)
    client.send('GET / HTTP/1.1', `Host: ${HOST}`)
    const response = await client.response()
    return /x-told: (.*)\r/i.exec(response)?.[1] ?? String(statusOf(response))
  }
  t.equal(await ask(), 'CN=holdfast')
  writeFileSync(certificate, other.cert + other.key)
  front.reload({ sites })
  t.equal(await ask(), 'CN=other')
  front.reload({ sites: [{ upstreams: [url], upstreamTls }] })
  t.equal(await ask(), '502')
}

/** A server that says who its client is, in `X-Told`, and takes nobody else. */
async function startAsking(t: Test, ca: string, protocol: 'https' | 'h2'): Promise<string> {
  const options = { cert: CREDENTIALS.chainPem, key: CREDENTIALS.keyPem, ca, requestCert: true }
  const tell = (socket: TLSSocket) => ({ 'x-told': socket.getPeerX509Certificate()?.subject ?? '' })
  const server =
    protocol === 'h2'
      ? createHttp2Server(options, (request, response) =>
          response.writeHead(200, tell(request.stream.session?.socket as TLSSocket)).end(),
        )
      : createHttpsServer(options, (request, response) =>
          response.writeHead(200, tell(request.socket as TLSSocket)).end(),
        )
  await once(server.listen(0, '127.0.0.1'), 'listening')
  t.teardown(() => server.close())
  return `${protocol}://127.0.0.1:${portOf(server)}`
}

async function makeCertificate(subject: string, extensions = ''): Promise<X509Certificate> {
  const keyPem = await generateKeyPem('ecdsa-p256')
  return new X509Certificate(signOdd({ subject, extensions, keyPem }).certificatePem)
}
