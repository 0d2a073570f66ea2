/**
 * One certificate by RFC 8555 section 7.4, from order to download: order → authorizations → present → accept → wait →
 * finalize → wait → download. Receives from `acme.ts`; speaks through `acme-wire.ts`; proves through the solvers.
 */
import { isIP } from 'node:net'
import { commonNameOf, parseCertificates } from '../cert/certificate.ts'
import { generateKeyPem } from '../cert/x509.ts'
import type { Challenge, ChallengeType, Solver } from '../challenge/solver.ts'
import { IssueError, messageOf } from '../errors.ts'
import type { Log } from '../log.ts'
import { type Clock, SECOND, sleep, withDeadline } from '../time.ts'
import { cleanText, failure, isAccountLost, isForbiddenByCaa, refusal } from './acme-problem.ts'
import type { AcmeWire, Authorization, NewOrder, OfferedChallenge, Order } from './acme-wire.ts'
import type { IssueRequest } from './issuer.ts'

export interface AcmeOrderOptions {
  readonly ca: string
  readonly profile: string | undefined
  /** Common name of the root that the chain is to end in, where the CA offers several. */
  readonly preferredRoot: string | undefined
  readonly solvers: readonly Solver[]
  readonly clock: Clock
  readonly log: Log
}

/** What was issued, unchecked, and the key that it was ordered for. */
export interface Issued {
  /** URL of the account that it was issued to. */
  readonly account: string | undefined
  /** Undefined where the CA asked for no proof: it had one. */
  readonly provedBy: ChallengeType | undefined
  readonly chainPem: string
  readonly keyPem: string
}

/** Between two looks at a resource: short at first, for most CAs validate within a second or two. */
const FIRST_PAUSE_MS = SECOND / 4
const LONGEST_PAUSE_MS = 5 * SECOND
const PAUSE_GROWTH = 1.5
/** For putting things in order at a CA that we give up on. */
const GIVE_UP_LIMIT_MS = 5 * SECOND

/**
 * Orders once, and once more for each challenge type that fails while another one is allowed and the request lets it: a
 * failed authorization ends its order (RFC 8555 section 7.1.6).
 *
 * @throws IssueError; what a solver throws; the signal's reason when it aborts
 */
export async function orderCertificate(
  request: IssueRequest,
  wire: AcmeWire,
  options: AcmeOrderOptions,
  signal: AbortSignal,
): Promise<Issued> {
  const { ca, log } = options
  let solvers = request.challenges.flatMap((type) => options.solvers.filter((solver) => solver.type === type))
  let refused: IssueError | undefined
  for (;;) {
    const attempt = new Attempt(request, wire, { ...options, solvers }, signal)
    try {
      return await attempt.run()
    } catch (error) {
      if (!(error instanceof IssueError)) throw error
      // What failed before says more than that nothing else is on offer.
      if (error.code === 'NO_CHALLENGE') throw refused ?? error
      solvers = solvers.filter((solver) => solver.type !== attempt.failed)
      const isHopeless = error.blame !== 'domain' || isForbiddenByCaa(error) || solvers.length === 0
      if (attempt.failed === undefined || isHopeless || request.mayOrderAgain?.(error) === false) throw error
      log.warn({ ca, err: error }, `${ca}: ${attempt.failed} failed, trying ${solvers[0]?.type}`)
      refused = error
    }
  }
}

/** A challenge that is presented. */
interface Proof {
  readonly authorizationUrl: string
  readonly offered: OfferedChallenge
  readonly solver: Solver
  readonly challenge: Challenge
}

/** One order. */
class Attempt {
  /** The type whose validation failed, if one did. */
  failed: ChallengeType | undefined
  /** The type that the CA accepted last. */
  #provedBy: ChallengeType | undefined
  readonly #request: IssueRequest
  readonly #wire: AcmeWire
  readonly #options: AcmeOrderOptions
  readonly #signal: AbortSignal
  /** URLs of authorizations that the CA still waits to see proved. */
  readonly #pending = new Set<string>()
  readonly #proofs: Proof[] = []

  /** @param options its solvers in order of preference */
  constructor(request: IssueRequest, wire: AcmeWire, options: AcmeOrderOptions, signal: AbortSignal) {
    this.#request = request
    this.#wire = wire
    this.#options = options
    this.#signal = signal
  }

  async run(): Promise<Issued> {
    try {
      const order = await this.#place()
      await this.#prove(order).finally(() => this.#cleanUp())
      // With its last authorization it has become ready (RFC 8555 section 7.1.6): no pause before this look.
      const proved = order.status === 'pending' ? await this.#wire.order(order.url, this.#signal) : order
      return await this.#finalize(await this.#waitFor('ready', ['pending'], proved))
    } catch (error) {
      await this.#giveUp(error)
      throw error
    }
  }

