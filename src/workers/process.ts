/** One worker as its main process sees it: orders go down the pipe, answers come back. Hides node:child_process. */
import { type ChildProcess, fork } from 'node:child_process'
import { ConfigError } from '../errors.ts'
import type { Answer, Failure, Order, Report } from './bus.ts'

/** The worker ended before it had answered. */
export class WorkerGoneError extends Error {
  constructor() {
    super('the worker process ended')
    this.name = 'WorkerGoneError'
  }
}

interface Asked {
  readonly resolve: (report: Report | undefined) => void
  readonly reject: (error: Error) => void
}

export class WorkerProcess {
  /** Resolves with what ended it: an exit code, or a signal. */
  readonly gone: Promise<number | NodeJS.Signals | null>
  readonly #child: ChildProcess
  readonly #asked = new Map<number, Asked>()
  #lastId = 0

  constructor() {
    // From the sources in a checkout, from `dist/` once installed.
    const program = new URL(`./worker${import.meta.url.endsWith('.ts') ? '.ts' : '.js'}`, import.meta.url)
    this.#child = fork(program, { serialization: 'advanced' })
    this.#child.on('message', (answer: Answer) => this.#onAnswer(answer))
    // What the pipe cannot take any more is told by the end of the process.
    this.#child.on('error', () => {})
    this.gone = new Promise((resolve) => {
      this.#child.once('close', (code, signal) => {
        resolve(signal ?? code)
        for (const { reject } of this.#asked.values()) reject(new WorkerGoneError())
        this.#asked.clear()
      })
    })
  }

  get pid(): number | undefined {
    return this.#child.pid
  }

  /** Resolves once the order is carried out. Rejects with what hindered that: WorkerGoneError, ConfigError, Error. */
  ask(order: Order): Promise<Report | undefined> {
    if (!this.#child.connected) return Promise.reject(new WorkerGoneError())
    const id = ++this.#lastId
    return new Promise((resolve, reject) => {
      this.#asked.set(id, { resolve, reject })
      this.#child.send({ id, order })
    })
  }

  kill(): void {
    this.#child.kill('SIGKILL')
  }

  #onAnswer({ id, failure, report }: Answer): void {
    const asked = this.#asked.get(id)
    this.#asked.delete(id)
    if (failure === undefined) asked?.resolve(report)
    else asked?.reject(errorOf(failure))
  }
}

function errorOf({ message, problems }: Failure): Error {
  return problems === undefined ? new Error(message) : new ConfigError(problems)
}
