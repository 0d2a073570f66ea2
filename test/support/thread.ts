/** Work in a thread of its own, without tap's hooks, which would slow each promise and each handshake down. */
import { once } from 'node:events'
import { Worker } from 'node:worker_threads'

/** The module finds `data` as its `workerData`. */
export function startThread(module: URL, data?: unknown): Worker {
  return new Worker(module, { workerData: data, execArgv: [], env: { NODE_OPTIONS: '' } })
}

/** The module's first message. Rejects with what it throws. */
export async function messageOfThread<T>(module: URL, data?: unknown): Promise<T> {
  const [message] = await once(startThread(module, data), 'message')
  return message as T
}
