/** What the admin API shows and does, joined from the engines. */
import type { AttestedClock } from '../attested-clock.ts'
import type { CaHealth } from '../ca/health.ts'
import { type Issuer, REVOCATION_REASONS } from '../ca/issuer.ts'
import type { Inventory } from '../cert/inventory.ts'
import type { Verdicts } from '../cert/verdicts.ts'
import { INTERNAL } from '../config/cas.ts'
import type { Site } from '../config/sites.ts'
import type { UpstreamStatus } from '../http/gateway.ts'
import type { Outlook } from '../notify/outlook.ts'
import type { Judge } from '../renew/judge.ts'
import type { Renewer } from '../renew/renewer.ts'
import { SECOND } from '../time.ts'
import type { AdminState, ReachProof } from './api.ts'
import type { Events } from './events.ts'
import { type HostFacts, viewCa, viewForecast, viewHost, viewPassthrough } from './views.ts'

export interface AdminParts {
  readonly clock: AttestedClock
  readonly inventory: Inventory
  readonly verdicts: Verdicts
  readonly health: CaHealth
  readonly renewer: Renewer
  readonly judge: Judge
  /** By the CA's name. */
  readonly issuer: (ca: string) => Issuer | undefined
  readonly reachProof: ReachProof
  readonly reloadRoots: () => Promise<void>
  readonly upstreams: () => Promise<readonly UpstreamStatus[]>
  readonly events: Events
  readonly outlook: Outlook
  readonly sites: () => readonly Site[]
  readonly isReady: () => boolean
}

export function adminState(parts: AdminParts): AdminState {
  const { clock, events, health, inventory, isReady, issuer, judge, outlook, renewer, upstreams, verdicts } =
    parts
  return {
    hosts: () => [
      ...hostsOf(parts).map((facts) => viewHost(facts, verdicts, clock.now())),
      ...parts
        .sites()
        .filter(({ tls }) => tls.kind === 'passthrough')
        .flatMap(({ hosts }) => hosts.map(viewPassthrough)),
    ],
    cas: () => health.snapshots().map((snapshot) => viewCa(snapshot, verdicts.isDistrusted(snapshot.id))),
    upstreams,
    events: () => events.recent(),
    forecast: () =>
      health
        .snapshots()
        .filter(({ id }) => id !== INTERNAL)
        .map((snapshot) => viewForecast(snapshot, outlook.exposures(snapshot.id), clock.now())),
    clock: () => ({
      now: new Date(clock.now()).toISOString(),
      errorSeconds: Math.round(clock.errorMs / SECOND),
    }),
    isReady,
    reachProof: () => parts.reachProof,
    renew: (host, role) => renewer.renewNow(host, role),
    reload: (host) => renewer.reload(host),
    setDistrusted: async (ca, distrusted) => {
      if (health.snapshot(ca) === undefined) return false
      await judge.setDistrusted(ca, distrusted)
      renewer.wake()
      return verdicts.isDistrusted(ca) === distrusted
    },
    reloadRoots: async (ca) => {
      if (issuer(ca) === undefined) return false
      await parts.reloadRoots()
      return true
    },
    changeAccountKey: async (ca) => {
      const adapter = issuer(ca)
      if (adapter?.changeAccountKey === undefined) return false
      await adapter.changeAccountKey()
      return true
    },
    deactivateAccount: async (ca) => {
      const adapter = issuer(ca)
      if (adapter?.deactivateAccount === undefined) return false
      await adapter.deactivateAccount()
      return true
    },
    condemn: async (host) => {
      const { live } = inventory.holding(host)
      if (live === undefined) return false
      await judge.condemn(live, 'compromised')
      return true
    },
    revoke: async (host, role, reason) => {
      const certificate = inventory.holding(host)[role]
      if (certificate === undefined) return undefined
      // Before its CA is asked, which may be down: a key that others have is served no longer.
      if (reason === 'keyCompromise') await judge.condemn(certificate, 'compromised')
      const adapter = issuer(certificate.source)
      await adapter?.revoke?.(certificate, REVOCATION_REASONS[reason])
      if (reason !== 'keyCompromise') await judge.condemn(certificate, 'revoked')
      return { source: certificate.source, byCa: adapter?.revoke !== undefined }
    },
  }
}

/** Every host of the config: those that CAs supply, then those with files of their own. */
function hostsOf({ inventory, renewer, sites }: AdminParts): HostFacts[] {
  const nothing = {
    live: undefined,
    standby: undefined,
    interim: undefined,
    nextAt: undefined,
    lastError: undefined,
  }
  const ofFiles = sites().filter(({ tls }) => tls.kind === 'file')
  return [
    ...renewer.statuses(),
    ...ofFiles.flatMap(({ hosts }) =>
      hosts.map((host) => ({ ...nothing, host, ...inventory.holding(host) })),
    ),
  ]
}
