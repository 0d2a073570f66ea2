import { X509Certificate } from 'node:crypto'
import t from 'tap'
import { elementsIn } from '../../src/cert/der.ts'
import { type NameConstraints, nameConstraintsIn, permits } from '../../src/cert/name-constraints.ts'
import { profileOf } from '../../src/cert/profile.ts'
import { generateKeyPem } from '../../src/cert/x509.ts'
import { signOdd } from '../support/openssl.ts'

const keyPem = await generateKeyPem('ecdsa-p256')

/** @param value as openssl writes the extension */
function constraintsOf(value: string): NameConstraints {
  const extensions = `basicConstraints=CA:TRUE\nnameConstraints=${value}`
  const { certificatePem } = signOdd({ subject: '/CN=CA', extensions, keyPem })
  const { nameConstraints } = profileOf(new X509Certificate(certificatePem))
  if (nameConstraints === undefined) throw new Error('the certificate has no name constraints')
  return nameConstraints
}

for (const [value, names] of [
  [
    'permitted;DNS:example.com',
    {
      'example.com': true,
      'a.b.example.com': true,
      '*.example.com': true,
      'badexample.com': false,
      'example.com.evil.org': false,
      com: false,
      '192.0.2.1': true,
    },
  ],
  ['permitted;DNS:.example.com', { 'a.example.com': true, 'example.com': false }],
  ['permitted;DNS:Example.COM', { 'a.example.com': true }],
  [
    'permitted;DNS:a.example,permitted;DNS:b.example',
    { 'a.example': true, 'b.example': true, 'c.example': false },
  ],
  [
    'excluded;DNS:secret.example.com',
    {
      'example.com': true,
      'secret.example.com': false,
      'a.secret.example.com': false,
      'other.example.com': true,
      '*.example.com': false,
      '*.example.org': true,
    },
  ],
  [
    'permitted;DNS:example.com,excluded;DNS:no.example.com',
    { 'a.example.com': true, 'no.example.com': false },
  ],
  [
    'permitted;IP:192.0.2.0/255.255.255.0',
    { '192.0.2.200': true, '192.0.3.1': false, '2001:db8::1': false, 'app.example.com': true },
  ],
  [
    'permitted;IP:2001:db8:0:0:0:0:0:0/ffff:ffff:0:0:0:0:0:0',
    { '2001:db8:1::5': true, '2001:db9::1': false, '192.0.2.1': false },
  ],
  ['excluded;IP:0.0.0.0/0.0.0.0', { '192.0.2.1': false, '2001:db8::1': true }],
  ['permitted;email:example.org', { 'app.example.com': true }],
] as const) {
  for (const [name, isPermitted] of Object.entries(names)) {
    t.test(`${value} ${isPermitted ? 'permits' : 'forbids'} ${name}`, async (t) => {
      t.equal(permits(constraintsOf(value), name), isPermitted)
    })
  }
}

t.test('an IP range whose mask has a hole is malformed', async (t) => {
  // excludedSubtrees { GeneralSubtree { iPAddress 192.0.2.0/255.0.255.0 } }
  const fields = Buffer.from('a10c300a8708c0000200ff00ff00', 'hex')
  t.throws(() => nameConstraintsIn(elementsIn(fields)), new RangeError('X.509: malformed IP constraint'))
})
