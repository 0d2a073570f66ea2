/** What an `AcmeIssuer` needs around it: DNS, the two ports where CAs look for proofs, a store, and real Pebbles. */
import { X509Certificate } from 'node:crypto'
import { once } from 'node:events'
import { createServer as createHttpServer } from 'node:http'
import type { AddressInfo } from 'node:net'
import { createSecureContext, createServer as createTlsServer, type TLSSocket } from 'node:tls'
import type { Test } from 'tap'
import { AcmeIssuer, type AcmeIssuerOptions } from '../../src/ca/acme.ts'
import type { IssueRequest } from '../../src/ca/issuer.ts'
import { Http01Solver } from '../../src/challenge/http-01.ts'
import { TlsAlpn01Solver } from '../../src/challenge/tls-alpn-01.ts'
import { IssueError } from '../../src/errors.ts'
import { openFileStore } from '../../src/store/fs.ts'
import { Records } from '../../src/store/records.ts'
import { MINUTE, SystemClock } from '../../src/time.ts'
import { type Dns, startDns } from '../peers/dns.ts'
import { type FaultProxy, startFaultProxyBefore } from '../peers/fault-proxy.ts'
import { type Pebble, type PebbleOptions, startPebble } from '../peers/pebble.ts'
import { type MemoryLog, memoryLog } from '../support/log.ts'

/** What an issuer needs to know of its CA. */
type Endpoint = Pick<Pebble, 'directory' | 'minicaPem' | 'root'>

/** What differs from an issuer that trusts the CA's own root. */
export type IssuerOptions = Partial<Omit<AcmeIssuerOptions, 'trust'>> & {
  readonly trust?: ReturnType<AcmeIssuerOptions['trust']>
}

export interface World {
  readonly dns: Dns
  readonly http01: Http01Solver
  readonly tlsAlpn01: TlsAlpn01Solver
  readonly log: MemoryLog
  startPebble(options?: Partial<PebbleOptions>): Promise<Pebble>
  /** In front of a Pebble. */
  startFaultProxy(pebble: Pebble): Promise<FaultProxy>
  /** An issuer at this CA, with a store of its own unless `records` says otherwise. */
  issuer(ca: Endpoint, options?: IssuerOptions): Promise<AcmeIssuer>
  records(): Promise<Records>
}

/** All of it ends with `t`. */
export async function startWorld(t: Test): Promise<World> {
  // Pebble asks to wait a second between two looks, and a busy machine makes many of them necessary.
  t.setTimeout(3 * MINUTE)
  const clock = new SystemClock()
  const http01 = new Http01Solver()
  const tlsAlpn01 = new TlsAlpn01Solver(clock)
  const log = memoryLog()
  const dns = await startDns()
  t.teardown(() => dns.stop())
  const httpPort = await serveHttp01(t, http01, 0)
  const tlsPort = await serveTlsAlpn01(t, tlsAlpn01, 0)
  const folder = t.testdir()
  let stores = 0

  const records = async (): Promise<Records> => {
    const store = await openFileStore(`${folder}/${stores++}`, log.log)
    t.teardown(() => store.close())
    return new Records(store, log.log)
  }
  return {
    dns,
    http01,
    tlsAlpn01,
    log,
    records,
    async startPebble(options) {
      const pebble = await startPebble({ dnsServer: dns.address, httpPort, tlsPort, ...options })
      t.teardown(() => pebble.stop())
      return pebble
    },
    startFaultProxy: (pebble) => startFaultProxyBefore(t, pebble),
    async issuer(ca, { trust, ...options } = {}) {
      const anchors = trust ?? [new X509Certificate(await ca.root())]
      return new AcmeIssuer({
        id: 'pebble',
        directory: ca.directory,
        contact: ['mailto:ops@example.com'],
        endpointRoots: ca.minicaPem,
        trust: () => anchors,
        solvers: [http01, tlsAlpn01],
        records: options.records ?? (await records()),
        clock,
        log: log.log,
        ...options,
      })
    },
  }
}

export function requestFor(names: readonly string[], options: Partial<IssueRequest> = {}): IssueRequest {
  return { names, keyType: 'ecdsa-p256', challenges: ['http-01', 'tls-alpn-01'], ...options }
}

/** What the promise is rejected with, which must be an `IssueError`. */
export async function issueErrorOf(promise: Promise<unknown>): Promise<IssueError> {
  const error = await promise.then(
    () => new Error('it did not fail'),
    (reason: unknown) => reason,
  )
  if (error instanceof IssueError) return error
  throw error
}

/** Answers by HTTP-01 at this address, until the test ends. @returns its port */
export async function serveHttp01(
  t: Test,
  solver: Http01Solver,
  port: number,
  address = '127.0.0.1',
): Promise<number> {
  const server = createHttpServer((request, response) => {
    const answer = solver.answer(request.url ?? '')
    response.writeHead(answer === undefined ? 404 : 200).end(answer)
  })
  t.teardown(() => server.close())
  await once(server.listen(port, address), 'listening')
  return (server.address() as AddressInfo).port
}

/** Answers by TLS-ALPN-01 at this address, until the test ends. @returns its port */
export async function serveTlsAlpn01(
  t: Test,
  solver: TlsAlpn01Solver,
  port: number,
  address = '127.0.0.1',
): Promise<number> {
  const contextFor = (serverName: string) => {
    const answer = solver.find(serverName)
    return answer && createSecureContext({ key: answer.keyPem, cert: answer.certificatePem })
  }
  const server = createTlsServer({
    SNICallback: (serverName, done) => done(null, contextFor(serverName)),
    ALPNCallback({ servername, protocols }) {
      const context = contextFor(servername)
      if (context !== undefined) (this as unknown as TLSSocket).setKeyCert(context)
      return protocols.includes('acme-tls/1') ? 'acme-tls/1' : undefined
    },
  })
  server.on('tlsClientError', () => {})
  t.teardown(() => server.close())
  await once(server.listen(port, address), 'listening')
  return (server.address() as AddressInfo).port
}
