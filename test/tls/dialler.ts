/**
 * A client in a thread of its own, which offers new handshakes at a steady rate whether the last ones are done or not:
 * full and resumed ones, of TLS 1.3 and 1.2. Posts `done` at each that is finished, and its tally once it is told to stop.
 */
import { once } from 'node:events'
import { connect } from 'node:tls'
import { parentPort, workerData } from 'node:worker_threads'

export interface DiallerOptions {
  readonly port: number
  readonly servername: string
  /** PEM; nothing else is trusted. */
  readonly rootPem: string
  readonly perSecond: number
}

export interface Tally {
  readonly handshakes: number
  readonly resumed: number
  /** Why each of them failed. */
  readonly failures: readonly string[]
  /** Of what was served, as node:tls tells it. */
  readonly fingerprints: readonly string[]
  readonly perSecond: number
}

/** On a machine that cannot keep up, more of them prove no more. */
const MOST_AT_ONCE = 100
const KINDS = [
  { maxVersion: 'TLSv1.3', resumes: false },
  { maxVersion: 'TLSv1.2', resumes: false },
  { maxVersion: 'TLSv1.3', resumes: true },
  { maxVersion: 'TLSv1.2', resumes: true },
] as const
type Kind = (typeof KINDS)[number]

if (parentPort !== null) {
  const port = parentPort
  const { perSecond, rootPem, servername, port: to } = workerData as DiallerOptions
  const sessions = new Map<Kind, Buffer>()
  const fingerprints = new Set<string>()
  const failures: string[] = []
  const underWay = new Set<Promise<void>>()
  let handshakes = 0
  let resumed = 0

  const handshake = async (kind: Kind): Promise<void> => {
    const session = kind.resumes ? sessions.get(kind) : undefined
    const { maxVersion } = kind
    const target = { host: '127.0.0.1', port: to, servername, ca: rootPem, maxVersion }
    const socket = connect(session === undefined ? target : { ...target, session })
    try {
      socket.on('session', (ticket) => sessions.set(kind, ticket))
      await once(socket, 'secureConnect')
      handshakes++
      if (socket.isSessionReused()) resumed++
      fingerprints.add(socket.getPeerCertificate().fingerprint256)
      port.postMessage('done')
      // To its end, or the tickets of TLS 1.3 are not read.
      for await (const _ of socket);
    } catch (error) {
      failures.push(String(error))
    } finally {
      socket.destroy()
    }
  }

  const startedAt = performance.now()
  let offered = 0
  const timer = setInterval(() => {
    // A timer that is late makes up for it.
    const due = ((performance.now() - startedAt) / 1000) * perSecond
    for (; offered < due; offered++) {
      if (underWay.size >= MOST_AT_ONCE) continue
      const work = handshake(KINDS[offered % KINDS.length] ?? KINDS[0]).finally(() => underWay.delete(work))
      underWay.add(work)
    }
  }, 5)

  port.once('message', async () => {
    clearInterval(timer)
    await Promise.all(underWay)
    const seconds = (performance.now() - startedAt) / 1000
    const tally: Tally = {
      handshakes,
      resumed,
      failures,
      fingerprints: [...fingerprints],
      perSecond: Math.round(handshakes / seconds),
    }
    port.postMessage(tally)
    port.close()
  })
}
