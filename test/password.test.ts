import t from 'tap'
import { hashPassword, parsePasswordHash, verifyPassword } from '../src/password.ts'

t.test('a hash verifies its password, in whatever form its characters came, and no other', async (t) => {
  const text = await hashPassword('gr\u00fc\u00dfe')
  t.match(text, /^\$scrypt\$ln=15,r=8,p=3\$[\w+/]{22}\$[\w+/]{43}$/)
  const hash = parsePasswordHash(text)!
  t.equal(await verifyPassword('gr\u00fc\u00dfe', hash), true)
  t.equal(await verifyPassword('gru\u0308\u00dfe', hash), true, 'decomposed')
  t.equal(await verifyPassword('grusse', hash), false)
  t.equal(await verifyPassword('', hash), false)
})

t.test('the same password has another hash each time', async (t) => {
  t.not(await hashPassword('a'), await hashPassword('a'))
})

t.test('a hash of another program verifies', async (t) => {
  // RFC 7914 section 12: scrypt (P="pleaseletmein", S="SodiumChloride", N=16384, r=8, p=1, dkLen=64).
  const expected =
    '7023bdcb3afd7348461c06cd81fd38ebfda8fbba904f8e3ea9b543f6545da1f2d5432955613f0fcf62d49705242a9af9e61e85dc0d651e40dfcf017b45575887'
  const base64 = (bytes: Buffer): string => bytes.toString('base64').replace(/=+$/, '')
  const text = `$scrypt$ln=14,r=8,p=1$${base64(Buffer.from('SodiumChloride'))}$${base64(Buffer.from(expected, 'hex'))}`
  t.equal(await verifyPassword('pleaseletmein', parsePasswordHash(text)!), true)
})

t.test('what is no hash, or would take the machine down, is none', async (t) => {
  const salt = 'A'.repeat(22)
  const hash = 'A'.repeat(43)
  t.ok(parsePasswordHash(`$scrypt$ln=16,r=8,p=1$${salt}$${hash}`))
  for (const text of [
    '',
    'secret',
    '$2y$10$abcdefghijklmnopqrstuv',
    `$scrypt$ln=24,r=8,p=1$${salt}$${hash}`,
    `$scrypt$ln=15,r=99,p=1$${salt}$${hash}`,
    `$scrypt$ln=0,r=8,p=1$${salt}$${hash}`,
    `$scrypt$ln=15,r=0,p=1$${salt}$${hash}`,
    `$scrypt$ln=15,r=8,p=0$${salt}$${hash}`,
    `$scrypt$ln=15,r=8,p=1$$${hash}`,
    `$scrypt$ln=15,r=8,p=1$${salt}$`,
    `$scrypt$ln=15,r=8,p=1$${salt}$${hash}\n`,
  ])
    t.equal(parsePasswordHash(text), undefined, JSON.stringify(text))
})
