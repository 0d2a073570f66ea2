/** Which blocks of the code under test have run, by V8's own count. */
import { Session } from 'node:inspector'

const UNDER_TEST = '/src/http/fast/'

/** One for a process, started before anything under test has run: V8 counts blocks only in what it compiles after that. */
export class Coverage {
  readonly #session = new Session()

  constructor() {
    this.#session.connect()
    this.#session.post('Profiler.enable')
    this.#session.post('Profiler.startPreciseCoverage', { callCount: true, detailed: true })
  }

  /** The blocks that have run since this was asked last. */
  take(): Set<string> {
    const blocks = new Set<string>()
    // In the thread that it looks at, a session answers before `post` returns.
    this.#session.post('Profiler.takePreciseCoverage', (error, answer) => {
      if (error !== null) throw error
      for (const { url, functions } of answer.result) {
        if (!url.includes(UNDER_TEST)) continue
        for (const { ranges } of functions) {
          for (const { startOffset, endOffset, count } of ranges) {
            if (count > 0) blocks.add(`${url}:${startOffset}-${endOffset}`)
          }
        }
      }
    })
    return blocks
  }
}
