/** The edits of a route on the bytes of heads. Used by `exchange.ts`, for routes that have any. */
import { type FieldEdits, rewriteTarget } from '../edits.ts'
import type { Route } from '../verdict.ts'
import { dropLines, KnownFields, keepLines } from './fields.ts'
import type { Head } from './head.ts'
import { CR, LF, SP, writeAscii } from './octets.ts'

/** `FieldEdits` for octets. */
interface LineEdits {
  readonly dropped: KnownFields
  readonly added: Buffer
}

const NO_EDITS: LineEdits = { dropped: KnownFields.dropping([]), added: Buffer.alloc(0) }
const compiled = new WeakMap<FieldEdits, LineEdits>()

/** A route's edits are the same for all its requests. */
function lineEditsOf(edits: FieldEdits): LineEdits {
  const known = compiled.get(edits)
  if (known !== undefined) return known
  const made = {
    dropped: KnownFields.dropping(edits.dropped),
    added: Buffer.from(edits.lines, 'latin1'),
  }
  compiled.set(edits, made)
  return made
}

const CRLF_BYTES = 2

/** A copy of a whole request head with its empty line, whose target is `target`, as the route's upstreams get it. */
export function editRequest(
  head: Buffer,
  { path, rewrite, requestEdits }: Pick<Route, 'path' | 'rewrite' | 'requestEdits'>,
  target: string,
): Buffer {
  const newTarget = rewrite === undefined ? target : rewriteTarget(target, path, rewrite)
  const { dropped, added } = requestEdits === undefined ? NO_EDITS : lineEditsOf(requestEdits)
  let targetAt = 0
  while (head[targetAt++] !== SP);
  let linesAt = targetAt
  while (head[linesAt++] !== LF);
  const edited = Buffer.allocUnsafe(head.length + newTarget.length + added.length)
  let o = head.copy(edited, 0, 0, targetAt)
  o += edited.write(newTarget, o, 'latin1')
  o = writeAscii(edited, ' HTTP/1.1\r\n', o)
  o = keepLines(head, linesAt, head.length - CRLF_BYTES, dropped, edited, o)
  o += added.copy(edited, o)
  edited[o] = CR
  edited[o + 1] = LF
  return edited.subarray(0, o + CRLF_BYTES)
}

/** Changes a response's lines in place. `lines` has room: see `Engine.responseLines`. */
export function editLines(head: Head, lines: Buffer, edits: FieldEdits): void {
  const { dropped, added } = lineEditsOf(edits)
  dropLines(head, lines, dropped)
  head.length += added.copy(lines, head.length)
}
