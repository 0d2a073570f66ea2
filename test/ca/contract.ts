/** What every issuer owes (`src/ca/issuer.ts`), run by each implementation's test. */
import { createPrivateKey, type X509Certificate } from 'node:crypto'
import type { Test } from 'tap'
import type { IssueRequest, Issuer } from '../../src/ca/issuer.ts'
import { verifyChain } from '../../src/cert/verify.ts'
import { keyTypeOf } from '../../src/cert/x509.ts'
import { IssueError } from '../../src/errors.ts'

export interface IssuerUnderTest {
  readonly issuer: Issuer
  /** Where its chains end. */
  readonly roots: readonly X509Certificate[]
}

/**
 * Orders for `*.example.com` hosts and `127.0.0.1`, with real time.
 *
 * @param makeIssuer called once; it and what it needs end with `t`
 */
export async function issuerContract(
  t: Test,
  makeIssuer: (t: Test) => Promise<IssuerUnderTest>,
): Promise<void> {
  const { issuer, roots } = await makeIssuer(t)
  const requestFor = (
    names: readonly string[],
    keyType: IssueRequest['keyType'] = 'ecdsa-p256',
  ): IssueRequest => ({
    names,
    keyType,
    challenges: ['http-01', 'tls-alpn-01'],
  })
  const issue = (request: IssueRequest, signal = new AbortController().signal) =>
    issuer.issue(request, signal)

  for (const names of [['one.example.com'], ['one.example.com', 'two.example.com'], ['127.0.0.1']]) {
    t.test(`issues for ${names.join(' and ')}, from a chain that a client accepts`, async (t) => {
      const certificate = await issue(requestFor(names))
      t.same([...certificate.names].sort(), [...names].sort())
      t.equal(certificate.source, issuer.id)
      t.ok(certificate.isValidAt(Date.now()))
      t.doesNotThrow(() => verifyChain(certificate, { names, roots, now: Date.now() }))
    })
  }

  for (const keyType of ['ecdsa-p256', 'ecdsa-p384', 'rsa-2048'] as const) {
    t.test(`makes a key of the type that is asked for: ${keyType}`, async (t) => {
      const { keyPem } = await issue(requestFor(['key.example.com'], keyType))
      t.equal(keyTypeOf(keyPem), keyType)
    })
  }

  t.test('makes a fresh key and a serial number of its own each time', async (t) => {
    const first = await issue(requestFor(['fresh.example.com']))
    const second = await issue(requestFor(['fresh.example.com']))
    t.not(first.keyPem, second.keyPem)
    t.not(first.serial, second.serial)
  })

  t.test('certifies the key that it is given', async (t) => {
    const { keyPem } = await issue(requestFor(['kept.example.com']))
    const again = await issue({ ...requestFor(['kept.example.com']), keyPem })
    t.equal(again.keyPem, keyPem)
    t.ok(again.leaf.checkPrivateKey(createPrivateKey(keyPem)))
  })

  t.test('serves several orders at once', async (t) => {
    const hosts = ['a.example.com', 'b.example.com', 'c.example.com']
    const certificates = await Promise.all(hosts.map((host) => issue(requestFor([host]))))
    t.same(
      certificates.map(({ names }) => names),
      hosts.map((host) => [host]),
    )
  })

  t.test('answers a probe', async (t) => {
    await t.resolves(issuer.probe(new AbortController().signal))
  })

  t.test('refuses what was aborted before it began, and blames nobody else', async (t) => {
    const signal = AbortSignal.abort(new Error('stopped by the test'))
    for (const work of [issue(requestFor(['aborted.example.com']), signal), issuer.probe(signal)]) {
      const error = await failureOf(work)
      t.ok(error instanceof IssueError, String(error))
      t.match(error, { blame: 'local', message: /stopped by the test/ })
    }
  })

  t.test('lets go of an order that is aborted, and takes the next one', async (t) => {
    const controller = new AbortController()
    const order = failureOf(issue(requestFor(['aborted.example.com']), controller.signal))
    setImmediate(() => controller.abort(new Error('stopped by the test')))
    const error = await order
    t.ok(error instanceof IssueError, String(error))
    t.match(error, { blame: 'local', message: /stopped by the test/ })
    t.same((await issue(requestFor(['next.example.com']))).names, ['next.example.com'])
  })
}

async function failureOf(work: Promise<unknown>): Promise<unknown> {
  return work.then(
    () => new Error('it did not fail'),
    (reason: unknown) => reason,
  )
}
