import t from 'tap'
import { fetchDirectory } from '../../src/ca/acme-directory.ts'
import { EndpointTrust } from '../../src/ca/acme-endpoint.ts'
import { CaHttp } from '../../src/ca/acme-http.ts'
import { DAY, HOUR, SECOND, SystemClock } from '../../src/time.ts'
import { requestFor, startWorld } from './acme-world.ts'
import { json, startLyingCa } from './lying-ca.ts'

const world = await startWorld(t)
const forever = new AbortController().signal

t.test('profiles and renewal information', async (t) => {
  const profiles = {
    default: { description: 'The usual', validityPeriod: 90 * 86_400 },
    short: { description: 'A day', validityPeriod: 86_400 },
  }
  const pebble = await world.startPebble({ config: { profiles } })
  const old = await world.startPebble({ version: '2.4' })
  const issue = async (options: Parameters<typeof world.issuer>[1]) =>
    (await world.issuer(pebble, options)).issue(requestFor(['app.example.com']), forever)

  t.test('the profile of the config is asked for', async (t) => {
    for (const [profile, days] of [
      ['short', 1],
      ['default', 90],
    ] as const) {
      const { notBefore, notAfter } = await issue({ profile })
      t.equal(Math.round((notAfter - notBefore) / DAY), days)
    }
  })

  t.test('a profile that the CA does not have is done without, and told', async (t) => {
    await t.resolves(issue({ profile: 'tlsserver' }))
    t.match(world.log.warnings().at(-1)?.msg, /^pebble: has no profile tlsserver \(it has /)
    const oldIssuer = await world.issuer(old, { profile: 'tlsserver' })
    await t.resolves(oldIssuer.issue(requestFor(['app.example.com']), forever))
    t.match(world.log.warnings().at(-1)?.msg, 'pebble: has no profile tlsserver (it has none)')
  })

  t.test('the window is what the CA says', async (t) => {
    const issuer = await world.issuer(pebble)
    const certificate = await issuer.issue(requestFor(['app.example.com']), forever)
    const window = { start: new Date('2030-01-01T00:00:00Z'), end: new Date('2030-01-02T00:00:00Z') }
    await pebble.setRenewalInfo(certificate.leaf.toString(), window)
    const info = await issuer.renewalInfo(certificate, forever)
    t.equal(info?.windowStart, window.start.getTime())
    t.equal(info?.windowEnd, window.end.getTime())
    t.equal(info?.pollAgainMs, 6 * HOUR, 'Pebble asks for 6 h')
  })

  t.test('a CA without renewal information gives none', async (t) => {
    const issuer = await world.issuer(old)
    const certificate = await issuer.issue(requestFor(['app.example.com']), forever)
    t.equal(await issuer.renewalInfo(certificate, forever), undefined)
  })

  t.test('a renewal says what it replaces, and is ordered anew where the CA refuses that', async (t) => {
    const issuer = await world.issuer(pebble)
    const { account, ariId = '' } = await issuer.issue(requestFor(['app.example.com']), forever)
    t.not(ariId, '')
    const request = requestFor(['app.example.com'], { replaces: { ariId, account } })
    const isRefused = () =>
      world.log.lines.some(({ msg }) => msg.includes('refuses the order as a replacement'))
    await issuer.issue(request, forever)
    t.notOk(isRefused())
    await t.resolves(issuer.issue(request, forever), 'it is replaced already')
    t.ok(isRefused())
  })

  t.test('a renewal by another account than the one that ordered says nothing of it', async (t) => {
    const first = await world.issuer(pebble)
    const { account, ariId = '' } = await first.issue(requestFor(['other.example.com']), forever)
    const another = await world.issuer(pebble)
    const linesBefore = world.log.lines.length
    const renewed = await another.issue(
      requestFor(['other.example.com'], { replaces: { ariId, account } }),
      forever,
    )
    t.not(renewed.account, account)
    const refused = world.log.lines.slice(linesBefore).some(({ msg }) => msg.includes('as a replacement'))
    t.notOk(refused, 'the CA had nothing to refuse')
  })
})

t.test('the time of a directory that a cache has kept counts from when it was kept', async (t) => {
  const kept = new Date(Date.now() - DAY).toUTCString()
  const ca = await startLyingCa(t, (_request, response) => {
    const urls = Object.fromEntries(
      ['newNonce', 'newAccount', 'newOrder', 'revokeCert'].map((name) => [name, `${ca.origin}/${name}`]),
    )
    json(response, urls, { date: kept, age: String(DAY / SECOND) })
  })
  const http = new CaHttp({
    ca: 'kept',
    trust: new EndpointTrust(ca.rootPem),
    exchangeLimitMs: 8 * SECOND,
    clock: new SystemClock(),
  })
  t.teardown(() => http.close())
  const { date } = await fetchDirectory(http, `${ca.origin}/dir`, forever)
  t.ok(Math.abs((date ?? 0) - Date.now()) < HOUR)
})

t.test('what the directory says of the CA', async (t) => {
  const pebble = await world.startPebble({ config: { externalAccountBindingRequired: true } })
  const { externalAccountRequired, caaIdentities, date } = await (await world.issuer(pebble)).survey(forever)
  t.equal(externalAccountRequired, true)
  t.same(caaIdentities, ['pebble.letsencrypt.org'])
  t.ok(Math.abs((date ?? 0) - Date.now()) < HOUR)
})
