/** Against real Pebbles: 2.4 of Debian 12, and 2.10, which knows profiles and renewal information. */
import { X509Certificate } from 'node:crypto'
import t from 'tap'
import type { Span } from '../../src/attested-clock.ts'
import { DAY, HOUR, SystemClock } from '../../src/time.ts'
import { exchange } from '../peers/exchange.ts'
import { issueErrorOf, requestFor, startWorld } from './acme-world.ts'
import { issuerContract } from './contract.ts'

const world = await startWorld(t)
const forever = new AbortController().signal

for (const version of ['2.4', '2.10'] as const) {
  t.test(`Pebble ${version}`, async (t) => {
    const pebble = await world.startPebble({ version })
    const issuer = await world.issuer(pebble)
    const roots = [new X509Certificate(await pebble.root())]

    // It takes time, and the versions differ in what it does not look at.
    if (version === '2.10')
      t.test('issuer contract', (t) => issuerContract(t, async () => ({ issuer, roots })))

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

    t.test('revokes by the key of the certificate what an account ordered that is gone', async (t) => {
      const certificate = await issuer.issue(requestFor(['orphan.example.com']), forever)
      await issuer.deactivateAccount()
      await issuer.revoke(certificate, 1)
      const url = `${pebble.managementUrl}/cert-status-by-serial/${certificate.serial}`
      const { body } = await exchange(url, { ca: pebble.minicaPem })
      t.match(JSON.parse(body.toString()), { Status: 'Revoked', Reason: 1 })
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

t.test("a clock that is behind the CA's", async (t) => {
  const pebble = await world.startPebble()
  const behind = (ms: number): SystemClock => Object.assign(new SystemClock(), { now: () => Date.now() - ms })

  t.test('by an hour: the certificate is kept, and the log asks after the clock', async (t) => {
    const clock = behind(HOUR)
    const issuer = await world.issuer(pebble, { clock })
    const certificate = await issuer.issue(requestFor(['behind.example.com']), forever)
    t.notOk(certificate.isValidAt(clock.now()))
    t.match(world.log.warnings().at(-1)?.msg, /not valid for another (1h|59m).* is the clock right\?$/)
  })

  t.test('by a month, and stays so: the certificate is refused', async (t) => {
    const issuer = await world.issuer(pebble, { clock: behind(30 * DAY) })
    const error = await issueErrorOf(issuer.issue(requestFor(['far-behind.example.com']), forever))
    t.match(error, { code: 'CA_BAD_CERTIFICATE', message: /is the clock right/ })
  })

  t.test('by a month, and is put right by what the CA has issued: the certificate is kept', async (t) => {
    let behindMs = 30 * DAY
    const clock = Object.assign(new SystemClock(), { now: () => Date.now() - behindMs })
    const vouched: Span[] = []
    const onVouched = (issued: Span): void => {
      vouched.push(issued)
      behindMs = 0
    }
    const issuer = await world.issuer(pebble, { clock, onVouched })
    const certificate = await issuer.issue(requestFor(['put-right.example.com']), forever)
    t.same(vouched, [{ from: certificate.notBefore, until: certificate.notBefore + 2 * DAY }])
    await issuer.issue(requestFor(['right.example.com']), forever)
    t.equal(vouched.length, 1, 'of what a clock that is right does not speak against nothing is told')
  })
})
