/**
 * HTTP-01 (RFC 8555 section 8.3): `ca/` presents a key authorization, and the plain port asks here before it redirects
 * or proxies. Hides where the answers are kept; they live in memory, for seconds.
 */
import type { Challenge, Solver } from './solver.ts'

const PATH = '/.well-known/acme-challenge/'
const TOKEN = /^[A-Za-z0-9_-]+$/

export class Http01Solver implements Solver {
  readonly type = 'http-01'
  /** Key authorizations by token: one for each `present` that was not cleaned up, so that equal ones are counted. */
  readonly #presented = new Map<string, string[]>()

  /** Throws when the token could not stand in a path: it is the CA that chose it. */
  async present({ name, token, keyAuthorization }: Challenge): Promise<void> {
    if (!TOKEN.test(token)) throw new Error(`the token of the http-01 challenge for ${name} is not base64url`)
    const answers = this.#presented.get(token)
    if (answers === undefined) this.#presented.set(token, [keyAuthorization])
    else answers.push(keyAuthorization)
  }

  async cleanUp({ token, keyAuthorization }: Challenge): Promise<void> {
    const answers = this.#presented.get(token) ?? []
    const index = answers.indexOf(keyAuthorization)
    if (index >= 0) answers.splice(index, 1)
    if (answers.length === 0) this.#presented.delete(token)
  }

  /**
   * The body to answer a request for this path with, as `application/octet-stream`; undefined when no such challenge
   * is presented. `path` is the request target as it was sent. Synchronous, one map lookup, whoever asks for whatever.
   */
  answer(path: string): string | undefined {
    if (!path.startsWith(PATH)) return undefined
    // Only checked tokens are keys, so what is no token is not found.
    return this.#presented.get(path.slice(PATH.length))?.[0]
  }
}
