import { createHash, createPrivateKey, sign, X509Certificate } from 'node:crypto'
import fc from 'fast-check'
import t, { type Test } from 'tap'
import { elementsIn, encode, TAG, unwrap } from '../../src/cert/der.ts'
import {
  type CertificateId,
  certificateIdOf,
  createOcspRequest,
  ocspUrlsOf,
  readOcspAnswer,
} from '../../src/cert/ocsp.ts'
import { profileOf } from '../../src/cert/profile.ts'
import { keyIdOf } from '../../src/cert/x509.ts'
import { DAY, HOUR } from '../../src/time.ts'
import { exchange } from '../peers/exchange.ts'
import type { Credentials } from '../support/openssl.ts'
import { type ResponderOptions, Revoker } from '../support/revoker.ts'

const RESPONDER = 'extendedKeyUsage=OCSPSigning\nkeyUsage=digitalSignature\nnoCheck=ignored'

const revoker = await Revoker.create()
const issuer = new X509Certificate(revoker.authority.certificatePem)
const [valid, revoked, stranger] = [await revoker.issue(), await revoker.issue(), await revoker.issue()]
revoker.record(valid.serial, '')
revoker.record(revoked.serial)

const idOf = ({ leaf }: { leaf: X509Certificate }) => certificateIdOf(profileOf(leaf), issuer)
const soon = () => Date.now() + HOUR

/** What openssl's responder says, byte for byte. */
async function answerTo(t: Test, id: CertificateId, options: ResponderOptions = {}): Promise<Buffer> {
  const { port, stop } = await revoker.startResponder(options)
  t.teardown(stop)
  const { body } = await exchange(`http://127.0.0.1:${port}/`, {
    method: 'POST',
    headers: { 'content-type': 'application/ocsp-request' },
    body: createOcspRequest(id),
  })
  return body
}

for (const [what, certificate, expected] of [
  ['a valid certificate', valid, false],
  ['a revoked certificate', revoked, true],
  ['one that the responder does not know', stranger, undefined],
] as const) {
  t.test(`openssl understands the question about ${what}, and is understood`, async (t) => {
    const id = idOf(certificate)
    const answer = await readOcspAnswer(await answerTo(t, id), id, issuer, soon())
    t.equal(answer.revoked, expected)
  })
}

t.test('tells from when to when it holds; a day when the responder does not say', async (t) => {
  const id = idOf(valid)
  const unlimited = await readOcspAnswer(await answerTo(t, id), id, issuer, soon())
  t.equal(unlimited.nextUpdate - unlimited.thisUpdate, DAY)
  const limited = await readOcspAnswer(await answerTo(t, id, { more: ['-ndays', '3'] }), id, issuer, soon())
  t.equal(limited.nextUpdate - limited.thisUpdate, 3 * DAY)
  t.ok(Math.abs(limited.thisUpdate - Date.now()) < HOUR)
})

for (const [what, more] of [
  ['by name', []],
  ['by key', ['-resp_key_id']],
] as const) {
  t.test(`believes a responder that the issuer has appointed, told ${what}`, async (t) => {
    const id = idOf(revoked)
    const signer = await revoker.sign(RESPONDER)
    const answer = await readOcspAnswer(await answerTo(t, id, { signer, more }), id, issuer, soon())
    t.equal(answer.revoked, true)
  })
}

t.test('believes the issuer that is told by its key', async (t) => {
  const id = idOf(revoked)
  const answer = await answerTo(t, id, { more: ['-resp_key_id'] })
  t.match(await readOcspAnswer(answer, id, issuer, soon()), { revoked: true })
})

const usurper = await Revoker.create()
for (const [what, signer] of [
  ['a server of the same CA', await revoker.sign('extendedKeyUsage=serverAuth')],
  ['one that may not sign', await revoker.sign('extendedKeyUsage=OCSPSigning\nkeyUsage=keyEncipherment')],
  [
    'one with a critical extension that nobody knows',
    await revoker.sign(`${RESPONDER}\n1.2.3.4=critical,DER:0500`),
  ],
  ['one that another CA of that name has appointed', await usurper.sign(RESPONDER)],
] as const) {
  t.test(`does not believe ${what}`, async (t) => {
    const id = idOf(valid)
    const answer = await answerTo(t, id, { signer })
    await t.rejects(readOcspAnswer(answer, id, issuer, soon()), /has not appointed the responder/)
  })
}

t.test('an appointment ends with its certificate', async (t) => {
  const id = idOf(valid)
  const answer = await answerTo(t, id, { signer: await revoker.sign(RESPONDER) })
  await t.rejects(readOcspAnswer(answer, id, issuer, Date.now() + 31 * DAY), /has not appointed/)
})

t.test('does not believe another key in the name of the issuer', async (t) => {
  const id = idOf(valid)
  const answer = await answerTo(t, id, { signer: usurper.authority })
  await t.rejects(readOcspAnswer(answer, id, issuer, soon()), /signature is not by the responder/)
})

