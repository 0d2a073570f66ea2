/** A listener with a real inventory, and real clients: node:tls and openssl. */

import { execFile } from 'node:child_process'
import { randomBytes } from 'node:crypto'
import { once } from 'node:events'
import type { Socket } from 'node:net'
import { setImmediate } from 'node:timers/promises'
import { type ConnectionOptions, connect, type TLSSocket } from 'node:tls'
import type { Test } from 'tap'
import { Inventory } from '../../src/cert/inventory.ts'
import { Metrics } from '../../src/metrics.ts'
import type { Authority } from '../../src/store/records.ts'
import { SystemClock } from '../../src/time.ts'
import type { Connection } from '../../src/tls/connection.ts'
import { Contexts } from '../../src/tls/contexts.ts'
import { Listener, type ListenerOptions, type ListenerPolicy } from '../../src/tls/listener.ts'
import { type CertificateOptions, makeAuthority, makeCertificate } from '../support/certificates.ts'
import { type MemoryLog, memoryLog } from '../support/log.ts'

export const LOOPBACK = { host: '127.0.0.1', port: 0 }

export interface Rig {
  readonly listener: Listener
  readonly inventory: Inventory
  readonly metrics: Metrics
  readonly log: MemoryLog
  /** Signs whatever is published; clients trust nothing else. */
  readonly authority: Authority
  /** As given at the start, for updates. */
  readonly policy: ListenerPolicy
  /** Of the first https address. */
  readonly port: number
  /** What was told of connections that were handed on. */
  readonly handedOn: readonly Connection[]
  /** Destroyed when the test is over. */
  readonly clients: TLSSocket[]
  publish(host: string, options?: Partial<CertificateOptions>): Promise<void>
}

export interface RigOptions extends Partial<Omit<ListenerOptions, 'policy' | 'onConnection'>> {
  readonly policy?: Partial<ListenerPolicy>
  readonly serve?: ListenerOptions['onConnection']
}

/** Answers every connection with what was told of it, as JSON, and ends it; unless `serve` is given. */
export async function startRig(t: Test, { serve = describe, ...options }: RigOptions = {}): Promise<Rig> {
  const inventory = new Inventory(new SystemClock())
  const metrics = new Metrics()
  const log = memoryLog()
  const authority = await makeAuthority()
  const policy = {
    https: [LOOPBACK],
    http: [],
    proxyProtocol: [],
    sites: new Map(),
    minVersion: '1.2',
    handshakeTimeoutMs: 120_000,
  } as const
  const listener = new Listener({
    inventory,
    metrics,
    log: log.log,
    clock: new SystemClock(),
    contexts: new Contexts(),
    ticketKeys: randomBytes(48),
    sharesPorts: false,
    challenge: () => undefined,
    ...options,
    policy: { ...policy, ...options.policy },
    onConnection(socket, connection) {
      handedOn.push(connection)
      serve(socket, connection)
    },
  })
  await listener.start()
  const clients: TLSSocket[] = []
  const handedOn: Connection[] = []
  t.teardown(() => {
    listener.stop()
    for (const socket of clients) socket.destroy()
  })
  return {
    listener,
    inventory,
    metrics,
    log,
    authority,
    policy: { ...policy, ...options.policy },
    handedOn,
    clients,
    port: listener.addresses().https[0]?.port ?? 0,
    publish: async (host, certificate) =>
      inventory.publish(host, 'live', await makeCertificate({ names: [host], authority, ...certificate })),
  }
}

function describe(socket: Socket, connection: Connection): void {
  socket.on('error', () => {})
  socket.end(JSON.stringify(connection))
}

/** Connects and verifies; rejects when the handshake fails. Without a `servername`, none is sent. */
export async function dial(rig: Rig, options: ConnectionOptions = {}): Promise<TLSSocket> {
  const { servername = '' } = options
  const host = options.host ?? '127.0.0.1'
  const socket = connect({ port: rig.port, ca: rig.authority.rootPem, ...options, host, servername })
  rig.clients.push(socket)
  await once(socket, 'secureConnect')
  return socket
}

export interface Answer {
  readonly socket: TLSSocket
  /** From the certificate that was shown. */
  readonly names: string
  readonly connection: Connection
}

/** What the listener tells of a connection. */
export async function ask(rig: Rig, options: ConnectionOptions = {}): Promise<Answer> {
  const socket = await dial(rig, options)
  const names = socket.getPeerX509Certificate()?.subjectAltName ?? ''
  return { socket, names, connection: JSON.parse(await textOf(socket)) }
}

/** Everything that comes until the end. */
export async function textOf(socket: Socket): Promise<string> {
  let text = ''
  for await (const chunk of socket) text += chunk
  return text
}

/** The code of the error that a client gets; undefined when it is served after all. */
export async function refusal(rig: Rig, options: ConnectionOptions = {}): Promise<string | undefined> {
  try {
    await dial(rig, options)
    return undefined
  } catch (error) {
    return (error as NodeJS.ErrnoException).code
  }
}

/** Standard output and standard error of `openssl s_client`, which ends its side at once. */
export function openssl(rig: Rig, ...args: string[]): Promise<string> {
  return new Promise((resolve) => {
    const all = ['s_client', '-connect', `127.0.0.1:${rig.port}`, ...args]
    const child = execFile('openssl', all, (_error, stdout, stderr) => resolve(stdout + stderr))
    child.stdin?.end()
  })
}

/** `full`, `resumed` and `failed` handshakes so far. */
export async function handshakes(rig: Rig): Promise<Record<string, number>> {
  const { text } = await rig.metrics.expose()
  const samples = text.matchAll(/holdfast_tls_handshakes_total\{result="(\w+)"\} (\d+)/g)
  return Object.fromEntries([...samples].map(([, result, count]) => [result, Number(count)]))
}

/** Lets the event loop turn until the condition holds; the test's own timeout is the limit. */
export async function until(condition: () => boolean | Promise<boolean>): Promise<void> {
  while (!(await condition())) await setImmediate()
}
