/** The client of a practice: makes one TLS handshake after the other, verified against the practice CAs' roots. */
import { connect } from 'node:tls'
import { messageOf } from '../../errors.ts'
import { type Cancel, type Clock, SECOND } from '../../time.ts'

export interface PracticeClientOptions {
  readonly clock: Clock
  /** On 127.0.0.1. */
  readonly port: number
  readonly host: string
  /** PEM. */
  readonly roots: readonly string[]
}

export interface Tally {
  readonly handshakes: number
  readonly failed: number
  readonly lastFailure: string | undefined
}

const PAUSE_MS = 5
const HANDSHAKE_LIMIT_MS = 5 * SECOND

export class PracticeClient {
  readonly #options: PracticeClientOptions
  #handshakes = 0
  #failed = 0
  #lastFailure: string | undefined
  #issuer: string | undefined
  #isStopped = false
  #cancelNext: Cancel = () => {}
  #current: Promise<void> = Promise.resolve()
  #look: () => void = () => {}

  constructor(options: PracticeClientOptions) {
    this.#options = options
  }

  /** The CA of the last certificate that it was served. */
  get issuer(): string | undefined {
    return this.#issuer
  }

  tally(): Tally {
    return { handshakes: this.#handshakes, failed: this.#failed, lastFailure: this.#lastFailure }
  }

  start(): void {
    this.#current = this.#connect().then(() => {
      if (!this.#isStopped) this.#cancelNext = this.#options.clock.after(PAUSE_MS, () => this.start())
    })
  }

  async stop(): Promise<void> {
    this.#isStopped = true
    this.#cancelNext()
    await this.#current
  }

  /** Resolves at the first handshake that this CA's certificate answers. */
  untilServedBy(ca: string, signal: AbortSignal): Promise<void> {
    return new Promise((resolve, reject) => {
      signal.addEventListener('abort', () => reject(signal.reason), { once: true })
      this.#look = () => {
        if (this.#issuer === ca) resolve()
      }
      this.#look()
    })
  }

  #connect(): Promise<void> {
    const { clock, host, port, roots } = this.#options
    return new Promise((resolve) => {
      const socket = connect({ host: '127.0.0.1', port, servername: host, ca: [...roots] })
      const cancel = clock.after(HANDSHAKE_LIMIT_MS, () =>
        socket.destroy(new Error('no handshake within 5s')),
      )
      const done = (): void => {
        cancel()
        socket.destroy()
        this.#look()
        resolve()
      }
      socket.once('secureConnect', () => {
        this.#handshakes++
        // `Holdfast CA intermediate 1f2e3d4c`
        this.#issuer = String(socket.getPeerCertificate().issuer.CN).split(' ')[1]
        done()
      })
      socket.once('error', (error) => {
        this.#failed++
        this.#lastFailure = messageOf(error)
        done()
      })
    })
  }
}
