/**
 * What a server under comparison finds itself in: two CAs (real Pebbles) that validate against its ports, a proxy in
 * front of the first that can break it, and a client that asks whose certificate a host is served with.
 */
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { connect } from 'node:tls'
import { type Dns, startDns } from '../../test/peers/dns.ts'
import { type FaultProxy, startFaultProxy } from '../../test/peers/fault-proxy.ts'
import { type Pebble, startPebble } from '../../test/peers/pebble.ts'
import { freePort } from '../../test/peers/process.ts'

/** A CA as a server's config names it. */
export interface SceneCa {
  readonly directory: string
  /** File of the root that the CA's own endpoint chains to. */
  readonly endpointRoots: string
  /** File of the root that its certificates chain to. */
  readonly trust: string
  readonly rootPem: string
}

export interface Scene {
  /** The server's own, for config and store. */
  readonly folder: string
  /** Of 127.0.0.1; the CAs validate at `http` and `https`. */
  readonly ports: { readonly http: number; readonly https: number; readonly admin: number }
  readonly first: SceneCa
  readonly second: SceneCa
  /** In front of the first CA. */
  readonly fault: FaultProxy
  close(): Promise<void>
}

/**
 * Pebble says at random in seconds or as a date when to look again (RFC 9110 section 10.2.3), and the ACME client of
 * Caddy 2.6 gives an order up at a date. Without a word all look when they see fit.
 */
const SAYS_NO_RETRY_AFTER = { retryAfter: { authz: 0, order: 0 } }
/** Handshakes are bounded: nothing here waits for a CA. */
const HANDSHAKE_LIMIT_MS = 2000

export async function openScene(): Promise<Scene> {
  const folder = mkdtempSync(join(tmpdir(), 'holdfast-failover-'))
  const ports = { http: await freePort(), https: await freePort(), admin: await freePort() }
  const dns: Dns = await startDns()
  const { http: httpPort, https: tlsPort } = ports
  const options = { dnsServer: dns.address, httpPort, tlsPort, config: SAYS_NO_RETRY_AFTER }
  const [a, b] = await Promise.all([startPebble(options), startPebble(options)])
  const fault = await startFaultProxy({ upstream: a.directory, upstreamRoot: a.minicaPem })
  const files = join(folder, 'cas')
  mkdirSync(files)
  return {
    folder,
    ports,
    first: await describe(a, files, 'first', fault.directory, fault.rootPem),
    second: await describe(b, files, 'second', b.directory, b.minicaPem),
    fault,
    close: async () => {
      await Promise.all([fault.stop(), a.stop(), b.stop(), dns.stop()])
      rmSync(folder, { recursive: true, force: true })
    },
  }
}

async function describe(
  pebble: Pebble,
  folder: string,
  name: string,
  directory: string,
  endpointRootPem: string,
): Promise<SceneCa> {
  const rootPem = await pebble.root()
  const ca = {
    directory,
    endpointRoots: join(folder, `${name}-endpoint.pem`),
    trust: join(folder, `${name}.pem`),
    rootPem,
  }
  writeFileSync(ca.endpointRoots, endpointRootPem)
  writeFileSync(ca.trust, rootPem)
  return ca
}

/** Does a handshake for the host succeed, with a certificate that verifies against this CA's root? */
export function isServedFrom(scene: Scene, host: string, ca: SceneCa): Promise<boolean> {
  const { promise, resolve } = Promise.withResolvers<boolean>()
  const socket = connect({
    host: '127.0.0.1',
    port: scene.ports.https,
    servername: host,
    ca: ca.rootPem,
    timeout: HANDSHAKE_LIMIT_MS,
  })
  socket.once('secureConnect', () => resolve(true))
  for (const event of ['error', 'close', 'timeout']) socket.once(event, () => resolve(false))
  return promise.finally(() => socket.destroy())
}
