/** The edits of a route on the octets of heads. Used by `exchange.ts`, for routes that have any. */
import { editsOf, type FieldEdits, rewriteTarget } from '../edits.ts'
import type { Route } from '../verdict.ts'
import { dropLines, KnownFields, keepLines } from './fields.ts'
import type { Head } from './head.ts'
import { CR, LF, SP, writeAscii, writeText } from './octets.ts'

const NO_EDITS = editsOf([], [])
const CRLF_BYTES = 2

/** One for each engine. */
export class HeadEditor {
  /** `FieldEdits.dropped` for octets: a route's are the same for all its requests. */
  readonly #dropped = new WeakMap<readonly string[], KnownFields>()

  /** A copy of a whole request head with its empty line, whose target is `target`, as the route's upstreams get it. */
  editRequest(
    head: Buffer,
    { path, rewrite, requestEdits = NO_EDITS }: Pick<Route, 'path' | 'rewrite' | 'requestEdits'>,
    target: string,
  ): Buffer {
    const newTarget = rewrite === undefined ? target : rewriteTarget(target, path, rewrite)
    const edited = Buffer.allocUnsafe(head.length + newTarget.length + requestEdits.lines.length)
    let o = head.copy(edited, 0, 0, head.indexOf(SP) + 1)
    o = writeText(edited, newTarget, o)
    o = writeAscii(edited, ' HTTP/1.1\r\n', o)
    const dropped = this.#droppedBy(requestEdits)
    o = keepLines(head, head.indexOf(LF) + 1, head.length - CRLF_BYTES, dropped, edited, o)
    o = writeText(edited, requestEdits.lines, o)
    edited[o] = CR
    edited[o + 1] = LF
    return edited.subarray(0, o + CRLF_BYTES)
  }

  /** Changes a response's lines in place. `lines` has room: see `Engine.responseLines`. */
  editResponse(head: Head, lines: Buffer, edits: FieldEdits): void {
    dropLines(head, lines, this.#droppedBy(edits))
    head.length = writeText(lines, edits.lines, head.length)
  }

  #droppedBy({ dropped }: FieldEdits): KnownFields {
    const known = this.#dropped.get(dropped)
    if (known !== undefined) return known
    const made = KnownFields.dropping(dropped)
    this.#dropped.set(dropped, made)
    return made
  }
}
