/**
 * A front in several processes that share the ports, one a core; the kernel spreads connections over them. Carries to
 * each what the supply publishes, judges and presents; replaces one that dies, while the others serve on.
 *
 * The main process keeps the certificates, orders and renews; `workers/worker.ts` is the other side of the bus.
 */

import type { Certificate } from './cert/certificate.ts'
import type { Change } from './cert/inventory.ts'
import type { Challenge, Solver } from './challenge/solver.ts'
import type { Address } from './config/addresses.ts'
import type { Config } from './config/schema.ts'
import { ConfigError, messageOf } from './errors.ts'
import type { Addresses, Front, FrontParts } from './front.ts'
import type { UpstreamStatus } from './http/gateway.ts'
import type { MetricsSnapshot } from './metrics.ts'
import { backoffMs, MINUTE, SECOND } from './time.ts'
import { Contexts } from './tls/contexts.ts'
import { Endpoint } from './tls/endpoint.ts'
import type { Order, Publication, Report, WorkerState } from './workers/bus.ts'
import { WorkerGoneError, WorkerProcess } from './workers/process.ts'

/** One that dies is replaced at once; one that dies young again and again, ever later. */
const YOUNG_MS = 10 * SECOND
const REPLACE_BASE_MS = SECOND
const REPLACE_CAP_MS = MINUTE
/** What a worker gets to end by itself after the drain limit. */
const END_MARGIN_MS = 5 * SECOND

const ROLES = ['live', 'standby', 'interim'] as const

export class Workers implements Front {
  readonly solvers: readonly Solver[]
  readonly #parts: FrontParts
  readonly #count: number
  readonly #workers = new Set<WorkerProcess>()
  /** Only to find out whether OpenSSL takes a certificate; the workers build their own. */
  readonly #contexts = new Contexts(1)
  readonly #challenges = new Set<Challenge>()
  #config: Config
  #ticketKeys: Buffer
  /** Whoever ends us without waiting does not wait for workers either. */
  readonly #onExit = (): void => {
    for (const worker of this.#workers) worker.kill()
  }
  #youngDeaths = 0
  #stopping = false

