/** Versions, suites, key exchange, ALPN and resumption. */
import { once } from 'node:events'
import t from 'tap'
import { ask, dial, handshakes, openssl, type Rig, refusal, startRig } from './rig.ts'

const servername = 'app.example.com'
const VERSIONS = ['TLSv1.2', 'TLSv1.3'] as const

t.test('ALPN: h2 before http/1.1, and nothing else', async (t) => {
  const rig = await startRig(t)
  await rig.publish(servername)
  const chosen: [string[], string | false][] = [
    [['h2', 'http/1.1'], 'h2'],
    [['http/1.1', 'h2'], 'h2'],
    [['h2'], 'h2'],
    [['http/1.1'], 'http/1.1'],
    [['spdy/3', 'http/1.1', 'http/1.0'], 'http/1.1'],
  ]
  for (const maxVersion of VERSIONS) {
    for (const [ALPNProtocols, protocol] of chosen) {
      const { socket, connection } = await ask(rig, { servername, maxVersion, ALPNProtocols })
      t.equal(socket.alpnProtocol, protocol, `${maxVersion} ${ALPNProtocols}`)
      t.equal(connection.protocol, protocol)
    }
  }
})

t.test('a client without ALPN speaks HTTP/1.1', async (t) => {
  const rig = await startRig(t)
  await rig.publish(servername)
  for (const maxVersion of VERSIONS) {
    const { socket, connection } = await ask(rig, { servername, maxVersion })
    t.equal(socket.alpnProtocol, false)
    t.equal(connection.protocol, 'http/1.1')
  }
})

t.test('a client that offers only unknown protocols gets no_application_protocol', async (t) => {
  const rig = await startRig(t)
  await rig.publish(servername)
  for (const maxVersion of VERSIONS) {
    for (const ALPNProtocols of [['smtp'], ['http/1.0', 'h3'], ['acme-tls/1'], ['acme-tls/1', 'smtp']]) {
      const code = await refusal(rig, { servername, maxVersion, ALPNProtocols })
      t.equal(code, 'ERR_SSL_TLSV1_ALERT_NO_APPLICATION_PROTOCOL', `${maxVersion} ${ALPNProtocols}`)
    }
  }
})

t.test('TLS 1.1 is refused, and 1.2 where 1.3 is the oldest', async (t) => {
  const rig = await startRig(t)
  await rig.publish(servername)
  const old = { servername, minVersion: 'TLSv1', maxVersion: 'TLSv1.1', ciphers: 'ALL@SECLEVEL=0' } as const
  t.equal(await refusal(rig, old), 'ERR_SSL_TLSV1_ALERT_PROTOCOL_VERSION')
  t.equal(await refusal(rig, { servername, maxVersion: 'TLSv1.2' }), undefined)

  const strict = await startRig(t, { policy: { minVersion: '1.3' } })
  await strict.publish(servername)
  t.equal(
    await refusal(strict, { servername, maxVersion: 'TLSv1.2' }),
    'ERR_SSL_TLSV1_ALERT_PROTOCOL_VERSION',
  )
  t.equal((await dial(strict, { servername })).getProtocol(), 'TLSv1.3')
})

t.test('key exchange withstands quantum computers where the client can', async (t) => {
  const rig = await startRig(t)
  await rig.publish(servername)
  for (const ecdhCurve of ['X25519MLKEM768', 'X25519', 'P-256', 'P-384'])
    t.equal(await refusal(rig, { servername, ecdhCurve }), undefined, ecdhCurve)
  t.equal(await refusal(rig, { servername, ecdhCurve: 'P-521' }), 'ERR_SSL_SSL/TLS_ALERT_HANDSHAKE_FAILURE')
})

