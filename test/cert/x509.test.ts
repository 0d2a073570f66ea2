import { createHash, createPrivateKey, generateKeyPairSync, X509Certificate } from 'node:crypto'
import { writeFileSync } from 'node:fs'
import { join } from 'node:path'
import t, { type Test } from 'tap'
import { createAlpnCertificate, createAuthority, createCsr, createLeaf } from '../../src/cert/signing.ts'
import { ariIdOf, generateKeyPem, type KeyType, keyTypeOf, subjectNamesOf } from '../../src/cert/x509.ts'
import { DAY } from '../../src/time.ts'
import { openssl, signOdd } from '../support/openssl.ts'

const NOW = Date.now()
const VALIDITY = { notBefore: NOW - DAY, notAfter: NOW + DAY }
const NAMES = ['app.example.com', '*.example.com', '192.0.2.1', '2001:db8::1']

const keyPem = await generateKeyPem('ecdsa-p256')
const rsaKeyPem = await generateKeyPem('rsa-2048')

function folderOf(t: Test, files: Record<string, string | Buffer>): string {
  const folder = t.testdir({})
  for (const [name, content] of Object.entries(files)) writeFileSync(join(folder, name), content)
  return folder
}

async function makeIssuer(type: KeyType = 'ecdsa-p256') {
  const [rootKeyPem, intermediateKeyPem] = await Promise.all([generateKeyPem(type), generateKeyPem(type)])
  const rootPem = await createAuthority({
    ...VALIDITY,
    commonName: 'Root',
    keyPem: rootKeyPem,
    pathLength: 1,
  })
  const certificatePem = await createAuthority({
    ...VALIDITY,
    commonName: 'Intermediate',
    keyPem: intermediateKeyPem,
    pathLength: 0,
    issuer: { certificatePem: rootPem, keyPem: rootKeyPem },
  })
  return { rootPem, issuer: { certificatePem, keyPem: intermediateKeyPem } }
}

async function makeLeaf(names: readonly string[]): Promise<X509Certificate> {
  const { issuer } = await makeIssuer()
  return new X509Certificate(await createLeaf({ ...VALIDITY, names, keyPem, issuer }))
}

for (const type of ['ecdsa-p256', 'ecdsa-p384', 'rsa-2048', 'rsa-3072', 'rsa-4096'] as const) {
  t.test(`makes a fresh ${type} key as PKCS#8 and knows it again`, async (t) => {
    const pem = await generateKeyPem(type)
    t.match(pem, /^-----BEGIN PRIVATE KEY-----\n/)
    t.equal(keyTypeOf(pem), type)
  })
}

t.test('a key of a type that is never made has no key type', async (t) => {
  for (const { privateKey } of [
    generateKeyPairSync('ed25519'),
    generateKeyPairSync('ec', { namedCurve: 'P-521' }),
    generateKeyPairSync('rsa', { modulusLength: 1024 }),
  ]) {
    t.equal(keyTypeOf(privateKey.export({ type: 'pkcs8', format: 'pem' }).toString()), undefined)
  }
})

for (const [type, pem] of [
  ['ecdsa-p256', keyPem],
  ['ecdsa-p384', await generateKeyPem('ecdsa-p384')],
  ['rsa-2048', rsaKeyPem],
] as const) {
  t.test(`openssl accepts a CSR for ${type}, with every name`, async (t) => {
    const folder = folderOf(t, { 'csr.der': await createCsr(NAMES, pem) })
    const text = openssl(folder, 'req', '-inform', 'der', '-in', 'csr.der', '-noout', '-verify', '-text')
    t.match(text, 'self-signature verify OK')
    t.match(
      text,
      'DNS:app.example.com, DNS:*.example.com, IP Address:192.0.2.1, IP Address:2001:DB8:0:0:0:0:0:1',
    )
  })
}

for (const [what, names, subject] of [
  ['the first name', ['app.example.com', 'example.com'], 'CN = app.example.com'],
  ['no IP address', ['192.0.2.1'], ''],
  ['the first name that is none', ['2001:db8::1', 'app.example.com'], 'CN = app.example.com'],
  ['no name past 64 characters', [`${'a'.repeat(61)}.com`], ''],
  ['a name of 64 characters', [`${'a'.repeat(60)}.com`], `CN = ${'a'.repeat(60)}.com`],
] as const) {
  t.test(`the common name of a CSR is ${what}`, async (t) => {
    const folder = folderOf(t, { 'csr.der': await createCsr(names, keyPem) })
    const text = openssl(folder, 'req', '-inform', 'der', '-in', 'csr.der', '-noout', '-subject')
    t.equal(text.trim(), `subject=${subject}`)
  })
}

