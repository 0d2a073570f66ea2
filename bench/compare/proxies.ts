/**
 * The proxies under comparison and the upstream before which they stand: how each is configured and started, one core
 * for the proxy, the other for the upstream.
 *
 * All listen on 127.0.0.1 with the same ECDSA P-256 certificate, keep connections to the upstream open, and tell it of
 * the client. nginx has its default buffers: it is the reference.
 */
import { type ChildProcess, spawn } from 'node:child_process'
import { openSync, writeFileSync } from 'node:fs'
import { connect } from 'node:net'
import { join } from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'
import { hashPassword } from '../../src/password.ts'
import { freePort } from '../../test/peers/process.ts'

export const PROXY_CORE = 1
export const LOAD_CORE = 0
const START_ATTEMPTS = 400

export interface Server {
  readonly name: string
  readonly port: number
  readonly pid: number
  stop(): void
}

/** Where everything is laid: `chain.pem`, `key.pem`, `both.pem`, `root.pem` and `holdfast/` are there already. */
export interface Scene {
  readonly folder: string
  readonly upstreamPort: number
  /** Further candidates by name: shell commands, which find `PORT`, `UPSTREAM_PORT` and `FOLDER` in their environment. */
  readonly commands: ReadonlyMap<string, string>
}

type Start = (scene: Scene, port: number, name: string) => { command: string; args: readonly string[] }

const PROXIES: Readonly<Record<string, Start>> = {
  nginx: (scene, port, name) => nginx(scene, name, proxyServer(scene, port), 'off'),
  'nginx, access log': (scene, port, name) => nginx(scene, name, proxyServer(scene, port), 'access.log'),
  'nginx, every feature': nginxWithAll,
  Holdfast: (scene, port, name) => holdfast(scene, port, name, { forwarder: 'fast', access: false }),
  'Holdfast, access log': (scene, port, name) =>
    holdfast(scene, port, name, { forwarder: 'fast', access: true }),
  'Holdfast, compat': (scene, port, name) =>
    holdfast(scene, port, name, { forwarder: 'compat', access: false }),
  'Holdfast, every feature': (scene, port, name) =>
    holdfast(scene, port, name, { forwarder: 'fast', access: true, route: everyFeature(scene) }),
  HAProxy: haproxy,
  Caddy: caddy,
  hitch,
}

/** Who may ask where every feature is in use. */
export const CREDENTIALS = 'bench:secret'

const [USER = '', PASSWORD = ''] = CREDENTIALS.split(':')
const USERS = { [USER]: await hashPassword(PASSWORD) }

/** All that a route can do to a request that is served nevertheless. */
const everyFeature = ({ upstreamPort }: Scene): object => ({
  upstreams: [
    { url: `http://127.0.0.1:${upstreamPort}`, weight: 2, maxConnections: 400 },
    { url: `http://127.0.0.2:${upstreamPort}` },
  ],
  balance: 'least-connections',
  sticky: true,
  retries: 2,
  maxFails: 3,
  slowStart: '10s',
  queue: {},
  healthCheck: {},
  hsts: true,
  maxBody: '10MB',
  rewrite: '/',
  requestHeaders: { set: { 'X-App': 'bench' }, add: { 'X-More': '1' }, remove: ['X-Gone'] },
  responseHeaders: {
    set: { 'X-Frame-Options': 'DENY', 'Access-Control-Allow-Origin': '*' },
    remove: ['Server'],
  },
  compress: true,
  allow: ['127.0.0.0/8', '10.0.0.0/8'],
  deny: ['127.9.0.0/16'],
  basicAuth: { users: USERS },
  rateLimit: { requests: 100_000_000, per: '1m' },
  tls: {
    certificate: 'chain.pem',
    key: 'key.pem',
    clientCertificates: { mode: 'optional', ca: 'root.pem', headers: { subject: 'X-Client' } },
  },
})

/** Starts nginx as the upstream: 1 KB at every path, and 10 MB at /10m. */
export async function startUpstream(scene: Scene): Promise<Server> {
  const { upstreamPort: port } = scene
  const server = `server {
    listen 127.0.0.1:${port} backlog=4096;
    listen 127.0.0.2:${port} backlog=4096;
    location = /10m { alias ${scene.folder}/10m; }
    location / { default_type text/plain; return 200 '${'x'.repeat(1024)}'; }
  }`
  return await launch(scene, LOAD_CORE, port, 'upstream', nginx(scene, 'upstream', [server], 'off'))
}

