/**
 * A worker process: a front of its own over copies of the inventory and the verdicts, told by the main process what to
 * hold and to do. `workers.ts` forks it. Without its main process it serves nobody new, drains, and ends.
 */
import { AttestedClock } from '../attested-clock.ts'
import { Certificate } from '../cert/certificate.ts'
import { Inventory } from '../cert/inventory.ts'
import { Verdicts } from '../cert/verdicts.ts'
import type { Challenge } from '../challenge/solver.ts'
import { ConfigError, messageOf } from '../errors.ts'
import { LocalFront } from '../front.ts'
import { createLog } from '../log.ts'
import { Metrics } from '../metrics.ts'
import { SystemClock } from '../time.ts'
import type { Answer, Failure, Message, Order, Publication, WorkerState } from './bus.ts'

class Worker {
  readonly #metrics = new Metrics()
  readonly #verdicts = new Verdicts()
  readonly #clock = new AttestedClock(new SystemClock())
  readonly #inventory: Inventory
  readonly #front: LocalFront

  constructor({ config, stickyKey, ticketKeys, time, verdicts, publications }: WorkerState) {
    const clock = this.#clock
    if (time !== undefined) clock.adopt(time)
    this.#inventory = new Inventory(clock, this.#verdicts)
    this.#front = new LocalFront({
      config,
      clock,
      log: createLog(config.log),
      metrics: this.#metrics,
      inventory: this.#inventory,
      verdicts: this.#verdicts,
      ticketKeys: Buffer.from(ticketKeys),
      stickyKey: Buffer.from(stickyKey),
      sharesPorts: true,
    })
    this.#verdicts.restore(verdicts)
    for (const publication of publications) this.#publish(publication)
  }

  async start(challenges: readonly Challenge[]): Promise<void> {
    for (const challenge of challenges) await this.#solverOf(challenge)?.present(challenge)
    await this.#front.start()
  }

  async stop(): Promise<void> {
    await this.#front.stop()
    process.disconnect?.()
    process.exit()
  }

  async obey(order: Exclude<Order, { type: 'start' }>): Promise<Partial<Answer>> {
    switch (order.type) {
      case 'update':
        await this.#front.update(order.config)
        return {}
      case 'publish':
        this.#publish(order.publication)
        return {}
      case 'judge':
        this.#verdicts.restore(order.verdicts)
        return {}
      case 'present':
      case 'cleanUp':
        await this.#solverOf(order.challenge)?.[order.type](order.challenge)
        return {}
      case 'setTicketKeys':
        this.#front.setTicketKeys(Buffer.from(order.ticketKeys))
        return {}
      case 'setTime':
        this.#clock.adopt(order.time)
        return {}
      case 'settle':
        return {}
      case 'report':
        return {
          report: { metrics: await this.#metrics.snapshot(), upstreams: await this.#front.upstreams() },
        }
      case 'retire':
        this.#front.stopAccepting()
        return {}
      case 'stop':
        await this.stop()
        return {}
    }
  }

  #publish({ host, role, certificate }: Publication): void {
    if (certificate === undefined) this.#inventory.withdraw(host, role)
    else {
      const { chainPem, keyPem, source } = certificate
      this.#inventory.publish(host, role, new Certificate(chainPem, keyPem, source, `${source}: ${host}`))
    }
  }

  #solverOf({ type }: Challenge): LocalFront['solvers'][number] | undefined {
    return this.#front.solvers.find((solver) => solver.type === type)
  }
}

/** Obeys orders as they come; what changes the addresses waits for what did so before. */
function attend(): void {
  let worker: Worker | undefined
  let turn: Promise<unknown> = Promise.resolve()
  const carryOut = async (order: Order): Promise<Partial<Answer>> => {
    if (order.type !== 'start') return (await worker?.obey(order)) ?? {}
    worker = new Worker(order.state)
    await worker.start(order.state.challenges)
    return {}
  }
  process.on('message', async ({ id, order }: Message) => {
    const inTurn = order.type === 'start' || order.type === 'update'
    const outcome = inTurn ? turn.then(() => carryOut(order)) : carryOut(order)
    if (inTurn) turn = outcome.catch(() => {})
    const answer = await outcome.catch((error: unknown) => ({ failure: failureOf(error) }))
    process.send?.({ id, ...answer } satisfies Answer)
  })
  process.on('disconnect', () => {
    if (worker === undefined) process.exit()
    void worker.stop()
  })
  // A terminal and a service manager signal the whole group: the main process says what becomes of us.
  for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) process.on(signal, () => {})
}

function failureOf(error: unknown): Failure {
  const message = messageOf(error)
  return error instanceof ConfigError ? { message, problems: error.problems } : { message }
}

attend()
