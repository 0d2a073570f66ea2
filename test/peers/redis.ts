/** Debian's Redis on a free port, keeping nothing. */
import { freePort, Peer } from './process.ts'

export class Redis {
  readonly url: string
  readonly #peer: Peer

  constructor(url: string, peer: Peer) {
    this.url = url
    this.#peer = peer
  }

  /** Makes it hang: it accepts and never answers, until `resume`. */
  pause(): void {
    this.#peer.pause()
  }

  resume(): void {
    this.#peer.resume()
  }

  stop(): Promise<void> {
    return this.#peer.stop()
  }
}

/** `extra` goes to redis-server's command line, such as `'--requirepass', 'secret'`. */
export async function startRedis(...extra: string[]): Promise<Redis> {
  const port = await freePort()
  const options = ['--port', String(port), '--bind', '127.0.0.1', '--save', '', '--appendonly', 'no']
  return new Redis(
    `redis://127.0.0.1:${port}`,
    await Peer.start('redis-server', [...options, ...extra], { ports: [port] }),
  )
}
