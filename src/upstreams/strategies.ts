/**
 * The ways of choosing among upstreams that can take a request: round-robin, least connections, two choices, consistent
 * hash. Pure but for the credits of round-robin. `balancer.ts` hands over candidates, never none.
 */
import type { Balancing } from '../config/balancing.ts'
import { hashOf, mix } from './hash.ts'
import type { Member } from './member.ts'

/** What hashing and stickiness may look at; asked only by routes that use them. */
export interface BalancedRequest {
  readonly clientAddress: string
  /** Value of a request field by its name in lower case; several lines are joined. */
  field(name: string): string | undefined
}

/** `now` is monotonic. */
export type Strategy = (
  candidates: readonly Member[],
  request: BalancedRequest,
  now: number,
) => Member | undefined

export function createStrategy(balance: Balancing['balance'], random: () => number): Strategy {
  if (typeof balance === 'object') return consistentHash(keyReader(balance.hash))
  if (balance === 'least-connections') return (candidates, _, now) => leastConnections(candidates, now)
  if (balance === 'two-choices') return (candidates, _, now) => twoChoices(candidates, now, random)
  return (candidates, _, now) => roundRobin(candidates, now)
}

/**
 * Smooth weighted round-robin, as in nginx: each gets credit by its weight, the one with most is chosen and pays for
 * all, so that a heavy one is not chosen many times in a row. Those with a load past `maxLoad` stand aside.
 */
function roundRobin(
  candidates: readonly Member[],
  now: number,
  maxLoad = Number.POSITIVE_INFINITY,
): Member | undefined {
  let best: Member | undefined
  let total = 0
  for (const member of candidates) {
    if (member.loadAt(now) > maxLoad) continue
    const weight = member.weightAt(now)
    member.credit += weight
    total += weight
    if (best === undefined || member.credit > best.credit) best = member
  }
  if (best !== undefined) best.credit -= total
  return best
}

/** Those that are equally little loaded take turns. */
function leastConnections(candidates: readonly Member[], now: number): Member | undefined {
  let least = Number.POSITIVE_INFINITY
  for (const member of candidates) least = Math.min(least, member.loadAt(now))
  return roundRobin(candidates, now, least)
}

/** The less loaded of two drawn at random: nearly as even as looking at all, and no herd runs to one that is idle. */
function twoChoices(candidates: readonly Member[], now: number, random: () => number): Member | undefined {
  const first = draw(candidates, now, random, undefined)
  const second = draw(candidates, now, random, first)
  if (first === undefined || second === undefined) return first
  return second.loadAt(now) < first.loadAt(now) ? second : first
}

function draw(
  candidates: readonly Member[],
  now: number,
  random: () => number,
  except: Member | undefined,
): Member | undefined {
  let total = 0
  for (const member of candidates) if (member !== except) total += member.weightAt(now)
  let left = random() * total
  let drawn: Member | undefined
  for (const member of candidates) {
    if (member === except) continue
    drawn = member
    left -= member.weightAt(now)
    if (left < 0) break
  }
  return drawn
}

/**
 * Weighted rendezvous hashing: every upstream bids for a key, the highest bid wins. When one goes, its keys alone move,
 * to all others in proportion to their weights. A request without the key takes its turn.
 */
function consistentHash(keyOf: (request: BalancedRequest) => string | undefined): Strategy {
  return (candidates, request, now) => {
    const key = keyOf(request)
    if (key === undefined || key === '') return roundRobin(candidates, now)
    const hash = hashOf(key)
    let best: Member | undefined
    let highest = Number.NEGATIVE_INFINITY
    for (const member of candidates) {
      const drawn = (mix(hash ^ member.seed) + 0.5) / 2 ** 32
      const bid = -member.weightAt(now) / Math.log(drawn)
      if (bid > highest) {
        highest = bid
        best = member
      }
    }
    return best
  }
}

/** From `ip`, `header:NAME` or `cookie:NAME` to what it reads. */
function keyReader(source: string): (request: BalancedRequest) => string | undefined {
  const [kind, name = ''] = source.split(':')
  if (kind === 'header') return (request) => request.field(name.toLowerCase())
  if (kind === 'cookie') return (request) => cookieValues(request.field('cookie'), name)[0]
  return (request) => request.clientAddress
}

/** The values of all cookies of a name in a Cookie field (RFC 6265 section 5.4), the most specific path first. */
export function cookieValues(field: string | undefined, name: string): string[] {
  const values: string[] = []
  // Most often there are other cookies only.
  if (field?.includes(name) !== true) return values
  for (const pair of field.split(';')) {
    const equals = pair.indexOf('=')
    if (pair.slice(0, equals).trim() === name) values.push(pair.slice(equals + 1).trim())
  }
  return values
}
