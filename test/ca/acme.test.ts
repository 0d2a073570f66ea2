/** Against real Pebbles: 2.4 of Debian 12, and 2.10, which knows profiles and renewal information. */
import { X509Certificate } from 'node:crypto'
import t from 'tap'
import { keyTypeOf } from '../../src/cert/x509.ts'
import { exchange } from '../peers/exchange.ts'
import { requestFor, startWorld } from './acme-world.ts'

const world = await startWorld(t)
const forever = new AbortController().signal

for (const version of ['2.4', '2.10'] as const) {
  t.test(`Pebble ${version}`, async (t) => {
    const pebble = await world.startPebble({ version })
    const issuer = await world.issuer(pebble)

    for (const challenge of ['http-01', 'tls-alpn-01'] as const) {
      t.test(`issues for several names by ${challenge}`, async (t) => {
        const names = ['one.example.com', 'two.example.com']
        const certificate = await issuer.issue(requestFor(names, { challenges: [challenge] }), forever)
        t.same(certificate.names, names)
        t.equal(certificate.source, 'pebble')
        t.ok(certificate.isValidAt(Date.now()))
        t.ok(certificate.chain[1]?.verify(new X509Certificate(await pebble.root()).publicKey))
      })

      t.test(`issues for an IP address by ${challenge}`, async (t) => {
        const request = requestFor(['127.0.0.1'], { challenges: [challenge] })
        const certificate = await issuer.issue(request, forever)
        t.same(certificate.names, ['127.0.0.1'])
      })
    }

    t.test('is probed by directory and nonce', async (t) => {
      await t.resolves(issuer.probe(forever))
    })

    t.test('revokes, also what is revoked already', async (t) => {
      const certificate = await issuer.issue(requestFor(['revoked.example.com']), forever)
      await issuer.revoke(certificate, 4)
      await issuer.revoke(certificate, 4)
      const url = `${pebble.managementUrl}/cert-status-by-serial/${certificate.serial}`
      const { body } = await exchange(url, { ca: pebble.minicaPem })
      t.match(JSON.parse(body.toString()), { Status: 'Revoked', Reason: 4 })
    })
  })
}

t.test('makes a fresh key of the type asked for', async (t) => {
  const issuer = await world.issuer(await world.startPebble())
  const keys = new Set<string>()
  for (const keyType of ['ecdsa-p256', 'ecdsa-p256', 'ecdsa-p384', 'rsa-2048'] as const) {
    const { keyPem } = await issuer.issue(requestFor(['app.example.com'], { keyType }), forever)
    t.equal(keyTypeOf(keyPem), keyType)
    keys.add(keyPem)
  }
  t.equal(keys.size, 4)
})