t.test('the server chooses the suite, but for clients that prefer ChaCha20', async (t) => {
  const rig = await startRig(t)
  await rig.publish(servername)
  const suites: [string, string][] = [
    ['ECDHE-ECDSA-AES256-GCM-SHA384:ECDHE-ECDSA-AES128-GCM-SHA256', 'ECDHE-ECDSA-AES128-GCM-SHA256'],
    ['ECDHE-ECDSA-AES256-GCM-SHA384:ECDHE-ECDSA-CHACHA20-POLY1305', 'ECDHE-ECDSA-AES256-GCM-SHA384'],
    ['ECDHE-ECDSA-CHACHA20-POLY1305:ECDHE-ECDSA-AES256-GCM-SHA384', 'ECDHE-ECDSA-CHACHA20-POLY1305'],
    ['TLS_AES_256_GCM_SHA384:TLS_AES_128_GCM_SHA256', 'TLS_AES_128_GCM_SHA256'],
    ['TLS_CHACHA20_POLY1305_SHA256:TLS_AES_128_GCM_SHA256', 'TLS_CHACHA20_POLY1305_SHA256'],
  ]
  for (const [ciphers, chosen] of suites) {
    const maxVersion = ciphers.startsWith('TLS_') ? 'TLSv1.3' : 'TLSv1.2'
    t.equal((await dial(rig, { servername, ciphers, maxVersion })).getCipher().name, chosen)
  }
})

t.test('suites without forward secrecy or AEAD are refused', async (t) => {
  const rig = await startRig(t)
  await rig.publish(servername, { keyType: 'rsa-2048' })
  for (const ciphers of ['AES128-GCM-SHA256', 'ECDHE-RSA-AES128-SHA256', 'DHE-RSA-AES128-GCM-SHA256']) {
    const code = await refusal(rig, { servername, ciphers, maxVersion: 'TLSv1.2' })
    t.equal(code, 'ERR_SSL_SSL/TLS_ALERT_HANDSHAKE_FAILURE', ciphers)
  }
})

t.test('RSA certificates are served', async (t) => {
  const rig = await startRig(t)
  await rig.publish(servername, { keyType: 'rsa-2048' })
  for (const maxVersion of VERSIONS) t.equal(await refusal(rig, { servername, maxVersion }), undefined)
})

t.test('sessions are resumed, whatever certificate the address has by then', async (t) => {
  for (const maxVersion of VERSIONS) {
    const rig = await startRig(t)
    await rig.publish(servername)
    const session = await sessionOf(rig, maxVersion)
    for (let round = 0; round < 2; round++) {
      const socket = await dial(rig, { servername, maxVersion, session })
      t.ok(socket.isSessionReused(), maxVersion)
      await rig.publish('127.0.0.1')
    }
    t.match(await handshakes(rig), { full: 1, resumed: 2 })
  }
})

t.test('a resumed session tells its name under TLS 1.3 only', async (t) => {
  const rig = await startRig(t)
  await rig.publish(servername)
  for (const [maxVersion, serverName] of [
    ['TLSv1.3', servername],
    ['TLSv1.2', undefined],
  ] as const) {
    const session = await sessionOf(rig, maxVersion)
    const { connection } = await ask(rig, { servername, maxVersion, session })
    t.equal(connection.serverName, serverName)
  }
})

t.test('openssl resumes sessions', async (t) => {
  const rig = await startRig(t)
  await rig.publish(servername)
  const output = await openssl(rig, '-servername', servername, '-tls1_2', '-reconnect')
  t.equal(output.match(/^Reused, TLSv1.2/gm)?.length, 5)
})

t.test('renegotiation is refused', async (t) => {
  const rig = await startRig(t, { serve: (socket) => socket.pipe(socket) })
  await rig.publish(servername)
  const socket = await dial(rig, { servername, maxVersion: 'TLSv1.2' })
  socket.renegotiate({}, () => {})
  const [error] = await once(socket, 'error')
  t.equal(error.code, 'ERR_SSL_NO_RENEGOTIATION')
})

/** Under TLS 1.3 tickets follow the handshake. */
async function sessionOf(rig: Rig, maxVersion: 'TLSv1.2' | 'TLSv1.3'): Promise<Buffer> {
  const socket = await dial(rig, { servername, maxVersion })
  if (maxVersion === 'TLSv1.2') return socket.getSession() as Buffer
  const [session] = await once(socket, 'session')
  return session
}
