/**
 * The first octets of connections, read before it is settled who takes them over. Hides how they come in pieces, too
 * slowly, or never. Serves `listener.ts`; what is not consumed is put back, so that the next one finds it untouched.
 */
import type { Socket } from 'node:net'
import type { Cancel, Clock } from '../time.ts'

/** Found, with the octets that it takes off the connection; undefined: more are needed. */
export type Preface<T> = { readonly value: T; readonly size: number } | undefined

export interface PrefacesOptions {
  readonly clock: Clock
  /** How long a client may take, in milliseconds. */
  readonly limitMs: () => number
}

/** As many as handshakes may be under way; then the oldest is given up for a new one. */
const MAX_WAITING = 2048

export class Prefaces {
  readonly #options: PrefacesOptions
  /** Oldest first. */
  readonly #waiting = new Set<Socket>()

  constructor(options: PrefacesOptions) {
    this.#options = options
  }

  /** `find` gets all octets so far, again and again. `onFound` is not called where the client leaves or is too slow. */
  read<T>(socket: Socket, find: (bytes: Buffer) => Preface<T>, onFound: (value: T) => void): void {
    this.#makeRoom()
    this.#waiting.add(socket)
    let bytes: Buffer = Buffer.alloc(0)
    const onReadable = (): void => {
      const chunk: Buffer | null = socket.read()
      if (chunk === null) return
      bytes = bytes.length === 0 ? chunk : Buffer.concat([bytes, chunk])
      const found = find(bytes)
      if (found === undefined) return
      leave()
      if (found.size < bytes.length) socket.unshift(bytes.subarray(found.size))
      onFound(found.value)
    }
    const destroy = (): void => {
      socket.destroy()
    }
    const cancel: Cancel = this.#options.clock.after(this.#options.limitMs(), destroy)
    const leave = (): void => {
      cancel()
      this.#waiting.delete(socket)
      socket.off('readable', onReadable).off('end', destroy).off('error', destroy).off('close', leave)
    }
    socket.on('readable', onReadable).on('end', destroy).on('error', destroy).on('close', leave)
  }

  /** Ends what is under way. */
  stop(): void {
    for (const socket of this.#waiting) socket.destroy()
  }

  #makeRoom(): void {
    if (this.#waiting.size < MAX_WAITING) return
    const [oldest] = this.#waiting
    if (oldest === undefined) return
    this.#waiting.delete(oldest)
    oldest.destroy()
  }
}
