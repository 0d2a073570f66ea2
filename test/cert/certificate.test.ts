import { createHash, createPrivateKey, createPublicKey, X509Certificate } from 'node:crypto'
import t from 'tap'
import { Certificate, commonNameOf, wildcardOf } from '../../src/cert/certificate.ts'
import { generateKeyPem } from '../../src/cert/x509.ts'
import { DAY } from '../../src/time.ts'
import { makeCertificate } from '../support/certificates.ts'
import { signOdd } from '../support/openssl.ts'

const made = await makeCertificate({ names: ['app.example.com', '192.0.2.1'], source: 'some-ca' })
const [leafPem, intermediatePem] = made.chain.map((each) => each.toString()) as [string, string]

t.test('tells what is in the leaf', async (t) => {
  const leaf = new X509Certificate(leafPem)
  t.same(made.names, ['app.example.com', '192.0.2.1'])
  t.equal(made.issuer, 'Test Intermediate')
  t.equal(made.serial, leaf.serialNumber.toLowerCase())
  t.equal(made.fingerprint, leaf.fingerprint256.replaceAll(':', '').toLowerCase())
  t.equal(made.source, 'some-ca')
  t.equal(made.notAfter - made.notBefore, 90 * DAY)
  t.match(made.ariId, /^[\w-]+\.[\w-]+$/)
})

t.test('certificates of one key have one key fingerprint, that of its SubjectPublicKeyInfo', async (t) => {
  const spki = createPublicKey(leafPem).export({ type: 'spki', format: 'der' })
  const expected = createHash('sha256').update(spki).digest('hex')
  t.equal(made.keyFingerprint, expected)
  t.equal(made.keyFingerprint, expected, 'also when it is asked again')
  t.not((await makeCertificate({ names: ['app.example.com'] })).keyFingerprint, expected)
})

t.test('keeps the PEM blocks and drops what stands around them', async (t) => {
  const pem = `subject=CN = a\n${leafPem}\nBag Attributes\r\n${intermediatePem}${made.keyPem}`
  t.equal(new Certificate(pem, made.keyPem, 'test', 'a test').chainPem, leafPem + intermediatePem)
})

t.test('keeps the key as PKCS#8, whatever it came as', async (t) => {
  const sec1 = createPrivateKey(made.keyPem).export({ type: 'sec1', format: 'pem' }).toString()
  t.match(sec1, 'BEGIN EC PRIVATE KEY')
  t.equal(new Certificate(leafPem, sec1, 'test', 'a test').keyPem, made.keyPem)
})

t.test('is valid from its first second until its last', async (t) => {
  t.notOk(made.isValidAt(made.notBefore - 1))
  t.ok(made.isValidAt(made.notBefore))
  t.ok(made.isValidAt(made.notAfter - 1))
  t.notOk(made.isValidAt(made.notAfter))
})

for (const [names, name, isCovered] of [
  [['app.example.com'], 'app.example.com', true],
  [['app.example.com'], 'example.com', false],
  [['app.example.com'], 'a.app.example.com', false],
  [['*.example.com'], 'app.example.com', true],
  [['*.example.com'], '*.example.com', true],
  [['*.example.com'], 'example.com', false],
  [['*.example.com'], 'a.b.example.com', false],
  [['*.example.com'], '.example.com', false],
  [['*.example.com'], 'badexample.com', false],
  [['app.example.com'], '*.example.com', false],
  [['*.a.example.com'], '*.example.com', false],
  [['*.xn--bcher-kva.example'], 'www.xn--bcher-kva.example', true],
  [['localhost'], 'localhost', true],
  [['192.0.2.1'], '192.0.2.1', true],
  [['192.0.2.1'], '192.0.2.2', false],
  [['*.0.2.1'], '192.0.2.1', false],
  [['2001:db8::1'], '2001:db8::1', true],
  [['2001:0db8:0::1'], '2001:db8::1', true],
  [['APP.example.com'], 'app.example.com', true],
] as const) {
  t.test(`a certificate for ${names} ${isCovered ? 'covers' : 'does not cover'} ${name}`, async (t) => {
    t.equal((await makeCertificate({ names })).covers(name), isCovered)
  })
}

t.test('the wildcard of a name replaces its first label', async (t) => {
  t.equal(wildcardOf('a.example.com'), '*.example.com')
  t.equal(wildcardOf('*.example.com'), '*.example.com')
  t.equal(wildcardOf('localhost'), 'localhost')
  t.equal(wildcardOf('.example.com'), '.example.com')
  t.equal(wildcardOf(''), '')
})

t.test(
  'an issuer is called by its common name, else by its organization, else by all there is',
  async (t) => {
    t.equal(commonNameOf("C=US\nO=Let's Encrypt\nCN=R11"), 'R11')
    t.equal(commonNameOf("C=US\nO=Let's Encrypt"), "Let's Encrypt")
    t.equal(commonNameOf('C=US\nST=x=y'), 'C=US, ST=x=y')
    t.equal(commonNameOf('CN=a=b'), 'a=b')
  },
)

const otherKeyPem = await generateKeyPem('ecdsa-p256')
const nameless = signOdd({ subject: '/CN=app.example.com', extensions: '', keyPem: otherKeyPem })
const damaged = leafPem.replace(/\n.{20}/, '\nAAAAAAAAAAAAAAAAAAAA')

for (const [what, chainPem, keyPem, code, message] of [
  ['nothing', '', made.keyPem, 'CERTIFICATE_UNREADABLE', 'x.pem: holds no PEM certificate'],
  ['a damaged leaf', damaged, made.keyPem, 'CERTIFICATE_UNREADABLE', 'x.pem: certificate 1 is damaged'],
  [
    'a damaged intermediate',
    leafPem + damaged,
    made.keyPem,
    'CERTIFICATE_UNREADABLE',
    'x.pem: certificate 2 is damaged',
  ],
  ['no key', leafPem, '', 'CERTIFICATE_UNREADABLE', 'x.pem: holds no PEM private key'],
  [
    'a damaged key',
    leafPem,
    made.keyPem.replace(/\n.{20}/, '\nAAAAAAAAAAAAAAAAAAAA'),
    'CERTIFICATE_UNREADABLE',
    'x.pem: the private key is damaged',
  ],
  [
    'the key of another certificate',
    leafPem,
    otherKeyPem,
    'KEY_MISMATCH',
    'x.pem: the private key does not belong to the certificate',
  ],
  [
    'an intermediate before its leaf',
    intermediatePem + leafPem,
    made.keyPem,
    'KEY_MISMATCH',
    'x.pem: the private key does not belong to the certificate',
  ],
  [
    'a leaf that names no host',
    nameless.certificatePem,
    otherKeyPem,
    'CERTIFICATE_UNREADABLE',
    'x.pem: the certificate names no host (it has no subjectAltName)',
  ],
] as const) {
  t.test(`refuses ${what}`, async (t) => {
    t.throws(() => new Certificate(chainPem, keyPem, 'test', 'x.pem'), { code, message })
  })
}

t.test('an error about a key holds nothing of the key', async (t) => {
  const keyPem = made.keyPem.replace(/\n.{20}/, '\nAAAAAAAAAAAAAAAAAAAA')
  try {
    new Certificate(leafPem, keyPem, 'test', 'x.pem')
    t.fail('it was accepted')
  } catch (error) {
    t.equal((error as Error).cause, undefined)
    t.notMatch((error as Error).stack, keyPem.split('\n')[2] as string)
  }
})
