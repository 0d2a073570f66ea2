/**
 * A client in a thread of its own, which offers new handshakes at a steady rate whether the last ones are done or not:
 * full ones, and beside them others that resume a session, of TLS 1.3 and 1.2. Posts `done` at each full one that is
 * finished, and its tally once it has made as many of those as it was told to.
 */
import { once } from 'node:events'
import { connect } from 'node:tls'
import { parentPort, workerData } from 'node:worker_threads'

export interface DiallerOptions {
  readonly port: number
  readonly servername: string
  /** PEM; nothing else is trusted. */
  readonly rootPem: string
  /** Full handshakes, in all. */
  readonly full: number
  readonly fullPerSecond: number
  /** Those that offer a session, beside them. */
  readonly resumingPerSecond: number
}

export interface Tally {
  /** Of those that offered no session. */
  readonly full: number
  readonly resumed: number
  /** Why each of them failed, of whatever kind. */
  readonly failures: readonly string[]
  /** Of what was served, as node:tls tells it. */
  readonly fingerprints: readonly string[]
  readonly fullPerSecond: number
}

/** A machine that cannot keep up makes them later. */
export const MOST_AT_ONCE = 100
const VERSIONS = ['TLSv1.3', 'TLSv1.2'] as const
type Version = (typeof VERSIONS)[number]

/** What is offered at a rate of its own. */
interface Lane {
  readonly perSecond: number
  readonly most: number
  readonly handshake: (version: Version) => Promise<void>
  offered: number
}

if (parentPort !== null) {
  const port = parentPort
  const {
    full,
    fullPerSecond,
    resumingPerSecond,
    rootPem,
    servername,
    port: to,
  } = workerData as DiallerOptions
  const sessions = new Map<Version, Buffer>()
  const fingerprints = new Set<string>()
  const failures: string[] = []
  const underWay = new Set<Promise<void>>()
  let fullOnes = 0
  let resumedOnes = 0

  /** @returns was the session resumed? */
  const dial = async (version: Version, session?: Buffer): Promise<boolean> => {
    const target = { host: '127.0.0.1', port: to, servername, ca: rootPem, maxVersion: version }
    const socket = connect(session === undefined ? target : { ...target, session })
    try {
      socket.on('session', (ticket) => sessions.set(version, ticket))
      await once(socket, 'secureConnect')
      fingerprints.add(socket.getPeerCertificate().fingerprint256)
      const isReused = socket.isSessionReused()
      // To its end, or the tickets of TLS 1.3 are not read.
      for await (const _ of socket);
      return isReused
    } finally {
      socket.destroy()
    }
  }
  const lanes: Lane[] = [
    {
      perSecond: fullPerSecond,
      most: full,
      handshake: async (version) => {
        await dial(version)
        fullOnes++
        port.postMessage('done')
      },
      offered: 0,
    },
    {
      perSecond: resumingPerSecond,
      most: Number.POSITIVE_INFINITY,
      handshake: async (version) => {
        if (await dial(version, sessions.get(version))) resumedOnes++
      },
      offered: 0,
    },
  ]

  const startedAt = performance.now()
  const finish = async (): Promise<void> => {
    clearInterval(timer)
    await Promise.all(underWay)
    const seconds = (performance.now() - startedAt) / 1000
    const tally: Tally = {
      full: fullOnes,
      resumed: resumedOnes,
      failures,
      fingerprints: [...fingerprints],
      fullPerSecond: Math.round(fullOnes / seconds),
    }
    port.postMessage(tally)
  }
  const timer = setInterval(() => {
    for (const lane of lanes) {
      // A timer that is late makes up for it.
      const due = Math.min(lane.most, ((performance.now() - startedAt) / 1000) * lane.perSecond)
      for (; lane.offered < due && underWay.size < MOST_AT_ONCE; lane.offered++) {
        const work = lane
          .handshake(VERSIONS[lane.offered % VERSIONS.length] ?? VERSIONS[0])
          .catch((error: unknown) => void failures.push(String(error)))
          .finally(() => underWay.delete(work))
        underWay.add(work)
      }
    }
    if (lanes.some(({ most, offered }) => offered === most)) void finish()
  }, 5)
}
