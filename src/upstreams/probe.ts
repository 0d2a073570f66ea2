/**
 * One look at an upstream, over a connection of its own that is closed again: can it be connected to, and does it answer
 * as it should? Hides node:http and node:http2. Serves `health.ts`, which decides what the outcome means.
 */
import http from 'node:http'
import http2 from 'node:http2'
import https from 'node:https'
import net from 'node:net'
import tls from 'node:tls'
import type { HealthCheckPolicy } from '../config/balancing.ts'
import type { Backend } from './backend.ts'

type HttpCheck = Extract<HealthCheckPolicy, { type: 'http' }>

/** Resolves when the upstream is well; rejects with what is wrong, or when the signal aborts. */
export async function probe(backend: Backend, check: HealthCheckPolicy, signal: AbortSignal): Promise<void> {
  if (check.type === 'tcp') return connect(backend, signal)
  const status = await (backend.protocol === 'h2' ? askHttp2 : askHttp1)(backend, check, signal)
  const good = check.status === undefined ? status >= 200 && status < 400 : check.status.includes(status)
  if (!good) throw new Error(`it answered ${status}`)
}

function connect(backend: Backend, signal: AbortSignal): Promise<void> {
  return new Promise((resolve, reject) => {
    const socket = net.connect({ ...backend.address, signal })
    socket.on('error', reject)
    socket.once('connect', () => {
      socket.destroy()
      resolve()
    })
  })
}

/** A redirect is an answer like any other; the content is not read. */
function askHttp1(backend: Backend, check: HttpCheck, signal: AbortSignal): Promise<number> {
  return new Promise((resolve, reject) => {
    const { address } = backend
    const options = {
      ...('path' in address ? { socketPath: address.path } : address),
      path: check.path,
      headers: fieldsOf(backend, check),
      agent: false,
      signal,
    }
    const request =
      backend.tls === undefined ? http.request(options) : https.request({ ...options, ...backend.tls })
    request.on('error', reject)
    request.once('response', (response) => {
      response.on('error', () => {})
      resolve(response.statusCode ?? 0)
      request.destroy()
    })
    request.end()
  })
}

function askHttp2(backend: Backend, check: HttpCheck, signal: AbortSignal): Promise<number> {
  return new Promise((resolve, reject) => {
    const { address } = backend
    const scheme = backend.tls === undefined ? 'http' : 'https'
    const { host: authority, ...fields } = fieldsOf(backend, check)
    const session = http2.connect(`${scheme}://${authority}`, {
      createConnection: () =>
        backend.tls === undefined
          ? net.connect(address)
          : tls.connect({ ...address, ALPNProtocols: ['h2'], ...backend.tls }),
    })
    const abort = (): void => session.destroy(new Error('aborted'))
    signal.addEventListener('abort', abort, { once: true })
    session.once('close', () => signal.removeEventListener('abort', abort))
    session.on('error', reject)
    const stream = session.request({ ...fields, ':path': check.path, ':authority': authority })
    stream.on('error', reject)
    stream.once('response', (head) => {
      resolve(head[':status'] ?? 0)
      session.destroy()
    })
  })
}

function fieldsOf(backend: Backend, check: HttpCheck): { host: string; 'user-agent': string } {
  return { host: check.host ?? backend.authority, 'user-agent': 'holdfast-health-check' }
}
