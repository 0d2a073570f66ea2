/**
 * What went wrong at a CA, as one `IssueError`: by the type of the problem document (RFC 8555 section 6.7) and the
 * HTTP status, never by text. Serves the other `acme-*` files; `renew/` and `health.ts` act on the outcome.
 */
import { type Blame, type IssueCode, IssueError, type ProblemDocument, type Retry } from '../errors.ts'
import { formatDuration } from '../time.ts'

/** What can come of asking a CA. */
type Outcome = Exclude<IssueCode, 'CA_SKIPPED'>

/**
 * Who bears the blame, and whether another CA may do better at once. Only blame `ca` opens a breaker, so it is for
 * what every order at that CA would meet:
 *
 * - A CA that is out of reach, slow, or talks nonsense does so to everybody: `ca`.
 * - A rate limit belongs to the account or the domains; the CA is well, yet this order is better placed elsewhere.
 * - `CA_REJECTED` is this request's trouble (a profile, a key type, a policy): the next CA has other rules.
 * - A rejected account stays rejected until a person acts, and costs the other CAs nothing.
 * - A domain that fails validation fails it everywhere: asking on only burns limits at the next CA.
 */
const VERDICTS: Readonly<Record<Outcome, { readonly blame: Blame; readonly retry: Retry }>> = {
  CA_UNREACHABLE: { blame: 'ca', retry: 'now' },
  CA_TIMEOUT: { blame: 'ca', retry: 'now' },
  CA_UNAVAILABLE: { blame: 'ca', retry: 'now' },
  CA_BAD_ANSWER: { blame: 'ca', retry: 'now' },
  CA_BAD_CERTIFICATE: { blame: 'ca', retry: 'now' },
  CA_RATE_LIMITED: { blame: 'account', retry: 'now' },
  CA_REJECTED: { blame: 'account', retry: 'now' },
  ACCOUNT_REJECTED: { blame: 'account', retry: 'now' },
  NO_CHALLENGE: { blame: 'domain', retry: 'now' },
  DOMAIN_UNVALIDATED: { blame: 'domain', retry: 'later' },
  LOCAL_FAILURE: { blame: 'local', retry: 'later' },
}

/**
 * What was refused: a request that anybody may send, the account, an order or something of it, or the proof of
 * control over a name. It decides where the type alone does not.
 */
export type Refused = 'anonymous' | 'account' | 'order' | 'validation'

const TYPE = 'urn:ietf:params:acme:error:'

/** Types that mean the same whatever was refused; the others are judged by what was. */
const CODES: ReadonlyMap<string, Outcome> = new Map(
  Object.entries({
    badNonce: 'CA_BAD_ANSWER',
    serverInternal: 'CA_UNAVAILABLE',
    rateLimited: 'CA_RATE_LIMITED',
    accountDoesNotExist: 'ACCOUNT_REJECTED',
    externalAccountRequired: 'ACCOUNT_REJECTED',
    invalidContact: 'ACCOUNT_REJECTED',
    unsupportedContact: 'ACCOUNT_REJECTED',
    userActionRequired: 'ACCOUNT_REJECTED',
    rejectedIdentifier: 'CA_REJECTED',
    unsupportedIdentifier: 'CA_REJECTED',
    caa: 'DOMAIN_UNVALIDATED',
    connection: 'DOMAIN_UNVALIDATED',
    dns: 'DOMAIN_UNVALIDATED',
    incorrectResponse: 'DOMAIN_UNVALIDATED',
    tls: 'DOMAIN_UNVALIDATED',
  } as const).map(([name, code]) => [TYPE + name, code]),
)

/** Where the type has a verdict of its own: these name the domain's fault, and say nothing of other CAs. */
const DOMAIN_AT_THIS_CA: ReadonlySet<string> = new Set(
  ['caa', 'rejectedIdentifier', 'unsupportedIdentifier'].map((name) => TYPE + name),
)

const FALLBACKS: Readonly<Record<Refused, Outcome>> = {
  anonymous: 'CA_REJECTED',
  account: 'ACCOUNT_REJECTED',
  order: 'CA_REJECTED',
  validation: 'DOMAIN_UNVALIDATED',
}

export interface Failure {
  readonly code: Outcome
  /** The CA's name in the config. */
  readonly ca: string
  /** What we were at, for people: `new order`, `http-01 for app.example.com`. */
  readonly doing: string
  /** What happened. */
  readonly what: string
  readonly blame?: Blame
  readonly retry?: Retry
  readonly retryAfterMs?: number | undefined
  readonly problem?: ProblemDocument | undefined
  readonly cause?: unknown
}

/** One clear line for an operator, with the verdict of its code unless it states its own. */
export function failure({
  code,
  ca,
  doing,
  what,
  retryAfterMs,
  problem,
  cause,
  ...own
}: Failure): IssueError {
  return new IssueError(code, `${ca}: ${doing}: ${what}`, {
    ...VERDICTS[code],
    ...own,
    ...(retryAfterMs === undefined ? {} : { retryAfterMs }),
    ...(problem === undefined ? {} : { problem }),
    ...(cause === undefined ? {} : { cause }),
  })
}

export interface Refusal {
  readonly ca: string
  readonly doing: string
  readonly refused: Refused
  /** HTTP status; undefined where the problem stood inside a resource that was read well. */
  readonly status?: number
  readonly problem: ProblemDocument | undefined
  readonly retryAfterMs?: number | undefined
}

