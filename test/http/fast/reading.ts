/** What the lexer and the body reader make of a message that comes in pieces, read as connections read it. */
import { BodyReader } from '../../../src/http/fast/body.ts'
import { Head } from '../../../src/http/fast/head.ts'
import { lexRequestHead, lexResponseHead, MAX_HEAD_BYTES } from '../../../src/http/fast/lexer.ts'

export type MessageKind = 'request' | 'response'

export interface MessageReading {
  /** `complete`, `incomplete`, or the fault of head or body. */
  readonly verdict: string
  /** Octets up to the end of the message, or to where it was given up. */
  readonly length: number
  /** The facts of the head, as JSON, and its kept lines. */
  readonly head: string
  readonly lines: string
  readonly body: string
  readonly trailers: string
}

/** One for many messages, as the engine's buffers are. */
export class MessageReader {
  readonly #head = new Head()
  readonly #lines = Buffer.alloc(2 * MAX_HEAD_BYTES)
  readonly #body = new BodyReader()
  readonly #kind: MessageKind

  constructor(kind: MessageKind) {
    this.#kind = kind
  }

  read(pieces: readonly Buffer[]): MessageReading {
    const head = this.#head
    const lex = this.#kind === 'request' ? lexRequestHead : lexResponseHead
    const reading = { verdict: 'incomplete', length: 0, head: '', lines: '', body: '', trailers: '' }
    let pending = Buffer.alloc(0)
    let headEnd = -1
    for (const piece of pieces) {
      let start = 0
      let bytes = piece
      if (headEnd === -1) {
        pending = Buffer.concat([pending, piece])
        reading.verdict = lex(head, pending, 0, pending.length, this.#lines)
        if (reading.verdict === 'incomplete') continue
        if (reading.verdict !== 'complete') return reading
        headEnd = head.end
        const { end, length, ...facts } = head
        reading.length = end
        reading.head = JSON.stringify(facts)
        reading.lines = this.#lines.toString('latin1', 0, length)
        this.#body.start(
          head.chunked ? 'chunked' : head.contentLength > 0 ? 'length' : 'none',
          head.contentLength,
        )
        start = headEnd
        bytes = pending
      }
      const end = this.#body.read(bytes, start, bytes.length, {
        onContent: (content, from, to) => {
          reading.body += content.toString('latin1', from, to)
        },
      })
      reading.length += end - start
      reading.trailers = this.#body.trailers?.toString('latin1') ?? ''
      reading.verdict = this.#body.fault || (this.#body.done ? 'complete' : 'incomplete')
      if (reading.verdict !== 'incomplete') return reading
    }
    return reading
  }
}
