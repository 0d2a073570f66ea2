/**
 * Puts the environment into a config: `${NAME}`, `${NAME:-default}` (when unset or empty, as in a shell), and `$${`
 * for a literal `${`. In values, not in keys. Pure: `env` comes from the caller, and no problem shows what it holds.
 */
import type { ConfigProblem } from '../errors.ts'
import { formatPath, type Path } from './problems.ts'

export type Environment = Readonly<Record<string, string | undefined>>

const REFERENCE = /\$\$\{|\$\{(?:([A-Za-z_]\w*)(?::-([^}]*))?\})?/g

/** A copy with every string expanded. A string with a problem stays as it was. */
export function expandVariables(
  value: unknown,
  env: Environment,
  problems: ConfigProblem[],
  path: Path = [],
): unknown {
  if (typeof value === 'string') return expandText(value, env, problems, path)
  if (Array.isArray(value))
    return value.map((item, index) => expandVariables(item, env, problems, [...path, index]))
  if (typeof value !== 'object' || value === null) return value
  return Object.fromEntries(
    Object.entries(value).map(([key, item]) => [key, expandVariables(item, env, problems, [...path, key])]),
  )
}

function expandText(text: string, env: Environment, problems: ConfigProblem[], path: Path): string {
  let sound = true
  const expanded = text.replace(REFERENCE, (reference, name?: string, fallback?: string) => {
    if (reference === '$${') return '${'
    const value = name === undefined ? undefined : readVariable(env, name, fallback)
    if (value !== undefined) return value
    sound = false
    problems.push({ path: formatPath(path), ...problemWith(name) })
    return reference
  })
  return sound ? expanded : text
}

function problemWith(name: string | undefined): { message: string; hint: string } {
  return name === undefined
    ? { message: 'holds "${" without the name of a variable', hint: 'for a literal "${" write "$${"' }
    : {
        message: `the environment variable ${name} is not set`,
        hint: `set it, or write "\${${name}:-default}"`,
      }
}

function readVariable(env: Environment, name: string, fallback: string | undefined): string | undefined {
  const value = Object.hasOwn(env, name) ? env[name] : undefined
  return fallback !== undefined && (value === undefined || value === '') ? fallback : value
}
