/** Which certificate a client gets, and what it is told when there is none. */
import { generateKeyPairSync } from 'node:crypto'
import { once } from 'node:events'
import { isIP } from 'node:net'
import t from 'tap'
import { Certificate } from '../../src/cert/certificate.ts'
import { makeCertificate } from '../support/certificates.ts'
import { signOdd } from '../support/openssl.ts'
import { ask, dial, handshakes, openssl, refusal, startRig, until } from './rig.ts'

const VERSIONS = ['TLSv1.2', 'TLSv1.3'] as const

t.test('an exact name goes before a wildcard', async (t) => {
  const rig = await startRig(t)
  await rig.publish('*.example.com')
  await rig.publish('app.example.com')
  for (const maxVersion of VERSIONS) {
    const { names, connection } = await ask(rig, { servername: 'app.example.com', maxVersion })
    t.equal(names, 'DNS:app.example.com')
    t.equal(connection.serverName, 'app.example.com')
    t.equal((await ask(rig, { servername: 'other.example.com', maxVersion })).names, 'DNS:*.example.com')
  }
})

t.test('a wildcard covers one label', async (t) => {
  const rig = await startRig(t)
  await rig.publish('*.example.com')
  t.equal(await refusal(rig, { servername: 'a.b.example.com' }), 'ERR_SSL_TLSV1_UNRECOGNIZED_NAME')
  t.equal(await refusal(rig, { servername: 'example.com' }), 'ERR_SSL_TLSV1_UNRECOGNIZED_NAME')
})

t.test('a name is the same in any case', async (t) => {
  const rig = await startRig(t)
  await rig.publish('app.example.com')
  const { connection } = await ask(rig, { servername: 'APP.Example.COM' })
  t.equal(connection.serverName, 'app.example.com')
})

t.test('an internationalized name is found by its A-label', async (t) => {
  const rig = await startRig(t)
  await rig.publish('xn--bcher-kva.example')
  const { names } = await ask(rig, { servername: 'xn--bcher-kva.example' })
  t.equal(names, 'DNS:xn--bcher-kva.example')
})

t.test('a client without SNI gets the certificate of the address that it connected to', async (t) => {
  const https = ['127.0.0.1', '127.0.0.2', '::1'].map((host) => ({ host, port: 0 }))
  const rig = await startRig(t, { policy: { https } })
  for (const { host } of https) await rig.publish(host)
  for (const { host, port } of rig.listener.addresses().https) {
    const expected = isIP(host ?? '') === 6 ? 'IP Address:0:0:0:0:0:0:0:1' : `IP Address:${host}`
    for (const maxVersion of VERSIONS) {
      const { names, connection } = await ask(rig, { ...(host && { host }), port, maxVersion })
      t.equal(names, expected)
      t.equal(connection.serverName, undefined)
    }
  }
})

t.test('a dual-stack socket knows IPv4 addresses too', async (t) => {
  const rig = await startRig(t, { policy: { https: [{ host: undefined, port: 0 }] } })
  await rig.publish('127.0.0.1')
  const { names, connection } = await ask(rig, { host: '127.0.0.1' })
  t.equal(names, 'IP Address:127.0.0.1')
  t.equal(connection.clientAddress, '127.0.0.1')
})

t.test('an unknown name gets the alert unrecognized_name', async (t) => {
  const rig = await startRig(t)
  await rig.publish('app.example.com')
  for (const maxVersion of VERSIONS) {
    const code = await refusal(rig, { servername: 'unknown.example.com', maxVersion })
    t.equal(code, 'ERR_SSL_TLSV1_UNRECOGNIZED_NAME', maxVersion)
  }
  for (const version of ['-tls1_2', '-tls1_3']) {
    const output = await openssl(rig, '-servername', 'unknown.example.com', version, '-alpn', 'h2')
    t.match(output, /tlsv1 unrecognized name.*SSL alert number 112/, version)
  }
  await until(async () => (await handshakes(rig)).failed === 4)
})

t.test('a client without SNI is refused where no address has a certificate', async (t) => {
  const rig = await startRig(t)
  await rig.publish('app.example.com')
  for (const version of ['-tls1_2', '-tls1_3'])
    t.match(await openssl(rig, '-noservername', version), /SSL alert number 40/)
})

