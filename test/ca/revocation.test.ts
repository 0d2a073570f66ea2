import { once } from 'node:events'
import { createServer, type IncomingMessage, type RequestListener, type ServerResponse } from 'node:http'
import type { AddressInfo } from 'node:net'
import t, { type Test } from 'tap'
import { Revocations } from '../../src/ca/revocation.ts'
import { Certificate } from '../../src/cert/certificate.ts'
import { VirtualClock } from '../../src/commands/simulate/virtual-clock.ts'
import { type Clock, DAY, HOUR, MINUTE, SECOND, SystemClock } from '../../src/time.ts'
import { freePort } from '../peers/process.ts'
import { memoryLog } from '../support/log.ts'
import { type CrlOptions, Revoker } from '../support/revoker.ts'
import { startLyingCa } from './lying-ca.ts'

const forever = new AbortController().signal

function makeRevocations(clock: Clock = new SystemClock()) {
  const log = memoryLog()
  const revocations = new Revocations({ clock, log: log.log })
  const isRevoked = (certificate: Certificate, signal = forever) => revocations.isRevoked(certificate, signal)
  const reasons = () => log.lines.map(({ msg }) => msg).join('\n')
  return { isRevoked, reasons, log }
}

/** An HTTP server whose answers can be changed; tells the paths that were asked for. */
async function startServer(t: Test) {
  const asked: string[] = []
  const answers = new Map<string, Buffer | RequestListener>()
  const server = createServer((request: IncomingMessage, response: ServerResponse) => {
    const path = request.url ?? ''
    asked.push(path)
    const answer = answers.get(path)
    if (typeof answer === 'function') answer(request, response)
    else response.writeHead(answer === undefined ? 404 : 200).end(answer)
  })
  t.teardown(() => {
    server.close()
    server.closeAllConnections()
  })
  await once(server.listen(0, '127.0.0.1'), 'listening')
  const origin = `http://127.0.0.1:${(server.address() as AddressInfo).port}`
  return { origin, asked, answers, server }
}

/** A CA, its server, and a certificate that names the paths as places of its list. */
async function makeWorld(t: Test, paths: readonly string[] = ['/crl'], more = '') {
  const revoker = await Revoker.create()
  const web = await startServer(t)
  const urls = paths.map((path) => `URI:${web.origin}${path}`)
  const points = urls.length === 0 ? '' : `crlDistributionPoints=${urls.join(',')}\n`
  const issue = () => revoker.issue(points + more)
  const certificate = await issue()
  const publish = (path: string, options?: CrlOptions) => web.answers.set(path, revoker.crl(options))
  return { revoker, web, certificate, issue, publish }
}

const ocspAt = (port: number) => `authorityInfoAccess=OCSP;URI:http://127.0.0.1:${port}/`

t.test('a certificate on the list of its CA is revoked, another is not', async (t) => {
  const { revoker, certificate, issue, publish } = await makeWorld(t)
  revoker.record(certificate.serial)
  publish('/crl')
  const { isRevoked } = makeRevocations()
  t.equal(await isRevoked(certificate), true)
  t.equal(await isRevoked(await issue()), false)
})

t.test('a certificate without its issuer cannot be told, nor one that names no source', async (t) => {
  const { certificate, publish, web } = await makeWorld(t)
  publish('/crl')
  const { isRevoked } = makeRevocations()
  const alone = new Certificate(certificate.leaf.toString(), certificate.keyPem, 'some-ca', 'a test')
  t.equal(await isRevoked(alone), undefined)
  const other = await makeWorld(t, [])
  t.equal(await isRevoked(other.certificate), undefined)
  t.same(web.asked, [])
})

