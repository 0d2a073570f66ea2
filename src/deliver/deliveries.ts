/**
 * Keeps the files of other programs in step with what is served: at every issuance and switch, and at the start. Hides
 * when to look, what to repeat and what to say. Receives deliveries from `server.ts`, which also says when something
 * has changed; a look each minute finds what changes by time alone, when a standby takes over from what has expired.
 *
 * One process must own this: of several that share the ports, the first.
 */
import type { Certificate } from '../cert/certificate.ts'
import type { Delivery } from '../config/deliver.ts'
import { messageOf } from '../errors.ts'
import { backoffMs, type Cancel, HOUR, MINUTE, SECOND } from '../time.ts'
import { Commands, type CommandsOptions } from './commands.ts'
import { writeFiles } from './files.ts'

export interface DeliveriesOptions extends CommandsOptions {
  /** What is served for a host. */
  readonly find: (host: string) => Certificate | undefined
}

interface Task {
  readonly delivery: Delivery
  /** Fingerprint of what its files hold; undefined: not known yet. */
  delivered: string | undefined
  failures: number
  /** On the monotonic clock. */
  notBefore: number
}

/** How long to wait for more changes, so that a command runs once for them all. */
const SETTLE_MS = SECOND
const LOOK_MS = MINUTE

export class Deliveries {
  readonly #options: DeliveriesOptions
  readonly #commands: Commands
  #tasks: readonly Task[] = []
  #stopped = false
  #started = false
  #round: Promise<void> = Promise.resolve()
  #cancelLook: Cancel = () => {}
  /** On the monotonic clock. */
  #lookAt = Number.POSITIVE_INFINITY

  constructor(options: DeliveriesOptions) {
    this.#options = options
    this.#commands = new Commands(options)
  }

  /** Takes the deliveries of another config over: looks at every file again. */
  update(deliveries: readonly Delivery[]): void {
    this.#tasks = deliveries.map((delivery) => ({
      delivery,
      delivered: undefined,
      failures: 0,
      notBefore: 0,
    }))
    this.#commands.clear()
    this.look()
  }

  start(): void {
    this.#started = true
    this.look()
  }

  /** What is served may have changed. Cheap; calls in a row make one look. */
  look(): void {
    this.#lookWithin(SETTLE_MS)
  }

  /** Ends after the command that runs, if one does; what is still due runs at the next start. */
  async stop(): Promise<void> {
    this.#stopped = true
    this.#cancelLook()
    await this.#round
  }

  #lookWithin(delayMs: number): void {
    const { clock } = this.#options
    const at = clock.monotonic() + delayMs
    if (!this.#started || this.#stopped || this.#tasks.length === 0 || at >= this.#lookAt) return
    this.#cancelLook()
    this.#lookAt = at
    this.#cancelLook = clock.after(delayMs, () => {
      this.#lookAt = Number.POSITIVE_INFINITY
      this.#round = this.#round.then(() => this.#deliverAll())
    })
  }

  /** Never rejects. */
  async #deliverAll(): Promise<void> {
    const { clock, find } = this.#options
    for (const task of this.#tasks) {
      if (this.#stopped) return
      const certificate = find(task.delivery.host)
      // What has expired is no better than what the files may hold.
      if (certificate === undefined || !certificate.isValidAt(clock.now())) continue
      if (certificate.chainFingerprint === task.delivered || task.notBefore > clock.monotonic()) continue
      await this.#deliver(task, certificate)
    }
    await this.#commands.runDue(() => this.#stopped)
    this.#lookWithin(LOOK_MS)
  }

  async #deliver(task: Task, certificate: Certificate): Promise<void> {
    const { clock, log, random } = this.#options
    const { delivery } = task
    const { host, files } = delivery
    const paths = files.map(({ path }) => path)
    try {
      const { written, due } = await writeFiles(delivery, certificate)
      task.delivered = certificate.chainFingerprint
      task.failures = 0
      task.notBefore = 0
      if (written)
        log.info({ host, ca: certificate.source, files: paths }, `delivered the certificate for ${host}`)
      if (due) this.#commands.add(delivery)
    } catch (error) {
      task.failures++
      task.notBefore = clock.monotonic() + backoffMs(task.failures, MINUTE, HOUR, random)
      const level = task.failures === 1 ? 'error' : 'debug'
      log[level](
        { host, files: paths, failures: task.failures },
        `the certificate for ${host} is not delivered, which is tried again: ${messageOf(error)}`,
      )
    }
  }
}
