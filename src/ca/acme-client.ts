/**
 * acme-client with its HTTP rerouted: what it asks while `exchanges` runs it goes through the exchange of then. Imported
 * when an ACME CA is first spoken to, for with axios it takes 10 MB of memory. Serves `acme-wire.ts`.
 */
import { AsyncLocalStorage } from 'node:async_hooks'
import { axios, Client } from 'acme-client'
import type { CaRequest } from './acme-http.ts'

export type { Authorization, Order } from 'acme-client'
export { Client }

export type Exchange = (
  request: CaRequest,
) => Promise<{ status: number; headers: Record<string, string>; data: unknown }>

/** Who is calling acme-client, and so where its HTTP goes. */
export const exchanges = new AsyncLocalStorage<Exchange>()

/** Calls from elsewhere in the process are left alone. */
axios.interceptors.request.use((config) => {
  const exchange = exchanges.getStore()
  if (exchange === undefined) return config
  // What it rejects with is not retried by acme-client: that happens to errors of axios' own only.
  const adapter: typeof config.adapter = async ({ url = '', method = 'get', data }) => {
    const request = { url, method: method.toUpperCase() as CaRequest['method'] }
    const answer = await exchange(data === undefined ? request : { ...request, body: String(data) })
    return { ...answer, statusText: '', config }
  }
  return { ...config, adapter }
})