t.test('the default host serves unknown names and clients without one', async (t) => {
  const rig = await startRig(t, { policy: { defaultHost: 'app.example.com' } })
  await rig.publish('app.example.com')
  for (const maxVersion of VERSIONS) {
    const checkServerIdentity = () => undefined
    for (const servername of ['unknown.example.com', '']) {
      const { names, connection } = await ask(rig, { servername, maxVersion, checkServerIdentity })
      t.equal(names, 'DNS:app.example.com')
      t.equal(connection.serverName, servername || undefined)
    }
  }
})

t.test('a default host that has no certificate yet refuses by the alert', async (t) => {
  const rig = await startRig(t, { policy: { defaultHost: 'app.example.com' } })
  t.equal(await refusal(rig, { servername: 'unknown.example.com' }), 'ERR_SSL_TLSV1_UNRECOGNIZED_NAME')
})

t.test('a new certificate is served from the next handshake on, and old connections live on', async (t) => {
  const rig = await startRig(t, {
    policy: { defaultHost: 'app.example.com' },
    serve: (socket) => socket.pipe(socket),
  })
  const serials: (string | undefined)[] = []
  const sockets = []
  for (let round = 0; round < 2; round++) {
    await rig.publish('app.example.com')
    const expected = rig.inventory.find('app.example.com')?.serial
    for (const servername of ['app.example.com', '']) {
      const socket = await dial(rig, { servername, checkServerIdentity: () => undefined })
      t.equal(socket.getPeerX509Certificate()?.serialNumber.toLowerCase(), expected)
      sockets.push(socket)
    }
    serials.push(expected)
  }
  t.not(serials[0], serials[1])
  for (const socket of sockets) {
    socket.write('still here')
    const [chunk] = await once(socket, 'data')
    t.equal(String(chunk), 'still here')
  }
})

t.test('a withdrawn name is refused', async (t) => {
  const rig = await startRig(t)
  await rig.publish('app.example.com')
  t.equal(await refusal(rig, { servername: 'app.example.com' }), undefined)
  rig.inventory.withdraw('app.example.com')
  t.equal(await refusal(rig, { servername: 'app.example.com' }), 'ERR_SSL_TLSV1_UNRECOGNIZED_NAME')
})

t.test('a certificate that OpenSSL refuses harms nobody but its own clients', async (t) => {
  const rig = await startRig(t, { policy: { defaultHost: 'weak.example.com' } })
  rig.inventory.publish('weak.example.com', 'live', weakCertificate())
  await rig.publish('app.example.com')
  for (let round = 0; round < 2; round++) {
    t.ok(await refusal(rig, { servername: 'weak.example.com' }))
    t.equal(await refusal(rig, { servername: 'app.example.com' }), undefined)
  }
  t.match(
    rig.log.lines.filter(({ level }) => level === 50),
    [{ err: { message: /weak.example.com/ } }],
  )
})

t.test('ten thousand names are told apart', async (t) => {
  const rig = await startRig(t)
  const { authority } = rig
  const certificates = await Promise.all(
    Array.from({ length: 10 }, (_, index) => makeCertificate({ names: [`*.fleet${index}.test`], authority })),
  )
  for (let index = 0; index < 10_000; index++) {
    const certificate = certificates[index % 10]
    if (certificate) rig.inventory.publish(`host${index}.fleet${index % 10}.test`, 'live', certificate)
  }
  for (let index = 0; index < 10_000; index += 499) {
    const { names } = await ask(rig, { servername: `host${index}.fleet${index % 10}.test` })
    t.equal(names, `DNS:*.fleet${index % 10}.test`)
  }
})

/** RSA with 1024 bits: OpenSSL calls it too small. */
function weakCertificate(): Certificate {
  const { privateKey } = generateKeyPairSync('rsa', { modulusLength: 1024 })
  const keyPem = privateKey.export({ type: 'pkcs8', format: 'pem' }).toString()
  const subject = '/CN=weak.example.com'
  const { certificatePem } = signOdd({ subject, extensions: 'subjectAltName=DNS:weak.example.com', keyPem })
  return new Certificate(certificatePem, keyPem, 'test', 'a test')
}