/** Starts a proxy of `PROXIES` or of the scene's commands; resolves when it accepts connections. */
export async function startProxy(scene: Scene, name: string): Promise<Server> {
  const port = await freePort()
  const command = scene.commands.get(name)
  const known = PROXIES[name]
  if (command === undefined && known === undefined) throw new Error(`no proxy is called ${name}`)
  const start = known?.(scene, port, name) ?? { command: 'sh', args: ['-c', `exec ${command}`] }
  return await launch(scene, PROXY_CORE, port, name, start)
}

/** What an nginx has beyond the plain one: directives by where they stand. */
interface More {
  readonly http?: string
  readonly upstreams?: string
  readonly server?: string
  readonly location?: string
}

function proxyServer({ folder, upstreamPort }: Scene, port: number, more: More = {}): string[] {
  const { http = '', upstreams = `server 127.0.0.1:${upstreamPort};`, server = '', location = '' } = more
  return [
    `upstream app { ${upstreams} keepalive 512; keepalive_requests 1000000000; }`,
    http,
    `server {
      listen 127.0.0.1:${port} ssl http2 backlog=4096;
      ssl_protocols TLSv1.2 TLSv1.3;
      ssl_certificate ${folder}/chain.pem;
      ssl_certificate_key ${folder}/key.pem;
      http2_max_concurrent_streams 256;
      ${server}
      location / {
        proxy_pass http://app;
        proxy_http_version 1.1;
        proxy_set_header Connection "";
        proxy_set_header Host $host;
        proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for;
        proxy_set_header X-Forwarded-Proto $scheme;
        ${location}
      }
    }`,
  ]
}

function nginx(scene: Scene, name: string, http: readonly string[], accessLog: string): ReturnType<Start> {
  const file = fileName(name)
  const paths = ['client_body', 'proxy', 'fastcgi', 'uwsgi', 'scgi'].map(
    (kind) => `${kind}_temp_path ${file}-${kind};`,
  )
  writeFileSync(
    join(scene.folder, `${file}.conf`),
    `daemon off; master_process off; user root; pid ${file}.pid; error_log stderr crit;
    worker_rlimit_nofile 20000; events { worker_connections 16384; }
    http { access_log ${accessLog}; sendfile on; tcp_nopush on; keepalive_requests 1000000000; keepalive_timeout 600s;
    ${paths.join(' ')} ${http.join('\n')} }`,
  )
  return { command: 'nginx', args: ['-p', scene.folder, '-c', `${file}.conf`, '-e', 'stderr'] }
}

/** The same, as far as nginx has it: it keeps clients with their upstream by their address. */
function nginxWithAll(scene: Scene, port: number, name: string): ReturnType<Start> {
  const { folder, upstreamPort } = scene
  writeFileSync(join(folder, 'users'), `${USER}:{PLAIN}${PASSWORD}`)
  const servers = proxyServer(scene, port, {
    http: 'limit_req_zone $binary_remote_addr zone=clients:10m rate=1000000r/s;',
    upstreams: `hash $remote_addr consistent;
      server 127.0.0.1:${upstreamPort} weight=2 max_conns=400 max_fails=3;
      server 127.0.0.2:${upstreamPort};`,
    server: `ssl_verify_client optional; ssl_client_certificate ${folder}/root.pem;`,
    location: `deny 127.9.0.0/16; allow 127.0.0.0/8; allow 10.0.0.0/8; deny all;
        auth_basic bench; auth_basic_user_file ${folder}/users;
        limit_req zone=clients burst=1000000 nodelay;
        client_max_body_size 10m;
        rewrite ^/(.*)$ /$1 break;
        gzip on; gzip_vary on; gzip_types text/plain; gzip_proxied any;
        add_header X-Frame-Options DENY; add_header Access-Control-Allow-Origin *;
        add_header Strict-Transport-Security max-age=31536000;
        proxy_next_upstream_tries 3;
        proxy_set_header X-Request-Id $request_id;
        proxy_set_header X-App bench; proxy_set_header X-More 1; proxy_set_header X-Gone "";
        proxy_set_header X-Client $ssl_client_s_dn;
        proxy_hide_header Server;`,
  })
  return nginx(scene, name, servers, `${fileName(name)}.log`)
}

