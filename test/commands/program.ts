/** The real program, as a child in a folder of its own, in front of an app; internal CA only, so nothing else is needed. */
import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises'
import { createServer, type RequestListener } from 'node:http'
import { Agent, type RequestOptions, request } from 'node:https'
import { type AddressInfo, connect as connectTcp } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'
import type { Test } from 'tap'
import { freePort } from '../peers/process.ts'

const PROGRAM = join(import.meta.dirname, '../../bin/holdfast.js')

export interface Finished {
  readonly code: number | null
  readonly out: string
  readonly err: string
}

/** A folder that ends with the test. */
export async function makeFolder(t: Test): Promise<string> {
  const folder = await mkdtemp(join(tmpdir(), 'holdfast-program-'))
  t.teardown(() => rm(folder, { recursive: true, force: true }))
  return folder
}

/** An app behind the proxy; says the path it was asked for. @returns its URL */
export async function startApp(
  t: Test,
  onRequest: RequestListener = (req, res) => res.end(req.url),
): Promise<string> {
  const app = createServer(onRequest).listen(0, '127.0.0.1')
  await once(app, 'listening')
  t.teardown(() => {
    app.close()
    app.closeAllConnections()
  })
  return `http://127.0.0.1:${(app.address() as AddressInfo).port}`
}

export interface Setup {
  readonly folder: string
  readonly ports: { readonly https: number; readonly http: number; readonly admin: number }
  readonly config: { listen: object; sites: object[]; [key: string]: unknown }
}

/** Free ports, and a config for `localhost` from the internal CA. Written by `writeConfig`. */
export async function prepare(t: Test, upstream: string): Promise<Setup> {
  const ports = { https: await freePort(), http: await freePort(), admin: await freePort() }
  const config = {
    listen: {
      https: [`127.0.0.1:${ports.https}`],
      http: [`127.0.0.1:${ports.http}`],
      admin: `127.0.0.1:${ports.admin}`,
    },
    // One process starts sooner; `workers.test.ts` has several.
    workers: 1,
    sites: [{ hosts: ['localhost'], upstreams: [upstream], tls: { cas: ['internal'] } }],
  }
  return { folder: await makeFolder(t), ports, config }
}

export async function writeConfig({ folder }: Setup, config: object): Promise<void> {
  await writeFile(join(folder, 'proxy.config.json'), JSON.stringify(config))
}

/** A child of the test, which the kernel ends when the test process goes, even by SIGKILL. */
export function launch(
  folder: string,
  args: readonly string[],
  env: Record<string, string> = {},
  user?: number,
): Program {
  const identity = user === undefined ? [] : [`--reuid=${user}`, `--regid=${user}`, '--clear-groups']
  // tap would have every child of Node load its hooks, which take seconds and write files: this one runs as a user's.
  const node = ['env', '--unset=NODE_OPTIONS', process.execPath, PROGRAM]
  const child = spawn('setpriv', [...identity, '--pdeathsig', 'KILL', ...node, ...args], {
    cwd: folder,
    env: { PATH: process.env.PATH ?? '', ...env },
    stdio: ['ignore', 'pipe', 'pipe'],
  })
  return new Program(child)
}

/** Runs to its end. @param user whose rights it has; the test's own when absent */
export function run(
  folder: string,
  args: readonly string[],
  env?: Record<string, string>,
  user?: number,
): Promise<Finished> {
  return launch(folder, args, env, user).finished
}

/** `serve`, ready to be asked. Ends with the test. @throws with its output when it ends instead */
export async function serve(
  t: Test,
  setup: Setup,
  args: readonly string[] = [],
  env?: Record<string, string>,
): Promise<Program> {
  const program = launch(setup.folder, ['serve', ...args], env)
  t.teardown(() => program.end('SIGKILL'))
  await program.said('"msg":"serving')
  return program
}

export class Program {
  /** Resolves with all that it said, once it has ended. */
  readonly finished: Promise<Finished>
  readonly #child: ChildProcess
  #out = ''
  #err = ''
  #look: () => void = () => {}

