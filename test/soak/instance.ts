/** The program as a child of one process, in front of given upstreams, with a probe inside it. */
import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdtempSync, openSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'
import { CREDENTIALS, HOST } from '../http/front.ts'
import { freePort } from '../peers/process.ts'
import type { Held } from './probe.ts'

const PROGRAM = join(import.meta.dirname, '../../bin/holdfast.js')
const PROBE = join(import.meta.dirname, 'probe.ts')
const SETTLE_MS = 30_000
const LOG = 'log'

export class Instance {
  readonly port: number
  readonly #child: ChildProcess
  readonly #folder: string

  private constructor(child: ChildProcess, port: number, folder: string) {
    this.#child = child
    this.port = port
    this.#folder = folder
  }

  /** For `HOST`, over TLS. `routes`: path to upstreams. */
  static async start(routes: Readonly<Record<string, readonly string[]>>): Promise<Instance> {
    const folder = mkdtempSync(join(tmpdir(), 'holdfast-soak-'))
    const port = await freePort()
    writeFileSync(join(folder, 'chain.pem'), CREDENTIALS.chainPem)
    writeFileSync(join(folder, 'key.pem'), CREDENTIALS.keyPem)
    const config = {
      listen: { https: [`127.0.0.1:${port}`], http: [], admin: false },
      workers: 1,
      log: { level: 'warn', access: false },
      timeouts: { keepAlive: '1h' },
      sites: [
        {
          hosts: [HOST],
          tls: { certificate: 'chain.pem', key: 'key.pem' },
          routes: Object.entries(routes).map(([path, upstreams]) => ({ path, upstreams })),
        },
      ],
    }
    writeFileSync(join(folder, 'proxy.config.json'), JSON.stringify(config))
    // glibc keeps what is freed for later, tens of MiB of buffers by chance; from 16 KiB on it now gives each back at once.
    const environment = ['env', '--unset=NODE_OPTIONS', 'MALLOC_MMAP_THRESHOLD_=16384']
    const node = [process.execPath, '--expose-gc', '--import', PROBE]
    // The kernel ends it when this process goes.
    const child = spawn('setpriv', ['--pdeathsig', 'KILL', ...environment, ...node, PROGRAM, 'serve'], {
      cwd: folder,
      stdio: ['ignore', openSync(join(folder, LOG), 'w'), 'inherit', 'ipc'],
    })
    const instance = new Instance(child, port, folder)
    for (let attempt = 0; !(await accepts(port)); attempt++) {
      if (attempt === 200 || child.exitCode !== null) throw new Error('the instance does not start')
      await delay(100)
    }
    return instance
  }

  async held(): Promise<Held> {
    this.#child.send('held')
    const [held] = await once(this.#child, 'message')
    return held
  }

  /** What it holds when it has come back to so many handles, or does not within half a minute. */
  async settled(handles: number): Promise<Held> {
    const endMs = performance.now() + SETTLE_MS
    let held = await this.held()
    while (held.handles > handles && performance.now() < endMs) {
      await delay(500)
      held = await this.held()
    }
    return held
  }

  /** The lines of its log that hold `text`. */
  logged(text: string): string[] {
    const lines = readFileSync(join(this.#folder, LOG), 'utf8').split('\n')
    return lines.filter((line) => line.includes(text))
  }

  get running(): boolean {
    return this.#child.exitCode === null
  }

  async stop(): Promise<void> {
    this.#child.kill('SIGTERM')
    if (this.running) await once(this.#child, 'exit')
    rmSync(this.#folder, { recursive: true, force: true })
  }
}

async function accepts(port: number): Promise<boolean> {
  const { connect } = await import('node:net')
  return new Promise((resolve) => {
    const socket = connect(port, '127.0.0.1')
    socket.once('connect', () => {
      socket.destroy()
      resolve(true)
    })
    socket.once('error', () => resolve(false))
  })
}
