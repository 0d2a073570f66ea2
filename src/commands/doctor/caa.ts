/** Do the CAA records of a host permit a CA, with our account and our challenges? The DNS is asked once a host. */
import { isIP } from 'node:net'
import { type CaaLookup, type CaaProperty, type CaaSet, judgeCaa, loadCaa } from '../../ca/caa.ts'
import type { ChallengeType } from '../../challenge/solver.ts'
import type { Clock } from '../../time.ts'
import type { AuthorityReport } from './authority.ts'
import { bounded, type Finding, fail, ok, warn } from './finding.ts'

/** The records, or why they could not be had; undefined for an address, which has none. */
export type CaaState = CaaSet | { readonly error: string; readonly isRefused: boolean } | undefined

export async function loadCaaState(host: string, lookup: CaaLookup, clock: Clock): Promise<CaaState> {
  if (isIP(host) !== 0) return undefined
  return bounded<CaaState>(
    clock,
    () => loadCaa(host, lookup),
    (why, error) => ({ error: why, isRefused: (error as NodeJS.ErrnoException).code === 'ESERVFAIL' }),
  )
}

/** @param challenges that lead to this instance */
export function checkCaa(
  host: string,
  state: CaaState,
  { ca, caaIdentities: identities, accountUri }: AuthorityReport,
  challenges: readonly ChallengeType[],
): Finding[] {
  if (state === undefined || ca.type === 'internal') return []
  if ('error' in state) return [checkFailure(host, state)]
  const { domain, properties } = state
  if (properties.length === 0) return [ok('CAA', 'no records: every CA may issue')]
  const wildcard = host.startsWith('*.')
  const verdict = judgeCaa(properties, { wildcard, identities, accountUri, challenges })
  if (verdict.permits) return [permitted(ca.name, domain, verdict.challenges, challenges)]
  if (verdict.because === 'critical') return [forbiddenByCritical(domain, verdict.property)]
  if (identities.length === 0) return [unnamed(ca.name, domain)]
  const tag = verdict.property.tag
  const record = quoted(verdict.property)
  switch (verdict.because) {
    case 'issuer':
      return [
        fail(
          'CAA',
          `the CAA of ${domain} does not name ${ca.name}`,
          `add \`${tag} "${identities[0]}"\` to the CAA of ${domain}`,
        ),
      ]
    case 'account':
      return [forbiddenByAccount(ca.name, domain, record, accountUri)]
    case 'challenge':
      return [
        fail(
          'CAA',
          `\`${record}\` at ${domain} allows none of ${challenges.join(', ')}`,
          `add "${challenges.join(',')}" to its validationmethods`,
        ),
      ]
  }
}

function permitted(
  ca: string,
  domain: string,
  allowed: readonly ChallengeType[],
  wanted: readonly ChallengeType[],
): Finding {
  const limit = allowed.length < wanted.length ? `, by ${allowed.join(', ')} only` : ''
  return ok('CAA', `the CAA of ${domain} permits ${ca}${limit}`)
}

function checkFailure(host: string, { error, isRefused }: { error: string; isRefused: boolean }): Finding {
  if (isRefused)
    return fail(
      'CAA',
      `the name servers fail (${error}), and CAs take that for a refusal`,
      `mend the name servers of ${host}, or its DNSSEC`,
    )
  return warn('CAA', `could not be looked up: ${error}`, 'name a resolver that works: --dns HOST:PORT')
}

function forbiddenByCritical(domain: string, property: CaaProperty): Finding {
  const says = `\`${quoted(property)}\` at ${domain} is critical, and CAs that do not know the tag must refuse`
  return fail('CAA', says, `remove it from the CAA of ${domain}, or clear its critical flag`)
}

function unnamed(ca: string, domain: string): Finding {
  return warn(
    'CAA',
    `${domain} has CAA records, and ${ca} does not say by which name they would permit it`,
    `ask who runs ${ca} whether it heeds CAA, and for its issuer domain name`,
  )
}

function forbiddenByAccount(
  ca: string,
  domain: string,
  record: string,
  accountUri: string | undefined,
): Finding {
  const says = `\`${record}\` at ${domain} is for another account at ${ca}`
  if (accountUri === undefined)
    return fail(
      'CAA',
      `\`${record}\` at ${domain} is for one account at ${ca}, and there is none here yet`,
      'lift the accounturi until the first order has made the account, then name that one',
    )
  return fail('CAA', says, `set its accounturi to ${accountUri}`)
}

function quoted({ tag, value }: CaaProperty): string {
  return `${tag} "${value}"`
}
