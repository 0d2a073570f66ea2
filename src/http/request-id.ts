/** Names each request, so that an error page, a log line and the upstream's own log can be brought together. */
import { randomBytes } from 'node:crypto'

export class RequestIds {
  readonly #prefix = randomBytes(6).toString('hex')
  #count = 0

  /** Unique over processes; cheap, and not secret. */
  next(): string {
    this.#count++
    return `${this.#prefix}-${this.#count.toString(36)}`
  }

  /** The id that a trusted proxy gave the request, when it is one that can be logged; else a new one. */
  continue(received: string | undefined): string {
    return received !== undefined && /^[\w.:+/=@-]{1,128}$/.test(received) ? received : this.next()
  }
}