t.test('tries one place after the other, and only the web', async (t) => {
  const revoker = await Revoker.create()
  const web = await startServer(t)
  const places = ['ldap://127.0.0.1/crl', `${web.origin}/gone`, `${web.origin}/html`, `${web.origin}/crl`]
  const certificate = await revoker.issue(
    `crlDistributionPoints=${places.map((url) => `URI:${url}`).join(',')}`,
  )
  revoker.record(certificate.serial)
  web.answers.set('/crl', revoker.crl())
  web.answers.set('/html', Buffer.from('<html>Buy this domain</html>'))
  const { isRevoked, reasons } = makeRevocations()
  t.equal(await isRevoked(certificate), true)
  t.same(web.asked, ['/gone', '/html', '/crl'])
  t.match(reasons(), /\/gone cannot be told: http:\S+ answers with status 404/)
  t.match(reasons(), /\/html cannot be told: CRL: neither DER nor PEM/)
})

for (const [what, make] of [
  ['a stale list', (revoker) => revoker.crl({ nextUpdate: Date.now() - HOUR, thisUpdate: Date.now() - DAY })],
  ['a list of the future', (revoker) => revoker.crl({ thisUpdate: Date.now() + HOUR })],
  ['half a list', (revoker) => revoker.crl().subarray(0, 200)],
  ['nothing', () => Buffer.alloc(0)],
] as [string, (revoker: Revoker) => Buffer][]) {
  t.test(`${what} proves nothing`, async (t) => {
    const { revoker, certificate, web } = await makeWorld(t)
    revoker.record(certificate.serial)
    web.answers.set('/crl', make(revoker))
    t.equal(await makeRevocations().isRevoked(certificate), undefined)
  })
}

t.test('a list that another signed proves nothing', async (t) => {
  const { certificate, web } = await makeWorld(t)
  const forger = await Revoker.create()
  forger.record(certificate.serial)
  web.answers.set('/crl', forger.crl())
  const { isRevoked, reasons } = makeRevocations()
  t.equal(await isRevoked(certificate), undefined)
  t.match(reasons(), /signature is not by the issuer/)
})

t.test('another of the several lists of its CA proves nothing', async (t) => {
  const { certificate, publish, web } = await makeWorld(t)
  const part = (url: string) =>
    `issuingDistributionPoint=critical,@idp\n[idp]\nfullname=URI:${url}\nonlyuser=TRUE`
  publish('/crl', { extensions: part(`${web.origin}/other`) })
  t.equal(await makeRevocations().isRevoked(certificate), undefined)
  publish('/crl', { extensions: part(`${web.origin}/crl`) })
  t.equal(await makeRevocations().isRevoked(certificate), false)
})

t.test('redirects are not followed', async (t) => {
  const { certificate, publish, web } = await makeWorld(t)
  publish('/elsewhere')
  web.answers.set('/crl', (_, response) => response.writeHead(302, { location: '/elsewhere' }).end())
  const { isRevoked, reasons } = makeRevocations()
  t.equal(await isRevoked(certificate), undefined)
  t.same(web.asked, ['/crl'])
  t.match(reasons(), /status 302/)
})

t.test('an endless list is left', async (t) => {
  const { certificate, web } = await makeWorld(t)
  let sentBytes = 0
  const closed = new Promise<void>((resolve) => {
    web.answers.set('/crl', (_, response) => {
      response.once('close', resolve)
      const chunk = Buffer.alloc(256 * 1024)
      const more = (): void => {
        while (!response.destroyed && response.write(chunk)) sentBytes += chunk.length
        response.once('drain', more)
      }
      more()
    })
  })
  const { isRevoked, reasons } = makeRevocations()
  t.equal(await isRevoked(certificate), undefined)
  await closed
  t.ok(sentBytes < 64 * 1024 * 1024)
  t.match(reasons(), /more than 16777216 bytes/)
})

t.test('a list is fetched once for all certificates of a review, and anew for the next', async (t) => {
  const clock = new VirtualClock(Date.now())
  const { revoker, certificate, issue, publish, web } = await makeWorld(t)
  publish('/crl')
  const { isRevoked } = makeRevocations(clock)
  t.equal(await isRevoked(certificate), false)
  for (let count = 0; count < 5; count++) t.equal(await isRevoked(await issue()), false)
  t.same(web.asked, ['/crl'])
  revoker.record(certificate.serial)
  publish('/crl')
  await clock.advance(30 * MINUTE)
  t.equal(await isRevoked(certificate), true)
  t.same(web.asked, ['/crl', '/crl'])
})

