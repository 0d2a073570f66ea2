import t from 'tap'
import { Certificate } from '../../src/cert/certificate.ts'
import { Contexts } from '../../src/tls/contexts.ts'
import { makeAuthority, makeCertificate } from '../support/certificates.ts'

t.test('a certificate is built once, however often it is published', async (t) => {
  const contexts = new Contexts()
  const certificate = await makeCertificate({ names: ['app.example.com'] })
  contexts.warm(certificate)
  t.equal(contexts.of(certificate), contexts.of(certificate))
})

t.test('a renewed certificate has a context of its own', async (t) => {
  const contexts = new Contexts()
  const names = ['app.example.com']
  t.not(contexts.of(await makeCertificate({ names })), contexts.of(await makeCertificate({ names })))
})

t.test('the same leaf below another chain has a context of its own', async (t) => {
  const contexts = new Contexts()
  const whole = await makeCertificate({ names: ['app.example.com'] })
  const leafOnly = new Certificate(whole.leaf.toString(), whole.keyPem, 'test', 'a test')
  t.not(contexts.of(leafOnly), contexts.of(whole))
})

t.test('past its capacity the least recently used is built anew', async (t) => {
  const contexts = new Contexts(2)
  const authority = await makeAuthority()
  const [a, b, c] = await Promise.all(
    ['a', 'b', 'c'].map((name) => makeCertificate({ names: [`${name}.example.com`], authority })),
  )
  if (a === undefined || b === undefined || c === undefined) throw new Error('three were made')
  const [first, second] = [contexts.of(a), contexts.of(b)]
  contexts.of(a)
  contexts.of(c)
  t.equal(contexts.of(a), first)
  t.not(contexts.of(b), second)
})
