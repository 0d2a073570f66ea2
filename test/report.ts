/**
 * Reads the TAP of a whole test run on stdin and tells people: a line a test file, each failure with its path and
 * diagnosis, and last `N passed, N failed`. Exits with 1 when something failed, or nothing ran.
 */
import { createInterface } from 'node:readline'

/** Lines of one diagnosis; a comparison of thousands of items would bury the other failures. */
const LONGEST_DIAGNOSIS = 100

interface Diagnosis {
  readonly indent: string
  lines: number
}

class Report {
  /** Paths from the test file down to the assertion. */
  readonly #failures: string[] = []
  /** The subtests that are open, outermost first, and how many failures were known when each began. */
  readonly #open: { name: string; failuresBefore: number }[] = []
  #counts: Record<string, number> = {}
  /** The line before was a test point: a diagnosis may follow. `told` when it belongs to a failure that was told. */
  #point: { told: boolean } | undefined
  /** Within a diagnosis (YAML between `---` and `...`). */
  #diagnosis: Diagnosis | undefined

  read(line: string): void {
    const [, indent = '', text = ''] = /^( *)(.*)$/.exec(line) ?? []
    if (this.#diagnosis !== undefined) this.#readDiagnosis(line, this.#diagnosis)
    else if (this.#point !== undefined && text === '---') this.#diagnosis = { indent, lines: 0 }
    else {
      const depth = indent.length / 4
      this.#point = this.#readPoint(text, depth)
      this.#readComment(text, depth)
    }
  }

  /** @returns whether all is well */
  conclude(): boolean {
    const { pass = 0, fail = 0, skip = 0, todo = 0 } = this.#counts
    const ran = pass + fail > 0
    console.log(this.#failures.length > 0 ? '\nFailed:' : '')
    for (const path of this.#failures) console.log(`  ✖ ${path}`)
    if (!ran) console.log('No test ran, or the run broke off before its end.')
    const skipped = skip + todo > 0 ? `, ${skip + todo} skipped` : ''
    console.log(`${pass} passed, ${ran ? fail : 1} failed${skipped}`)
    return ran && fail === 0 && this.#failures.length === 0
  }

  #readDiagnosis(line: string, diagnosis: Diagnosis): void {
    if (line === `${diagnosis.indent}...`) this.#diagnosis = undefined
    else if (this.#point?.told) {
      diagnosis.lines++
      if (diagnosis.lines <= LONGEST_DIAGNOSIS) console.log(`    ${line.slice(diagnosis.indent.length)}`)
      if (diagnosis.lines === LONGEST_DIAGNOSIS) console.log('    …')
    }
  }

  /** `ok 1 - name` or `not ok 1 - name`: of an assertion, or at the end of a subtest. */
  #readPoint(text: string, depth: number): { told: boolean } | undefined {
    const [found, not, name = '', directive = ''] =
      /^(not )?ok \d+ - (.*?)( # [A-Z]+.*| # time=.*)?$/.exec(text) ?? []
    if (found === undefined) return undefined
    const failed = not !== undefined && !/^ # (SKIP|TODO)/.test(directive)
    const failuresBefore = this.#open[depth]?.failuresBefore
    this.#open.length = Math.min(this.#open.length, depth)
    if (depth === 0) console.log(`${failed ? 'FAIL' : 'ok  '} ${name}${directive}`)
    // A subtest that failed because of what is within it has been told already.
    const told = failed && (failuresBefore === undefined || failuresBefore === this.#failures.length)
    if (told) {
      const path = [...this.#open.map((test) => test.name), name].join(' > ')
      this.#failures.push(path)
      console.log(`  ✖ ${path}`)
    }
    return { told }
  }

  #readComment(text: string, depth: number): void {
    const name = /^# Subtest: (.*)$/.exec(text)?.[1]
    if (name !== undefined) this.#open[depth] = { name, failuresBefore: this.#failures.length }
    const counts = /^# \{ (total: .*) \}$/.exec(text)?.[1]
    if (counts !== undefined && depth === 0)
      this.#counts = JSON.parse(`{${counts.replace(/(\w+):/g, '"$1":')}}`)
  }
}

const report = new Report()
for await (const line of createInterface({ input: process.stdin })) report.read(line)
process.exitCode = report.conclude() ? 0 : 1
