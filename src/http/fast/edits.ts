/** The edits of a route on the bytes of heads. Used by `exchange.ts`, for routes that have any. */
import { type FieldEdits, rewriteTarget } from '../edits.ts'
import type { Route } from '../verdict.ts'
import { dropLines } from './fields.ts'
import { Head } from './head.ts'
import { LF, SP } from './octets.ts'

/** A copy of a whole request head with its empty line, whose target is `target`, as the route's upstreams get it. */
export function editRequest(head: Buffer, { path, rewrite, requestEdits }: Route, target: string): Buffer {
  const newTarget = rewrite === undefined ? target : rewriteTarget(target, path, rewrite)
  const method = head.subarray(0, head.indexOf(SP))
  const start = Buffer.concat([method, Buffer.from(` ${newTarget} HTTP/1.1\r\n`, 'latin1')])
  const lines = Buffer.from(head.subarray(head.indexOf(LF) + 1, head.length - CRLF.length))
  if (requestEdits === undefined) return Buffer.concat([start, lines, CRLF])
  const kept = new Head()
  kept.length = lines.length
  dropLines(kept, lines, requestEdits.dropped)
  const added = Buffer.from(requestEdits.lines, 'latin1')
  return Buffer.concat([start, lines.subarray(0, kept.length), added, CRLF])
}

const CRLF = Buffer.from('\r\n')

/** Changes a response's lines in place. `lines` has room: see `Engine.responseLines`. */
export function editLines(head: Head, lines: Buffer, { dropped, lines: added }: FieldEdits): void {
  dropLines(head, lines, dropped)
  head.length += lines.write(added, head.length, 'latin1')
}
