import { X509Certificate } from 'node:crypto'
import t from 'tap'
import { faultInBrowsers } from '../../src/cert/browser-rules.ts'
import { profileOf } from '../../src/cert/profile.ts'
import { DAY, SECOND } from '../../src/time.ts'
import { makeCertificate } from '../support/certificates.ts'
import { signWithTimestamps, timestampOf } from '../support/transparency.ts'

/** Of a public CA, as it was served: for 365 days, in three logs. */
const PUBLIC_PEM = `-----BEGIN CERTIFICATE-----
MIIEnjCCBEWgAwIBAgIRAMcemD/p+fyezmXv4crjhX4wCgYIKoZIzj0EAwIwgY8x
CzAJBgNVBAYTAkdCMRswGQYDVQQIExJHcmVhdGVyIE1hbmNoZXN0ZXIxEDAOBgNV
BAcTB1NhbGZvcmQxGDAWBgNVBAoTD1NlY3RpZ28gTGltaXRlZDE3MDUGA1UEAxMu
U2VjdGlnbyBFQ0MgRG9tYWluIFZhbGlkYXRpb24gU2VjdXJlIFNlcnZlciBDQTAe
Fw0yNDAxMjQwMDAwMDBaFw0yNTAxMjMyMzU5NTlaMBUxEzARBgNVBAMTCmRhZHJp
YW4uaW8wWTATBgcqhkjOPQIBBggqhkjOPQMBBwNCAAQNs17sWcJDcswhVXDJNq7r
5BQZcuTe7pzSHbvXlm9TYTvGAwqymV2c0LSa/r6MQkA0jG5II7WN3PT7FSwwM4nW
o4IC+TCCAvUwHwYDVR0jBBgwFoAU9oUKOxGG4QR9DqoLLNLuzGR7e64wHQYDVR0O
BBYEFFDdMxqQaTwsz+lGJZB9M1X1fnk7MA4GA1UdDwEB/wQEAwIHgDAMBgNVHRMB
Af8EAjAAMB0GA1UdJQQWMBQGCCsGAQUFBwMBBggrBgEFBQcDAjBJBgNVHSAEQjBA
MDQGCysGAQQBsjEBAgIHMCUwIwYIKwYBBQUHAgEWF2h0dHBzOi8vc2VjdGlnby5j
b20vQ1BTMAgGBmeBDAECATCBhAYIKwYBBQUHAQEEeDB2ME8GCCsGAQUFBzAChkNo
dHRwOi8vY3J0LnNlY3RpZ28uY29tL1NlY3RpZ29FQ0NEb21haW5WYWxpZGF0aW9u
U2VjdXJlU2VydmVyQ0EuY3J0MCMGCCsGAQUFBzABhhdodHRwOi8vb2NzcC5zZWN0
aWdvLmNvbTCCAX0GCisGAQQB1nkCBAIEggFtBIIBaQFnAHYAzxFW7tUufK/zh1vZ
aS6b6RpxZ0qwF+ysAdJbd87MOwgAAAGNOMThSwAABAMARzBFAiEAqmtkzXiQ+Evl
qnFojPuAkQfUuuJTgEBj/wreqJr9Ck8CIBIN4LAhq8ldD9E1iDe48+CtF3sBwLkh
lf+K9YW80mCOAHUAouMK5EXvva2bfjjtR2d3U9eCW4SU1yteGyzEuVCkR+cAAAGN
OMThHgAABAMARjBEAiBssIViDASh1Z8/XusbONg1OtXcJmQZ8kr0az2mJpFqiwIg
ajuGUP4K3MADjsv4ejTrGHy62Ehr8Xdr7fiHlcegZhAAdgBOdaMnXJoQwzhbbNTf
P1LrHfDgjhuNacCx+mSxYpo53wAAAY04xOEtAAAEAwBHMEUCICsTfr4HjX4NMgiu
mrU9TS0onLEeeDP8jg7UGT9DvIQ5AiEArxpT8MKZ9DS9HdOj5siM8HqtIw5uMpWQ
2SaWfFa8/powIwYDVR0RBBwwGoIKZGFkcmlhbi5pb4IMKi5kYWRyaWFuLmlvMAoG
CCqGSM49BAMCA0cAMEQCIERlSV9cuhxcrWprHRExTDkr62LSoROmppvlpLUEsYus
AiAklAL7POCYrVUu07fG5a5j/OvLAshPWRZmoHPXzyfQ1A==
-----END CERTIFICATE-----
`

function faultOf(pem: string): string | undefined {
  const leaf = new X509Certificate(pem)
  return faultInBrowsers(leaf, profileOf(leaf))
}

/** Of a leaf that lasts so many days and has these SCTs. */
async function faultWith(days: number, timestamps: readonly Buffer[]): Promise<string | undefined> {
  return faultOf((await signWithTimestamps(timestamps, { days })).certificatePem)
}

t.test('a certificate of a public CA passes', async (t) => {
  t.equal(faultOf(PUBLIC_PEM), undefined)
})

t.test('two logs do up to 180 days, three above', async (t) => {
  const [first, second, third] = [timestampOf(1), timestampOf(2), timestampOf(3)]
  t.equal(await faultWith(180, [first, second]), undefined)
  t.match(await faultWith(180, [first]), /SCTs from 1 .* browsers want 2$/)
  t.match(await faultWith(181, [first, second]), /SCTs from 2 .* browsers want 3$/)
  t.equal(await faultWith(181, [first, second, third]), undefined)
})

t.test('one log that signs twice is one log', async (t) => {
  t.match(await faultWith(90, [timestampOf(1), timestampOf(1, { time: 2n })]), /SCTs from 1 /)
})

t.test('an SCT of another version does not count', async (t) => {
  t.match(await faultWith(90, [timestampOf(1), timestampOf(2, { version: 1 })]), /SCTs from 1 /)
})

t.test('a list of SCTs that is cut short is malformed', async (t) => {
  const list = Buffer.of(0, 9, 0)
  const { certificatePem } = await signWithTimestamps([], { days: 90, list })
  t.throws(() => faultOf(certificatePem), RangeError)
})

for (const [from, days] of [
  ['2026-03-14', 398],
  ['2026-03-15', 200],
  ['2027-03-15', 100],
  ['2029-03-15', 47],
] as const) {
  t.test(`what is issued from ${from} on may last ${days} days`, async (t) => {
    const notBefore = Date.parse(from)
    const make = (lifetimeMs: number) =>
      makeCertificate({ names: ['app.example.com'], notBefore, days: lifetimeMs / DAY })
    const longest = await make(days * DAY)
    t.match(faultOf(longest.leaf.toString()), /Certificate Transparency/, 'its lifetime is no fault')
    const longer = await make(days * DAY + SECOND)
    t.equal(
      faultOf(longer.leaf.toString()),
      `the leaf is valid for ${days + 1} days, and browsers allow ${days} to one issued then`,
    )
  })
}
