/**
 * What surrounds the renewer in a simulation: CAs that issue, fail and come back by a schedule, certificates that are
 * only dates, and records that live in memory. The renewer, the planner, health and ledger are the real ones.
 */
import type { IssueRequest, Issuer } from '../../ca/issuer.ts'
import { type CaLimits, limitsOf } from '../../ca/limits.ts'
import { type Certificate, wildcardOf } from '../../cert/certificate.ts'
import { CA_PRESETS } from '../../config/presets.ts'
import { IssueError } from '../../errors.ts'
import type { RenewerRecords } from '../../renew/renewer.ts'
import type { Target } from '../../renew/task.ts'
import { type Clock, sleep } from '../../time.ts'

/** From `start` until `end`, milliseconds since the epoch, the CA fails in this way. */
export interface Outage {
  readonly start: number
  readonly end: number
  readonly kind: '503' | 'hang' | '429'
}

export interface SimulatedCaOptions {
  readonly id: string
  readonly lifetimeMs: number
  readonly clock: Clock
  readonly random: () => number
  readonly outages?: readonly Outage[]
}

/** How long an order takes at a CA that is well. */
const ORDER_MS = 4000
/** How long an exchange is waited for at a CA that hangs, as in `ca/acme.ts`. */
const HANG_MS = 8000

/** As of a public CA, whatever it is called. */
export function simulatedLimits(id: string): CaLimits {
  return limitsOf({ type: 'acme', directory: CA_PRESETS[id]?.directory ?? '', public: true, rateLimits: {} })
}

/** Of hosts that want nothing out of the ordinary. */
export function simulatedTargets(
  hosts: readonly string[],
  cas: readonly string[],
  standby: Target['standby'],
): Target[] {
  return hosts.map((host) => ({
    host,
    cas,
    standby,
    challenges: ['http-01'],
    keyType: 'ecdsa-p256',
    reuseKey: false,
    interim: false,
  }))
}

export class SimulatedCa implements Issuer {
  readonly id: string
  outages: readonly Outage[]
  /** When each order was placed, milliseconds since the epoch. */
  readonly orderedAt: number[] = []
  readonly issued: Certificate[] = []
  readonly #options: SimulatedCaOptions

  constructor(options: SimulatedCaOptions) {
    this.id = options.id
    this.outages = options.outages ?? []
    this.#options = options
  }

  async issue(request: IssueRequest, signal: AbortSignal): Promise<Certificate> {
    const { clock, lifetimeMs, random } = this.#options
    this.orderedAt.push(clock.now())
    await this.#exchange(signal)
    await sleep(clock, ORDER_MS * (0.5 + random()), signal)
    await this.#exchange(signal)
    const certificate = datesOnly(this.id, request.names, clock.now(), lifetimeMs, random)
    this.issued.push(certificate)
    return certificate
  }

  async probe(signal: AbortSignal): Promise<void> {
    await this.#exchange(signal)
  }

  async #exchange(signal: AbortSignal): Promise<void> {
    const { clock } = this.#options
    const now = clock.now()
    const outage = this.outages.find(({ start, end }) => start <= now && now < end)
    if (outage === undefined) return
    if (outage.kind === 'hang') {
      await sleep(clock, HANG_MS, signal)
      throw new IssueError('CA_TIMEOUT', `${this.id}: did not answer`, { blame: 'ca', retry: 'now' })
    }
    if (outage.kind === '429') {
      const retryAfterMs = outage.end - now
      throw new IssueError('CA_RATE_LIMITED', `${this.id}: answered 429`, {
        blame: 'account',
        retry: 'now',
        retryAfterMs,
      })
    }
    throw new IssueError('CA_UNAVAILABLE', `${this.id}: answered 503`, { blame: 'ca', retry: 'now' })
  }
}

/** A certificate that nobody can serve: it has names and dates, and stands for one that somebody could. */
export function datesOnly(
  source: string,
  names: readonly string[],
  notBefore: number,
  lifetimeMs: number,
  random: () => number,
): Certificate {
  const notAfter = notBefore + lifetimeMs
  const word = (): string =>
    Math.floor(random() * 2 ** 32)
      .toString(16)
      .padStart(8, '0')
  const fingerprint = word() + word()
  return {
    chainPem: '',
    keyPem: '',
    chain: [],
    names,
    notBefore,
    notAfter,
    fingerprint,
    chainFingerprint: fingerprint,
    keyFingerprint: fingerprint,
    issuer: source,
    serial: word(),
    source,
    account: undefined,
    provedBy: undefined,
    ariId: undefined,
    get leaf(): never {
      throw new Error('a simulated certificate has no leaf')
    },
    isValidAt: (time) => time >= notBefore && time < notAfter,
    covers: (name) => names.includes(name) || names.includes(wildcardOf(name)),
  }
}

/** Records in memory; locks are not contended in one process. */
export function memoryRecords(): RenewerRecords {
  const certificates = new Map<string, Certificate>()
  const states = new Map<string, unknown>()
  const load: RenewerRecords['loadCertificate'] = async (host, role) => certificates.get(`${host} ${role}`)
  return {
    loadCertificates: async () =>
      [...certificates].map(([key, certificate]) => {
        const [host, role] = key.split(' ') as [string, 'live' | 'standby']
        return { host, role, certificate }
      }),
    loadCertificate: load,
    loadReadableCertificate: load,
    saveCertificate: async (host, role, certificate) => {
      certificates.set(`${host} ${role}`, certificate)
    },
    loadState: async (kind, id) => states.get(`${kind} ${id}`),
    saveState: async (kind, id, value) => {
      states.set(`${kind} ${id}`, value)
    },
    removeState: async (kind, id) => {
      states.delete(`${kind} ${id}`)
    },
    loadStates: async (kind) =>
      new Map(
        [...states]
          .filter(([key]) => key.startsWith(`${kind} `))
          .map(([key, value]) => [key.slice(kind.length + 1), value]),
      ),
    lock: async () => ({ lost: new AbortController().signal, release: async () => {} }),
  }
}
