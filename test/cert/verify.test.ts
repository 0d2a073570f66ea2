import { generateKeyPairSync, X509Certificate } from 'node:crypto'
import fc from 'fast-check'
import t from 'tap'
import { Certificate } from '../../src/cert/certificate.ts'
import { createAuthority, createLeaf } from '../../src/cert/signing.ts'
import {
  endOfChain,
  parseRoots,
  publicRoots,
  type VerifyOptions,
  verifyChain,
} from '../../src/cert/verify.ts'
import { generateKeyPem } from '../../src/cert/x509.ts'
import { CertificateError } from '../../src/errors.ts'
import { DAY, HOUR } from '../../src/time.ts'
import { type Credentials, type OddCertificate, signOdd } from '../support/openssl.ts'
import { signWithTimestamps, timestampOf } from '../support/transparency.ts'

const NOW = Date.now()
/** What openssl makes is valid from the second in which it was made. */
const LATER = NOW + HOUR
const NAME = 'app.example.com'
const LEAF = `subjectAltName=DNS:${NAME}\nextendedKeyUsage=serverAuth\nkeyUsage=digitalSignature\nbasicConstraints=CA:FALSE`
const CA = 'basicConstraints=critical,CA:TRUE\nkeyUsage=critical,keyCertSign\nsubjectKeyIdentifier=hash'

const keyPem = await generateKeyPem('ecdsa-p256')
const root = await authority('Root')
const intermediate = await authority('Intermediate', root)
const leaf = await leafBelow(intermediate)

interface Dates {
  readonly notBefore?: number
  readonly notAfter?: number
}

async function authority(
  commonName: string,
  issuer?: Credentials,
  options: Dates & { pathLength?: number; keyPem?: string } = {},
): Promise<Credentials> {
  const own = options.keyPem ?? (await generateKeyPem('ecdsa-p256'))
  const certificatePem = await createAuthority({
    commonName,
    keyPem: own,
    notBefore: NOW - 90 * DAY,
    notAfter: NOW + 90 * DAY,
    pathLength: issuer === undefined ? 1 : 0,
    ...(issuer === undefined ? {} : { issuer }),
    ...options,
  })
  return { certificatePem, keyPem: own }
}

async function leafBelow(issuer: Credentials, dates: Dates = {}, names = [NAME]): Promise<Credentials> {
  const validity = { notBefore: NOW - DAY, notAfter: NOW + 30 * DAY, ...dates }
  return { certificatePem: await createLeaf({ ...validity, names, keyPem, issuer }), keyPem }
}

function odd(subject: string, extensions: string, issuer?: Credentials, more: Partial<OddCertificate> = {}) {
  return signOdd({ subject, extensions, keyPem, ...(issuer === undefined ? {} : { issuer }), ...more })
}

function chainOf(own: Credentials, ...others: Credentials[]): Certificate {
  const pem = [own, ...others].map(({ certificatePem }) => certificatePem).join('')
  return new Certificate(pem, own.keyPem, 'some-ca', 'a test')
}

function rootsOf(...authorities: Credentials[]): X509Certificate[] {
  return authorities.map(({ certificatePem }) => new X509Certificate(certificatePem))
}

function check(certificate: Certificate, options: Partial<VerifyOptions> = {}): void {
  verifyChain(certificate, { names: [NAME], roots: rootsOf(root), now: LATER, ...options })
}

/** The message after `chain of … from …: `, or undefined when the chain passes. */
function faultOf(certificate: Certificate, options: Partial<VerifyOptions> = {}): string | undefined {
  try {
    check(certificate, options)
    return undefined
  } catch (error) {
    if (!(error instanceof Error)) throw error
    return error.message.replace(/^chain of \S+ from some-ca: /, '')
  }
}

/** One intermediate with these extensions instead of the ordinary one, and a leaf below it. */
async function belowOdd(extensions: string, more: Partial<OddCertificate> = {}): Promise<Certificate> {
  const own = await generateKeyPem('ecdsa-p256')
  const between = odd('/CN=Odd', extensions, root, { keyPem: own, ...more })
  return chainOf(await leafBelow(between), between)
}

t.test('accepts a leaf and its intermediate below a trusted root', async (t) => {
  t.equal(faultOf(chainOf(leaf, intermediate)), undefined)
})

t.test('accepts a chain with its root', async (t) => {
  t.equal(faultOf(chainOf(leaf, intermediate, root)), undefined)
})