t.test('an answer about another certificate is none', async (t) => {
  const answer = await answerTo(t, idOf(valid))
  await t.rejects(readOcspAnswer(answer, idOf(revoked), issuer, soon()), /about another certificate/)
})

t.test('a refusal is told with its status', async (t) => {
  const tryLater = Buffer.from('30030a0103', 'hex')
  await t.rejects(readOcspAnswer(tryLater, idOf(valid), issuer, soon()), /refuses, with status 3/)
})

t.test('tells the responders of a certificate, and no other access', async (t) => {
  const certificate = await revoker.issue(
    'authorityInfoAccess=OCSP;URI:http://a.example/,caIssuers;URI:http://b.example/,OCSP;URI:http://c.example/',
  )
  t.same(ocspUrlsOf(profileOf(certificate.leaf)), ['http://a.example/', 'http://c.example/'])
  t.same(ocspUrlsOf(profileOf(valid.leaf)), [])
})

const time = (text: string) => encode(TAG.generalizedTime, Buffer.from(text))
const oid = (hex: string) => encode(TAG.oid, Buffer.from(hex, 'hex'))
const critical = encode(
  TAG.sequence,
  encode(TAG.sequence, oid('2a0304'), encode(TAG.boolean, Buffer.of(0xff)), encode(TAG.octetString)),
)

/** An answer such as no responder gives, with the issuer's signature. */
function craft(
  id: CertificateId,
  parts: {
    readonly status?: Buffer
    readonly after?: readonly Buffer[]
    readonly extensions?: readonly Buffer[]
    readonly algorithm?: string
  },
  { keyPem }: Credentials = revoker.authority,
): Buffer {
  const { status = encode(0x80), after = [], extensions = [], algorithm = '2a8648ce3d040302' } = parts
  const request = createOcspRequest(id)
  const certId = [0, 1, 2, 3].reduce((der) => elementsIn(unwrap(der, TAG.sequence))[0]!.raw, request)
  const key = Buffer.from(keyIdOf(issuer.publicKey.export({ type: 'spki', format: 'der' })), 'hex')
  const data = encode(
    TAG.sequence,
    encode(0xa2, encode(TAG.octetString, key)),
    time('20260101000000Z'),
    encode(TAG.sequence, encode(TAG.sequence, certId, status, time('20260101000000Z'), ...after)),
    ...extensions,
  )
  const signature = sign('sha256', data, createPrivateKey(keyPem))
  const basic = encode(
    TAG.sequence,
    data,
    encode(TAG.sequence, oid(algorithm)),
    encode(TAG.bitString, Buffer.concat([Buffer.of(0), signature])),
  )
  const bytes = encode(TAG.sequence, oid('2b0601050507300101'), encode(TAG.octetString, basic))
  return encode(TAG.sequence, encode(TAG.enumerated, Buffer.of(0)), encode(0xa0, bytes))
}

t.test('a crafted answer that is right is believed', async (t) => {
  const id = idOf(valid)
  t.match(await readOcspAnswer(craft(id, {}), id, issuer, soon()), { revoked: false })
})

for (const [what, parts, message] of [
  ['a critical extension', { extensions: [encode(0xa1, critical)] }, /unknown critical extension 2a0304/],
  ['a critical extension of one status', { after: [encode(0xa1, critical)] }, /unknown critical extension/],
  ['a status that does not exist', { status: encode(0x83) }, /status that RFC 6960 does not know/],
  ['a weak algorithm', { algorithm: '2a8648ce3d0401' }, /signature is not by the responder/],
  ['an algorithm of another kind of key', { algorithm: '2a864886f70d01010b' }, /signature is not/],
] as const) {
  t.test(`does not believe an answer with ${what}`, async (t) => {
    const id = idOf(valid)
    await t.rejects(readOcspAnswer(craft(id, parts), id, issuer, soon()), message)
  })
}

t.test('names the issuer as RFC 6960 section 4.1.1 says', async (t) => {
  const { issuerNameHash, serial } = idOf(valid)
  t.same(issuerNameHash, createHash('sha1').update(profileOf(issuer).subject).digest())
  t.equal(BigInt(`0x${serial.toString('hex')}`), BigInt(`0x${valid.serial}`))
})

t.test('whatever is damaged is refused with an error, or says no less than the truth', async (t) => {
  const id = idOf(revoked)
  const answer = await answerTo(t, id)
  for (const cut of [0, 1, 5, 50, answer.length - 1])
    await t.rejects(readOcspAnswer(answer.subarray(0, cut), id, issuer, soon()), Error, `cut at ${cut}`)
  await fc.assert(
    fc.asyncProperty(fc.nat(answer.length - 1), fc.integer({ min: 1, max: 255 }), async (at, flip) => {
      const damaged = Buffer.from(answer)
      damaged.writeUInt8(damaged.readUInt8(at) ^ flip, at)
      // Outside of what is signed, such as in the certificates that come along, damage may not matter.
      const read = await readOcspAnswer(damaged, id, issuer, soon()).catch((error: unknown) => error)
      return read instanceof Error || (read as { revoked: boolean }).revoked
    }),
    { numRuns: 300 },
  )
})
