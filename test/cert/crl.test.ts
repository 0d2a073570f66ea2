import { createPrivateKey, sign, X509Certificate } from 'node:crypto'
import fc from 'fast-check'
import t from 'tap'
import { crlPointsOf, readCrl } from '../../src/cert/crl.ts'
import { elementsIn, encode, TAG, unwrap } from '../../src/cert/der.ts'
import { profileOf } from '../../src/cert/profile.ts'
import { DAY } from '../../src/time.ts'
import { type Credentials, signOdd } from '../support/openssl.ts'
import { Revoker } from '../support/revoker.ts'

const revoker = await Revoker.create()
revoker.record('1234')
revoker.record('90ABCDEF')
revoker.record('5678', '')
const issuer = new X509Certificate(revoker.authority.certificatePem)
const good = revoker.crl()

const octets = (hex: string) => Buffer.from(hex, 'hex')
const pemOf = (der: Buffer) =>
  `-----BEGIN X509 CRL-----\n${der.toString('base64').replace(/.{64}/g, '$&\n')}\n-----END X509 CRL-----\n`

/** The list with its fields changed, signed anew as if its CA had made it so. */
function forge(
  der: Buffer,
  { keyPem }: Credentials,
  change: (fields: Buffer[]) => Buffer[] = (fields) => fields,
): Buffer {
  const [content, algorithm] = elementsIn(unwrap(der, TAG.sequence))
  const fields = change(elementsIn(content!.content).map(({ raw }) => raw))
  const changed = encode(TAG.sequence, ...fields)
  const signature = sign('sha256', changed, createPrivateKey(keyPem))
  return encode(
    TAG.sequence,
    changed,
    algorithm!.raw,
    encode(TAG.bitString, Buffer.concat([Buffer.of(0), signature])),
  )
}

t.test('lists what is revoked, and nothing else', async (t) => {
  const crl = await readCrl(good, issuer)
  t.equal(crl.lists(octets('1234')), true)
  t.equal(crl.lists(octets('0090abcdef')), true, 'a number whose first bit is set has an octet more')
  t.equal(crl.lists(octets('5678')), false, 'a valid one')
  t.equal(crl.lists(octets('34')), false, 'a part of another')
  t.equal(crl.scope, undefined)
})

t.test('tells from when to when it holds', async (t) => {
  const thisUpdate = Date.parse('2026-01-02T03:04:05Z')
  const nextUpdate = Date.parse('2049-12-31T23:59:59Z')
  const crl = await readCrl(revoker.crl({ thisUpdate, nextUpdate }), issuer)
  t.match(crl, { thisUpdate, nextUpdate })
})

t.test('reads PEM with text around it', async (t) => {
  const crl = await readCrl(Buffer.from(`our list\n${pemOf(good)}`), issuer)
  t.equal(crl.lists(octets('1234')), true)
})

t.test('reads an empty list', async (t) => {
  const other = await Revoker.create()
  const crl = await readCrl(other.crl(), new X509Certificate(other.authority.certificatePem))
  t.equal(crl.lists(octets('1234')), false)
})

for (const [keyType, digest] of [
  ['rsa-2048', 'sha256'],
  ['rsa-2048', 'sha512'],
  ['ecdsa-p384', 'sha384'],
] as const) {
  t.test(`believes a signature of ${keyType} with ${digest}`, async (t) => {
    const other = await Revoker.create('Other CA', keyType)
    other.record('1234')
    const crl = await readCrl(other.crl({ digest }), new X509Certificate(other.authority.certificatePem))
    t.equal(crl.lists(octets('1234')), true)
  })
}

t.test('does not believe a signature with SHA-1', async (t) => {
  await t.rejects(readCrl(revoker.crl({ digest: 'sha1' }), issuer), /signature is not by the issuer/)
})

t.test('does not believe what another signed in the name of the issuer', async (t) => {
  const forger = await Revoker.create()
  await t.rejects(readCrl(forger.crl(), issuer), /signature is not by the issuer/)
})