for (const [authorityType, leafKeyPem] of [
  ['ecdsa-p256', keyPem],
  ['ecdsa-p384', rsaKeyPem],
  ['rsa-2048', keyPem],
] as const) {
  t.test(`openssl verifies a chain of ${authorityType} authorities strictly`, async (t) => {
    const { rootPem, issuer } = await makeIssuer(authorityType)
    const leaf = await createLeaf({ ...VALIDITY, names: NAMES, keyPem: leafKeyPem, issuer })
    const nameless = await createLeaf({ ...VALIDITY, names: ['192.0.2.1'], keyPem: leafKeyPem, issuer })
    const folder = folderOf(t, {
      'root.pem': rootPem,
      'intermediate.pem': issuer.certificatePem,
      'leaf.pem': leaf,
      'nameless.pem': nameless,
    })
    const verify = ['verify', '-x509_strict', '-purpose', 'sslserver', '-CAfile', 'root.pem']
    const chain = [...verify, '-untrusted', 'intermediate.pem']
    t.match(openssl(folder, ...chain, '-verify_hostname', 'app.example.com', 'leaf.pem'), 'leaf.pem: OK')
    t.match(openssl(folder, ...chain, '-verify_ip', '2001:db8::1', 'leaf.pem'), 'leaf.pem: OK')
    t.match(openssl(folder, ...chain, '-verify_ip', '192.0.2.1', 'nameless.pem'), 'nameless.pem: OK')
  })
}

t.test('a leaf is for TLS servers only, and is no CA', async (t) => {
  const folder = folderOf(t, { 'leaf.pem': (await makeLeaf(NAMES)).toString() })
  const text = openssl(folder, 'x509', '-in', 'leaf.pem', '-noout', '-text')
  t.match(text, /Basic Constraints: critical\s+CA:FALSE\n/)
  t.match(text, /Key Usage: critical\s+Digital Signature\n/)
  t.match(text, /Extended Key Usage: \s+TLS Web Server Authentication\n/)
})

t.test('an authority may sign certificates and nothing else, an intermediate only for servers', async (t) => {
  const { rootPem, issuer } = await makeIssuer()
  const folder = folderOf(t, { 'root.pem': rootPem, 'intermediate.pem': issuer.certificatePem })
  const [root, intermediate] = ['root.pem', 'intermediate.pem'].map((file) =>
    openssl(folder, 'x509', '-in', file, '-noout', '-text'),
  )
  t.match(root, /Basic Constraints: critical\s+CA:TRUE, pathlen:1\n/)
  t.match(root, /Key Usage: critical\s+Certificate Sign, CRL Sign\n/)
  t.notMatch(root, 'Extended Key Usage')
  t.match(intermediate, /Basic Constraints: critical\s+CA:TRUE, pathlen:0\n/)
  t.match(intermediate, /Extended Key Usage: \s+TLS Web Server Authentication\n/)
})

t.test('a signature is as strong as the key that makes it', async (t) => {
  for (const [type, algorithm] of [
    ['ecdsa-p256', 'ecdsa-with-SHA256'],
    ['ecdsa-p384', 'ecdsa-with-SHA384'],
    ['rsa-2048', 'sha256WithRSAEncryption'],
  ] as const) {
    const folder = folderOf(t, { 'root.pem': (await makeIssuer(type)).rootPem })
    t.match(
      openssl(folder, 'x509', '-in', 'root.pem', '-noout', '-text'),
      `Signature Algorithm: ${algorithm}`,
    )
  }
})

t.test('serial numbers are 16 positive octets and never the same', async (t) => {
  const { issuer } = await makeIssuer()
  const serials = new Set<string>()
  for (let round = 0; round < 20; round++) {
    const pem = await createLeaf({ ...VALIDITY, names: NAMES, keyPem, issuer })
    const serial = new X509Certificate(pem).serialNumber
    t.match(serial, /^[4-7][0-9A-F]{31}$/)
    serials.add(serial)
  }
  t.equal(serials.size, 20)
})

t.test('times past 2049 and fractions of a second are written as RFC 5280 has them', async (t) => {
  const pem = await createAuthority({
    commonName: 'Root',
    keyPem,
    pathLength: 1,
    notBefore: Date.parse('2026-01-01T00:00:00.999Z'),
    notAfter: Date.parse('2051-01-01T00:00:00.999Z'),
  })
  const { validFrom, validTo } = new X509Certificate(pem)
  t.same([validFrom, validTo], ['Jan  1 00:00:00 2026 GMT', 'Jan  1 00:00:00 2051 GMT'])
})

t.test(
  'below an authority of other software, name and key identifier are those that it states',
  async (t) => {
    const issuer = signOdd({
      subject: '/O=Öther/CN=Authority',
      extensions: 'basicConstraints=critical,CA:TRUE\nsubjectKeyIdentifier=0011223344',
      keyPem: rsaKeyPem,
    })
    const pem = await createLeaf({ ...VALIDITY, names: NAMES, keyPem, issuer })
    const folder = folderOf(t, { 'leaf.pem': pem })
    t.match(
      openssl(folder, 'x509', '-in', 'leaf.pem', '-noout', '-ext', 'authorityKeyIdentifier'),
      '00:11:22:33:44',
    )
    t.ok(new X509Certificate(pem).checkIssued(new X509Certificate(issuer.certificatePem)))
  },
)

