/**
 * What the main process and its workers say to one another: `../workers.ts` on one side, `worker.ts` on the other. All of
 * it survives a structured clone. Keys go through the pipe between the two, and nowhere else.
 */
import type { Role } from '../cert/inventory.ts'
import type { VerdictsSnapshot } from '../cert/verdicts.ts'
import type { Challenge } from '../challenge/solver.ts'
import type { Config } from '../config/schema.ts'
import type { ConfigProblem } from '../errors.ts'
import type { UpstreamStatus } from '../http/gateway.ts'
import type { MetricsSnapshot } from '../metrics.ts'

/** What one role of a host holds from now on. */
export interface Publication {
  readonly host: string
  readonly role: Role
  /** Undefined: nothing any more. */
  readonly certificate?: { readonly chainPem: string; readonly keyPem: string; readonly source: string }
}

/** All that a worker needs to serve as the others do. */
export interface WorkerState {
  readonly config: Config
  /** 48 bytes. */
  readonly ticketKeys: Uint8Array
  readonly stickyKey: Uint8Array
  /** Milliseconds since the epoch, where the machine's clock is wrong. */
  readonly time?: number
  readonly verdicts: VerdictsSnapshot
  readonly publications: readonly Publication[]
  /** Those that are presented. */
  readonly challenges: readonly Challenge[]
}

/** What a worker is told. It answers each once it is done; `start` comes first and once. */
export type Order =
  | { readonly type: 'start'; readonly state: WorkerState }
  | { readonly type: 'update'; readonly config: Config }
  | { readonly type: 'publish'; readonly publication: Publication }
  | { readonly type: 'judge'; readonly verdicts: VerdictsSnapshot }
  | { readonly type: 'present' | 'cleanUp'; readonly challenge: Challenge }
  | { readonly type: 'setTicketKeys'; readonly ticketKeys: Uint8Array }
  /** Milliseconds since the epoch: the right time, whatever the machine's clock shows. */
  | { readonly type: 'setTime'; readonly time: number }
  /** Says that what came before is done. */
  | { readonly type: 'settle' }
  | { readonly type: 'report' }
  /** Takes no more connections. */
  | { readonly type: 'retire' }
  /** Drains, then ends. */
  | { readonly type: 'stop' }

/** What a worker has counted and seen. */
export interface Report {
  readonly metrics: MetricsSnapshot
  readonly upstreams: readonly UpstreamStatus[]
}

export interface Message {
  readonly id: number
  readonly order: Order
}

/** To the message of the same id; `report` to an order `report` alone. */
export interface Answer {
  readonly id: number
  readonly failure?: Failure
  readonly report?: Report
}

/** An error as it crosses the bus; with problems it was a ConfigError. */
export interface Failure {
  readonly message: string
  readonly problems?: readonly ConfigProblem[]
}