t.test('does not believe a list that was changed', async (t) => {
  const changed = Buffer.from(good)
  const at = changed.indexOf(octets('02021234'))
  changed.writeUInt8(0x35, at + 3)
  await t.rejects(readCrl(changed, issuer), /signature is not by the issuer/)
})

t.test('does not believe the list of another issuer', async (t) => {
  const other = await Revoker.create('Other CA')
  await t.rejects(readCrl(other.crl(), issuer), /by another issuer/)
})

t.test('does not believe an issuer that may not sign lists', async (t) => {
  const extensions = 'basicConstraints=critical,CA:TRUE\nkeyUsage=critical,keyCertSign'
  const { keyPem } = revoker.authority
  const { certificatePem } = signOdd({ subject: '/CN=Revoking CA', extensions, keyPem })
  const other = new X509Certificate(certificatePem)
  const name = profileOf(other).subject
  const list = forge(good, revoker.authority, ([version, algorithm, , ...rest]) => [
    version!,
    algorithm!,
    name,
    ...rest,
  ])
  await t.rejects(readCrl(list, other), /may not sign CRLs/)
})

t.test('wants to know until when it holds', async (t) => {
  const list = forge(good, revoker.authority, (fields) => fields.filter((_, index) => index !== 4))
  await t.rejects(readCrl(list, issuer), /no nextUpdate/)
})

t.test('a field too many is no empty list', async (t) => {
  const list = forge(good, revoker.authority, (fields) => [
    ...fields.slice(0, 5),
    encode(TAG.octetString),
    ...fields.slice(5),
  ])
  await t.rejects(readCrl(list, issuer), /field that RFC 5280 does not know/)
})

t.test('tells where a list that is one of several is published', async (t) => {
  const extensions =
    'issuingDistributionPoint=critical,@idp\n[idp]\nfullname=URI:http://crl.example/7,URI:http://b.example/7\nonlyuser=TRUE'
  const crl = await readCrl(revoker.crl({ extensions }), issuer)
  t.same(crl.scope, ['http://crl.example/7', 'http://b.example/7'])
})

for (const [what, extensions, message] of [
  [
    'an indirect list',
    'issuingDistributionPoint=critical,@idp\n[idp]\nindirectCRL=TRUE',
    /indirect, or for some/,
  ],
  ['a list of CAs', 'issuingDistributionPoint=critical,@idp\n[idp]\nonlyCA=TRUE', /indirect, or for some/],
  [
    'a list for some reasons',
    'issuingDistributionPoint=critical,@idp\n[idp]\nonlysomereasons=keyCompromise',
    /indirect, or for some/,
  ],
  ['a delta', '2.5.29.27=critical,DER:020101', /unknown critical extension 551d1b/],
  [
    'a critical extension that nobody knows',
    '1.2.3.4=critical,DER:0500',
    /unknown critical extension 2a0304/,
  ],
] as const) {
  t.test(`does not take ${what} for the whole`, async (t) => {
    await t.rejects(readCrl(revoker.crl({ extensions }), issuer), message)
  })
}

const entry = (serial: string, ...extensions: Buffer[]) =>
  encode(
    TAG.sequence,
    encode(TAG.integer, octets(serial)),
    encode(TAG.utcTime, Buffer.from('260101000000Z')),
    ...(extensions.length === 0 ? [] : [encode(TAG.sequence, ...extensions)]),
  )
const extension = (id: string, value: string, critical = false) =>
  encode(
    TAG.sequence,
    encode(TAG.oid, octets(id)),
    ...(critical ? [encode(TAG.boolean, octets('ff'))] : []),
    encode(TAG.octetString, octets(value)),
  )
const withEntries = (...entries: Buffer[]) =>
  forge(good, revoker.authority, (fields) => fields.with(5, encode(TAG.sequence, ...entries)))