t.test('accepts certificates out of order and ones that do not belong', async (t) => {
  const stranger = await authority('Stranger')
  t.equal(faultOf(chainOf(leaf, stranger, root, intermediate)), undefined)
})

t.test('accepts a chain whose root is also sent as signed by an older, expired one', async (t) => {
  const old = await authority('Old Root', undefined, { notAfter: NOW - DAY })
  const crossSigned = await authority('Root', old, { keyPem: root.keyPem, pathLength: 1 })
  const options = { roots: rootsOf(old, root) }
  t.equal(faultOf(chainOf(leaf, intermediate, crossSigned), options), undefined)
})

t.test('accepts a chain that only the cross-signed certificate leads to a trusted root', async (t) => {
  const old = await authority('Old Root', undefined, { pathLength: 2 })
  const crossSigned = await authority('Root', old, { keyPem: root.keyPem, pathLength: 1 })
  t.equal(faultOf(chainOf(leaf, intermediate, crossSigned), { roots: rootsOf(old) }), undefined)
})

t.test('accepts a chain when one of two trusted roots with one name has signed it', async (t) => {
  const namesake = await authority('Root')
  t.equal(faultOf(chainOf(leaf, intermediate), { roots: rootsOf(namesake, root) }), undefined)
})

t.test('accepts wildcards for names of one label more', async (t) => {
  const wildcard = await leafBelow(intermediate, {}, ['*.example.com'])
  t.equal(faultOf(chainOf(wildcard, intermediate), { names: ['a.example.com', '*.example.com'] }), undefined)
})

t.test('accepts RSASSA-PSS with SHA-256', async (t) => {
  const rsaRoot = await authority('RSA Root', undefined, { keyPem: await generateKeyPem('rsa-2048') })
  const own = odd('/CN=a', LEAF, rsaRoot, { more: ['-sigopt', 'rsa_padding_mode:pss'] })
  t.equal(faultOf(chainOf(own), { roots: rootsOf(rsaRoot) }), undefined)
})

t.test('accepts, where any root will do, a chain without its root', async (t) => {
  t.equal(faultOf(chainOf(leaf, intermediate), { roots: 'any' }), undefined)
})

t.test('accepts, where any root will do, a chain with its root and a leaf alone', async (t) => {
  t.equal(faultOf(chainOf(leaf, intermediate, root), { roots: 'any' }), undefined)
  t.equal(faultOf(chainOf(await leafBelow(root)), { roots: 'any' }), undefined)
})

t.test('accepts what name constraints permit', async (t) => {
  const own = await belowOdd(
    `${CA}\nnameConstraints=critical,permitted;DNS:example.com,excluded;DNS:no.example.com`,
  )
  t.equal(faultOf(own), undefined)
})

const weakKey = generateKeyPairSync('rsa', { modulusLength: 1024 })
const oddKey = generateKeyPairSync('ec', { namedCurve: 'secp256k1' })
const pemOf = ({ privateKey }: typeof weakKey) =>
  privateKey.export({ type: 'pkcs8', format: 'pem' }).toString()
const isoTime = (time: number) => new Date(Math.floor(time / 1000) * 1000).toISOString().replace('.000', '')

