/** Runs a real server as a child for the length of a test: waits until it listens, keeps its output, ends with the test. */
import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { connect, createServer, type ListenOptions, type Server } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'

const START_LIMIT_MS = 20_000

/** Below the range that the kernel hands to outgoing connections, so that a port stays free over a restart. */
const PORTS = { first: 10_000, count: 22_000 }

/** Each process begins elsewhere, so that few meet. */
const candidates = walkPorts(process.pid * 64)

/**
 * A TCP port of 127.0.0.1 that nothing listens on now. No other test is given it while this process lives, for a port that
 * was handed out is often bound only much later.
 */
export async function freePort(): Promise<number> {
  for (;;) {
    const port = candidates.next().value
    if ((await claim(port)) && (await isFree(port))) return port
  }
}

function* walkPorts(start: number): Generator<number, never> {
  for (let step = 0; ; step++) yield PORTS.first + ((start + step) % PORTS.count)
}

/** By an abstract socket (unix(7)), which the kernel takes back when this process ends, however it does. */
async function claim(port: number): Promise<boolean> {
  const server = await listenOn({ path: `\0holdfast-test-port-${port}` })
  server?.unref()
  return server !== undefined
}

async function isFree(port: number): Promise<boolean> {
  const server = await listenOn({ port, host: '127.0.0.1' })
  server?.close()
  return server !== undefined
}

/** Undefined: it is taken. */
async function listenOn(where: ListenOptions): Promise<Server | undefined> {
  const server = createServer().listen(where)
  try {
    await once(server, 'listening')
    return server
  } catch {
    return undefined
  }
}

export interface PeerOptions {
  readonly env?: Record<string, string>
  /** Laid in its working directory: name to content. */
  readonly files?: Record<string, string>
  /** Ready once all of these ports of 127.0.0.1 accept. */
  readonly ports: readonly number[]
}

/** A running child in a folder of its own. It never outlives the test process, however that one ends. */
export class Peer {
  readonly #child: ChildProcess
  readonly #folder: string
  readonly #output: string[] = []

  private constructor(child: ChildProcess, folder: string) {
    this.#child = child
    this.#folder = folder
    for (const stream of [child.stdout, child.stderr]) {
      stream?.setEncoding('utf8').on('data', (text: string) => this.#output.push(text))
    }
  }

  /** @throws with the child's output when it exits, or does not listen within 20 s */
  static async start(command: string, args: readonly string[], options: PeerOptions): Promise<Peer> {
    const folder = await mkdtemp(join(tmpdir(), 'holdfast-peer-'))
    for (const [name, content] of Object.entries(options.files ?? {})) {
      await writeFile(join(folder, name), content)
    }
    // The kernel kills the child when this process dies, even by SIGKILL.
    const child = spawn('setpriv', ['--pdeathsig', 'KILL', command, ...args], {
      cwd: folder,
      env: { ...process.env, ...options.env },
      stdio: ['ignore', 'pipe', 'pipe'],
    })
    const peer = new Peer(child, folder)
    await once(child, 'spawn')
    const limit = AbortSignal.timeout(START_LIMIT_MS)
    for (const port of options.ports) {
      while (!(await accepts(port))) {
        if (limit.aborted || !peer.#running) {
          await peer.stop()
          throw new Error(`${command} did not start on port ${port}. It said:\n${peer.log()}`)
        }
        await delay(10)
      }
    }
    return peer
  }

  get #running(): boolean {
    return this.#child.exitCode === null && this.#child.signalCode === null
  }

  /** Everything it wrote to stdout and stderr. */
  log(): string {
    return this.#output.join('')
  }

  /** SIGSTOP: the kernel still accepts connections, and nothing answers them. */
  pause(): void {
    this.#child.kill('SIGSTOP')
  }

  resume(): void {
    this.#child.kill('SIGCONT')
  }

  /** At once, by SIGKILL: peers keep nothing that is worth a goodbye. Idempotent. */
  async stop(): Promise<void> {
    if (this.#running) {
      const exited = once(this.#child, 'exit')
      this.#child.kill('SIGKILL')
      await exited
    }
    await rm(this.#folder, { recursive: true, force: true })
  }
}

function accepts(port: number): Promise<boolean> {
  return new Promise((resolve) => {
    const socket = connect(port, '127.0.0.1')
    socket.once('connect', () => resolve(true)).once('error', () => resolve(false))
    socket.once('connect', () => socket.destroy())
  })
}