t.test('a certificate that is taken off the list is not on it', async (t) => {
  const list = withEntries(
    entry('11', extension('551d15', '0a0108')),
    entry('12', extension('551d15', '0a0106')),
  )
  const crl = await readCrl(list, issuer)
  t.equal(crl.lists(octets('11')), false, 'removeFromCRL')
  t.equal(crl.lists(octets('12')), true, 'certificateHold')
})

t.test('an entry with a critical extension that is not known spoils the list', async (t) => {
  const list = withEntries(entry('11'), entry('12', extension('551d1d', '3000', true)))
  await t.rejects(readCrl(list, issuer), /unknown critical extension 551d1d/)
})

t.test('reads a list of 100,000 and gives others their turn meanwhile', async (t) => {
  const serial = (index: number) => (0x40000000 + index).toString(16).padStart(32, '7')
  for (let index = 0; index < 100_000; index++) revoker.record(serial(index))
  const list = revoker.crl()
  let turns = 0
  let isDone = false
  const turn = (): void => {
    turns++
    if (!isDone) setImmediate(turn)
  }
  turn()
  const crl = await readCrl(list, issuer)
  isDone = true
  t.ok(turns >= 20, `${turns} turns`)
  t.equal(crl.lists(octets(serial(0))), true)
  t.equal(crl.lists(octets(serial(99_999))), true)
  t.equal(crl.lists(octets(serial(100_000))), false)
})

t.test('tells the distribution points of a certificate', async (t) => {
  const certificate = await revoker.issue(
    'crlDistributionPoints=one,two,part,other\n[one]\nfullname=URI:http://a.example/1,URI:ldap://b.example/1\n' +
      '[two]\nfullname=URI:http://c.example/2\n[part]\nfullname=URI:http://d.example/3\nreasons=keyCompromise\n' +
      '[other]\nfullname=URI:http://e.example/4\nCRLissuer=dirName:name\n[name]\nCN=Somebody',
  )
  t.same(crlPointsOf(profileOf(certificate.leaf)), [
    ['http://a.example/1', 'ldap://b.example/1'],
    ['http://c.example/2'],
  ])
  t.same(crlPointsOf(profileOf((await revoker.issue()).leaf)), [])
})

t.test('whatever is damaged is refused with an error', async (t) => {
  for (const cut of [0, 1, 2, 3, 10, good.length - 1])
    await t.rejects(readCrl(good.subarray(0, cut), issuer), RangeError, `cut at ${cut}`)
  await fc.assert(
    fc.asyncProperty(fc.nat(good.length - 1), fc.integer({ min: 1, max: 255 }), async (at, flip) => {
      const damaged = Buffer.from(good)
      damaged.writeUInt8(damaged.readUInt8(at) ^ flip, at)
      await t.rejects(readCrl(damaged, issuer), Error)
    }),
    { numRuns: 300 },
  )
})

t.test('whatever is damaged below a good signature is read or refused', async (t) => {
  const [content] = elementsIn(unwrap(good, TAG.sequence))
  await fc.assert(
    fc.asyncProperty(
      fc.nat(content!.content.length - 1),
      fc.integer({ min: 1, max: 255 }),
      async (at, flip) => {
        const damaged = Buffer.from(content!.content)
        damaged.writeUInt8(damaged.readUInt8(at) ^ flip, at)
        const list = forge(good, revoker.authority, () => [damaged])
        await readCrl(list, issuer).catch((error) => t.type(error, RangeError))
      },
    ),
    { numRuns: 300 },
  )
})

t.test('the dates are told whatever their form', async (t) => {
  const far = Date.parse('2050-01-01T00:00:00Z')
  const list = forge(good, revoker.authority, (fields) =>
    fields.with(4, encode(TAG.generalizedTime, Buffer.from('20500101000000Z'))),
  )
  const crl = await readCrl(list, issuer)
  t.equal(crl.nextUpdate, far)
  t.ok(crl.thisUpdate > Date.now() - DAY)
})
