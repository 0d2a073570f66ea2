/** An ACME client of the tests' own: orders one certificate by HTTP-01, to prove that a CA works. */
import { X509Certificate } from 'node:crypto'
import { once } from 'node:events'
import { createServer } from 'node:http'
import { Agent } from 'node:https'
import * as acme from 'acme-client'

export interface Order {
  /** ACME directory. */
  readonly directory: string
  /** Root to trust for it, PEM. */
  readonly root: string
  /** Where the CA validates HTTP-01. */
  readonly httpPort: number
  readonly name: string
}

export interface Ordered {
  /** As downloaded. */
  readonly pem: string
  /** The public key that was asked for (SPKI, PEM). */
  readonly publicKey: string
}

/** With an account of its own. One order at a time: acme-client keeps its settings process-wide. */
export async function orderCertificate(order: Order): Promise<Ordered> {
  acme.axios.defaults.httpsAgent = new Agent({ ca: order.root })
  const client = new acme.Client({
    directoryUrl: order.directory,
    accountKey: await acme.crypto.createPrivateEcdsaKey(),
    backoffMin: 50,
  })
  const [key, csr] = await acme.crypto.createCsr(
    { altNames: [order.name] },
    await acme.crypto.createPrivateEcdsaKey(),
  )
  const answers = new Map<string, string>()
  const server = createServer((request, response) => response.end(answers.get(request.url ?? '')))
  server.listen(order.httpPort, '127.0.0.1')
  await once(server, 'listening')
  try {
    const pem = await client.auto({
      csr,
      termsOfServiceAgreed: true,
      skipChallengeVerification: true,
      challengePriority: ['http-01'],
      challengeCreateFn: async (_authorization, { token }, keyAuthorization) => {
        answers.set(`/.well-known/acme-challenge/${token}`, keyAuthorization)
      },
      challengeRemoveFn: async () => {},
    })
    return { pem, publicKey: acme.crypto.getPublicKey(key).toString() }
  } finally {
    server.close()
  }
}

/** Every certificate of a PEM chain. */
export function parseChain(pem: string): X509Certificate[] {
  const blocks = pem.match(/-----BEGIN CERTIFICATE-----[^-]+-----END CERTIFICATE-----/g) ?? []
  return blocks.map((block) => new X509Certificate(block))
}
