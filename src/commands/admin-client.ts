/** Talks to the admin endpoint of the running instance, for `status`, `certs` and `drill`. */
import type { Config } from '../config/schema.ts'
import { messageOf } from '../errors.ts'
import { SECOND, SystemClock, withDeadline } from '../time.ts'

/** The endpoint cannot be reached, or refused. The message says what to do. */
export class AdminUnreachableError extends Error {
  override name: string = 'AdminUnreachableError'
}

/** It answered with an error. */
export class AdminRefusedError extends AdminUnreachableError {
  override name = 'AdminRefusedError'
  readonly status: number
  /** In the endpoint's own words. */
  readonly reason: string

  constructor(url: string, status: number, reason: string) {
    super(`${url} answered ${status}: ${reason}`)
    this.status = status
    this.reason = reason
  }
}

const LIMIT_MS = 5 * SECOND

export class AdminClient {
  readonly url: string

  /** @throws AdminUnreachableError when the config turns the endpoint off */
  constructor(config: Config) {
    const { admin } = config.listen
    if (admin === false) {
      throw new AdminUnreachableError(
        'the admin endpoint is off (`listen.admin` is false): there is nobody to ask',
      )
    }
    const host =
      admin.host === undefined || admin.host === '0.0.0.0' || admin.host === '::' ? '127.0.0.1' : admin.host
    this.url = `http://${host.includes(':') ? `[${host}]` : host}:${admin.port}`
  }

  /** The running instance; undefined: none runs, or none can be asked. */
  static async find(config: Config): Promise<AdminClient | undefined> {
    if (config.listen.admin === false) return undefined
    const client = new AdminClient(config)
    try {
      await client.get('/api/cas')
      return client
    } catch (error) {
      if (error instanceof AdminUnreachableError) return undefined
      throw error
    }
  }

  /** The caller knows the shape: it is this version's own API. */
  async get<T>(path: string): Promise<T> {
    const response = await this.#request(path, 'GET', LIMIT_MS)
    return (await response.json()) as T
  }

  /** @returns false when the endpoint knows no such thing (404) */
  async post(path: string, limitMs = LIMIT_MS): Promise<boolean> {
    return (await this.#request(path, 'POST', limitMs)).status !== 404
  }

  /** As `get`. @returns undefined when the endpoint knows no such thing (404) */
  async postForAnswer<T>(path: string, limitMs: number): Promise<T | undefined> {
    const response = await this.#request(path, 'POST', limitMs)
    return response.status === 404 ? undefined : ((await response.json()) as T)
  }

  /** Posts, and gives the lines of the answer (NDJSON) as they come. Leaving off closes the connection. */
  async *postForLines<T>(path: string): AsyncGenerator<T> {
    const { body } = await this.#request(path, 'POST', LIMIT_MS)
    let rest = ''
    for await (const chunk of body?.pipeThrough(new TextDecoderStream()) ?? []) {
      const lines = (rest + chunk).split('\n')
      rest = lines.pop() ?? ''
      for (const line of lines) if (line !== '') yield JSON.parse(line) as T
    }
  }

  async #request(path: string, method: string, limitMs: number): Promise<Response> {
    const clock = new SystemClock()
    let response: Response
    try {
      response = await withDeadline(clock, limitMs, 'the answer', undefined, (signal) =>
        fetch(`${this.url}${path}`, { method, signal }),
      )
    } catch (cause) {
      const why =
        cause instanceof Error && cause.cause !== undefined ? messageOf(cause.cause) : messageOf(cause)
      throw new AdminUnreachableError(
        `no running instance at ${this.url}: ${why}. Is \`holdfast serve\` up, with this config?`,
        { cause },
      )
    }
    if (response.status >= 400 && response.status !== 404) {
      throw new AdminRefusedError(`${this.url}${path}`, response.status, reasonIn(await response.text()))
    }
    return response
  }
}

/** Its errors are JSON, except where something else answers at its address. */
function reasonIn(body: string): string {
  try {
    return (JSON.parse(body) as { error: string }).error
  } catch {
    return body.trim()
  }
}
