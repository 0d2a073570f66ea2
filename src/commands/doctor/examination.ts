/**
 * Every check over every CA and host, side by side and bounded in time; and what follows from them: the CAs that each
 * host can really have a certificate from. Receives a checked config and the two sources of truth, store and DNS.
 */

import type { ReachProof } from '../../admin/api.ts'
import type { HostView } from '../../admin/views.ts'
import type { CaaLookup } from '../../ca/caa.ts'
import type { Holding } from '../../cert/inventory.ts'
import { readVerdicts } from '../../cert/verdicts.ts'
import { isPrivateHost } from '../../config/addresses.ts'
import { type Ca, operatorOf } from '../../config/cas.ts'
import type { Config } from '../../config/schema.ts'
import { givenUpCas, type IssuedPolicy, resolveSites, type TlsPolicy } from '../../config/sites.ts'
import { type Records, SOLE_RECORD } from '../../store/records.ts'
import type { Clock } from '../../time.ts'
import { type AuthorityReport, examineAuthority } from './authority.ts'
import { checkCaa, loadCaaState } from './caa.ts'
import { checkFile, checkHolding, loadTrust, type TrustOf } from './certificates.ts'
import { checkClock } from './clock.ts'
import { type Finding, fail, failed, ok, warn } from './finding.ts'
import { checkGivenUp, checkName } from './names.ts'
import { type AddressLookup, checkReach, type Ports } from './reach.ts'
import { type Failover, failoverOf, type Standing, standingOf } from './standing.ts'

export interface ExaminationOptions {
  readonly config: Config
  readonly cas: ReadonlyMap<string, Ca>
  /** undefined: the store cannot be opened. */
  readonly records: Records | undefined
  readonly lookup: CaaLookup & AddressLookup
  readonly ports: Ports
  readonly clock: Clock
  /** The hosts of the running instance; undefined: none runs. */
  readonly running: readonly HostView[] | undefined
  /** What it answers on port 80; undefined: none runs. */
  readonly proof: ReachProof | undefined
}

export interface Diagnosis {
  /** Of this machine and instance. */
  readonly machine: readonly Finding[]
  readonly cas: readonly { readonly ca: string; readonly findings: readonly Finding[] }[]
  readonly hosts: readonly HostReport[]
}

export interface HostReport {
  readonly host: string
  /** Names of the CAs that can issue for it as things are. */
  readonly usable: readonly string[]
  /** Fewer than two CAs can supply it, where any is to. */
  readonly dependsOnOne: boolean
  /** How each of its CAs stands with it, in the order of preference, then those that can never serve it; none where no CA supplies it. */
  readonly cas: readonly { readonly ca: string; readonly standing: Standing }[]
  readonly failover: Failover
  readonly findings: readonly HostFinding[]
}

/** `ca` where it is about one CA. */
export type HostFinding = Finding & { readonly ca?: string }

/** Hosts in hand at once. */
const AT_ONCE = 16

export async function examine(options: ExaminationOptions): Promise<Diagnosis> {
  const { config, cas, records, clock } = options
  const sites = resolveSites(config)
  const used = new Set(sites.flatMap(({ tls }) => (tls.kind === 'issued' ? tls.cas : [])))
  const distrusted = readVerdicts(await records?.loadState('verdicts', SOLE_RECORD))?.distrusted ?? []
  const [authorities, trustOf, holdings] = await Promise.all([
    Promise.all(
      [...cas.values()]
        .filter(({ name }) => used.has(name))
        .map((ca) => examineAuthority(ca, { records, clock, distrusted })),
    ),
    loadTrust(cas, records, clock),
    loadHoldings(records),
  ])
  const examination = new HostExamination(options, authorities, trustOf, holdings)
  const hosts = sites.flatMap((site) => site.hosts.map((host) => ({ host, tls: site.tls })))
  return {
    machine: [
      checkStore(records),
      checkInstance(options.running),
      ...(authorities.some(({ ca }) => ca.type === 'acme')
        ? [checkClock(authorities.flatMap(({ aheadMs }) => aheadMs ?? []))]
        : []),
    ],
    cas: authorities.map(({ ca, findings }) => ({ ca: ca.name, findings })),
    hosts: await mapBounded(hosts, ({ host, tls }) => examination.examine(host, tls)),
  }
}

