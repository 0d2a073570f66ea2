/**
 * The DNS names of upstreams: asked for anew for each connection, so that a name that moves is followed, and all its
 * addresses used in turn. Hides node:dns. `backend.ts` hands `lookup` to whoever connects.
 */
import type { LookupAddress, LookupOptions } from 'node:dns'
import { lookup as lookupAll } from 'node:dns/promises'

/** All addresses of a name, the preferred first. Rejects where there are none. */
export type Resolve = (name: string) => Promise<readonly LookupAddress[]>

export class Names {
  readonly #resolve: Resolve
  /** Connections that are opened at one moment share an answer: the system's resolver takes four questions at a time. */
  readonly #asked = new Map<string, Promise<readonly LookupAddress[]>>()
  #turn = 0

  /** @param resolve the system's resolver when absent: /etc/hosts, then DNS, by /etc/nsswitch.conf */
  constructor(resolve: Resolve = (name) => lookupAll(name, { all: true })) {
    this.#resolve = resolve
  }

  /** For `net.connect` and what is made of it, which tries the addresses in their order (RFC 8305). */
  readonly lookup = (
    name: string,
    options: LookupOptions,
    callback: (error: Error | null, addresses: string | LookupAddress[], family?: number) => void,
  ): void => {
    this.#addressesOf(name).then(
      (addresses) => {
        const inTurn = this.#rotate(addresses)
        const [first] = inTurn
        if (options.all === true) callback(null, inTurn)
        else callback(null, first?.address ?? '', first?.family)
      },
      (cause: NodeJS.ErrnoException) => {
        const error = new Error(`the name ${name} cannot be resolved (${cause.code})`, { cause })
        callback(Object.assign(error, { code: cause.code }), [])
      },
    )
  }

  #addressesOf(name: string): Promise<readonly LookupAddress[]> {
    const known = this.#asked.get(name)
    if (known !== undefined) return known
    const asked = this.#resolve(name).finally(() => this.#asked.delete(name))
    this.#asked.set(name, asked)
    return asked
  }

  /** The family that the system prefers stays first. */
  #rotate(addresses: readonly LookupAddress[]): LookupAddress[] {
    const turn = this.#turn++
    return [...Map.groupBy(addresses, ({ family }) => family).values()].flatMap((of) => {
      const start = turn % of.length
      return [...of.slice(start), ...of.slice(0, start)]
    })
  }
}