function holdfast(
  scene: Scene,
  port: number,
  name: string,
  { forwarder, access, route = {} }: { forwarder: 'fast' | 'compat'; access: boolean; route?: object },
): ReturnType<Start> {
  const file = join(scene.folder, `${fileName(name)}.json`)
  const config = {
    listen: { https: [`127.0.0.1:${port}`], http: [], admin: false },
    store: `file:./${fileName(name)}-store`,
    workers: 1,
    forwarder,
    log: { level: access ? 'info' : 'error', access },
    tls: { defaultHost: 'localhost' },
    sites: [
      {
        hosts: ['localhost', '127.0.0.1'],
        upstreams: [`http://127.0.0.1:${scene.upstreamPort}`],
        tls: { certificate: 'chain.pem', key: 'key.pem' },
        ...route,
      },
    ],
  }
  writeFileSync(file, JSON.stringify(config))
  const program = join(scene.folder, 'holdfast')
  return {
    command: join(program, 'node'),
    args: [join(program, 'bin/holdfast.js'), 'serve', '--config', file],
  }
}

function haproxy({ folder, upstreamPort }: Scene, port: number): ReturnType<Start> {
  const file = join(folder, 'haproxy.cfg')
  writeFileSync(
    file,
    `global
  nbthread 1
  maxconn 8000
  ssl-default-bind-options ssl-min-ver TLSv1.2
  tune.h2.max-concurrent-streams 256
defaults
  mode http
  timeout connect 5s
  timeout client 600s
  timeout server 600s
frontend front
  backlog 4096
  bind 127.0.0.1:${port} ssl crt ${folder}/both.pem alpn h2,http/1.1
  option forwardfor
  http-request set-header X-Forwarded-Proto https
  default_backend back
backend back
  http-reuse always
  server app 127.0.0.1:${upstreamPort} pool-max-conn 512
`,
  )
  return { command: 'haproxy', args: ['-db', '-f', file] }
}

function caddy({ folder, upstreamPort }: Scene, port: number): ReturnType<Start> {
  const file = join(folder, 'Caddyfile')
  writeFileSync(
    file,
    `{
  admin off
  auto_https off
  log default {
    level ERROR
  }
}
:${port} {
  bind 127.0.0.1
  tls ${folder}/chain.pem ${folder}/key.pem
  reverse_proxy 127.0.0.1:${upstreamPort} {
    transport http {
      keepalive_idle_conns 1024
      keepalive_idle_conns_per_host 512
      compression off
    }
  }
}
`,
  )
  return { command: 'caddy', args: ['run', '--adapter', 'caddyfile', '--config', file] }
}

/** TLS to TCP: it looks at no request. */
function hitch({ folder, upstreamPort }: Scene, port: number): ReturnType<Start> {
  const file = join(folder, 'hitch.conf')
  writeFileSync(
    file,
    `frontend = { host = "127.0.0.1" port = "${port}" }
backend = "[127.0.0.1]:${upstreamPort}"
pem-file = "${folder}/both.pem"
workers = 1
backlog = 4096
daemon = off
tls-protos = TLSv1.2 TLSv1.3
alpn-protos = "http/1.1"
user = "nobody"
quiet = on
`,
  )
  return { command: 'hitch', args: ['--config', file] }
}

function fileName(name: string): string {
  return name.toLowerCase().replaceAll(/[^a-z]+/g, '-')
}

async function launch(
  { folder, upstreamPort }: Scene,
  core: number,
  port: number,
  name: string,
  { command, args }: ReturnType<Start>,
): Promise<Server> {
  const output = openSync(join(folder, `${fileName(name)}.out`), 'a')
  // The kernel ends it with this process, however that ends.
  const child = spawn('setpriv', ['--pdeathsig', 'KILL', 'taskset', '-c', String(core), command, ...args], {
    cwd: folder,
    env: {
      ...process.env,
      PATH: `${process.env.PATH}:/usr/sbin`,
      HOME: folder,
      GOMAXPROCS: '1',
      PORT: String(port),
      UPSTREAM_PORT: String(upstreamPort),
      FOLDER: folder,
    },
    stdio: ['ignore', output, 'inherit'],
  })
  await untilAccepting(child, port, name)
  return { name, port, pid: child.pid!, stop: () => child.kill('SIGKILL') }
}

async function untilAccepting(child: ChildProcess, port: number, name: string): Promise<void> {
  for (let attempt = 0; child.exitCode === null && attempt < START_ATTEMPTS; attempt++) {
    if (await answers(port)) return
    await delay(50)
  }
  throw new Error(`${name} did not start on port ${port}`)
}

function answers(port: number): Promise<boolean> {
  return new Promise((resolve) => {
    const socket = connect(port, '127.0.0.1', () => {
      socket.destroy()
      resolve(true)
    })
    socket.on('error', () => resolve(false))
  })
}
