/**
 * Which of several CAs comes first for a host when hosts are spread over them, so that no one CA carries the fleet.
 * Serves `sites.ts`.
 */
import { createHash } from 'node:crypto'

/**
 * The CAs in the host's own order, by rendezvous hashing: the same on every machine and over restarts; each is first for
 * an equal share of hosts; one that is added takes its share and leaves every other pair in its order.
 *
 * @param isSpread others keep their place in the list
 */
export function spreadCas(
  host: string,
  cas: readonly string[],
  isSpread: (ca: string) => boolean,
): readonly string[] {
  const scores = new Map(cas.filter(isSpread).map((ca) => [ca, scoreOf(host, ca)]))
  const inOrder = [...scores].sort(([, a], [, b]) => a.localeCompare(b, 'en')).map(([ca]) => ca)
  const next = inOrder.values()
  return cas.map((ca) => (scores.has(ca) ? (next.next().value ?? ca) : ca))
}

function scoreOf(host: string, ca: string): string {
  return createHash('sha256').update(`${host} ${ca}`).digest('hex')
}
