/** The log: pino, straight to stdout (worker transports lose lines at exit). The only user of pino and pino-pretty. */
import { isatty } from 'node:tty'
import pino from 'pino'
import pretty from 'pino-pretty'

/** `lines`, where the log is JSON: for what is logged by the thousand, and makes its lines by itself. */
export type Log = pino.Logger & { readonly lines?: Lines }

/** Gathers lines until the event loop turns, so that all that happened meanwhile takes one write. */
export class Lines {
  readonly #write: (text: string) => void
  #gathered = ''

  constructor(write: (text: string) => void) {
    this.#write = write
  }

  /** @param line JSON, with its newline */
  add(line: string): void {
    if (this.#gathered === '') setImmediate(() => this.flush())
    this.#gathered += line
  }

  flush(): void {
    const text = this.#gathered
    if (text === '') return
    this.#gathered = ''
    this.#write(text)
  }
}

export interface LogOptions {
  readonly level: 'trace' | 'debug' | 'info' | 'warn' | 'error' | 'silent'
  /** `auto`: pretty on a terminal, JSON elsewhere. */
  readonly format: 'auto' | 'json' | 'pretty'
}

/** Fields that never leave the process, wherever an object that is logged carries them. */
const SECRETS = [
  'keyPem',
  'hmacKey',
  'passphrase',
  'token',
  'keyAuthorization',
  'authorization',
  'password',
  'secret',
]

/** Lines carry `time` (ISO 8601), `level`, `msg` and fields. A bad line never throws. */
export function createLog(options: LogOptions): Log {
  const settings: pino.LoggerOptions = {
    level: options.level,
    base: null,
    timestamp: pino.stdTimeFunctions.isoTime,
    formatters: { level: (label) => ({ level: label }) },
    serializers: { err: describeError },
    redact: { paths: SECRETS.flatMap((name) => [name, `*.${name}`]), censor: '[secret]' },
  }
  const human = options.format === 'pretty' || (options.format === 'auto' && isatty(1))
  if (human)
    return pino(settings, pretty({ sync: true, translateTime: 'SYS:HH:MM:ss', ignore: 'pid,hostname' }))
  const stdout = pino.destination({ fd: 1, sync: true })
  const lines = new Lines((text) => stdout.write(text))
  process.on('exit', () => lines.flush())
  const inOrder = (text: string): void => {
    lines.flush()
    stdout.write(text)
  }
  return Object.assign(pino(settings, { write: inOrder }), { lines })
}

/** A log that says nothing, for tests and for commands that print their own results. */
export function silentLog(): Log {
  return pino({ level: 'silent' })
}

/** One level of an error and its causes as text: no stack, no request or response objects that may hold secrets. */
function describeError(error: unknown): unknown {
  if (!(error instanceof Error)) return String(error)
  const code = 'code' in error ? error.code : undefined
  return {
    message: error.message,
    ...(code === undefined ? {} : { code }),
    ...(error.cause === undefined ? {} : { cause: describeError(error.cause) }),
  }
}