function checkStore(records: Records | undefined): Finding {
  if (records !== undefined) return ok('store', 'can be read')
  return fail('store', 'cannot be read', 'see `store` in the config, and who may read it')
}

function checkInstance(running: readonly HostView[] | undefined): Finding {
  if (running !== undefined) return ok('instance', 'runs')
  return warn(
    'instance',
    'none runs: whether the ports lead here was not tried',
    'start `holdfast serve`, and run doctor again',
  )
}

async function loadHoldings(records: Records | undefined): Promise<ReadonlyMap<string, Holding>> {
  const stored = (await records?.loadCertificates()) ?? []
  const byHost = Map.groupBy(stored, ({ host }) => host)
  return new Map(
    [...byHost].map(([host, all]) => [
      host,
      Object.fromEntries(all.map(({ role, certificate }) => [role, certificate])),
    ]),
  )
}

class HostExamination {
  readonly #options: ExaminationOptions
  readonly #authorities: ReadonlyMap<string, AuthorityReport>
  readonly #trustOf: TrustOf
  readonly #holdings: ReadonlyMap<string, Holding>
  readonly #givenUp: ReadonlyMap<string, readonly Ca[]>
  /** Of everything that this instance may show; undefined: none runs. */
  readonly #fingerprints: ReadonlySet<string> | undefined

  constructor(
    options: ExaminationOptions,
    authorities: readonly AuthorityReport[],
    trustOf: TrustOf,
    holdings: ReadonlyMap<string, Holding>,
  ) {
    this.#options = options
    this.#authorities = new Map(authorities.map((authority) => [authority.ca.name, authority]))
    this.#trustOf = trustOf
    this.#holdings = holdings
    this.#givenUp = givenUpCas(options.config)
    const { running } = options
    this.#fingerprints = running && fingerprintsOf(running, holdings)
  }