  constructor(child: ChildProcess) {
    this.#child = child
    child.stdout?.setEncoding('utf8').on('data', (text: string) => {
      this.#out += text
      this.#look()
    })
    child.stderr?.setEncoding('utf8').on('data', (text: string) => {
      this.#err += text
    })
    this.finished = once(child, 'close').then(([code]) => ({ code, out: this.#out, err: this.#err }))
  }

  get out(): string {
    return this.#out
  }

  /** The JSON lines of its log. */
  get lines(): Record<string, unknown>[] {
    return this.#out
      .split('\n')
      .filter((line) => line.startsWith('{'))
      .map((line) => JSON.parse(line))
  }

  /** Resolves once its output, from `start` on, contains the text. */
  async said(text: string, start = 0): Promise<void> {
    const heard = new Promise<void>((resolve) => {
      this.#look = () => {
        if (this.#out.includes(text, start)) resolve()
      }
      this.#look()
    })
    const ended = this.finished.then(({ code, out, err }) => {
      if (!out.includes(text, start)) throw new Error(`ended with ${code} before "${text}":\n${out}${err}`)
    })
    await Promise.race([heard, ended])
  }

  /** Those that serve connections, where there are several processes. */
  async workers(): Promise<number[]> {
    const { pid } = this.#child
    const children = await readFile(`/proc/${pid}/task/${pid}/children`, 'utf8')
    return children.trim().split(' ').map(Number)
  }

  signal(name: NodeJS.Signals): void {
    this.#child.kill(name)
  }

  end(name: NodeJS.Signals): Promise<Finished> {
    this.#child.kill(name)
    return this.finished
  }
}

export interface Answer {
  readonly status: number
  readonly body: string
  /** SHA-256 of the certificate that was served, as node:tls tells it; empty where a connection was reused. */
  readonly fingerprint: string
}

/** The internal CA's root, in PEM. */
export function rootOf({ folder }: Setup): Promise<string> {
  return readFile(join(folder, 'data/authorities/internal/root.pem'), 'utf8')
}

/** A verified GET on a connection of its own, unless an agent is named. */
export async function get(
  setup: Setup,
  path: string,
  { host = 'localhost', ca, agent = false }: { host?: string; ca?: string; agent?: Agent | false } = {},
): Promise<Answer> {
  const options: RequestOptions = {
    host: '127.0.0.1',
    port: setup.ports.https,
    servername: host,
    headers: { host },
    path,
    ca: ca ?? (await rootOf(setup)),
    agent,
  }
  const sent = request(options).end()
  let fingerprint = ''
  sent.on('socket', (socket) =>
    socket.on('secureConnect', () => {
      fingerprint = (socket as import('node:tls').TLSSocket).getPeerCertificate().fingerprint256
    }),
  )
  const [response] = await once(sent, 'response')
  let body = ''
  for await (const chunk of response.setEncoding('utf8')) body += chunk
  return { status: response.statusCode, body, fingerprint }
}

/** Keeps its one connection open between requests. */
export function keepAliveAgent(t: Test): Agent {
  const agent = new Agent({ keepAlive: true, maxSockets: 1 })
  t.teardown(() => agent.destroy())
  return agent
}

export function admin({ ports }: Setup, path: string, init?: RequestInit): Promise<Response> {
  return fetch(`http://127.0.0.1:${ports.admin}${path}`, init)
}

/** Resolves once the condition holds; the test's own time limit ends a wait in vain. */
export async function until(holds: () => Promise<boolean>): Promise<void> {
  while (!(await holds())) await delay(20)
}

/** Is anybody listening there? */
export function accepts(port: number): Promise<boolean> {
  return new Promise((resolve) => {
    const socket = connectTcp(port, '127.0.0.1')
    socket.once('connect', () => resolve(true)).once('error', () => resolve(false))
    socket.once('connect', () => socket.destroy())
  })
}