/** Chains that a browser refuses, each below the trusted root `Root`. */
const REFUSED: readonly [what: string, chain: () => Promise<Certificate>, message: string, roots?: 'any'][] =
  [
    [
      'a leaf for another name',
      async () =>
        chainOf(await leafBelow(intermediate, {}, ['b.example.com', '*.app.example.com']), intermediate),
      'the leaf is for b.example.com, *.app.example.com, not for app.example.com',
    ],
    [
      'a leaf that has expired',
      async () =>
        chainOf(
          await leafBelow(intermediate, { notBefore: NOW - 9 * DAY, notAfter: NOW - DAY }),
          intermediate,
        ),
      `the leaf expired on ${isoTime(NOW - DAY)}`,
    ],
    [
      'a leaf that is not valid yet',
      async () => chainOf(await leafBelow(intermediate, { notBefore: NOW + DAY }), intermediate),
      `the leaf is not valid before ${isoTime(NOW + DAY)}; is the clock right?`,
    ],
    [
      'an intermediate that has expired',
      async () => {
        const expired = await authority('Expired', root, { notAfter: NOW - DAY })
        return chainOf(await leafBelow(expired), expired)
      },
      `"Expired" expired on ${isoTime(NOW - DAY)}`,
    ],
    [
      'a leaf that signs another leaf',
      async () => chainOf(await leafBelow(leaf), leaf, intermediate),
      '"app.example.com", which issued the leaf, is not a CA (basicConstraints)',
    ],
    [
      'an intermediate without basicConstraints',
      () => belowOdd('keyUsage=keyCertSign'),
      '"Odd", which issued the leaf, is not a CA (basicConstraints)',
    ],
    [
      'an intermediate that may not sign certificates',
      () => belowOdd('basicConstraints=critical,CA:TRUE\nkeyUsage=digitalSignature'),
      '"Odd", which issued the leaf, may not sign certificates (keyUsage)',
    ],
    [
      'an intermediate for mail only',
      () => belowOdd(`${CA}\nextendedKeyUsage=emailProtection`),
      '"Odd" may not issue for TLS servers (extKeyUsage)',
    ],
    [
      'more CAs than a path length allows',
      async () => {
        const first = await authority('First', root, { pathLength: 0 })
        const second = await authority('Second', first)
        return chainOf(await leafBelow(second), second, first)
      },
      '"First" allows 0 CAs below itself (pathLenConstraint), not 1',
    ],
    [
      'a leaf signed by an impostor of its intermediate',
      async () => chainOf(await leafBelow(await authority('Intermediate', root)), intermediate),
      'the signature of the leaf is not by "Intermediate"',
    ],
    [
      'an intermediate signed by an impostor of the root',
      async () => {
        const false_ = await authority('Intermediate', await authority('Root'))
        return chainOf(await leafBelow(false_), false_)
      },
      'the signature of "Intermediate" is not by the trusted root "Root"',
    ],
    [
      'a leaf whose name was changed after signing',
      async () => {
        const { raw } = new X509Certificate(
          (await leafBelow(intermediate, {}, ['bad.example.com'])).certificatePem,
        )
        const changed = Buffer.from(raw.toString('latin1').replaceAll('bad.example.com', NAME), 'latin1')
        return chainOf({ certificatePem: new X509Certificate(changed).toString(), keyPem }, intermediate)
      },
      'the signature of the leaf is not by "Intermediate"',
    ],
    [
      'a leaf without an extended key usage',
      async () =>
        chainOf(odd('/CN=a', LEAF.replace('extendedKeyUsage=serverAuth', ''), intermediate), intermediate),
      'the leaf is not for TLS servers (extKeyUsage lacks serverAuth)',
    ],
    [
      'a leaf for clients only',
      async () => chainOf(odd('/CN=a', LEAF.replace('serverAuth', 'clientAuth'), intermediate), intermediate),
      'the leaf is not for TLS servers (extKeyUsage lacks serverAuth)',
    ],
    [
      'a leaf that may not sign handshakes',
      async () =>
        chainOf(odd('/CN=a', LEAF.replace('digitalSignature', 'keyAgreement'), intermediate), intermediate),
      'the leaf may not sign handshakes (keyUsage)',
    ],
    [
      'a leaf that is a CA',
      async () => chainOf(odd('/CN=a', LEAF.replace('CA:FALSE', 'CA:TRUE'), intermediate), intermediate),
      'the leaf is a CA (basicConstraints)',
    ],
    [
      'a leaf signed with SHA-1',
      async () => chainOf(odd('/CN=a', LEAF, intermediate, { digest: 'sha1' }), intermediate),
      'the leaf is signed with SHA-1, which clients refuse',
    ],
    [
      'an intermediate signed with SHA-1',
      () => belowOdd(CA, { digest: 'sha1' }),
      '"Odd" is signed with SHA-1, which clients refuse',
    ],
    [
      'a leaf signed with MD5',
      async () => {
        const rsaRoot = await authority('RSA', root, { keyPem: await generateKeyPem('rsa-2048') })
        return chainOf(odd('/CN=a', LEAF, rsaRoot, { digest: 'md5' }), rsaRoot)
      },
      'the leaf is signed with MD5, which clients refuse',
    ],
    [
      'a leaf signed by RSASSA-PSS with SHA-1',
      async () => {
        const rsaRoot = await authority('RSA', root, { keyPem: await generateKeyPem('rsa-2048') })
        const pss = { digest: 'sha1', more: ['-sigopt', 'rsa_padding_mode:pss'] }
        return chainOf(odd('/CN=a', LEAF, rsaRoot, pss), rsaRoot)
      },
      'the leaf is signed with SHA-1, which clients refuse',
    ],
    [
      'a leaf with an RSA key of 1024 bits',
      async () => chainOf(odd('/CN=a', LEAF, intermediate, { keyPem: pemOf(weakKey) }), intermediate),
      'the leaf has an RSA key of 1024 bits; clients want 2048',
    ],
    [
      'a leaf with a key on a curve that browsers lack',
      async () => chainOf(odd('/CN=a', LEAF, intermediate, { keyPem: pemOf(oddKey) }), intermediate),
      'the leaf has a key of type secp256k1, which browsers refuse',
    ],
    [
      'a leaf with an unknown critical extension',
      async () => chainOf(odd('/CN=a', `${LEAF}\n1.2.3.4=critical,ASN1:NULL`, intermediate), intermediate),
      'the leaf has a critical extension that clients do not know',
    ],
    [
      'a name that its intermediate may not vouch for',
      () => belowOdd(`${CA}\nnameConstraints=critical,permitted;DNS:example.org`),
      '"Odd" may not issue for app.example.com (nameConstraints)',
    ],
    [
      'a root that is not trusted',
      async () => {
        const other = await authority('Other Root')
        return chainOf(await leafBelow(other), other)
      },
      'it ends in "Other Root", which is not a trusted root',
    ],
    [
      'an intermediate that is left out',
      async () => chainOf(leaf),
      '"Intermediate", which issued the leaf, is neither in the chain nor a trusted root',
    ],
    [
      'a self-signed leaf',
      async () => chainOf(odd('/CN=Self', LEAF)),
      'it ends in the leaf, which is not a trusted root',
    ],
    [
      'more certificates than clients read',
      async () => chainOf(leaf, intermediate, ...Array.from({ length: 9 }, () => root)),
      'it holds 11 certificates, more than the 10 that clients read',
    ],
    [
      'a leaf with a malformed extension',
      async () =>
        chainOf(
          odd('/CN=a', LEAF.replace('keyUsage=digitalSignature', '2.5.29.15=DER:0309'), intermediate),
          intermediate,
        ),
      'it holds a malformed certificate (DER: an element reaches past its parent)',
    ],
    [
      'where any root will do, a chain that does not hold the issuer of its leaf',
      async () => chainOf(leaf, root),
      'none of its certificates is "Intermediate", which issued the leaf',
      'any',
    ],
    [
      'where any root will do, an impostor',
      async () => chainOf(await leafBelow(await authority('Intermediate', root)), intermediate),
      'the signature of the leaf is not by "Intermediate"',
      'any',
    ],
  ]

