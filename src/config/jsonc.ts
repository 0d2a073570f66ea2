/**
 * Reads JSON (RFC 8259) with `//` and `/* *\/` comments and trailing commas, as config files are written by people.
 * Strict in all else. Errors say line and column and what to do; they never quote a value, which may be a secret.
 * Receives a file's text from `load.ts`.
 */
import type { ConfigProblem } from '../errors.ts'
import { formatPath, type Path } from './problems.ts'

export interface JsoncResult {
  /** undefined after a syntax error. Of a key that is there twice, the last value. */
  readonly value: unknown
  /** One syntax error, or every key that is there twice. */
  readonly problems: readonly ConfigProblem[]
}

export function readJsonc(text: string): JsoncResult {
  const reader = new Reader(text)
  try {
    return { value: reader.document(), problems: reader.problems }
  } catch (error) {
    if (error instanceof SyntaxFault) return { value: undefined, problems: [error.problem] }
    throw error
  }
}

class SyntaxFault extends Error {
  readonly problem: ConfigProblem

  constructor(problem: ConfigProblem) {
    super(problem.message)
    this.problem = problem
  }
}

/** Deeper than any config; keeps hostile input off the stack. */
const MAX_DEPTH = 64

const NUMBER = /-?(?:0|[1-9]\d*)(?:\.\d+)?(?:[eE][+-]?\d+)?(?![\w.+-])/y
const STRING = /"(?:[^"\\\r\n]|\\.)*"/y
const WORD = /[^\s,:[\]{}"]+/y
const SPACE = /[ \t\r\n]+|\/\/[^\r\n]*|\/\*[\s\S]*?\*\//y

class Reader {
  readonly problems: ConfigProblem[] = []
  readonly #text: string
  #offset: number

  constructor(text: string) {
    this.#text = text
    this.#offset = text.startsWith('\uFEFF') ? 1 : 0
  }

  document(): unknown {
    this.#skipSpace()
    if (this.#offset === this.#text.length) this.#fail('the file is empty', 'write a configuration in { }')
    const value = this.#value([])
    this.#skipSpace()
    if (this.#offset < this.#text.length)
      this.#fail(`the configuration ends before this, but ${this.#found()} follows`, 'remove the rest')
    return value
  }

  #value(path: Path): unknown {
    if (path.length > MAX_DEPTH) this.#fail('nested too deep')
    const start = this.#text[this.#offset]
    if (start === '{') return this.#object(path)
    if (start === '[') return this.#array(path)
    if (start === '"') return this.#string()
    const number = this.#match(NUMBER)
    if (number !== undefined) return Number(number)
    for (const [word, value] of [
      ['true', true],
      ['false', false],
      ['null', null],
    ] as const) {
      if (this.#peek(WORD) !== word) continue
      this.#offset += word.length
      return value
    }
    return this.#fail(
      `expected a value but found ${this.#found()}`,
      this.#quotesHint('text needs double quotes'),
    )
  }

  #object(path: Path): Record<string, unknown> {
    const object: Record<string, unknown> = {}
    this.#list('}', () => {
      if (this.#text[this.#offset] !== '"')
        this.#fail(
          `expected a key or "}" but found ${this.#found()}`,
          this.#quotesHint('keys need double quotes'),
        )
      const key = this.#string()
      const keyPath = [...path, key]
      if (Object.hasOwn(object, key))
        this.problems.push({
          path: formatPath(keyPath),
          message: 'is there twice',
          hint: 'remove one of the two',
        })
      this.#skipSpace()
      if (this.#text[this.#offset] !== ':')
        this.#fail(`expected ":" after the key but found ${this.#found()}`)
      this.#offset++
      this.#skipSpace()
      const value = this.#value(keyPath)
      // Not by assignment: "__proto__" must become a key like any other.
      Object.defineProperty(object, key, { value, enumerable: true, writable: true, configurable: true })
    })
    return object
  }

  #array(path: Path): unknown[] {
    const array: unknown[] = []
    this.#list(']', () => array.push(this.#value([...path, array.length])))
    return array
  }

  /** From the opening bracket to the closing one, with a comma between two items and perhaps after the last. */
  #list(close: '}' | ']', readItem: () => void): void {
    const open = this.#offset++
    for (let first = true; ; first = false) {
      this.#skipSpace()
      if (!first && this.#text[this.#offset] !== close) {
        this.#failAtEnd(open)
        if (this.#text[this.#offset] !== ',')
          this.#fail(`expected "," or "${close}" but found ${this.#found()}`, 'is a comma missing before it?')
        this.#offset++
        this.#skipSpace()
      }
      this.#failAtEnd(open)
      if (this.#text[this.#offset] === close) break
      readItem()
    }
    this.#offset++
  }

  #string(): string {
    const literal = this.#peek(STRING)
    if (literal === undefined)
      return this.#fail('the string is not closed on its line', 'end it with a double quote')
    try {
      const value: string = JSON.parse(literal)
      this.#offset += literal.length
      return value
    } catch {
      return this.#fail(
        'the string holds a bad escape or a control character',
        'write \\\\ for a backslash, \\t for a tab',
      )
    }
  }

  #skipSpace(): void {
    while (this.#match(SPACE) !== undefined);
    if (this.#text.startsWith('/*', this.#offset)) this.#fail('the comment is not closed', 'end it with */')
  }

  #peek(pattern: RegExp): string | undefined {
    pattern.lastIndex = this.#offset
    return pattern.exec(this.#text)?.[0]
  }

  #match(pattern: RegExp): string | undefined {
    const found = this.#peek(pattern)
    this.#offset += found?.length ?? 0
    return found
  }

  /** Names what stands here without quoting what may be secret. */
  #found(): string {
    const start = this.#text[this.#offset]
    if (start === undefined) return 'the end of the file'
    if (start === '"') return 'a string'
    if (start === "'") return 'a single quote'
    if (/[,:[\]{}]/.test(start)) return `"${start}"`
    return /[\d.+-]/.test(start) ? 'something like a number' : 'a word without quotes'
  }

  #quotesHint(hint: string): string | undefined {
    return /[a-z_$']/i.test(this.#text[this.#offset] ?? '') ? hint : undefined
  }

  #failAtEnd(open: number): void {
    if (this.#offset < this.#text.length) return
    const { line, column } = this.#position(open)
    this.#fail(`the file ends, but "${this.#text[open]}" of line ${line}, column ${column} is not closed`)
  }

  #fail(message: string, hint?: string): never {
    const { line, column } = this.#position(this.#offset)
    throw new SyntaxFault({
      path: '',
      message: `line ${line}, column ${column}: ${message}`,
      ...(hint === undefined ? {} : { hint }),
    })
  }

  #position(offset: number): { line: number; column: number } {
    const before = this.#text.slice(0, offset)
    const lineStart = before.lastIndexOf('\n') + 1
    return { line: before.split('\n').length, column: offset - lineStart + 1 }
  }
}