  async #place(): Promise<Order> {
    const { ca, log } = this.#options
    const { names, replaces, onOrderedAnew = () => {} } = this.#request
    const profile = this.#profile()
    const plain: NewOrder = {
      identifiers: names.map((value) => ({ type: isIP(value) === 0 ? 'dns' : 'ip', value })),
      ...(profile === undefined ? {} : { profile }),
    }
    const { accountUrl, directory } = this.#wire
    const isAnothers = replaces?.account !== undefined && replaces.account !== accountUrl
    if (replaces === undefined) return this.#wire.newOrder(plain, this.#signal)
    if (!isAnothers && directory.renewalInfo !== undefined) {
      try {
        return await this.#wire.newOrder({ ...plain, replaces: replaces.ariId }, this.#signal)
      } catch (error) {
        // RFC 9773 section 5 lets a CA refuse it; a courtesy to the CA must not cost a certificate.
        if (!isRequestRefused(error)) throw error
        log.info({ ca, err: error }, `${ca}: refuses the order as a replacement, ordering anew`)
      }
    }
    onOrderedAnew()
    return this.#wire.newOrder(plain, this.#signal)
  }

  /** Of what the CA offers: a certificate of its default profile is better than none. */
  #profile(): string | undefined {
    const { ca, log, profile } = this.#options
    const { profiles } = this.#wire.directory
    if (profile === undefined || profiles.includes(profile)) return profile
    const offer = profiles.length === 0 ? 'none' : profiles.join(', ')
    log.warn({ ca, profile }, `${ca}: has no profile ${profile} (it has ${offer}), ordering without`)
    return undefined
  }

  async #prove(order: Order): Promise<void> {
    for (const url of order.authorizations) {
      const authorization = await this.#wire.authorization(url, this.#signal)
      if (authorization.status === 'valid') {
        this.#provedBy ??= this.#onlyTypeOf(authorization)
        continue
      }
      if (authorization.status !== 'pending') throw this.#impossible('authorization', authorization.status)
      this.#pending.add(url)
      await this.#present(authorization)
    }
    for (const { solver, challenge } of this.#proofs) await solver.ready?.(challenge, this.#signal)
    for (const { offered } of this.#proofs) await this.#wire.acceptChallenge(offered, this.#signal)
    for (const proof of this.#proofs) await this.#watch(proof)
  }

  async #present(authorization: Authorization): Promise<void> {
    const { url, name } = authorization
    if (!this.#request.names.some((each) => each.replace(/^\*\./, '') === name))
      throw this.#badAnswer(`asks to prove ${name}, which was not ordered`)
    const { solver, offered } = this.#choose(authorization)
    const keyAuthorization = await this.#wire.keyAuthorization(offered)
    const challenge = { type: solver.type, name, token: offered.token, keyAuthorization }
    // First, for it is to be cleaned up also when presenting fails.
    this.#proofs.push({ authorizationUrl: url, offered, solver, challenge })
    await solver.present(challenge)
    this.#signal.throwIfAborted()
  }

  #choose({ name, challenges }: Authorization): Pick<Proof, 'solver' | 'offered'> {
    const { ca, solvers } = this.#options
    for (const solver of solvers) {
      const offered = challenges.find((each) => each.type === solver.type)
      if (offered !== undefined) return { solver, offered }
    }
    const offers = challenges.map((each) => each.type).join(', ') || 'nothing'
    const allowed = solvers.map((each) => each.type).join(', ') || 'nothing'
    const what = `the CA offers ${offers}, and we may answer ${allowed}`
    throw failure({ code: 'NO_CHALLENGE', ca, doing: `challenge for ${name}`, what })
  }

  /** RFC 8555 section 7.1.4: a valid authorization has the challenge that was validated, and many CAs list no other. */
  #onlyTypeOf({ challenges }: Authorization): ChallengeType | undefined {
    const [only, another] = challenges
    if (another !== undefined) return undefined
    return this.#options.solvers.find(({ type }) => type === only?.type)?.type
  }

  /** Until the CA has made up its mind. */
  async #watch({ authorizationUrl, solver, challenge }: Proof): Promise<void> {
    const pauses = this.#pauses()
    let authorization: Authorization | undefined
    do {
      await pauses.next(authorization?.retryAfterMs)
      authorization = await this.#wire.authorization(authorizationUrl, this.#signal)
    } while (authorization.status === 'pending')
    this.#pending.delete(authorizationUrl)
    if (authorization.status === 'valid') {
      this.#provedBy = solver.type
      return
    }
    if (authorization.status !== 'invalid') throw this.#impossible('authorization', authorization.status)
    this.failed = solver.type
    throw refusal({
      ca: this.#options.ca,
      doing: `${solver.type} for ${challenge.name}`,
      refused: 'validation',
      problem: authorization.challenges.find((each) => each.type === solver.type)?.problem,
    })
  }

  async #finalize(order: Order): Promise<Issued> {
    const { names, keyType, keyPem = await generateKeyPem(keyType) } = this.#request
    const { createCsr } = await import('../cert/signing.ts')
    const csr = await createCsr(names, keyPem)
    const finalized = await this.#wire.finalize(order, csr, this.#signal)
    const { certificate } = await this.#waitFor('valid', ['ready', 'processing'], finalized)
    if (certificate === undefined) throw this.#badAnswer('the order is valid and names no certificate')
    const chainPem = await this.#download(certificate)
    return { chainPem, keyPem, account: this.#wire.accountUrl, provedBy: this.#provedBy }
  }

  /** The chain to the preferred root, else the CA's default one: a preference must not cost a certificate. */
  async #download(certificate: string): Promise<string> {
    const { ca, log, preferredRoot } = this.#options
    const { chainPem, alternates } = await this.#wire.download(certificate, this.#signal)
    const roots = [rootNameOf(chainPem)]
    if (preferredRoot === undefined || roots.includes(preferredRoot)) return chainPem
    try {
      for (const url of alternates) {
        const alternate = await this.#wire.download(url, this.#signal)
        const root = rootNameOf(alternate.chainPem)
        if (root === preferredRoot) return alternate.chainPem
        roots.push(root)
      }
    } catch (error) {
      this.#signal.throwIfAborted()
      log.warn({ ca, err: error }, `${ca}: an alternate chain cannot be had: ${messageOf(error)}`)
    }
    const offer = cleanText(roots.join(', '))
    log.warn(
      { ca, preferredRoot },
      `${ca}: has no chain to ${preferredRoot} (it has ${offer}), taking the default`,
    )
    return chainPem
  }

  async #waitFor(status: string, meanwhile: readonly string[], order: Order): Promise<Order> {
    const pauses = this.#pauses()
    let current = order
    while (meanwhile.includes(current.status)) {
      await pauses.next(current.retryAfterMs)
      current = await this.#wire.order(order.url, this.#signal)
    }
    if (current.status === status) return current
    if (current.status !== 'invalid') throw this.#impossible('order', current.status)
    throw refusal({ ca: this.#options.ca, doing: 'order', refused: 'order', problem: current.problem })
  }

  /** Before each look. The CA's own suggestion counts from the second one on: most are done before the first. */
  #pauses(): { next: (retryAfterMs: number | undefined) => Promise<void> } {
    let pauseMs = FIRST_PAUSE_MS
    const next = async (retryAfterMs = 0): Promise<void> => {
      const suggestedMs = pauseMs === FIRST_PAUSE_MS ? 0 : retryAfterMs
      await sleep(
        this.#options.clock,
        Math.min(LONGEST_PAUSE_MS, Math.max(pauseMs, suggestedMs)),
        this.#signal,
      )
      pauseMs *= PAUSE_GROWTH
    }
    return { next }
  }

  async #cleanUp(): Promise<void> {
    const { ca, log } = this.#options
    for (const { solver, challenge } of this.#proofs.splice(0)) {
      try {
        await solver.cleanUp(challenge)
      } catch (error) {
        log.warn({ ca, err: error }, `${ca}: ${solver.type} for ${challenge.name} is not cleaned up`)
      }
    }
  }

  /** Pending authorizations count against the account. A CA in trouble of its own is left alone: they expire. */
  async #giveUp(error: unknown): Promise<void> {
    const { ca, clock, log } = this.#options
    if (error instanceof IssueError && error.blame === 'ca') return
    try {
      await withDeadline(clock, GIVE_UP_LIMIT_MS, 'giving up', undefined, async (signal) => {
        for (const url of this.#pending) await this.#wire.deactivateAuthorization(url, signal)
      })
    } catch (cause) {
      log.debug({ ca, err: cause }, `${ca}: authorizations are left pending`)
    }
  }

  #impossible(resource: string, status: string): IssueError {
    return this.#badAnswer(`the ${resource} is unexpectedly "${status}"`)
  }

  #badAnswer(what: string): IssueError {
    return failure({ code: 'CA_BAD_ANSWER', ca: this.#options.ca, doing: 'order', what: cleanText(what) })
  }
}

/** Who signed the last certificate of the chain: CAs leave the root itself out. A chain that cannot be read has none. */
function rootNameOf(chainPem: string): string {
  try {
    return commonNameOf(parseCertificates(chainPem, 'chain').at(-1)?.issuer)
  } catch {
    // Whoever verifies the chain tells what is wrong with it.
    return '(unreadable)'
  }
}

/** Refused as it stands: another one may pass. */
function isRequestRefused(error: unknown): boolean {
  return (
    error instanceof IssueError &&
    (error.code === 'CA_REJECTED' || error.code === 'ACCOUNT_REJECTED') &&
    !isAccountLost(error)
  )
}
