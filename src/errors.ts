/**
 * Every error that crosses a module's edge. Each carries a stable `code` to script against, and its `cause`.
 *
 * Rule: an error's message says what went wrong, where, and what to do; it never holds a key, an EAB secret or a token.
 */

/** One fault in a configuration: where (JSON path such as `sites[0].upstreams[1]`, or the file that is no JSON), what, and how to mend it. */
export interface ConfigProblem {
  readonly path: string
  readonly message: string
  readonly hint?: string
}

/** The configuration, or a file that it names, cannot be used. Carries every problem at once. */
export class ConfigError extends Error {
  readonly code = 'CONFIG_INVALID'
  readonly problems: readonly ConfigProblem[]

  constructor(problems: readonly ConfigProblem[], options?: ErrorOptions) {
    super(problems.map(describeProblem).join('\n'), options)
    this.name = 'ConfigError'
    this.problems = problems
  }
}

/** `sites[0]: unknown key "upstream" (did you mean "upstreams"?)` */
export function describeProblem(problem: ConfigProblem): string {
  const where = problem.path === '' ? '' : `${problem.path}: `
  return `${where}${problem.message}${problem.hint === undefined ? '' : ` (${problem.hint})`}`
}

/** Whose fault a failed issuance is. Only `ca` counts against the health of a CA. */
export type Blame = 'ca' | 'domain' | 'account' | 'local'

/** `now`: another CA may well succeed at once. `later`: the same order may succeed later. `never`: a person must act. */
export type Retry = 'now' | 'later' | 'never'

/** RFC 8555 section 6.7: the problem document that a CA answered with. */
export interface ProblemDocument {
  readonly type: string
  readonly detail?: string
  readonly status?: number
  /** The name that a subproblem is about. */
  readonly identifier?: string
  /** RFC 8555 section 6.7.1: what is wrong with each of several names. */
  readonly subproblems?: readonly ProblemDocument[]
}

export interface IssueErrorOptions extends ErrorOptions {
  readonly blame: Blame
  readonly retry: Retry
  /** How long the CA asked us to stay away, in milliseconds; advice to the planner, never a sleep. */
  readonly retryAfterMs?: number
  readonly problem?: ProblemDocument
}

/** Codes of `IssueError`, stable; metrics use them as `reason`. */
export type IssueCode =
  | 'CA_UNREACHABLE' // connection refused, reset, DNS, TLS
  | 'CA_TIMEOUT' // an exchange or the whole order passed its deadline
  | 'CA_UNAVAILABLE' // 5xx
  | 'CA_RATE_LIMITED' // 429 or urn:ietf:params:acme:error:rateLimited
  | 'CA_BAD_ANSWER' // not JSON, missing fields, impossible states
  | 'CA_BAD_CERTIFICATE' // wrong key or names, expired, chain that does not verify
  | 'CA_REJECTED' // any other refusal by the CA
  | 'CA_SKIPPED' // not asked: its breaker is open, or its rate limit is used up
  | 'ACCOUNT_REJECTED' // EAB, terms, unauthorized account
  | 'DOMAIN_UNVALIDATED' // the challenge failed, DNS, CAA
  | 'NO_CHALLENGE' // the CA offers none of the challenges that we may answer
  | 'LOCAL_FAILURE' // our own disk, solver, or shutdown

/** A certificate could not be obtained. Classified once, at the edge of `ca/`; decided upon in `renew/plan.ts`. */
export class IssueError extends Error {
  readonly code: IssueCode
  readonly blame: Blame
  readonly retry: Retry
  readonly retryAfterMs: number | undefined
  readonly problem: ProblemDocument | undefined

  constructor(code: IssueCode, message: string, options: IssueErrorOptions) {
    super(message, options)
    this.name = 'IssueError'
    this.code = code
    this.blame = options.blame
    this.retry = options.retry
    this.retryAfterMs = options.retryAfterMs
    this.problem = options.problem
  }
}

/** A PEM, PKCS#12 or key that cannot be used as a server certificate. The message names the file or source. */
export class CertificateError extends Error {
  readonly code: 'CERTIFICATE_UNREADABLE' | 'KEY_MISMATCH' | 'CERTIFICATE_EXPIRED' | 'CHAIN_INVALID'

  constructor(code: CertificateError['code'], message: string, options?: ErrorOptions) {
    super(message, options)
    this.name = 'CertificateError'
    this.code = code
  }
}

/** The store cannot be read or written, or a lock could not be had. */
export class StoreError extends Error {
  readonly code: 'STORE_UNAVAILABLE' | 'STORE_DENIED' | 'LOCK_LOST'

  constructor(code: StoreError['code'], message: string, options?: ErrorOptions) {
    super(message, options)
    this.name = 'StoreError'
    this.code = code
  }
}

/** A request that was not answered by an upstream. `status` is what the client gets. */
export class ProxyError extends Error {
  readonly code:
    | 'REQUEST_INVALID'
    | 'MISDIRECTED'
    | 'FORBIDDEN'
    | 'UNAUTHORIZED'
    | 'RATE_LIMITED'
    | 'TOO_LARGE'
    | 'MAINTENANCE'
    | 'NO_ROUTE'
    | 'UPSTREAM_UNREACHABLE'
    | 'UPSTREAM_INVALID'
    | 'UPSTREAM_TIMEOUT'
    | 'NO_UPSTREAM'
    | 'UPSTREAM_BUSY'
    | 'REQUEST_TIMEOUT'
    | 'CLIENT_GONE'
  readonly status: number
  /** For the client, in seconds. */
  readonly retryAfter: number | undefined
  /** For the client: how to authenticate. */
  readonly challenge: string | undefined

  constructor(
    code: ProxyError['code'],
    status: number,
    message: string,
    options: ErrorOptions & { readonly retryAfter?: number; readonly challenge?: string } = {},
  ) {
    super(message, options)
    this.name = 'ProxyError'
    this.code = code
    this.status = status
    this.retryAfter = options.retryAfter
    this.challenge = options.challenge
  }
}

/** Codes of OpenSSL for a chain that ends at nobody we trust. */
const UNTRUSTED = /^(SELF_SIGNED_CERT_IN_CHAIN|DEPTH_ZERO_SELF_SIGNED_CERT|UNABLE_TO_)/

/**
 * What is wrong with a peer's certificate that leads to no root we trust; undefined: something else is. Without Node's
 * advice on how to start Node.
 */
export function distrustOf(error: unknown): string | undefined {
  const { code, message } = error as NodeJS.ErrnoException
  return UNTRUSTED.test(code ?? '')
    ? message.replace(/; if the root CA is installed locally.*/s, '')
    : undefined
}

/** The message of anything thrown, for a log line. */
export function messageOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error)
}
