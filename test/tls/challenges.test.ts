/** TLS-ALPN-01 (RFC 8737) inline, beside the handshakes of everybody else. */
import { once } from 'node:events'
import t, { type Test } from 'tap'
import type { Challenge } from '../../src/challenge/solver.ts'
import { TlsAlpn01Solver } from '../../src/challenge/tls-alpn-01.ts'
import { SystemClock } from '../../src/time.ts'
import { ask, dial, openssl, type Rig, type RigOptions, refusal, startRig } from './rig.ts'

const servername = 'app.example.com'
const VERSIONS = ['TLSv1.2', 'TLSv1.3'] as const

/** What a CA validates with: any certificate goes, its content is what counts. */
const asCa = { servername, ALPNProtocols: ['acme-tls/1'], rejectUnauthorized: false }

t.test('a CA gets the challenge certificate, and the connection ends', async (t) => {
  for (const keyType of ['ecdsa-p256', 'rsa-2048'] as const) {
    for (const maxVersion of VERSIONS) {
      const rig = await startChallenged(t)
      await rig.publish(servername, { keyType })
      const socket = await dial(rig, { ...asCa, maxVersion })
      t.equal(socket.alpnProtocol, 'acme-tls/1')
      t.match(socket.getPeerX509Certificate(), { subject: 'CN=ACME challenge' }, `${keyType} ${maxVersion}`)
      socket.resume()
      await once(socket, 'end')
      t.strictSame(rig.handedOn, [])
    }
  }
})

t.test('a CA gets it before there is any certificate of that name', async (t) => {
  for (const maxVersion of VERSIONS) {
    const rig = await startChallenged(t)
    const socket = await dial(rig, { ...asCa, maxVersion })
    t.match(socket.getPeerX509Certificate(), { subject: 'CN=ACME challenge' }, maxVersion)
  }
})

t.test('a CA gets it where a default host would serve everybody else', async (t) => {
  for (const maxVersion of VERSIONS) {
    const rig = await startChallenged(t, { policy: { defaultHost: 'default.example.com' } })
    await rig.publish('default.example.com', { keyType: 'rsa-2048' })
    const socket = await dial(rig, { ...asCa, maxVersion })
    t.match(socket.getPeerX509Certificate(), { subject: 'CN=ACME challenge' }, maxVersion)
  }
})

t.test('a CA gets it whatever the case of the name', async (t) => {
  const rig = await startChallenged(t)
  t.equal(await refusal(rig, { ...asCa, servername: 'APP.example.COM' }), undefined)
})

t.test('openssl gets it', async (t) => {
  const rig = await startChallenged(t)
  for (const version of ['-tls1_2', '-tls1_3']) {
    const output = await openssl(rig, '-servername', servername, '-alpn', 'acme-tls/1', version)
    t.match(output, /ALPN protocol: acme-tls\/1/)
    t.match(output, /subject=CN = ACME challenge/)
  }
})

t.test('nobody else sees it while it is there', async (t) => {
  for (const maxVersion of VERSIONS) {
    const rig = await startChallenged(t)
    await rig.publish(servername)
    for (const ALPNProtocols of [undefined, ['h2'], ['http/1.1'], ['acme-tls/1', 'http/1.1']]) {
      const { names } = await ask(rig, { servername, maxVersion, ...(ALPNProtocols && { ALPNProtocols }) })
      t.equal(names, `DNS:${servername}`, `${maxVersion} ${ALPNProtocols}`)
    }
  }
})

t.test('nobody else is served before there is a certificate', async (t) => {
  const rig = await startChallenged(t)
  const unrecognized = 'ERR_SSL_TLSV1_UNRECOGNIZED_NAME'
  for (const maxVersion of VERSIONS) {
    const code = await refusal(rig, { servername, maxVersion, ALPNProtocols: ['h2'] })
    t.equal(code, unrecognized, maxVersion)
  }
  t.equal(await refusal(rig, { servername, maxVersion: 'TLSv1.3' }), unrecognized)
  // Under TLS 1.2 such a client tells too late that it is no CA: it gets a certificate that it cannot trust.
  t.ok(await refusal(rig, { servername, maxVersion: 'TLSv1.2' }))
  t.strictSame(rig.handedOn, [])
})

t.test('once it is taken away, a CA is refused', async (t) => {
  const rig = await startChallenged(t)
  await rig.publish(servername)
  await rig.cleanUp()
  for (const maxVersion of VERSIONS)
    t.equal(await refusal(rig, { ...asCa, maxVersion }), 'ERR_SSL_TLSV1_ALERT_NO_APPLICATION_PROTOCOL')
})

interface ChallengedRig extends Rig {
  cleanUp(): Promise<void>
}

/** A challenge is presented for `servername`. */
async function startChallenged(t: Test, options: RigOptions = {}): Promise<ChallengedRig> {
  const solver = new TlsAlpn01Solver(new SystemClock())
  const challenge: Challenge = {
    type: solver.type,
    name: servername,
    token: 'token',
    keyAuthorization: 'token.thumbprint',
  }
  await solver.present(challenge)
  const rig = await startRig(t, { ...options, challenge: (name, keyType) => solver.find(name, keyType) })
  return { ...rig, cleanUp: () => solver.cleanUp(challenge) }
}
