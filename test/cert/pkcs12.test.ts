import { readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import t, { type Test } from 'tap'
import { Certificate } from '../../src/cert/certificate.ts'
import { readPkcs12, writePkcs12 } from '../../src/cert/pkcs12.ts'
import { makeCertificate } from '../support/certificates.ts'
import { openssl } from '../support/openssl.ts'

const KEY_TYPES = ['ecdsa-p256', 'ecdsa-p384', 'rsa-2048'] as const
const ecdsa = await makeCertificate({ names: ['app.example.com'] })

/** What `openssl pkcs12 -export` makes of it. */
function exported(t: Test, certificate: Certificate, ...options: string[]): Buffer {
  const folder = t.testdir({ 'chain.pem': certificate.chainPem, 'key.pem': certificate.keyPem })
  const files = ['-in', 'chain.pem', '-inkey', 'key.pem', '-out', 'out.p12']
  openssl(folder, 'pkcs12', '-export', ...files, ...options)
  return readFileSync(join(folder, 'out.p12'))
}

function read(der: Buffer, passphrase: string | undefined): Certificate {
  const { chainPem, keyPem } = readPkcs12(der, passphrase, 'x.p12')
  return new Certificate(chainPem, keyPem, 'file', 'x.p12')
}

for (const keyType of KEY_TYPES) {
  t.test(`openssl reads what is written: ${keyType}`, async (t) => {
    const certificate = await makeCertificate({ names: ['app.example.com'], keyType })
    const folder = t.testdir({})
    writeFileSync(join(folder, 'x.p12'), writePkcs12(certificate, 'secret'))
    const open = ['pkcs12', '-in', 'x.p12', '-passin', 'pass:secret']
    t.ok(openssl(folder, ...open, '-noenc', '-nocerts').includes(certificate.keyPem))
    const chain = openssl(folder, ...open, '-nokeys')
    for (const each of certificate.chain) t.ok(chain.includes(each.toString()))
    t.match(chain, 'friendlyName: app.example.com')
    const info = openssl(folder, ...open, '-info', '-noout')
    t.match(info, 'MAC: sha256, Iteration 2048')
    t.match(info, 'PBES2, PBKDF2, AES-256-CBC, Iteration 2048, PRF hmacWithSHA256')
    t.throws(() => openssl(folder, 'pkcs12', '-in', 'x.p12', '-passin', 'pass:wrong'), /invalid password/)
  })

  t.test(`reads what it has written: ${keyType}`, async (t) => {
    const certificate = await makeCertificate({ names: ['app.example.com'], keyType })
    const again = read(writePkcs12(certificate, 'secret'), 'secret')
    t.equal(again.chainPem, certificate.chainPem)
    t.equal(again.keyPem, certificate.keyPem)
  })

  for (const [what, options, passphrase] of [
    ['AES-256 and HMAC-SHA256', ['-passout', 'pass:secret'], 'secret'],
    ['the ciphers of old', ['-legacy', '-passout', 'pass:secret'], 'secret'],
    ['an empty passphrase', ['-passout', 'pass:'], undefined],
    ['a key in plain', ['-keypbe', 'NONE', '-certpbe', 'NONE', '-passout', 'pass:secret'], 'secret'],
    ['no MAC', ['-nomac', '-passout', 'pass:secret'], 'secret'],
    ['HMAC-SHA512', ['-macalg', 'sha512', '-passout', 'pass:secret'], 'secret'],
    ['a name', ['-name', 'Büro', '-caname', 'x', '-passout', 'pass:secret'], 'secret'],
  ] as const) {
    t.test(`reads what openssl exports with ${what}: ${keyType}`, async (t) => {
      const certificate = await makeCertificate({ names: ['app.example.com'], keyType })
      const again = read(exported(t, certificate, ...options), passphrase)
      t.equal(again.chainPem, certificate.chainPem)
      t.equal(again.keyPem, certificate.keyPem)
    })
  }
}

t.test('reads a passphrase beyond ASCII where the ciphers are of old', async (t) => {
  const der = exported(t, ecdsa, '-legacy', '-passout', 'pass:schlüssel')
  t.equal(read(der, 'schlüssel').keyPem, ecdsa.keyPem)
})

t.test('openssl reads a passphrase beyond ASCII', async (t) => {
  const folder = t.testdir({})
  writeFileSync(join(folder, 'x.p12'), writePkcs12(ecdsa, 'schlüssel'))
  t.ok(
    openssl(folder, 'pkcs12', '-in', 'x.p12', '-passin', 'pass:schlüssel', '-noenc').includes(ecdsa.keyPem),
  )
})

const der = writePkcs12(ecdsa, 'secret')

for (const [what, bytes, passphrase, message] of [
  ['no passphrase', der, undefined, 'x.p12: is encrypted: give its `passphrase`'],
  ['the wrong passphrase', der, 'wrong', 'x.p12: the passphrase is wrong'],
  [
    'a passphrase beyond ASCII that is wrong',
    der,
    'schlüssel',
    'x.p12: the passphrase is wrong, or cannot be used because it is not plain ASCII: export the file with another one',
  ],
  ['a file cut short', der.subarray(0, 500), 'secret', 'x.p12: is neither PEM nor PKCS#12, or is cut short'],
  ['text', Buffer.from('hello'), 'secret', 'x.p12: is neither PEM nor PKCS#12, or is cut short'],
  ['some other DER', ecdsa.leaf.raw, 'secret', 'x.p12: is PKCS#12 of a kind that cannot be read'],
  ['a changed byte', changed(der), 'secret', 'x.p12: the passphrase is wrong'],
] as const) {
  t.test(`refuses ${what}`, async (t) => {
    t.throws(() => readPkcs12(bytes, passphrase, 'x.p12'), { code: 'CERTIFICATE_UNREADABLE', message })
  })
}

/** One byte of the certificates, which stand in plain. */
function changed(bytes: Buffer): Buffer {
  const copy = Buffer.from(bytes)
  const at = copy.indexOf(ecdsa.leaf.raw) + ecdsa.leaf.raw.length - 1
  copy[at] = (copy[at] as number) ^ 1
  return copy
}

for (const [what, options, message] of [
  ['no key', ['-nokeys'], 'x.p12: holds no private key'],
  ['no certificate', ['-nocerts'], 'x.p12: holds no certificate'],
  [
    'a cipher that is not known',
    ['-keypbe', 'camellia-256-cbc'],
    'x.p12: is PKCS#12 of a kind that cannot be read',
  ],
] as const) {
  t.test(`refuses a file with ${what}`, async (t) => {
    const bytes = exported(t, ecdsa, '-passout', 'pass:secret', ...options)
    t.throws(() => readPkcs12(bytes, 'secret', 'x.p12'), { code: 'CERTIFICATE_UNREADABLE', message })
  })
}
