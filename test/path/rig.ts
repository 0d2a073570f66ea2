/**
 * The whole of Holdfast between real peers: two Pebbles (`a` and `b`, whatever the config calls them), each behind a proxy
 * that can make it fail, their DNS, which says that every name is here, an app behind it, and clients in front of it.
 */
import { once } from 'node:events'
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises'
import { type ClientRequest, createServer, request as httpRequest, type IncomingMessage } from 'node:http'
import { request as httpsRequest } from 'node:https'
import type { AddressInfo } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { connect, type TLSSocket } from 'node:tls'
import type { Test } from 'tap'
import { loadConfig } from '../../src/config/load.ts'
import { Server, type ServerOptions } from '../../src/server.ts'
import type { Clock } from '../../src/time.ts'
import { Workers } from '../../src/workers.ts'
import { type Dns, startDns } from '../peers/dns.ts'
import { type FaultProxy, startFaultProxyBefore } from '../peers/fault-proxy.ts'
import { type Pebble, startPebble } from '../peers/pebble.ts'
import { freePort } from '../peers/process.ts'
import { type MemoryLog, memoryLog } from '../support/log.ts'

export interface RigOptions {
  readonly sites: (upstream: string) => readonly object[]
  /** Merged into the config's `tls`. */
  readonly tls?: object
  /** Of both Pebbles' certificates. */
  readonly lifetimeSeconds?: number
  /** As in the config; nobody is told when absent. */
  readonly notify?: readonly object[]
  /** Of Pebble `b`: two of one version say that they are one company's. */
  readonly versionOfB?: '2.4'
  /** Merged into the config of CA `b`. */
  readonly caB?: object
  /** Of both CAs; the program's default when absent. */
  readonly probeInterval?: string
  /** `fast` when absent. */
  readonly forwarder?: string
  /** Beside the config, by name. */
  readonly files?: Readonly<Record<string, string>>
  /** How many processes serve connections; the test's own when absent. */
  readonly workers?: number
  /** The machine's clock, by which the server goes. */
  readonly clock?: Clock
  /** Where chains must end: the Pebbles' own roots when absent. `public`: in these or the public ones. */
  readonly trust?: 'any' | 'public'
  /** What the config calls the Pebbles; `a` and `b` when absent. */
  readonly names?: readonly [a: string, b: string]
}

export interface Rig {
  readonly a: Pebble
  readonly b: Pebble
  readonly dns: Dns
  /** What stands in front of each of them. */
  readonly faults: { readonly a: FaultProxy; readonly b: FaultProxy }
  readonly ports: { readonly https: number; readonly http: number; readonly admin: number }
  /** Where its config, `proxy.config.json`, and its store are. */
  readonly directory: string
  readonly log: MemoryLog
  readonly server: Server
  /** A handshake that verifies the chain against a root, in PEM. Rejects as the client would. */
  handshake(host: string, rootPem: string): Promise<Handshake>
  /** @param hostField what the request says; the name of the connection when absent */
  get(host: string, path: string, rootPem: string, hostField?: string): Promise<Answer>
  /** Over plain HTTP. */
  getPlain(host: string, path: string): Promise<Answer>
  internalRoot(): Promise<string>
  /** Another server on the same config and store, after `server` has stopped. */
  restart(): Promise<Server>
  admin(path: string, method?: string): Promise<Response>
}

export interface Handshake {
  /** SHA-256 of the leaf, as node:tls tells it. */
  readonly fingerprint: string
  readonly issuer: string
  readonly protocol: string | null
  readonly alpn: string | false | null
}

export interface Answer {
  readonly status: number
  readonly body: string
  readonly location: string | undefined
}

