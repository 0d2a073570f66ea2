import { X509Certificate } from 'node:crypto'
import { writeFileSync } from 'node:fs'
import { join } from 'node:path'
import t, { type Test } from 'tap'
import { generateKeyPem } from '../../src/cert/x509.ts'
import { ClientFields } from '../../src/http/client-fields.ts'
import { openssl, signOdd } from '../support/openssl.ts'

const SUBJECTS = [
  '/CN=alice',
  '/C=DE/O=Acme, Inc./OU=a+b/CN=alice "the" <x>;y\\\\z',
  '/O=Ünïcode 日本/CN=#first',
  '/CN= spaces /emailAddress=a@example.com',
  '/DC=com/DC=example/CN=line\nbreak',
  '/CN=ctrl\u007f\u0001',
  '/serialNumber=1234/UID=u1/CN=last',
]

async function make(subject: string, extensions = ''): Promise<X509Certificate> {
  const keyPem = await generateKeyPem('ecdsa-p256')
  return new X509Certificate(signOdd({ subject, extensions, keyPem, more: [] }).certificatePem)
}

/** What openssl says of the certificate. */
function shown(t: Test, certificate: X509Certificate, ...args: string[]): string {
  const folder = t.testdir({})
  writeFileSync(join(folder, 'pem'), certificate.toString())
  return openssl(folder, 'x509', '-in', 'pem', '-noout', ...args).replace(/\n$/, '')
}

/** A field cannot end with a space, which RFC 2253 would let stand behind a backslash. */
function rfc2253(t: Test, certificate: X509Certificate): string {
  const text = shown(t, certificate, '-subject', '-nameopt', 'RFC2253')
  return text.replace('subject=', '').replace(/ $/, '20')
}

function told(certificate: X509Certificate, what: string): string | undefined {
  const fields = new ClientFields({ [what]: 'X-Value' }).fields({ policy: '', certificate })
  return fields[0]?.[1]
}

t.test('subjects are written as openssl writes them by RFC 2253', async (t) => {
  for (const subject of SUBJECTS) {
    const certificate = await make(subject)
    t.equal(told(certificate, 'subject'), rfc2253(t, certificate))
  }
})

t.test('a part of several values too', async (t) => {
  const certificate = await make('/O=Acme+OU=a + b/CN=alice+emailAddress=a@example.com')
  t.equal(told(certificate, 'subject'), rfc2253(t, certificate))
})

t.test('numbers are as openssl has them', async (t) => {
  const certificate = await make('/CN=alice')
  t.equal(told(certificate, 'serial'), shown(t, certificate, '-serial').replace('serial=', ''))
  const fingerprint = shown(t, certificate, '-fingerprint', '-sha256').replace(/^.*=|:/g, '')
  t.equal(told(certificate, 'fingerprint'), fingerprint.toLowerCase())
})

t.test('the certificate can be read back, in either form', async (t) => {
  const certificate = await make('/CN=alice')
  const [, base64 = ''] = /^:([\w+/=]+):$/.exec(told(certificate, 'certificate') ?? '') ?? []
  t.ok(new X509Certificate(Buffer.from(base64, 'base64')).raw.equals(certificate.raw))
  const pem = told(certificate, 'pem') ?? ''
  t.match(pem, /^-----BEGIN%20CERTIFICATE-----%0A[\w%-]+%0A$/)
  t.ok(new X509Certificate(decodeURIComponent(pem)).raw.equals(certificate.raw))
})

t.test('alternative names are listed, those that could confuse as JSON strings', async (t) => {
  const plain = 'subjectAltName=DNS:a.example,URI:spiffe://acme/alice,IP:192.0.2.1,email:a@example.com'
  t.equal(
    told(await make('/CN=a', plain), 'sans'),
    'DNS:a.example, URI:spiffe://acme/alice, IP Address:192.0.2.1, email:a@example.com',
  )
  // openssl takes the name in its file for Latin-1.
  const odd = [
    ['URI=http://a/, DNS:admin.example', 'URI:"http://a/\\u002c DNS:admin.example"'],
    ['dirName=dn\n[dn]\nCN=Ünï', 'DirName:CN=\\u00C3\\u009Cn\\u00C3\\u00AF'],
  ] as const
  for (const [name, expected] of odd)
    t.equal(told(await make('/CN=a', `subjectAltName=@names\n[names]\n${name}`), 'sans'), expected)
})

t.test('what a certificate does not have is not told', async (t) => {
  const certificate = await make('/')
  for (const what of ['subject', 'sans']) t.equal(told(certificate, what), undefined)
})

t.test('fields of the same name are ours whatever the case, and whatever stands for the hyphen', (t) => {
  const fields = new ClientFields({ subject: 'X-Client-Subject' })
  for (const name of [
    'x-client-subject',
    'X_CLIENT_SUBJECT',
    'x.client-subject',
    'Client-Cert',
    'client_cert_chain',
  ])
    t.equal(fields.owns(name), true, name)
  for (const name of ['x-client-subjects', 'x-client', 'client', 'xclientsubject'])
    t.equal(fields.owns(name), false, name)
  t.end()
})
