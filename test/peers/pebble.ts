/**
 * Pebble, the ACME test server of Let's Encrypt, as a CA that the tests start, stop, hang and restart: 2.10, from
 * `test/.peers`, unless a test is about a CA that knows neither ARI nor profiles, as Debian 12's 2.4 does. `test/setup.sh`
 * brings both.
 */
import { fileURLToPath } from 'node:url'
import { Authority, type Credentials } from './authority.ts'
import { exchange } from './exchange.ts'
import { freePort, Peer } from './process.ts'

const PROGRAMS = {
  '2.4': 'pebble',
  '2.10': fileURLToPath(new URL('../.peers/pebble/usr/bin/pebble', import.meta.url)),
}

/** Full speed and no surprises; a test that wants surprises says so. */
const CALM = { PEBBLE_VA_NOSLEEP: '1', PEBBLE_WFE_NONCEREJECT: '0' }

export interface PebbleOptions {
  /** 2.10 when absent. */
  readonly version?: keyof typeof PROGRAMS
  /** `host:port` that names are resolved with. */
  readonly dnsServer: string
  /** Where HTTP-01 is validated. */
  readonly httpPort: number
  /** Where TLS-ALPN-01 is validated. */
  readonly tlsPort: number
  /** Of the certificates that it issues. Default 90 days. */
  readonly lifetimeSeconds?: number
  readonly env?: Record<string, string>
  /** Further keys of Pebble's own configuration: external account binding, profiles, blocked domains. */
  readonly config?: Record<string, unknown>
}

/** Starts on two free ports of 127.0.0.1. */
export async function startPebble(options: PebbleOptions): Promise<Pebble> {
  const minica = await Authority.create('Minica of a test Pebble')
  const endpoint = await minica.issue(['localhost', '127.0.0.1'])
  const ports = { acme: await freePort(), management: await freePort() }
  const validityPeriod = options.lifetimeSeconds ?? 90 * 86_400
  const configuration = {
    listenAddress: `127.0.0.1:${ports.acme}`,
    managementListenAddress: `127.0.0.1:${ports.management}`,
    certificate: 'endpoint.pem',
    privateKey: 'endpoint.key',
    httpPort: options.httpPort,
    tlsPort: options.tlsPort,
    retryAfter: { authz: 1, order: 1 },
    certificateValidityPeriod: validityPeriod,
    profiles: { default: { description: 'The only one', validityPeriod } },
    ...options.config,
  }
  const files = {
    'endpoint.pem': endpoint.certificatePem,
    'endpoint.key': endpoint.keyPem,
    'pebble.json': JSON.stringify({ pebble: configuration }),
  }
  const pebble = new Pebble(options, files, ports, minica.certificatePem)
  await pebble.restart()
  return pebble
}

export class Pebble {
  /** URL of the ACME directory. */
  readonly directory: string
  /** The root that Pebble's own HTTPS endpoints chain to. */
  readonly minicaPem: string
  readonly managementUrl: string
  readonly #options: PebbleOptions
  readonly #files: Record<string, string>
  readonly #ports: readonly number[]
  #peer: Peer | undefined

  /** Use `startPebble`. */
  constructor(
    options: PebbleOptions,
    files: Record<string, string>,
    ports: { acme: number; management: number },
    minicaPem: string,
  ) {
    this.directory = `https://127.0.0.1:${ports.acme}/dir`
    this.managementUrl = `https://127.0.0.1:${ports.management}`
    this.minicaPem = minicaPem
    this.#options = options
    this.#files = files
    this.#ports = [ports.acme, ports.management]
  }

  /** On the same ports, stopped before or not: a new CA with new roots that knows no account. */
  async restart(): Promise<void> {
    await this.stop()
    this.#peer = await Peer.start(
      PROGRAMS[this.#options.version ?? '2.10'],
      ['-config', 'pebble.json', '-dnsserver', this.#options.dnsServer],
      { ports: this.#ports, files: this.#files, env: { ...CALM, ...this.#options.env } },
    )
  }

  /** Connections are refused from here on, until `restart`. Idempotent. */
  async stop(): Promise<void> {
    await this.#peer?.stop()
  }

  /** Makes it hang: connections are accepted and never answered, until `resume`. */
  pause(): void {
    this.#peer?.pause()
  }

  resume(): void {
    this.#peer?.resume()
  }

  log(): string {
    return this.#peer?.log() ?? ''
  }

  /** PEM of the root that issued certificates chain to. */
  root(): Promise<string> {
    return this.#manage('/roots/0')
  }

  intermediate(): Promise<string> {
    return this.#manage('/intermediates/0')
  }

  /** What signs the leaves, with its key. */
  async signer(): Promise<Credentials> {
    return {
      certificatePem: await this.intermediate(),
      keyPem: await this.#manage('/intermediate-keys/0'),
    }
  }

  /** Not with 2.4: what the CA answers when asked by ARI (RFC 9773) about this certificate. */
  async setRenewalInfo(certificatePem: string, window: { start: Date; end: Date }): Promise<void> {
    const ariResponse = JSON.stringify({ suggestedWindow: window })
    await this.#manage('/set-renewal-info/', { certificate: certificatePem, ariResponse })
  }

  async #manage(path: string, body?: object): Promise<string> {
    const answer = await exchange(this.managementUrl + path, {
      ca: this.minicaPem,
      headers: { 'user-agent': 'holdfast-test' },
      ...(body === undefined ? {} : { method: 'POST', body: JSON.stringify(body) }),
    })
    if (answer.status !== 200) throw new Error(`Pebble answered ${answer.status} to ${path}: ${answer.body}`)
    return answer.body.toString()
  }
}
