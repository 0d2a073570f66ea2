/**
 * Puts what the schema objects to into one line each: the path, what was expected and what was found, and what was
 * probably meant. Receives zod's issues from `load.ts`. A value is shown as it is written in the file, never as the
 * environment fills it in.
 */
import type { ConfigProblem } from '../errors.ts'
import { didYouMean, formatPath, type Path, quoteAll } from './problems.ts'
import { formsOf, type Issue, type JsonSchema, type RawIssue } from './schema.ts'

/** Words for the issues that the schema has none for. Pass it to `configSchema.safeParse`. */
export function describeIssue(issue: RawIssue): string | undefined {
  if (issue.code === 'invalid_type')
    return issue.input === undefined
      ? 'is missing'
      : `expected ${nameOfType(issue.expected)}, found ${kindOf(issue.input)}`
  if (issue.code === 'invalid_value') return `not one of ${quoteAll(issue.values)}`
  return undefined
}

/**
 * @param written the config as the file has it
 * @param schema what `configJsonSchema` gives: the keys that there are
 */
export function problemsOf(issues: readonly Issue[], written: unknown, schema: JsonSchema): ConfigProblem[] {
  return issues.flatMap((issue) => problemsOfOne(issue, issue.path, written, schema))
}

function problemsOfOne(issue: Issue, path: Path, written: unknown, schema: JsonSchema): ConfigProblem[] {
  const at = (message: string, hint?: string): ConfigProblem[] => [
    { path: formatPath(path), message, ...(hint === undefined ? {} : { hint }) },
  ]
  const found = valueAt(written, path)
  switch (issue.code) {
    case 'unrecognized_keys':
      return issue.keys.flatMap((key) =>
        at(`unknown key ${JSON.stringify(key)}`, meantKey(key, path, schema)),
      )
    case 'invalid_union': {
      // The one form that the value has the type of says more than "none of these".
      const form = issue.errors.filter((errors) => errors.every(isOfItsType))
      if (form.length !== 1) return at(withValue(issue.message, found))
      return (form[0] ?? []).flatMap((each) => problemsOfOne(each, [...path, ...each.path], written, schema))
    }
    case 'invalid_key':
      return at(withValue(issue.issues[0]?.message ?? issue.message, path.at(-1)))
    case 'invalid_value':
      return at(
        withValue(issue.message, found),
        typeof found === 'string' ? didYouMean(found, issue.values.map(String)) : undefined,
      )
    case 'invalid_type':
      return at(
        issue.message,
        issue.expected === 'array' && found !== undefined ? 'write it in [ ]' : undefined,
      )
    default:
      return at(withValue(issue.message, found))
  }
}

/** Is it about something other than the type of the value itself? */
function isOfItsType(issue: Issue): boolean {
  return issue.path.length > 0 || (issue.code !== 'invalid_type' && issue.code !== 'invalid_value')
}

/** `not a host: …` → `"x y" is not a host: …` */
function withValue(message: string, value: unknown): string {
  if (!message.startsWith('not ')) return message
  return `${typeof value === 'object' ? kindOf(value) : JSON.stringify(value)} is ${message}`
}

/** Where a key that does not belong here was meant to be. */
function meantKey(key: string, path: Path, schema: JsonSchema): string {
  const properties = objectAt(schema, path)?.properties ?? {}
  const near = didYouMean(key, Object.keys(properties))
  if (near !== undefined) return near
  const holder = Object.keys(properties).find((name) => hasKey(properties[name], key))
  if (holder !== undefined) return `did you mean ${JSON.stringify(`${holder}.${key}`)}?`
  return `known here: ${Object.keys(properties).join(', ')}`
}

function hasKey(schema: JsonSchema['items'], key: string): boolean {
  return Object.hasOwn(withKeys(schema)?.properties ?? {}, key)
}

function objectAt(schema: JsonSchema, path: Path): JsonSchema | undefined {
  let node: JsonSchema | undefined = schema
  for (const key of path)
    node = withKeys(
      typeof key === 'number' ? node?.items : (node?.properties?.[String(key)] ?? node?.additionalProperties),
    )
  return node
}

/** Of a schema with several forms the one that has keys. */
function withKeys(schema: JsonSchema['items']): JsonSchema | undefined {
  if (typeof schema !== 'object' || Array.isArray(schema)) return undefined
  return formsOf(schema).find((form) => form.properties !== undefined) ?? schema
}

function valueAt(value: unknown, path: Path): unknown {
  return path.reduce<unknown>(
    (node, key) => (typeof node === 'object' && node !== null ? Reflect.get(node, key) : undefined),
    value,
  )
}

function nameOfType(expected: string): string {
  if (expected === 'int') return 'a whole number'
  return expected === 'record' ? 'an object' : withArticle(expected)
}

function kindOf(value: unknown): string {
  if (value === null) return 'null'
  return withArticle(Array.isArray(value) ? 'array' : typeof value)
}

function withArticle(noun: string): string {
  return `${/^[aeiou]/.test(noun) ? 'an' : 'a'} ${noun}`
}