t.test('a list that is kept is not believed past its time', async (t) => {
  const clock = new VirtualClock(Date.now())
  const { certificate, publish, web } = await makeWorld(t)
  publish('/crl', { nextUpdate: Date.now() + 10 * MINUTE })
  const { isRevoked } = makeRevocations(clock)
  t.equal(await isRevoked(certificate), false)
  clock.jump(HOUR)
  t.equal(await isRevoked(certificate), undefined)
  t.same(web.asked, ['/crl', '/crl'])
})

t.test('two CAs with one place for their lists are not mixed up', async (t) => {
  const { certificate, publish, web } = await makeWorld(t)
  publish('/crl')
  const other = await Revoker.create()
  const stranger = await other.issue(`crlDistributionPoints=URI:${web.origin}/crl`)
  other.record(stranger.serial)
  const { isRevoked } = makeRevocations()
  t.equal(await isRevoked(certificate), false)
  web.answers.set('/crl', other.crl())
  t.equal(await isRevoked(stranger), true)
})

t.test('lists beyond the bound are let go, the longest unused first', async (t) => {
  const revoker = await Revoker.create()
  const web = await startServer(t)
  const list = revoker.crl()
  // Four of these fit.
  const padded = Buffer.concat([
    Buffer.alloc(15 * 1024 * 1024, '\n'),
    Buffer.from(`-----BEGIN X509 CRL-----\n${list.toString('base64')}\n-----END X509 CRL-----\n`),
  ])
  const certificates: Certificate[] = []
  for (let index = 0; index < 5; index++) {
    web.answers.set(`/${index}`, padded)
    certificates.push(await revoker.issue(`crlDistributionPoints=URI:${web.origin}/${index}`))
  }
  const { isRevoked } = makeRevocations()
  const ask = (index: number) => isRevoked(certificates[index]!)
  for (const index of [0, 1, 2, 3, 0, 4, 0, 1]) t.equal(await ask(index), false)
  t.same(web.asked, ['/0', '/1', '/2', '/3', '/4', '/1'])
})

t.test('a server that hangs costs one wait, whatever it is asked for', async (t) => {
  const clock = new VirtualClock(Date.now())
  const { certificate, web } = await makeWorld(t, ['/hang', '/hang-too'])
  web.answers.set('/hang', () => {})
  const { isRevoked, reasons } = makeRevocations(clock)
  const asked = once(web.server, 'request')
  const answer = isRevoked(certificate)
  await asked
  await clock.advance(8 * SECOND)
  t.equal(await answer, undefined)
  t.equal(await isRevoked(certificate), undefined)
  t.same(web.asked, ['/hang'])
  t.match(reasons(), /took longer than 8s/)
  t.match(reasons(), /did not answer lately/)
})

t.test('a server that hangs within the body is left', async (t) => {
  const clock = new VirtualClock(Date.now())
  const { certificate, web } = await makeWorld(t)
  web.answers.set('/crl', (_, response) => void response.writeHead(200).write('half'))
  const { isRevoked } = makeRevocations(clock)
  const asked = once(web.server, 'request')
  const answer = isRevoked(certificate)
  const [, response] = (await asked) as [IncomingMessage, ServerResponse]
  await clock.advance(8 * SECOND)
  t.equal(await answer, undefined)
  if (!response.destroyed) await once(response, 'close')
})