t.test('the tls-alpn-01 certificate has the shape of RFC 8737', async (t) => {
  const pem = await createAlpnCertificate('app.example.com', 'token.thumbprint', keyPem, NOW)
  const certificate = new X509Certificate(pem)
  t.equal(certificate.subjectAltName, 'DNS:app.example.com')
  t.ok(certificate.checkPrivateKey(createPrivateKey(keyPem)))
  t.ok(certificate.verify(certificate.publicKey), 'self-signed')
  // Extension ::= SEQUENCE { 1.3.6.1.5.5.7.1.31, critical TRUE, OCTET STRING { OCTET STRING of 32 } }
  const digest = createHash('sha256').update('token.thumbprint').digest('hex')
  t.ok(certificate.raw.toString('hex').includes(`303106082b060105050701${'1f'}0101ff04220420${digest}`))
})

t.test('the tls-alpn-01 certificate of an IP address names the address (RFC 8738)', async (t) => {
  const pem = await createAlpnCertificate('2001:db8::1', 'token.thumbprint', keyPem, NOW)
  t.equal(new X509Certificate(pem).subjectAltName, 'IP Address:2001:DB8:0:0:0:0:0:1')
})

for (const [what, names, expected] of [
  ['lower case', ['App.EXAMPLE.com'], ['app.example.com']],
  ['wildcards', ['*.example.com'], ['*.example.com']],
  ['A-labels', ['xn--bcher-kva.example'], ['xn--bcher-kva.example']],
  ['IPv4 addresses', ['192.0.2.1'], ['192.0.2.1']],
  ['IPv6 addresses in their canonical form', ['2001:0DB8:0:0:0:0:0:1', '::'], ['2001:db8::1', '::']],
  ['each name once', ['a.example', 'A.example', 'b.example'], ['a.example', 'b.example']],
  ['nothing that a comma smuggles in', ['a.example, DNS:bank.example', 'b.example'], ['b.example']],
  ['nothing that a quote smuggles in', ['a.example", DNS:bank.example, DNS:"', 'b.example'], ['b.example']],
] as const) {
  t.test(`the names of a certificate: ${what}`, async (t) => {
    t.same(subjectNamesOf(await makeLeaf(names)), expected)
  })
}

t.test('names of other kinds are left out', async (t) => {
  const { certificatePem } = signOdd({
    subject: '/CN=subject.example',
    extensions: `subjectAltName=@names
[names]
email.1=DNS:a@example.com
URI.1=http://x.example/,DNS:uri.example
RID.1=1.2.3.4
otherName.1=1.2.3.4;UTF8:DNS:other.example
dirName.1=directory
DNS.1=b.example
[directory]
CN=a, DNS:directory.example`,
    keyPem,
  })
  t.same(subjectNamesOf(new X509Certificate(certificatePem)), ['b.example'])
})

t.test('a certificate without a subjectAltName has no names, whatever its common name', async (t) => {
  const { rootPem } = await makeIssuer()
  t.same(subjectNamesOf(new X509Certificate(rootPem)), [])
})

/** RFC 9773 appendix A. */
const ARI_EXAMPLE = `-----BEGIN CERTIFICATE-----
MIIBQzCB66ADAgECAgUAh2VDITAKBggqhkjOPQQDAjAVMRMwEQYDVQQDEwpFeGFt
cGxlIENBMCIYDzAwMDEwMTAxMDAwMDAwWhgPMDAwMTAxMDEwMDAwMDBaMBYxFDAS
BgNVBAMTC2V4YW1wbGUuY29tMFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAEeBZu
7cbpAYNXZLbbh8rNIzuOoqOOtmxA1v7cRm//AwyMwWxyHz4zfwmBhcSrf47NUAFf
qzLQ2PPQxdTXREYEnKMjMCEwHwYDVR0jBBgwFoAUaYhba4dGQEHhs3uEe6CuLN4B
yNQwCgYIKoZIzj0EAwIDRwAwRAIge09+S5TZAlw5tgtiVvuERV6cT4mfutXIlwTb
+FYN/8oCIClDsqBklhB9KAelFiYt9+6FDj3z4KGVelYM5MdsO3pK
-----END CERTIFICATE-----`

t.test('the ARI id of the example in RFC 9773 is the one that stands there', async (t) => {
  t.equal(ariIdOf(new X509Certificate(ARI_EXAMPLE)), 'aYhba4dGQEHhs3uEe6CuLN4ByNQ.AIdlQyE')
})

t.test('the ARI id of a serial number without a high bit has no zero before it', async (t) => {
  const leaf = await makeLeaf(NAMES)
  const [, serial = ''] = ariIdOf(leaf)?.split('.') ?? []
  t.equal(Buffer.from(serial, 'base64url').toString('hex'), leaf.serialNumber.toLowerCase())
})

t.test('a certificate without an authority key identifier has no ARI id', async (t) => {
  const { certificatePem } = signOdd({
    subject: '/CN=a',
    extensions: 'subjectAltName=DNS:a.example\nauthorityKeyIdentifier=none',
    keyPem,
  })
  t.equal(ariIdOf(new X509Certificate(certificatePem)), undefined)
})
