/**
 * Debian's Caddy as an ACME server (`acme_server`, which is smallstep's): an implementation that shares nothing with
 * Pebble. This version (2.6) asks the machine's own resolver and the ports 80 and 443: order IP addresses.
 */
import { Authority } from './authority.ts'
import { freePort, Peer } from './process.ts'

export interface Caddy {
  /** URL of the ACME directory. */
  readonly directory: string
  /** The root that its HTTPS endpoint chains to. */
  readonly minicaPem: string
  /** PEM of the root that issued certificates chain to. */
  root(): Promise<string>
  stop(): Promise<void>
}

export async function startCaddy(): Promise<Caddy> {
  const authority = await Authority.create('Root of a test Caddy')
  const endpoint = await authority.issue(['localhost'])
  const port = await freePort()
  const { certificatePem } = authority
  const peer = await Peer.start('caddy', ['run', '--config', 'caddy.json'], {
    ports: [port],
    env: { HOME: '.', XDG_CONFIG_HOME: '.', XDG_DATA_HOME: '.' },
    files: {
      'root.pem': certificatePem,
      'root.key': await authority.keyPem(),
      'endpoint.pem': endpoint.certificatePem,
      'endpoint.key': endpoint.keyPem,
      'caddy.json': JSON.stringify(configurationFor(port)),
    },
  })
  return {
    directory: `https://localhost:${port}/acme/local/directory`,
    minicaPem: certificatePem,
    root: async () => certificatePem,
    stop: () => peer.stop(),
  }
}

function configurationFor(port: number): object {
  const root = { format: 'pem_file', certificate: 'root.pem', private_key: 'root.key' }
  const server = {
    listen: [`127.0.0.1:${port}`],
    protocols: ['h1'],
    automatic_https: { disable: true },
    tls_connection_policies: [{}],
    routes: [{ handle: [{ handler: 'acme_server', ca: 'local', host: `localhost:${port}` }] }],
  }
  return {
    admin: { disabled: true },
    storage: { module: 'file_system', root: './data' },
    apps: {
      pki: { certificate_authorities: { local: { install_trust: false, root } } },
      tls: { certificates: { load_files: [{ certificate: 'endpoint.pem', key: 'endpoint.key' }] } },
      http: { servers: { acme: server } },
    },
  }
}