for (const [what, make, message, roots] of REFUSED) {
  t.test(`refuses ${what}`, async (t) => {
    t.equal(faultOf(await make(), roots === undefined ? {} : { roots }), message)
  })
}

t.test('refuses a chain below a trusted root that has expired', async (t) => {
  t.equal(
    faultOf(chainOf(leaf, intermediate), { now: NOW + 91 * DAY }),
    `the leaf expired on ${isoTime(NOW + 30 * DAY)}`,
  )
  const expired = await authority('Expired Root', undefined, { notAfter: NOW - DAY })
  const own = chainOf(await leafBelow(expired))
  t.equal(faultOf(own, { roots: rootsOf(expired) }), `"Expired Root" expired on ${isoTime(NOW - DAY)}`)
})

t.test('a chain ends with the first link that every path to a root needs', async (t) => {
  const second = (time: number): number => Math.floor(time / 1000) * 1000
  const [early, late] = [NOW + 10 * DAY, NOW + 30 * DAY]
  const endOf = (certificate: Certificate, roots: VerifyOptions['roots'] = rootsOf(root)) =>
    endOfChain(certificate, { names: [NAME], roots })
  const ending = await authority('Ending', root, { notAfter: early })
  const leafOfEnding = await leafBelow(ending)
  t.equal(endOf(chainOf(leaf, intermediate)), second(late), 'the leaf')
  t.equal(endOf(chainOf(leafOfEnding, ending)), second(early), 'its intermediate')
  t.equal(endOf(chainOf(leafOfEnding, ending), 'any'), second(early), 'also where any root will do')
  t.equal(endOf(chainOf(leafOfEnding, ending), rootsOf(intermediate)), undefined, 'an unknown root')

  const renewed = await authority('Ending', root, { keyPem: ending.keyPem })
  t.equal(endOf(chainOf(leafOfEnding, ending, renewed)), second(late), 'another of the same key lasts longer')

  // As Let's Encrypt's chain by DST Root X3, which ended in 2021.
  const old = await authority('Old Root', undefined, { pathLength: 2 })
  const crossSigned = await authority('Root', old, { keyPem: root.keyPem, pathLength: 1, notAfter: early })
  const long = chainOf(leaf, intermediate, crossSigned)
  t.equal(endOf(long, rootsOf(old, root)), second(late), 'a path to a root goes past what ends early')
  t.equal(endOf(long, rootsOf(old)), second(early), 'no path goes past it')
})