/** A refusal by the CA: an HTTP status of 300 or more, or a resource that carries a problem document. */
export function refusal({ ca, doing, refused, status = 0, problem, retryAfterMs }: Refusal): IssueError {
  const code = codeOf(refused, status, problem)
  const atThisCa = problem !== undefined && DOMAIN_AT_THIS_CA.has(problem.type)
  return failure({
    code,
    ca,
    doing,
    what: describe(status, problem, retryAfterMs),
    problem,
    retryAfterMs,
    ...(atThisCa ? { blame: 'domain', retry: 'now' } : {}),
    // Whoever is turned away without having said who he is shares that fate with all orders from here.
    ...(code === 'CA_RATE_LIMITED' && refused === 'anonymous' ? { blame: 'ca' } : {}),
  })
}

function codeOf(refused: Refused, status: number, problem: ProblemDocument | undefined): Outcome {
  // Before the type: Let's Encrypt sheds load with a 503 of type rateLimited.
  if (status >= 500) return 'CA_UNAVAILABLE'
  if (status === 429) return 'CA_RATE_LIMITED'
  if (problem === undefined) return refused === 'validation' ? 'DOMAIN_UNVALIDATED' : 'CA_BAD_ANSWER'
  const code = CODES.get(problem.type)
  if (code !== undefined) return code
  if (problem.type === `${TYPE}unauthorized` && refused !== 'validation') return 'ACCOUNT_REJECTED'
  return FALLBACKS[refused]
}

/** Has the CA lost our account, as a CA does that was reset? */
export function isAccountLost(error: unknown): boolean {
  return isOfType(error, 'accountDoesNotExist')
}

/** The account may not do this, as one may do nothing that is deactivated (RFC 8555 section 7.3.6). */
export function isUnauthorized(error: unknown): boolean {
  return isOfType(error, 'unauthorized')
}

/** RFC 8659: the domain's owner keeps this CA from issuing. */
export function isForbiddenByCaa(error: unknown): boolean {
  return isOfType(error, 'caa')
}

export function isAlreadyRevoked(error: unknown): boolean {
  return isOfType(error, 'alreadyRevoked')
}

export function isBadNonce(error: unknown): error is IssueError {
  return isOfType(error, 'badNonce')
}

function isOfType(error: unknown, name: string): boolean {
  return error instanceof IssueError && error.problem?.type === TYPE + name
}

/** Undefined: it is no problem document (RFC 9457), whatever it may be. Keeps what is known of it, and no more. */
export function readProblem(value: unknown): ProblemDocument | undefined {
  const problem = readOne(value)
  const { subproblems } = (problem === undefined ? {} : value) as { subproblems?: unknown }
  if (problem === undefined || !Array.isArray(subproblems)) return problem
  const inner = subproblems.slice(0, MOST_SUBPROBLEMS).map(readOne)
  return { ...problem, subproblems: inner.filter((each) => each !== undefined) }
}

function readOne(value: unknown): ProblemDocument | undefined {
  if (typeof value !== 'object' || value === null) return undefined
  const { type, detail, status, identifier } = value as Readonly<Record<string, unknown>>
  if (typeof type !== 'string') return undefined
  const name = (identifier as { value?: unknown } | null | undefined)?.value
  return {
    type: cleanText(type),
    ...(typeof detail === 'string' ? { detail: cleanText(detail) } : {}),
    ...(typeof status === 'number' ? { status } : {}),
    ...(typeof name === 'string' ? { identifier: cleanText(name) } : {}),
  }
}

const MOST_SUBPROBLEMS = 10
const LONGEST_TEXT = 500
/** A key authorization, and a token where its URL is quoted: CAs do quote them. */
const SECRET = /[\w-]{16,}\.[\w-]{43}(?![\w-])|(?<=acme-challenge\/)[\w-]+/g
// biome-ignore lint/suspicious/noControlCharactersInRegex: they are what must not reach a terminal or a log line
const CONTROLS = /[\u0000-\u001f\u007f-\u009f\u2028\u2029]+/g

/** Text of the CA's, fit for one line of a log: bounded, without controls and without the secrets of a challenge. */
export function cleanText(text: string): string {
  const line = text
    .slice(0, 4 * LONGEST_TEXT)
    .replace(CONTROLS, ' ')
    .replace(SECRET, '[secret]')
  return line.length > LONGEST_TEXT ? `${line.slice(0, LONGEST_TEXT)}…` : line
}

/** `429 rateLimited: too many certificates (asks to wait 1d)` */
function describe(
  status: number,
  problem: ProblemDocument | undefined,
  retryAfterMs: number | undefined,
): string {
  const parts = [status === 0 ? '' : String(status), problem === undefined ? '' : nameOf(problem.type)]
  const head = parts.filter(Boolean).join(' ') || 'refused without a reason'
  const detail = problem === undefined ? '' : detailOf(problem)
  const wait = retryAfterMs === undefined ? '' : ` (asks to wait ${formatDuration(retryAfterMs)})`
  return `${head}${detail === '' ? '' : `: ${detail}`}${wait}`
}

/** With its subproblems (RFC 8555 section 6.7.1), which tell one name from another. */
function detailOf({ detail = '', subproblems = [] }: ProblemDocument): string {
  const inner = subproblems.map(({ identifier, type, detail: text }) =>
    [identifier, text ?? nameOf(type)].filter(Boolean).join(': '),
  )
  return [detail, ...inner].filter(Boolean).join('; ')
}

function nameOf(type: string): string {
  return type.startsWith(TYPE) ? type.slice(TYPE.length) : type
}
