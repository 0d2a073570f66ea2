/** The words of a `ConfigProblem`: JSON paths, quotes and the nearest thing that was meant. Pure. */

/** Keys and indices from the root of a config. */
export type Path = readonly PropertyKey[]

/** `sites[0].upstreams[1]`, `cas["My CA"]`. The root is empty. */
export function formatPath(path: Path): string {
  let text = ''
  for (const key of path) {
    if (typeof key === 'number') text += `[${key}]`
    else if (!/^[\w$-]+$/.test(String(key))) text += `[${JSON.stringify(key)}]`
    else text += text === '' ? String(key) : `.${String(key)}`
  }
  return text
}

/** `"a", "b"` */
export function quoteAll(values: Iterable<unknown>): string {
  return [...values].map((value) => JSON.stringify(value)).join(', ')
}

/** `did you mean "upstreams"?`, or undefined when no candidate is near. */
export function didYouMean(word: string, candidates: Iterable<string>): string | undefined {
  const nearest = nearestTo(word, candidates)
  return nearest === undefined ? undefined : `did you mean ${JSON.stringify(nearest)}?`
}

/** The candidate that a typing error or a shortened word makes of `word`; undefined when none is near. */
function nearestTo(word: string, candidates: Iterable<string>): string | undefined {
  const tolerance = Math.max(1, Math.floor(word.length / 3))
  let best: string | undefined
  let bestDistance = tolerance + 1
  for (const candidate of candidates) {
    const distance = editDistance(word.toLowerCase(), candidate.toLowerCase())
    if (distance >= bestDistance) continue
    best = candidate
    bestDistance = distance
  }
  return best
}

/** Damerau-Levenshtein with adjacent swaps (optimal string alignment). */
function editDistance(a: string, b: string): number {
  let beforePrevious: number[] = []
  let previous = Array.from({ length: b.length + 1 }, (_, j) => j)
  for (let i = 1; i <= a.length; i++) {
    const row = [i]
    for (let j = 1; j <= b.length; j++) {
      const changed = a[i - 1] === b[j - 1] ? 0 : 1
      const swapped = i > 1 && j > 1 && a[i - 1] === b[j - 2] && a[i - 2] === b[j - 1]
      row[j] = Math.min(
        at(previous, j) + 1,
        at(row, j - 1) + 1,
        at(previous, j - 1) + changed,
        swapped ? at(beforePrevious, j - 2) + 1 : Number.POSITIVE_INFINITY,
      )
    }
    beforePrevious = previous
    previous = row
  }
  return at(previous, b.length)
}

function at(row: readonly number[], index: number): number {
  return row[index] ?? Number.POSITIVE_INFINITY
}