t.test('tells an expired link by its code, and everything else as an invalid chain', async (t) => {
  t.throws(() => check(chainOf(leaf, intermediate), { now: NOW + 31 * DAY }), {
    code: 'CERTIFICATE_EXPIRED',
    message: `chain of app.example.com from some-ca: the leaf expired on ${isoTime(NOW + 30 * DAY)}`,
  })
  t.throws(() => check(chainOf(leaf)), { code: 'CHAIN_INVALID' })
})

t.test('a chain with any byte changed is refused by a CertificateError, whatever the byte', async (t) => {
  const chain = [leaf, intermediate].map(({ certificatePem }) => new X509Certificate(certificatePem).raw)
  const pemOfDer = (der: Buffer) =>
    `-----BEGIN CERTIFICATE-----\n${der.toString('base64')}\n-----END CERTIFICATE-----\n`
  const change = fc.record({ which: fc.nat(1), at: fc.nat(2000), to: fc.nat(254) })
  fc.assert(
    fc.property(change, ({ which, at, to }) => {
      const ders = chain.map((der) => Buffer.from(der))
      const der = ders[which] as Buffer
      const index = at % der.length
      der[index] = to < (der[index] as number) ? to : to + 1
      try {
        check(new Certificate(ders.map(pemOfDer).join(''), keyPem, 'some-ca', 'a test'))
        return false
      } catch (error) {
        return error instanceof CertificateError
      }
    }),
    { numRuns: 2000 },
  )
  t.pass()
})

t.test('gives up on a chain of CAs that all signed one another', async (t) => {
  const shared = await generateKeyPem('ecdsa-p256')
  const first = await authority('Loop', undefined, { keyPem: shared, pathLength: 9 })
  const others = await Promise.all(
    Array.from({ length: 8 }, () => authority('Loop', first, { keyPem: shared, pathLength: 9 })),
  )
  t.equal(faultOf(chainOf(await leafBelow(first), first, ...others)), 'it has more paths than can be tried')
})

t.test('a chain to a root that browsers ship is held to their rules, and no other', async (t) => {
  const browserRoots = rootsOf(root)
  const inTwoLogs = await signWithTimestamps([timestampOf(1), timestampOf(2)], { days: 90, issuer: root })
  t.equal(faultOf(chainOf(inTwoLogs), { browserRoots }), undefined)
  t.match(faultOf(chainOf(leaf, intermediate), { browserRoots }), /^the leaf has SCTs from 0 /)
  t.equal(
    faultOf(chainOf(leaf, intermediate), { browserRoots: rootsOf(await authority('Other')) }),
    undefined,
  )
  t.equal(faultOf(chainOf(leaf, intermediate), { browserRoots, roots: 'any' }), undefined)
})

t.test('what is malformed in what browsers ask for is told', async (t) => {
  const list = Buffer.from([0, 9, 0])
  const own = await signWithTimestamps([], { days: 90, issuer: root, list })
  t.match(
    faultOf(chainOf(own), { browserRoots: rootsOf(root) }),
    /malformed certificate \(the list of SCTs is cut short\)/,
  )
})

t.test("the runtime's roots are a hundred CAs or more", async (t) => {
  const roots = publicRoots()
  t.ok(roots.length > 100)
  t.ok(roots.every((each) => each.ca))
})

t.test('roots are read from PEM with text around it, and junk is told by its name', async (t) => {
  const pem = `# ours\n${root.certificatePem}\n${intermediate.certificatePem}`
  t.equal(parseRoots(pem, 'roots.pem').length, 2)
  t.throws(() => parseRoots('junk', 'roots.pem'), { message: 'roots.pem: holds no PEM certificate' })
})
