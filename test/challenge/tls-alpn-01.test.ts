import { createHash, X509Certificate } from 'node:crypto'
import { once } from 'node:events'
import type { AddressInfo } from 'node:net'
import {
  connect,
  createSecureContext,
  createServer,
  type SecureContext,
  type SecureVersion,
  type TLSSocket,
} from 'node:tls'
import t from 'tap'
import { createAlpnCertificate } from '../../src/cert/signing.ts'
import { generateKeyPem } from '../../src/cert/x509.ts'
import { type AlpnKeyType, TlsAlpn01Solver } from '../../src/challenge/tls-alpn-01.ts'
import { VirtualClock } from '../../src/commands/simulate/virtual-clock.ts'
import { SystemClock } from '../../src/time.ts'
import { challengeOf, testSolverContract } from './contract.ts'

const create = () => new TlsAlpn01Solver(new SystemClock())

const digestOf = (keyAuthorization: string) => createHash('sha256').update(keyAuthorization).digest()

testSolverContract({
  create,
  convinces: (solver, { name, keyAuthorization }) => {
    const answer = solver.find(name)
    return (
      answer !== undefined &&
      new X509Certificate(answer.certificatePem).raw.includes(digestOf(keyAuthorization))
    )
  },
})

t.test('the certificate holds its one name, is valid now, and belongs to its key', async (t) => {
  const clock = new VirtualClock()
  const solver = new TlsAlpn01Solver(clock)
  await solver.present(challengeOf(solver))
  for (const keyType of ['ec', 'rsa'] as const) {
    const answer = solver.find('app.example.com', keyType)
    const certificate = new X509Certificate(answer?.certificatePem ?? '')
    t.equal(certificate.subjectAltName, 'DNS:app.example.com')
    t.equal(certificate.publicKey.asymmetricKeyType, keyType)
    t.ok(Date.parse(certificate.validFrom) <= clock.now() && Date.parse(certificate.validTo) > clock.now())
    t.doesNotThrow(() => createSecureContext({ key: answer?.keyPem, cert: answer?.certificatePem }))
  }
})

t.test('of two challenges for one name, the newer is answered', async (t) => {
  const solver = create()
  const [older, newer] = [challengeOf(solver), challengeOf(solver)]
  await solver.present(older)
  await solver.present(newer)
  const answer = solver.find('app.example.com')
  t.ok(new X509Certificate(answer?.certificatePem ?? '').raw.includes(digestOf(newer.keyAuthorization)))
})

t.test('an IP address is found by the name of its reverse lookup', async (t) => {
  const reverseNames: Record<string, string> = {
    '192.0.2.1': '1.2.0.192.in-addr.arpa',
    '2001:db8::1': '1.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.8.b.d.0.1.0.0.2.ip6.arpa',
    '::1': '1.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.ip6.arpa',
    'fe80::': '0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.8.e.f.ip6.arpa',
    '2001:db8:1:2:3:4:5:6': '6.0.0.0.5.0.0.0.4.0.0.0.3.0.0.0.2.0.0.0.1.0.0.0.8.b.d.0.1.0.0.2.ip6.arpa',
  }
  for (const [address, reverseName] of Object.entries(reverseNames)) {
    const solver = create()
    const challenge = challengeOf(solver, address)
    await solver.present(challenge)
    const certificate = new X509Certificate(solver.find(reverseName)?.certificatePem ?? '')
    t.ok(certificate.checkIP(address), address)
    t.equal(solver.find(address), undefined)
    await solver.cleanUp(challenge)
    t.equal(solver.find(reverseName), undefined)
  }
})

t.test('a real handshake gets it, whatever the live key and the TLS version', async (t) => {
  const solver = create()
  const challenge = challengeOf(solver)
  await solver.present(challenge)
  for (const keyType of ['ec', 'rsa'] as const) {
    for (const version of ['TLSv1.2', 'TLSv1.3'] as const) {
      const certificate = await handshake(solver, keyType, version)
      t.ok(certificate?.raw.includes(digestOf(challenge.keyAuthorization)), `${keyType} ${version}`)
    }
  }
})

/** Answers as the listener does: the ALPN callback decides, the SNI callback leaves what was decided alone. */
async function handshake(
  solver: TlsAlpn01Solver,
  keyType: AlpnKeyType,
  version: SecureVersion,
): Promise<X509Certificate | undefined> {
  const live = await liveContext(keyType)
  let challenged: SecureContext | undefined
  const server = createServer({
    SNICallback: (_name, done) => done(null, challenged ?? live),
    ALPNCallback({ servername }) {
      const answer = solver.find(servername, keyType)
      challenged = createSecureContext({ key: answer?.keyPem, cert: answer?.certificatePem })
      ;(this as unknown as TLSSocket).setKeyCert(challenged)
      return 'acme-tls/1'
    },
  })
  await once(server.listen(0, '127.0.0.1'), 'listening')
  const socket = connect({
    host: '127.0.0.1',
    port: (server.address() as AddressInfo).port,
    servername: 'app.example.com',
    ALPNProtocols: ['acme-tls/1'],
    minVersion: version,
    maxVersion: version,
    rejectUnauthorized: false,
  })
  try {
    await once(socket, 'secureConnect')
    return socket.getPeerX509Certificate()
  } finally {
    socket.destroy()
    server.close()
  }
}

/** Any self-signed certificate will do. */
async function liveContext(keyType: AlpnKeyType): Promise<SecureContext> {
  const key = await generateKeyPem(keyType === 'ec' ? 'ecdsa-p256' : 'rsa-2048')
  return createSecureContext({ key, cert: await createAlpnCertificate('live.example', '', key, Date.now()) })
}