  /** @param count of processes, besides this one */
  constructor(parts: FrontParts, count: number) {
    this.#parts = parts
    this.#count = count
    this.#config = parts.config
    this.#ticketKeys = parts.ticketKeys
    this.solvers = [this.#createSolver('http-01'), this.#createSolver('tls-alpn-01')]
    parts.inventory.onChange((change) => this.#tell({ type: 'publish', publication: publicationOf(change) }))
    parts.clock.onAttested(() => this.#tell({ type: 'setTime', time: parts.clock.now() }))
    parts.verdicts.onChange(() => this.#tell({ type: 'judge', verdicts: this.#verdicts() }))
  }

  async start(): Promise<void> {
    this.#config = { ...this.#config, listen: await this.#claim(this.#config.listen) }
    process.once('exit', this.#onExit)
    const workers = Array.from({ length: this.#count }, () => this.#fork())
    const outcomes = await Promise.allSettled(workers.map((worker) => this.#startWorker(worker)))
    const failed = outcomes.find((outcome) => outcome.status === 'rejected')
    if (failed !== undefined) throw failed.reason
  }

  async update(config: Config): Promise<void> {
    const before = this.#config
    const after = { ...config, listen: await this.#claim(config.listen, before.listen) }
    this.#config = after
    try {
      await this.#askAll({ type: 'update', config: after })
    } catch (error) {
      this.#config = before
      await this.#askAll({ type: 'update', config: before })
      throw error
    }
  }

  /** Workers answer in the order in which they are asked. */
  async settled(): Promise<void> {
    await this.#askAll({ type: 'settle' })
  }

  warm(certificate: Certificate): void {
    this.#contexts.warm(certificate)
  }

  setTicketKeys(ticketKeys: Buffer): void {
    this.#ticketKeys = ticketKeys
    this.#tell({ type: 'setTicketKeys', ticketKeys })
  }

  stopAccepting(): void {
    this.#stopping = true
    this.#tell({ type: 'retire' })
  }

  async stop(): Promise<void> {
    this.#stopping = true
    const workers = [...this.#workers]
    const limitMs = this.#config.timeouts.drain + END_MARGIN_MS
    const cancel = this.#parts.clock.after(limitMs, () => {
      for (const worker of workers) worker.kill()
    })
    this.#tell({ type: 'stop' })
    await Promise.all(workers.map(({ gone }) => gone))
    process.off('exit', this.#onExit)
    cancel()
  }

  addresses(): Addresses {
    return this.#config.listen
  }

  async upstreams(): Promise<readonly UpstreamStatus[]> {
    const reports = await this.#reports()
    return mergeUpstreams(reports.map((report) => report.upstreams))
  }

  async metrics(): Promise<readonly MetricsSnapshot[]> {
    const reports = await this.#reports()
    return reports.map((report) => report.metrics)
  }

  async #reports(): Promise<Report[]> {
    const answers = await this.#askAll({ type: 'report' })
    return answers.filter((report) => report !== undefined)
  }

  /**
   * The addresses with real ports, all of them free, or a ConfigError. Sockets that share a port would also share it
   * with another Holdfast that was started by mistake: only one that does not share finds out.
   *
   * @param own addresses where our workers listen
   */
  async #claim(listen: Config['listen'], own?: Config['listen']): Promise<Config['listen']> {
    const ownPorts = new Set([...(own?.https ?? []), ...(own?.http ?? [])].map(({ port }) => port))
    const claimOne = async (scheme: 'https' | 'http', address: Address, index: number): Promise<Address> => {
      if (ownPorts.has(address.port)) return address
      const endpoint = new Endpoint({
        place: { scheme, address, path: `listen.${scheme}[${index}]` },
        isShared: false,
        onSocket: (socket) => socket.destroy(),
        onError: () => {},
      })
      const problem = await endpoint.open()
      const { port } = endpoint
      endpoint.close()
      if (problem !== undefined) throw new ConfigError([problem])
      return { ...address, port }
    }
    const claims = (['https', 'http'] as const).map((scheme) =>
      Promise.allSettled(listen[scheme].map((address, index) => claimOne(scheme, address, index))),
    )
    const [https = [], http = []] = await Promise.all(claims)
    const problems = [...https, ...http].flatMap((claim) =>
      claim.status === 'rejected' && claim.reason instanceof ConfigError ? claim.reason.problems : [],
    )
    if (problems.length > 0) throw new ConfigError(problems)
    return { ...listen, https: valuesOf(https), http: valuesOf(http) }
  }

  #fork(): WorkerProcess {
    const worker = new WorkerProcess()
    const { clock } = this.#parts
    const bornAt = clock.monotonic()
    this.#workers.add(worker)
    void worker.gone.then((how) => {
      this.#workers.delete(worker)
      if (!this.#stopping) this.#replace(worker, how, clock.monotonic() - bornAt)
    })
    return worker
  }

  #replace({ pid }: WorkerProcess, how: number | NodeJS.Signals | null, ageMs: number): void {
    const { clock, log } = this.#parts
    this.#youngDeaths = ageMs < YOUNG_MS ? this.#youngDeaths + 1 : 0
    const delayMs =
      this.#youngDeaths === 0 ? 0 : backoffMs(this.#youngDeaths, REPLACE_BASE_MS, REPLACE_CAP_MS, Math.random)
    log.error({ pid, how, delayMs }, `worker ${pid} ended (${how}): another takes its place`)
    clock.after(delayMs, () => {
      if (this.#stopping) return
      const worker = this.#fork()
      this.#startWorker(worker).catch((err: unknown) => {
        if (err instanceof WorkerGoneError) return
        log.error({ err }, `a worker could not start: ${messageOf(err)}`)
        worker.kill()
      })
    })
  }

  async #startWorker(worker: WorkerProcess): Promise<void> {
    await worker.ask({ type: 'start', state: this.#state() })
    this.#parts.log.debug({ pid: worker.pid }, `worker ${worker.pid} serves`)
  }

  #state(): WorkerState {
    const { clock, inventory, stickyKey } = this.#parts
    const publications = inventory.hosts().flatMap((host) => {
      const holding = inventory.holding(host)
      return ROLES.map((role) => publicationOf({ host, role, certificate: holding[role] }))
    })
    return {
      config: this.#config,
      ticketKeys: this.#ticketKeys,
      stickyKey,
      ...(clock.errorMs === 0 ? {} : { time: clock.now() }),
      verdicts: this.#verdicts(),
      publications: publications.filter(({ certificate }) => certificate !== undefined),
      challenges: [...this.#challenges],
    }
  }

  #verdicts(): WorkerState['verdicts'] {
    return this.#parts.verdicts.snapshot(() => true)
  }

  /** Told to every worker before a CA is told to look: it may ask any of them. */
  #createSolver<T extends Challenge['type']>(type: T): Solver {
    return {
      type,
      present: async (challenge) => {
        this.#challenges.add(challenge)
        await this.#askAll({ type: 'present', challenge })
      },
      cleanUp: async (challenge) => {
        this.#challenges.delete(challenge)
        await this.#askAll({ type: 'cleanUp', challenge })
      },
    }
  }

  /** For what cannot fail but by the worker's end. */
  #tell(order: Order): void {
    this.#askAll(order).catch((err: unknown) => {
      this.#parts.log.error({ err }, `a worker could not ${order.type}: ${messageOf(err)}`)
    })
  }

  /** A worker that ends does not count: the one that takes its place starts with all there is to know. */
  async #askAll(order: Order): Promise<(Report | undefined)[]> {
    const asked = [...this.#workers].map((worker) =>
      worker.ask(order).catch((error: unknown) => {
        if (!(error instanceof WorkerGoneError)) throw error
        return undefined
      }),
    )
    const outcomes = await Promise.allSettled(asked)
    const failed = outcomes.find((outcome) => outcome.status === 'rejected')
    if (failed !== undefined) throw failed.reason
    return outcomes.map((outcome) => (outcome.status === 'fulfilled' ? outcome.value : undefined))
  }
}

function publicationOf({ host, role, certificate }: Change): Publication {
  if (certificate === undefined) return { host, role }
  const { chainPem, keyPem, source } = certificate
  return { host, role, certificate: { chainPem, keyPem, source } }
}

function valuesOf<T>(outcomes: readonly PromiseSettledResult<T>[]): T[] {
  return outcomes.flatMap((outcome) => (outcome.status === 'fulfilled' ? [outcome.value] : []))
}

/** Each worker balances on its own. */
function mergeUpstreams(reports: readonly (readonly UpstreamStatus[])[]): UpstreamStatus[] {
  const merged = new Map<string, UpstreamStatus>()
  for (const status of reports.flat()) {
    const key = `${status.host} ${status.path} ${status.url}`
    const before = merged.get(key)
    merged.set(key, before === undefined ? status : addUpstream(before, status))
  }
  return [...merged.values()]
}

/** One that any worker leaves alone, or finds failing, is shown so. */
function addUpstream(a: UpstreamStatus, b: UpstreamStatus): UpstreamStatus {
  return {
    ...a,
    health: a.health === 'failing' ? a.health : b.health,
    ejected: a.ejected || b.ejected,
    problem: a.problem ?? b.problem,
    active: a.active + b.active,
    requests: a.requests + b.requests,
    failures: a.failures + b.failures,
  }
}
