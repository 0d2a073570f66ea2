/**
 * What can be told of a CA apart from any host: can it be reached, does it know our account, has it the profile, and
 * what time it has. Asks the real CA; changes nothing there.
 */
import { readFileSync } from 'node:fs'
import { AcmeIssuer } from '../../ca/acme.ts'
import type { AccountRecords } from '../../ca/acme-account.ts'
import type { Directory } from '../../ca/acme-directory.ts'
import type { AcmeCa, Ca } from '../../config/cas.ts'
import { presetAt } from '../../config/presets.ts'
import { IssueError } from '../../errors.ts'
import { silentLog } from '../../log.ts'
import type { Records } from '../../store/records.ts'
import { type Clock, SECOND } from '../../time.ts'
import { bounded, type Finding, fail, failed, ok, warn } from './finding.ts'

/** A CA after the checks. */
export interface AuthorityReport {
  readonly ca: Ca
  readonly findings: readonly Finding[]
  /** By the config or by `certs distrust`: it is asked for nothing, however well it is. */
  readonly isDistrusted: boolean
  /** May it take an order, for all that is known without a host? */
  readonly usable: boolean
  /** The issuer domain names by which CAA records call it; none: it is not known. */
  readonly caaIdentities: readonly string[]
  /** undefined: there is no account yet, or it could not be confirmed. */
  readonly accountUri: string | undefined
  /** How far its clock is ahead of ours, in milliseconds; undefined: it did not tell. */
  readonly aheadMs: number | undefined
}

/** Below the limit of a check, for what the check needs is several exchanges. */
const EXCHANGE_LIMIT_MS = 4 * SECOND

export interface AuthorityOptions {
  /** undefined: the store cannot be opened */
  readonly records: Records | undefined
  readonly clock: Clock
  /** The CAs that the operator has told the instance to distrust, beside those of the config. */
  readonly distrusted: readonly string[]
}

export async function examineAuthority(
  ca: Ca,
  { records, clock, distrusted }: AuthorityOptions,
): Promise<AuthorityReport> {
  const isDistrusted = ca.distrusted || distrusted.includes(ca.name)
  const unasked = { ca, isDistrusted, accountUri: undefined, aheadMs: undefined }
  if (ca.type === 'internal') {
    const findings = [ok('directory', 'is Holdfast itself: needs nobody'), ...checkDistrust(ca, isDistrusted)]
    return { ...unasked, findings, usable: !isDistrusted, caaIdentities: [] }
  }
  const issuer = issuerOf(ca, records, clock)
  const survey = await bounded<Directory | string>(
    clock,
    (signal) => issuer.survey(signal),
    (why) => why,
  )
  if (typeof survey === 'string') {
    const { host } = new URL(ca.directory)
    const fix = `see whether ${host} is down for others too, or kept from this machine by a firewall or proxy`
    const findings = [fail('directory', survey, fix), ...checkDistrust(ca, isDistrusted)]
    return { ...unasked, findings, usable: false, caaIdentities: ca.caaIdentities }
  }
  const account = await checkAccount(ca, issuer, survey, records, clock)
  const findings = [
    ok('directory', `answers at ${ca.directory}, and gives a nonce`),
    account.finding,
    ...checkProfile(ca, survey),
    ...checkTrust(ca),
    ...checkDistrust(ca, isDistrusted),
  ]
  return {
    ca,
    isDistrusted,
    findings,
    usable: !failed(findings),
    caaIdentities: ca.caaIdentities.length > 0 ? ca.caaIdentities : survey.caaIdentities,
    accountUri: account.uri,
    aheadMs: survey.date === undefined ? undefined : survey.date - clock.now(),
  }
}

function issuerOf(ca: AcmeCa, records: Records | undefined, clock: Clock): AcmeIssuer {
  return new AcmeIssuer({
    ...ca,
    id: ca.name,
    endpointRoots: ca.roots === undefined ? undefined : readFileSync(ca.roots, 'utf8'),
    // Nothing is ordered.
    trust: () => 'any',
    solvers: [],
    records: records ?? NO_RECORDS,
    clock,
    log: silentLog(),
    exchangeLimitMs: EXCHANGE_LIMIT_MS,
  })
}

