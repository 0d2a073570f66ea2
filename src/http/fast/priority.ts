/** In which order the streams of a connection are served (RFC 9218). `client-http2.ts` sorts by it what waits for room. */

export interface Priority {
  /** 0 is served first, 7 last. */
  readonly urgency: number
  /** Is a part of the response of use before the rest is there? Those that say so take turns. */
  readonly incremental: boolean
}

/**
 * Of requests that say nothing: they take turns. Section 4.2 would have them served one after another, but a stream
 * that never ends, as gRPC has them, would then starve the others.
 */
export const UNSAID: Priority = { urgency: 3, incremental: true }

/**
 * Section 4: a dictionary (RFC 9651 section 3.2) of which `u` and `i` are known. What is absent or invalid has its
 * default, and what is unknown is overlooked.
 */
export function readPriority(field: string): Priority {
  let urgency = 3
  let incremental = false
  for (const member of field.split(',')) {
    const [, key, value] = /^[ \t]*([ui])(?:=(\?[01]|\d))?[ \t]*(?:;.*)?$/.exec(member) ?? []
    if (key === 'u' && value !== undefined && value >= '0' && value <= '7') urgency = Number(value)
    else if (key === 'i' && (value === undefined || value.startsWith('?'))) incremental = value !== '?0'
  }
  return { urgency, incremental }
}

/** For a stable sort: among equals, those that take turns keep their order, and the others go by age. */
export function inOrder(a: Prioritized, b: Prioritized): number {
  if (a.priority.urgency !== b.priority.urgency) return a.priority.urgency - b.priority.urgency
  if (a.priority.incremental !== b.priority.incremental) return a.priority.incremental ? 1 : -1
  return a.priority.incremental ? 0 : a.id - b.id
}

interface Prioritized {
  readonly id: number
  readonly priority: Priority
}
