/** Reads TypeScript as text, with no parser at hand: what is code and what is not, and what is imported. */

export interface Import {
  readonly specifier: string
  readonly line: number
}

export interface SourceText {
  /** The source, each character of a comment or literal replaced by a space; quotes and line breaks stay. */
  readonly code: string
  /** Of values and of types, static and dynamic; not those whose specifier is computed. */
  readonly imports: readonly Import[]
}

const COMMENT = /\/\/.*|\/\*[\s\S]*?\*\//y
const STRING = /'(?:\\.|[^'\\\n])*'|"(?:\\.|[^"\\\n])*"/y
const REGULAR_EXPRESSION = /\/(?:\\.|\[(?:\\.|[^\]\\\n])*\]|[^/\\[\n])+\/\w*/y
/** From a backtick, or the brace that ends a substitution, to the next backtick or substitution. */
const TEMPLATE = /[`}](?:\\[\s\S]|\$(?!\{)|[^`\\$])*(?:`|\$\{)/y
const REST = /\w+|\s+|[\s\S]/y

/** After these a slash begins a regular expression; after anything else it divides. */
const BEFORE_EXPRESSION = /(?:^|[(,=:[!&|?{};+\-*%<>~^]|\b(?:return|typeof|case|in|of|await|yield))\s*$/

export function scan(source: string): SourceText {
  const code = codeOf(source)
  return { code, imports: importsOf(source, code) }
}

function codeOf(source: string): string {
  let code = ''
  /** Braces that are open within each open template substitution. */
  const substitutions: number[] = []
  const take = (pattern: RegExp): string | undefined => {
    pattern.lastIndex = code.length
    return pattern.exec(source)?.[0]
  }
  const takeTemplate = (): string | undefined => {
    const resumes = source[code.length] === '}' && substitutions.at(-1) === 0
    if (source[code.length] !== '`' && !resumes) return undefined
    if (resumes) substitutions.pop()
    const template = take(TEMPLATE)
    if (template?.endsWith('${')) substitutions.push(0)
    return template
  }
  const takeRegularExpression = (): string | undefined => {
    if (source[code.length] !== '/' || !BEFORE_EXPRESSION.test(code.slice(-40))) return undefined
    return take(REGULAR_EXPRESSION)
  }
  while (code.length < source.length) {
    const comment = take(COMMENT)
    const literal = comment ?? take(STRING) ?? takeTemplate() ?? takeRegularExpression()
    if (comment !== undefined) code += blank(comment)
    else if (literal !== undefined) code += literal[0] + blank(literal.slice(1, -1)) + literal.at(-1)
    else {
      const rest = take(REST) as string
      const depth = substitutions.length - 1
      if (rest === '{' && depth >= 0) substitutions[depth]!++
      if (rest === '}' && depth >= 0) substitutions[depth]!--
      code += rest
    }
  }
  return code
}

function importsOf(source: string, code: string): Import[] {
  const patterns = [/^(?:import|export)\b(?:[^'"`;=(]*\bfrom)?\s*'( *)'/dgm, /\bimport\(\s*'( *)'\s*\)/dg]
  return patterns.flatMap((pattern) =>
    [...code.matchAll(pattern)].map((match) => {
      const [start, end] = match.indices![1]!
      return { specifier: source.slice(start, end), line: code.slice(0, start).split('\n').length }
    }),
  )
}

function blank(text: string): string {
  return text.replace(/[^\n]/g, ' ')
}
