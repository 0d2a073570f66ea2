/**
 * What a route changes of the messages that pass: the path for the upstream, and header fields both ways. Compiled at a
 * reload; wire-neutral. A route without rules has no edits, and costs nothing.
 */
import { withoutSlash } from '../config/paths.ts'
import type { Shaping } from '../config/shaping.ts'

type Rules = NonNullable<Shaping['requestHeaders']>
type Field = readonly [name: string, value: string]

export interface FieldEdits {
  /** In lower case: of these nothing is kept. */
  readonly dropped: readonly string[]
  /** In ASCII as the config has checked, or in latin1 as it came. */
  readonly added: readonly Field[]
  /** `added` as field lines, each with CRLF. */
  readonly lines: string
}

/** Undefined for rules that change nothing. */
export function compileEdits(rules: Rules | undefined): FieldEdits | undefined {
  if (rules === undefined) return undefined
  const set = Object.entries(rules.set)
  const added = [...set, ...Object.entries(rules.add)]
  const dropped = [...set.map(([name]) => name), ...rules.remove].map((name) => name.toLowerCase())
  return added.length === 0 && dropped.length === 0 ? undefined : editsOf(dropped, added)
}

/** `dropped` in lower case. */
export function editsOf(dropped: readonly string[], added: readonly Field[]): FieldEdits {
  return { dropped, added, lines: added.map(([name, value]) => `${name}: ${value}\r\n`).join('') }
}

/**
 * The target for the upstream: `rewrite` in place of the route's path, with which the request's path begins (see
 * `SiteEntry.route`). What follows is kept byte for byte; only slashes that would come to stand in front become one, since
 * `//elsewhere.example` names a host.
 */
export function rewriteTarget(target: string, routePath: string, rewrite: string): string {
  const rest = target.slice(withoutSlash(routePath).length)
  const base = withoutSlash(rewrite)
  if (base !== '') return base + rest
  return rest.startsWith('/') ? rest.replace(/^\/+/, '/') : `/${rest}`
}
