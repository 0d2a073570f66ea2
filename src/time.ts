/**
 * The only file that asks the real time. Everything else is given a `Clock`, so that tests and `simulate` can
 * play years in a second.
 */
import { performance } from 'node:perf_hooks'

export const SECOND = 1000
export const MINUTE = 60 * SECOND
export const HOUR = 60 * MINUTE
export const DAY = 24 * HOUR

/** Cancels a pending task; harmless when it has run already. */
export type Cancel = () => void

export interface Clock {
  /** Milliseconds since the epoch. May jump either way. */
  now(): number
  /** Milliseconds on a clock that never jumps; only differences mean anything. */
  monotonic(): number
  /** Runs `task` once, `delayMs` from now. Never keeps the process alive. Delays past 24 days are kept exactly. */
  after(delayMs: number, task: () => void): Cancel
}

/** setTimeout's largest delay (2^31 - 1 ms); a longer one would fire at once. */
const LONGEST_TIMEOUT = 2_147_483_647

export class SystemClock implements Clock {
  now(): number {
    return Date.now()
  }

  monotonic(): number {
    return performance.now()
  }

  after(delayMs: number, task: () => void): Cancel {
    let timer: NodeJS.Timeout
    const arm = (leftMs: number): void => {
      const stepMs = Math.min(leftMs, LONGEST_TIMEOUT)
      timer = setTimeout(() => (leftMs > stepMs ? arm(leftMs - stepMs) : task()), Math.max(0, stepMs))
      timer.unref()
    }
    arm(delayMs)
    return () => clearTimeout(timer)
  }
}

/** Resolves after `ms`; rejects with the signal's reason when it aborts first. */
export function sleep(clock: Clock, ms: number, signal?: AbortSignal): Promise<void> {
  return new Promise((resolve, reject) => {
    if (signal?.aborted) return reject(signal.reason)
    const onAbort = (): void => {
      cancel()
      reject(signal?.reason)
    }
    const cancel = clock.after(ms, () => {
      signal?.removeEventListener('abort', onAbort)
      resolve()
    })
    signal?.addEventListener('abort', onAbort, { once: true })
  })
}

/** Keeps the process alive, which no timer of a `Clock` does, until it is called off: for commands that only wait. */
export function stayAlive(): Cancel {
  const timer = setInterval(() => {}, LONGEST_TIMEOUT)
  return () => clearInterval(timer)
}

/** The reason of a signal that `withDeadline` aborted. */
export class DeadlineError extends Error {
  constructor(what: string, limitMs: number) {
    super(`${what} took longer than ${formatDuration(limitMs)}`)
    this.name = 'DeadlineError'
  }
}

/**
 * Runs `work` with a signal that aborts after `limitMs` or with `outer`, and rejects then even when `work`
 * ignores its signal, so that a hanging peer costs `limitMs` and no more.
 */
export async function withDeadline<T>(
  clock: Clock,
  limitMs: number,
  what: string,
  outer: AbortSignal | undefined,
  work: (signal: AbortSignal) => Promise<T>,
): Promise<T> {
  const controller = new AbortController()
  const onOuter = (): void => controller.abort(outer?.reason)
  if (outer?.aborted) onOuter()
  outer?.addEventListener('abort', onOuter, { once: true })
  const cancel = clock.after(limitMs, () => controller.abort(new DeadlineError(what, limitMs)))
  const aborted = new Promise<never>((_, reject) => {
    const fail = (): void => reject(controller.signal.reason)
    if (controller.signal.aborted) fail()
    else controller.signal.addEventListener('abort', fail, { once: true })
  })
  try {
    return await Promise.race([work(controller.signal), aborted])
  } finally {
    cancel()
    outer?.removeEventListener('abort', onOuter)
    aborted.catch(() => {})
  }
}

/** Exponential backoff with full jitter in its upper half: `failures` 1 gives about `baseMs`, never past `capMs`. */
export function backoffMs(failures: number, baseMs: number, capMs: number, random: () => number): number {
  const ceiling = Math.min(capMs, baseMs * 2 ** Math.max(0, failures - 1))
  return Math.round(ceiling * (0.5 + 0.5 * random()))
}

const UNITS: Readonly<Record<string, number>> = { ms: 1, s: SECOND, m: MINUTE, h: HOUR, d: DAY, w: 7 * DAY }

/** `"90s"`, `"1h30m"`, `"45d"` to milliseconds; undefined when it is no duration. */
export function parseDuration(text: string): number | undefined {
  if (!/^(\d+(\.\d+)?(ms|s|m|h|d|w))+$/.test(text)) return undefined
  let total = 0
  for (const [, amount, unit] of text.matchAll(/(\d+(?:\.\d+)?)(ms|s|m|h|d|w)/g)) {
    total += Number(amount) * (UNITS[unit as string] as number)
  }
  return total
}

/** How far a clock is off, in milliseconds: `2m ahead`, `30d behind`. */
export function formatClockError(errorMs: number): string {
  return `${formatDuration(Math.abs(errorMs))} ${errorMs > 0 ? 'ahead' : 'behind'}`
}

/** Milliseconds to the two largest units that matter: `5d3h`, `90ms`, `2m`. */
export function formatDuration(ms: number): string {
  if (ms < 0) return `-${formatDuration(-ms)}`
  if (ms < SECOND) return `${Math.round(ms)}ms`
  let rest = Math.round(ms / SECOND) * SECOND
  const parts: string[] = []
  for (const unit of ['d', 'h', 'm', 's'] as const) {
    const size = UNITS[unit] as number
    const count = Math.floor(rest / size)
    rest -= count * size
    if (count > 0) parts.push(`${count}${unit}`)
    else if (parts.length > 0) break
    if (parts.length === 2) break
  }
  return parts.join('')
}
