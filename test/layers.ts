/**
 * The rules of the house that no compiler checks (`CONTRIBUTING.md`, Layers and Style): imports point strictly down,
 * a third-party package has one importer, one file asks the time, no module keeps state.
 */
import { posix } from 'node:path'
import { type Import, type SourceText, scan } from './source-text.ts'

/** From the ground up. Files that stand at the top and are not named here are of the lowest layer. */
const LAYERS: readonly (readonly string[])[] = [
  ['config/', 'cert/'],
  ['ca/', 'challenge/', 'store/', 'upstreams/'],
  ['tls/', 'http/', 'tcp/', 'renew/', 'notify/', 'deliver/'],
  ['admin/'],
  ['front.ts', 'supply.ts'],
  ['server.ts'],
  ['cli.ts', 'workers.ts', 'workers/', 'commands/'],
]

/** Who may import what of its own layer, besides itself. */
const BESIDE: Readonly<Record<string, readonly string[]>> = {
  'config/': ['cert/', 'the ground'],
  'cert/': ['config/', 'the ground'],
  'the ground': ['config/', 'cert/'],
  'ca/': ['challenge/', 'store/'],
  'cli.ts': ['commands/', 'workers.ts'],
  'workers.ts': ['commands/', 'workers/'],
  'commands/': ['workers.ts'],
}

const ASKS_THE_TIME =
  /\bDate\.now\b|\bperformance\.now\b|\bnew Date\(\s*\)|\bhrtime\b|\bAbortSignal\.timeout\b|(?<![.#\w])set(?:Timeout|Interval)\b/g

/** A variable, or a container that begins empty and can only be there to be filled. */
const MODULE_STATE = /^(?:export )?(?:(?:let|var) \w+|const .*= new (?:Weak)?(?:Map|Set)\b[^(]*\(\))/gm

/** Each breach of a rule as `file:line: what`, given path below `src/` to source text. */
export function findBreaches(sources: ReadonlyMap<string, string>): string[] {
  const texts = new Map([...sources].map(([path, source]) => [path, scan(source)]))
  return [
    ...findWrongDirections(texts),
    ...findCycles(texts),
    ...findSecondImporters(texts),
    ...findInCode(texts, MODULE_STATE, 'state at module level: give it to an object with a lifetime'),
    ...findInCode(texts, ASKS_THE_TIME, 'asks the real time: take a Clock').filter(
      (breach) => !breach.startsWith('time.ts:'),
    ),
  ]
}

type Texts = ReadonlyMap<string, SourceText>

function findWrongDirections(texts: Texts): string[] {
  const breaches: string[] = []
  for (const [path, target, line] of ownImports(texts)) {
    const [from, to] = [placeOf(path), placeOf(target)]
    if (to.layer > from.layer) breaches.push(`${path}:${line}: imports upward, ${target}`)
    else if (to.layer === from.layer && to.name !== from.name && !BESIDE[from.name]?.includes(to.name)) {
      breaches.push(`${path}:${line}: imports sideways, ${target}`)
    }
  }
  return breaches
}

function placeOf(path: string): { layer: number; name: string } {
  const name = path.includes('/') ? path.slice(0, path.indexOf('/') + 1) : path
  const layer = LAYERS.findIndex((names) => names.includes(name))
  if (layer >= 0) return { layer, name }
  if (name.endsWith('/')) throw new Error(`src/${name} has no layer: give it one in test/layers.ts`)
  return { layer: 0, name: 'the ground' }
}

function findCycles(texts: Texts): string[] {
  const targets = new Map<string, string[]>([...texts.keys()].map((path) => [path, []]))
  for (const [path, target] of ownImports(texts)) targets.get(path)?.push(target)
  const done = new Set<string>()
  const breaches: string[] = []
  const visit = (path: string, trail: readonly string[]): void => {
    const start = trail.indexOf(path)
    if (start >= 0) breaches.push(`${path}: imports itself: ${[...trail.slice(start), path].join(' → ')}`)
    if (start >= 0 || done.has(path)) return
    for (const target of targets.get(path) ?? []) visit(target, [...trail, path])
    done.add(path)
  }
  for (const path of targets.keys()) visit(path, [])
  return breaches
}

function findSecondImporters(texts: Texts): string[] {
  const importers = new Map<string, string>()
  const breaches: string[] = []
  for (const [path, { specifier, line }] of allImports(texts)) {
    const name = /^(?:@[^/]+\/)?[^/.:]+(?!:)/.exec(specifier)?.[0]
    if (name === undefined || specifier.startsWith('node:')) continue
    const first = importers.get(name) ?? path
    importers.set(name, first)
    if (first !== path) breaches.push(`${path}:${line}: imports ${name}, which ${first} wraps`)
  }
  return breaches
}

function findInCode(texts: Texts, pattern: RegExp, what: string): string[] {
  return [...texts].flatMap(([path, { code }]) =>
    [...code.matchAll(pattern)].map((match) => {
      const line = code.slice(0, match.index).split('\n').length
      return `${path}:${line}: \`${match[0]}\` ${what}`
    }),
  )
}

function* allImports(texts: Texts): Generator<[path: string, imported: Import]> {
  for (const [path, { imports }] of texts) for (const imported of imports) yield [path, imported]
}

/** Of the tree's own files. */
function* ownImports(texts: Texts): Generator<[path: string, target: string, line: number]> {
  for (const [path, { specifier, line }] of allImports(texts)) {
    if (specifier.startsWith('.')) yield [path, posix.join(posix.dirname(path), specifier), line]
  }
}
