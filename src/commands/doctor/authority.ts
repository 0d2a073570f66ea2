/**
 * What can be told of a CA apart from any host: can it be reached, does it know our account, has it the profile, and
 * what time it has. Asks the real CA, and changes nothing there but this: whether it accepts an external account binding
 * it says only as it makes the account, so the first account of a CA with `eab` is made, as the first order would make it.
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
import { type Clock, MINUTE, SECOND } from '../../time.ts'
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

/** As patient as an order: a binding may serve only once, and an account whose URL was not waited for is lost with it. */
const ACCOUNT_LIMIT_MS = MINUTE

export interface AuthorityOptions {
  /** undefined: the store cannot be opened. */
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
  const issuer = issuerOf(ca, records, clock, EXCHANGE_LIMIT_MS)
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
  const account = await checkAccount(ca, issuer, survey, { records, clock, isDistrusted })
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

/** @param exchangeLimitMs undefined: as for orders */
function issuerOf(
  ca: AcmeCa,
  records: Records | undefined,
  clock: Clock,
  exchangeLimitMs?: number,
): AcmeIssuer {
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
    ...(exchangeLimitMs === undefined ? {} : { exchangeLimitMs }),
  })
}

/** Nothing that would touch them is called without a store. */
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

interface AccountCheck extends Pick<AuthorityOptions, 'records' | 'clock'> {
  readonly isDistrusted: boolean
}

async function checkAccount(
  ca: AcmeCa,
  issuer: AcmeIssuer,
  { externalAccountRequired }: Directory,
  { records, clock, isDistrusted }: AccountCheck,
): Promise<AccountState> {
  if (records === undefined) return { finding: unknownAccount(ca) }
  const uri = await bounded<string | AccountState | undefined>(
    clock,
    (signal) => issuer.confirmAccount(signal),
    (why, error) => ({ finding: refusedAccount(ca, why, error) }),
  )
  if (typeof uri === 'object') return uri
  if (uri !== undefined) return { uri, finding: ok('account', `valid at the CA${bindingOf(ca)}: ${uri}`) }
  if (ca.eab === undefined) return { finding: newAccount(ca, externalAccountRequired) }
  if (isDistrusted) return { finding: ok('account', 'none yet, and none is made at a CA that is distrusted') }
  return makeAccount(ca, records, clock)
}

function bindingOf({ eab }: AcmeCa): string {
  return eab === undefined ? '' : `, bound to EAB key id ${eab.kid}`
}

function unknownAccount({ eab }: AcmeCa): Finding {
  const untested = eab === undefined ? '' : ', and so not tested whether the CA accepts the EAB'
  return warn('account', `not looked at: the store cannot be read${untested}`, 'mend the store first')
}

function newAccount({ name }: AcmeCa, eabRequired: boolean): Finding {
  if (!eabRequired) return ok('account', 'none yet: the first order makes one')
  return fail(
    'account',
    'none yet, and the CA makes none without an external account binding (EAB)',
    `add "eab": { "kid": …, "hmacKey": … } from your account at the CA to \`cas.${name}\``,
  )
}

/** Replaces none: one of another EAB may be in use by an instance that has yet to take the config over. */
function makeAccount(ca: AcmeCa, records: Records, clock: Clock): Promise<AccountState> {
  return bounded<AccountState>(
    clock,
    async (signal) => {
      if ((await records.loadAccount(ca.name)) !== undefined) return { finding: otherAccount(ca) }
      const uri = await issuerOf(ca, records, clock).ensureAccount(signal)
      return { uri, finding: ok('account', `made just now, and valid at the CA${bindingOf(ca)}: ${uri}`) }
    },
    (why, error) => ({ finding: deniedAccount(ca, why, error) }),
    ACCOUNT_LIMIT_MS,
  )
}

function otherAccount({ name }: AcmeCa): Finding {
  return warn(
    'account',
    'the one in the store is of another EAB or directory: the CA says whether it accepts this EAB when an order makes the next',
    `order from ${name} before you need it: the canary of \`holdfast drill\` does, and so does a standby`,
  )
}

function deniedAccount({ name }: AcmeCa, why: string, error: unknown): Finding {
  const { code, problem } = error instanceof IssueError ? error : {}
  const type = problem?.type.split(':').at(-1)
  if (code === 'LOCAL_FAILURE') return fail('account', why, 'see `store` in the config, and who may write it')
  if (code !== 'ACCOUNT_REJECTED')
    return fail(
      'account',
      `${why}, so that it is not known whether the CA accepts the EAB`,
      'run doctor again later',
    )
  if (type === 'invalidContact' || type === 'unsupportedContact')
    return fail('account', why, `set \`cas.${name}.contact\` to an address that the CA takes`)
  return fail(
    'account',
    `the CA does not accept the EAB: ${why}`,
    `take \`kid\` and \`hmacKey\` from your account at the CA, as they are there, for \`cas.${name}.eab\``,
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