  async examine(host: string, tls: TlsPolicy): Promise<HostReport> {
    const now = this.#options.clock.now()
    if (tls.kind === 'issued') return this.#examineIssued(host, tls, now)
    const findings =
      tls.kind === 'file'
        ? await checkFile(host, tls, this.#trustOf, now)
        : [ok('certificate', 'is the upstream’s: TLS is passed through')]
    return { host, usable: [], dependsOnOne: false, cas: [], failover: '-', findings }
  }

  async #examineIssued(host: string, policy: IssuedPolicy, now: number): Promise<HostReport> {
    const holding = this.#holdings.get(host) ?? {}
    const isKnown = this.#options.records !== undefined
    const held = isKnown ? checkHolding(host, policy, holding, this.#trustOf, now) : []
    const authorities = policy.cas.flatMap((name) => this.#authorities.get(name) ?? [])
    const ready = authorities.filter(({ usable }) => usable).map(({ ca }) => ca.name)
    const givenUp = (this.#givenUp.get(host) ?? []).map((ca) => ({ ca: ca.name, ...checkGivenUp(host, ca) }))
    const isInternal = authorities.every(({ ca }) => ca.type === 'internal')
    if (ready.length > 0 && givenUp.length === 0 && isInternal) {
      const cas = authorities.map((authority) => ({
        ca: authority.ca.name,
        standing: standingOf(authority, [], true),
      }))
      const findings = [alone(), ...held]
      return { host, usable: ready, dependsOnOne: false, cas, failover: 'needs nobody', findings }
    }
    const { lookup, ports, clock, proof } = this.#options
    const [reach, caa] = isInternal
      ? [{ findings: [], challenges: policy.challenges }, undefined]
      : await Promise.all([
          checkReach(host, policy.challenges, {
            lookup,
            ports,
            clock,
            proof,
            fingerprints: this.#fingerprints,
          }),
          loadCaaState(host, lookup, clock),
        ])
    const isReached = reach.challenges.length > 0
    const challenges = isReached ? reach.challenges : policy.challenges
    const byCa = authorities.map((authority) => {
      const findings = [
        ...checkName(host, authority.ca),
        ...checkCaa(host, caa, authority, challenges),
        ...checkAudience(host, authority.ca),
      ]
      const canValidate = isReached || authority.ca.type === 'internal'
      const usable = authority.usable && canValidate && !failed(findings)
      return { authority, findings, usable, standing: standingOf(authority, findings, canValidate) }
    })
    const usable = byCa.filter((each) => each.usable).map(({ authority }) => authority)
    const operators = new Set(usable.map(({ ca, caaIdentities }) => operatorOf(ca, caaIdentities)))
    return {
      host,
      usable: usable.map(({ ca }) => ca.name),
      dependsOnOne: operators.size < 2,
      cas: [
        ...byCa.map(({ authority, standing }) => ({ ca: authority.ca.name, standing })),
        ...givenUp.map(({ ca }) => ({ ca, standing: 'cannot issue' as const })),
      ],
      failover: failoverOf(usable.length, operators.size, held),
      findings: [
        countCas(host, [...policy.cas, ...givenUp.map(({ ca }) => ca)], usable, operators.size),
        ...byCa.flatMap(({ authority, findings }) =>
          findings.map((finding) => ({ ...finding, ca: authority.ca.name })),
        ),
        ...givenUp,
        ...reach.findings,
        ...held,
      ],
    }
  }
}

function alone(): Finding {
  return ok('CAs', 'the internal CA alone, which needs nobody')
}

/** The internal CA stands in for names of a private network; visitors of a public one do not know its root. */
function checkAudience(host: string, ca: Ca): Finding[] {
  if (ca.type !== 'internal' || isPrivateHost(host)) return []
  const says = 'only clients that were given its root trust it, so that it is no second CA for the public'
  return [fail('trust', says, `add a public CA to \`tls.cas\` for ${host}`)]
}

function countCas(
  host: string,
  cas: readonly string[],
  usable: readonly AuthorityReport[],
  operators: number,
): Finding {
  const names = usable.map(({ ca }) => ca.name).join(', ')
  if (operators >= 2) return ok('CAs', `${operators} can issue: ${names}`)
  if (usable.length >= 2)
    return fail('CAs', `${names} are one company`, `add a CA of another company to \`tls.cas\` for ${host}`)
  const fix =
    cas.length < 2
      ? `add a second CA to \`tls.cas\`, such as ${cas.includes('zerossl') ? 'letsencrypt' : 'zerossl'}`
      : `mend what fails for ${cas.filter((name) => !usable.some(({ ca }) => ca.name === name)).join(', ')}`
  return fail('CAs', usable.length === 0 ? 'none can issue' : `${names} alone can issue`, fix)
}

function fingerprintsOf(
  running: readonly HostView[],
  holdings: ReadonlyMap<string, Holding>,
): ReadonlySet<string> {
  const shown = running.flatMap(({ live, standby }) => [live?.fingerprint, standby?.fingerprint])
  const stored = [...holdings.values()]
    .flatMap(Object.values<Holding['live']>)
    .map((each) => each?.fingerprint)
  return new Set([...shown, ...stored].filter((each) => each !== undefined))
}

async function mapBounded<T, R>(items: readonly T[], work: (item: T) => Promise<R>): Promise<R[]> {
  const results: R[] = []
  // The workers draw from one iterator.
  const queue = items.entries()
  const worker = async (): Promise<void> => {
    for (const [index, item] of queue) results[index] = await work(item)
  }
  await Promise.all(Array.from({ length: AT_ONCE }, worker))
  return results
}
