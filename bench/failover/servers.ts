/**
 * The servers under comparison, each with the scene's two CAs in the same order: how it is configured, started, and told
 * of further hosts while it runs. All else is at its defaults.
 *
 * Apache's mod_md takes a certificate into use only when Apache is restarted: its `MDMessageCmd` does that at once here,
 * which is more than most installations do.
 */
import { type ChildProcess, execFileSync, spawn } from 'node:child_process'
import { once } from 'node:events'
import { chmodSync, chownSync, openSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import type { Scene } from './scene.ts'

/** A server that runs. */
export interface Running {
  /** These hosts from now on; resolves when the server has been told, not when they have certificates. */
  serve(hosts: readonly string[]): Promise<void>
  stop(): Promise<void>
}

export interface Contender {
  /** With the version, for the table's head. */
  describe(): string
  start(scene: Scene, hosts: readonly string[]): Running
}

const HOLDFAST = fileURLToPath(new URL('../../bin/holdfast.js', import.meta.url))
const PACKAGE = fileURLToPath(new URL('../../package.json', import.meta.url))
const PATH = `${process.env.PATH}:/usr/sbin`
const MODULES = '/usr/lib/apache2/modules'
/** Debian's www-data. Apache's children would have its rights only, and could not have Apache restarted. */
const WWW_DATA = 33

export const CONTENDERS: Readonly<Record<string, Contender>> = {
  Holdfast: { describe: () => `Holdfast ${holdfastVersion()}`, start: startHoldfast },
  Caddy: { describe: () => `Caddy ${versionFrom('caddy', ['version'])}`, start: startCaddy },
  mod_md: {
    describe: () =>
      `Apache ${versionFrom('apache2', ['-v'])} with mod_md, failover and retry at their defaults`,
    start: (scene, hosts) => startApache(scene, hosts, []),
  },
  'mod_md (eager)': {
    describe: () => '(eager): with MDRetryFailover 1, the least that it takes',
    start: (scene, hosts) => startApache(scene, hosts, ['MDRetryFailover 1']),
  },
}

function holdfastVersion(): string {
  return (JSON.parse(readFileSync(PACKAGE, 'utf8')) as { version: string }).version
}

function versionFrom(command: string, args: readonly string[]): string {
  const text = execFileSync(command, args, { encoding: 'utf8', env: { ...process.env, PATH } })
  return /\d+\.\d+\.\d+/.exec(text)?.[0] ?? text.trim()
}

function startHoldfast(scene: Scene, hosts: readonly string[]): Running {
  const { folder, ports, first, second } = scene
  const file = join(folder, 'proxy.config.json')
  const write = (hosts: readonly string[]): void => {
    const config = {
      listen: {
        https: [`127.0.0.1:${ports.https}`],
        http: [`127.0.0.1:${ports.http}`],
        admin: `127.0.0.1:${ports.admin}`,
      },
      cas: Object.fromEntries(
        Object.entries({ first, second }).map(([name, { directory, endpointRoots, trust }]) => [
          name,
          { directory, roots: endpointRoots, trust },
        ]),
      ),
      sites: [{ hosts, upstreams: ['http://127.0.0.1:9'] }],
    }
    writeFileSync(file, JSON.stringify(config))
  }
  write(hosts)
  const child = launch(scene, process.execPath, [HOLDFAST, 'serve'])
  return {
    serve: async (hosts) => {
      write(hosts)
      child.kill('SIGHUP')
    },
    stop: () => end(child),
  }
}

function startCaddy(scene: Scene, hosts: readonly string[]): Running {
  const { folder, ports, first, second } = scene
  const configFor = (hosts: readonly string[]): string => {
    const issuers = [first, second].map(({ directory, endpointRoots }) => ({
      module: 'acme',
      ca: directory,
      trusted_roots_pem_files: [endpointRoots],
      challenges: {
        http: { alternate_port: ports.http },
        'tls-alpn': { alternate_port: ports.https },
      },
    }))
    const route = { match: [{ host: hosts }], handle: [{ handler: 'static_response', body: 'here' }] }
    return JSON.stringify({
      admin: { listen: `127.0.0.1:${ports.admin}` },
      storage: { module: 'file_system', root: join(folder, 'data') },
      apps: {
        http: {
          http_port: ports.http,
          https_port: ports.https,
          servers: { main: { listen: [`127.0.0.1:${ports.https}`], routes: [route] } },
        },
        tls: { automation: { policies: [{ issuers }] } },
      },
    })
  }
  const file = join(folder, 'caddy.json')
  writeFileSync(file, configFor(hosts))
  const child = launch(scene, 'caddy', ['run', '--config', file])
  return {
    serve: async (hosts) => {
      const answer = await fetch(`http://127.0.0.1:${ports.admin}/load`, {
        method: 'POST',
        headers: { 'content-type': 'application/json' },
        body: configFor(hosts),
      })
      if (!answer.ok) throw new Error(`Caddy refuses its config: ${await answer.text()}`)
    },
    stop: () => end(child),
  }
}

function startApache(scene: Scene, hosts: readonly string[], directives: readonly string[]): Running {
  const { folder, ports, first, second } = scene
  const restart = join(folder, 'restart.sh')
  const write = (hosts: readonly string[]): void => {
    const modules = ['mpm_event', 'authz_core', 'socache_shmcb', 'ssl', 'md']
    const sites = hosts.flatMap((host) => [
      `MDomain ${host}`,
      `<VirtualHost 127.0.0.1:${ports.https}>`,
      `ServerName ${host}`,
      'SSLEngine on',
      '</VirtualHost>',
    ])
    const lines = [
      ...modules.map((name) => `LoadModule ${name}_module ${MODULES}/mod_${name}.so`),
      `ServerRoot ${folder}`,
      `DefaultRuntimeDir ${folder}`,
      'PidFile httpd.pid',
      'ErrorLog output',
      'ServerName localhost',
      `Listen 127.0.0.1:${ports.http}`,
      `Listen 127.0.0.1:${ports.https}`,
      'Protocols http/1.1 acme-tls/1',
      'MDStoreDir md',
      `MDPortMap http:${ports.http} https:${ports.https}`,
      `MDCertificateAuthority ${first.directory} ${second.directory}`,
      'MDCACertificateFile endpoints.pem',
      'MDCertificateAgreement accepted',
      'MDContactEmail ops@failover.example',
      `MDMessageCmd ${restart}`,
      ...directives,
      ...sites,
    ]
    writeFileSync(join(folder, 'httpd.conf'), `${lines.join('\n')}\n`)
  }
  const roots = [first, second].map(({ endpointRoots }) => readFileSync(endpointRoots, 'utf8'))
  writeFileSync(join(folder, 'endpoints.pem'), roots.join(''))
  writeFileSync(
    restart,
    `#!/bin/sh\n[ "$1" != renewed ] || kill -USR1 "$(cat ${join(folder, 'httpd.pid')})"\n`,
  )
  chmodSync(restart, 0o755)
  write(hosts)
  const isRoot = process.getuid?.() === 0
  if (isRoot) chownSync(folder, WWW_DATA, WWW_DATA)
  const identity = isRoot ? [`--reuid=${WWW_DATA}`, `--regid=${WWW_DATA}`, '--clear-groups'] : []
  const args = ['-DFOREGROUND', '-f', join(folder, 'httpd.conf')]
  const child = launch(scene, 'apache2', args, identity)
  return {
    serve: async (hosts) => {
      write(hosts)
      child.kill('SIGUSR1')
    },
    stop: () => end(child),
  }
}

/** In the scene's folder, where its output goes too. */
function launch(
  { folder }: Scene,
  command: string,
  args: readonly string[],
  identity: readonly string[] = [],
): ChildProcess {
  const file = join(folder, 'output')
  const output = openSync(file, 'a')
  if (identity.length > 0) chownSync(file, WWW_DATA, WWW_DATA)
  // The kernel ends it with this process, however that ends: by SIGTERM, so that its own children go too.
  return spawn('setpriv', [...identity, '--pdeathsig', 'TERM', command, ...args], {
    cwd: folder,
    env: { PATH, HOME: folder },
    stdio: ['ignore', output, output],
  })
}

/** Long enough for children to be ended as well; then by force. */
const END_LIMIT_MS = 10_000

async function end(child: ChildProcess): Promise<void> {
  if (child.exitCode !== null || child.signalCode !== null) return
  const exited = once(child, 'exit')
  child.kill('SIGTERM')
  const timer = setTimeout(() => child.kill('SIGKILL'), END_LIMIT_MS)
  await exited
  clearTimeout(timer)
}