export async function startRig(t: Test, options: RigOptions): Promise<Rig> {
  const ports = { https: await freePort(), http: await freePort(), admin: await freePort() }
  const dns = await startDns()
  t.teardown(() => dns.stop())
  const lifetime = options.lifetimeSeconds === undefined ? {} : { lifetimeSeconds: options.lifetimeSeconds }
  const pebble = { dnsServer: dns.address, httpPort: ports.http, tlsPort: ports.https, ...lifetime }
  const older = options.versionOfB === undefined ? {} : { version: options.versionOfB }
  const [a, b] = await Promise.all([startPebble(pebble), startPebble({ ...pebble, ...older })])
  t.teardown(() => Promise.all([a.stop(), b.stop()]))
  const faults = { a: await startFaultProxyBefore(t, a), b: await startFaultProxyBefore(t, b) }
  const upstream = await startApp(t)
  const directory = await mkdtemp(join(tmpdir(), 'holdfast-path-'))
  t.teardown(() => rm(directory, { recursive: true, force: true }))

  const { names = ['a', 'b'], trust } = options
  const roots = [await a.root(), await b.root()] as const
  // To `public`, the `roots` of the endpoint are roots of chains too.
  const shared = (index: 0 | 1): string => (trust === 'public' ? roots[index] : '')
  const files = {
    'a-endpoint.pem': faults.a.rootPem + shared(0),
    'b-endpoint.pem': faults.b.rootPem + shared(1),
    'a-root.pem': roots[0],
    'b-root.pem': roots[1],
    ...options.files,
  }
  for (const [name, content] of Object.entries(files)) await writeFile(join(directory, name), content)
  const file = join(directory, 'proxy.config.json')
  const { probeInterval } = options
  const ca = (name: 'a' | 'b') => ({
    directory: faults[name].directory,
    roots: `${name}-endpoint.pem`,
    trust: trust ?? `${name}-root.pem`,
    ...(probeInterval && { probeInterval }),
  })
  const config = {
    listen: {
      https: [`127.0.0.1:${ports.https}`],
      http: [`127.0.0.1:${ports.http}`],
      admin: `127.0.0.1:${ports.admin}`,
    },
    cas: { [names[0]]: ca('a'), [names[1]]: { ...ca('b'), ...options.caB } },
    tls: { standby: 'off', ...options.tls },
    ...(options.forwarder && { forwarder: options.forwarder }),
    ...(options.notify && { notify: options.notify }),
    sites: options.sites(upstream),
  }
  await writeFile(file, JSON.stringify(config))
  const log = memoryLog()
  const { clock, workers } = options
  const serverOptions: ServerOptions = {
    ...(workers === undefined ? {} : { createFront: (parts) => new Workers(parts, workers) }),
    ...(clock === undefined ? {} : { clock }),
  }
  const server = await Server.create(await loadConfig(file, {}), log.log, serverOptions)
  t.teardown(() => server.stop())

  return {
    a,
    b,
    dns,
    faults,
    ports,
    directory,
    log,
    server,
    handshake: (host, rootPem) => handshake(ports.https, host, rootPem),
    get: (host, path, rootPem, hostField = host) =>
      answerTo(
        httpsRequest({
          port: ports.https,
          host: '127.0.0.1',
          servername: host,
          headers: { host: hostField },
          path,
          ca: rootPem,
          agent: false,
        }),
      ),
    getPlain: (name, path) => {
      const { http: port } = ports
      const headers = { host: `${name}:${port}` }
      return answerTo(httpRequest({ port, host: '127.0.0.1', headers, path, agent: false }))
    },
    internalRoot: () => readFile(join(directory, 'data/authorities/internal/root.pem'), 'utf8'),
    restart: async () => {
      const again = await Server.create(await loadConfig(file, {}), log.log, serverOptions)
      t.teardown(() => again.stop())
      return again
    },
    admin: (path, method = 'GET') => fetch(`http://127.0.0.1:${ports.admin}${path}`, { method }),
  }
}

async function startApp(t: Test): Promise<string> {
  const app = createServer((request, response) => response.end(`app: ${request.url}`))
  app.listen(0, '127.0.0.1')
  await once(app, 'listening')
  t.teardown(() => {
    app.close()
    app.closeAllConnections()
  })
  return `http://127.0.0.1:${(app.address() as AddressInfo).port}`
}

async function handshake(port: number, host: string, rootPem: string): Promise<Handshake> {
  const socket: TLSSocket = connect({
    port,
    host: '127.0.0.1',
    servername: host,
    ca: rootPem,
    ALPNProtocols: ['h2', 'http/1.1'],
  })
  try {
    await once(socket, 'secureConnect')
    const { fingerprint256, issuer } = socket.getPeerCertificate()
    return {
      fingerprint: fingerprint256,
      issuer: String(issuer.CN),
      protocol: socket.getProtocol(),
      alpn: socket.alpnProtocol,
    }
  } finally {
    socket.destroy()
  }
}

async function answerTo(sent: ClientRequest): Promise<Answer> {
  sent.end()
  const [response] = (await once(sent, 'response')) as [IncomingMessage]
  response.setEncoding('utf8')
  let body = ''
  for await (const chunk of response) body += chunk
  return { status: response.statusCode ?? 0, body, location: response.headers.location }
}