t.test('a server that is back is asked again half an hour later', async (t) => {
  const clock = new VirtualClock(Date.now())
  const { certificate, publish, web } = await makeWorld(t)
  web.answers.set('/crl', (request) => void request.socket.destroy())
  const { isRevoked } = makeRevocations(clock)
  t.equal(await isRevoked(certificate), undefined)
  publish('/crl')
  t.equal(await isRevoked(certificate), undefined)
  await clock.advance(30 * MINUTE)
  t.equal(await isRevoked(certificate), false)
})

t.test('whoever stops waiting gets his own reason, and the server is not blamed', async (t) => {
  const { certificate, publish, web } = await makeWorld(t)
  web.answers.set('/crl', () => {})
  const { isRevoked } = makeRevocations()
  const asked = once(web.server, 'request')
  const controller = new AbortController()
  const answer = isRevoked(certificate, controller.signal)
  await asked
  controller.abort(new Error('shutdown'))
  await t.rejects(answer, { message: 'shutdown' })
  await t.rejects(isRevoked(certificate, controller.signal), { message: 'shutdown' })
  publish('/crl')
  t.equal(await isRevoked(certificate), false)
})

t.test("https is asked with the runtime's roots", async (t) => {
  const ca = await startLyingCa(t, (_, response) => response.end())
  const revoker = await Revoker.create()
  const certificate = await revoker.issue(`crlDistributionPoints=URI:${ca.origin}/crl`)
  const { isRevoked, reasons } = makeRevocations()
  t.equal(await isRevoked(certificate), undefined)
  t.match(reasons(), /self-signed certificate|unable to/)
})

t.test('a responder is asked where there is no list', async (t) => {
  const revoker = await Revoker.create()
  const port = await freePort()
  const [good, bad] = [await revoker.issue(ocspAt(port)), await revoker.issue(ocspAt(port))]
  revoker.record(good.serial, '')
  revoker.record(bad.serial)
  const responder = await revoker.startResponder({ port })
  t.teardown(responder.stop)
  const { isRevoked } = makeRevocations()
  t.equal(await isRevoked(good), false)
  t.equal(await isRevoked(bad), true)
  t.equal(await isRevoked(await revoker.issue(ocspAt(port))), undefined, 'unknown')
})

t.test('a responder is asked where no list can be had, and not where one can', async (t) => {
  const port = await freePort()
  const { revoker, certificate, publish } = await makeWorld(t, ['/crl'], ocspAt(port))
  revoker.record(certificate.serial, '')
  publish('/crl')
  revoker.record(certificate.serial)
  const responder = await revoker.startResponder({ port })
  t.teardown(responder.stop)
  t.equal(await makeRevocations().isRevoked(certificate), false, 'what the list says')
  publish('/crl', { thisUpdate: Date.now() - DAY, nextUpdate: Date.now() - HOUR })
  t.equal(await makeRevocations().isRevoked(certificate), true, 'what the responder says')
})

t.test('an old answer of a responder proves nothing', async (t) => {
  const port = await freePort()
  const { revoker, certificate } = await makeWorld(t, [], ocspAt(port))
  revoker.record(certificate.serial)
  const responder = await revoker.startResponder({ port })
  t.teardown(responder.stop)
  const { isRevoked, reasons } = makeRevocations(new VirtualClock(Date.now() + 2 * DAY))
  t.equal(await isRevoked(certificate), undefined)
  t.match(reasons(), /it is of another time/)
})

t.test('a responder that talks nonsense, and one that is gone, are passed over', async (t) => {
  const [port, gone] = [await freePort(), await freePort()]
  const web = await startServer(t)
  web.answers.set('/html', Buffer.from('<html></html>'))
  const revoker = await Revoker.create()
  const access = [`${web.origin}/html`, `http://127.0.0.1:${gone}/`, `http://127.0.0.1:${port}/`]
  const certificate = await revoker.issue(
    `authorityInfoAccess=${access.map((url) => `OCSP;URI:${url}`).join(',')}`,
  )
  revoker.record(certificate.serial)
  const responder = await revoker.startResponder({ port })
  t.teardown(responder.stop)
  t.equal(await makeRevocations().isRevoked(certificate), true)
})