/** `confirmAccount`, which alone would read them, is not called without a store. */
const NO_RECORDS: AccountRecords = {
  loadAccount: async () => undefined,
  saveAccount: async () => {},
  removeAccount: async () => {},
  lock: () => Promise.reject(new Error('there is no store')),
}

interface AccountState {
  readonly finding: Finding
  readonly uri?: string
}

async function checkAccount(
  ca: AcmeCa,
  issuer: AcmeIssuer,
  { externalAccountRequired }: Directory,
  records: Records | undefined,
  clock: Clock,
): Promise<AccountState> {
  if (records === undefined)
    return { finding: warn('account', 'not looked at: the store cannot be read', 'mend the store first') }
  return bounded<AccountState>(
    clock,
    async (signal) => {
      const uri = await issuer.confirmAccount(signal)
      if (uri === undefined) return { finding: newAccount(ca, externalAccountRequired) }
      const bound = ca.eab === undefined ? '' : `, bound to EAB key id ${ca.eab.kid}`
      return { uri, finding: ok('account', `valid at the CA${bound}: ${uri}`) }
    },
    (why, error) => ({ finding: refusedAccount(ca, why, error) }),
  )
}

function newAccount({ name, eab }: AcmeCa, eabRequired: boolean): Finding {
  if (eab !== undefined)
    return warn(
      'account',
      'none yet: the CA says whether it accepts the EAB when the first order makes one',
      `order from ${name} before you need it: the canary of \`holdfast drill\` does, and so does a standby`,
    )
  if (!eabRequired) return ok('account', 'none yet: the first order makes one')
  return fail(
    'account',
    'none yet, and the CA makes none without an external account binding (EAB)',
    `add "eab": { "kid": …, "hmacKey": … } from your account at the CA to \`cas.${name}\``,
  )
}

/** A CA that has lost the account gets a new one with the next order; every other refusal stays. */
function refusedAccount({ name, eab }: AcmeCa, why: string, error: unknown): Finding {
  const problem = error instanceof IssueError ? error.problem?.type : undefined
  const isLost = problem?.endsWith(':accountDoesNotExist') === true
  if (isLost && eab === undefined)
    return warn('account', `${name} no longer knows it`, 'nothing: the next order makes a new one')
  if (isLost)
    return warn(
      'account',
      `${name} no longer knows it, and a new one needs an EAB that the CA still accepts`,
      `take a fresh EAB from your account at the CA for \`cas.${name}.eab\`, and reload`,
    )
  return fail(
    'account',
    why,
    `ask the CA why, or remove \`accounts/${name}\` from the store, so that the next order makes a new one`,
  )
}

function checkProfile({ name, profile }: AcmeCa, { profiles }: Directory): Finding[] {
  if (profile === undefined) return []
  if (profiles.includes(profile)) return [ok('profile', `${profile} is on offer`)]
  const offer = profiles.length === 0 ? 'none' : profiles.join(', ')
  const fix = `set \`cas.${name}.profile\` to one of them, or remove it`
  return [warn('profile', `there is no ${profile} (on offer: ${offer}), so orders go without`, fix)]
}

function checkTrust({ name, directory }: AcmeCa): Finding[] {
  if (presetAt(directory)?.trust !== 'any') return []
  const fix = `use a CA that browsers trust in the place of "${name}"`
  return [fail('trust', 'issues for tests: no browser trusts its certificates', fix)]
}

function checkDistrust({ name, distrusted: byConfig }: Ca, isDistrusted: boolean): Finding[] {
  if (!isDistrusted) return []
  const word = byConfig ? `remove \`cas.${name}.distrusted\`` : `run \`holdfast certs trust ${name}\``
  return [fail('trust', 'is distrusted by you, and asked for nothing', `${word} when it may be trusted`)]
}
