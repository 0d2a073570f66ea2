/**
 * The account at one CA (RFC 8555 section 7.3): found in the store, or made once by whichever process comes first; its
 * key changed, and its end. Hands out an `AcmeWire` that speaks for it.
 */
import { generateKeyPem } from '../cert/x509.ts'
import { IssueError } from '../errors.ts'
import type { Log } from '../log.ts'
import type { Account, Records } from '../store/records.ts'
import { failure, isAccountLost, isUnauthorized } from './acme-problem.ts'
import { AcmeWire, type Endpoint, type ExternalAccountBinding } from './acme-wire.ts'

export type AccountRecords = Pick<Records, 'loadAccount' | 'saveAccount' | 'removeAccount' | 'lock'>

export interface AcmeAccountOptions {
  /** The CA's name in the config, and the key of the record. */
  readonly ca: string
  /** `mailto:` URLs. */
  readonly contact: readonly string[]
  readonly eab: ExternalAccountBinding | undefined
  readonly records: AccountRecords
  /** Work begins as the account of this URL. */
  readonly onUse: ((url: string) => void) | undefined
  readonly log: Log
}

export class AcmeAccount {
  readonly #options: AcmeAccountOptions
  /** URL of the account that this process has given the configured contact to. */
  #informed: string | undefined

  constructor(options: AcmeAccountOptions) {
    this.#options = options
  }

  /**
   * Runs `work` as the account. When the CA turns out to have lost it, as a CA that was reset has, `work` runs once
   * more as a new one; likewise when another process has changed its key meanwhile.
   */
  async use<T>(endpoint: Endpoint, signal: AbortSignal, work: (wire: AcmeWire) => Promise<T>): Promise<T> {
    const account = await this.#obtain(endpoint, signal)
    this.#options.onUse?.(account.url)
    try {
      const wire = await wireOf(endpoint, account)
      await this.#inform(wire, account, signal)
      return await work(wire)
    } catch (error) {
      const changed = await this.#changedSince(account, endpoint, error)
      if (changed !== undefined) return work(await wireOf(endpoint, changed))
      if (!isAccountLost(error)) throw error
      const { ca, log } = this.#options
      log.warn({ ca }, `${ca} no longer knows our account: making a new one`)
      const made = await this.#create(endpoint, account, signal)
      this.#options.onUse?.(made.url)
      return work(await wireOf(endpoint, made))
    }
  }

  /**
   * The URL of the account that the next order will use, as the CA confirms it; undefined: that order will make one.
   * Makes and changes nothing.
   */
  async confirm(endpoint: Endpoint, signal: AbortSignal): Promise<string | undefined> {
    const account = await this.#load(endpoint)
    if (account === undefined) return undefined
    const keyPem = await keyInForce(endpoint, account, signal)
    return (await AcmeWire.open(endpoint, keyPem)).existingAccount(signal)
  }

  /** The URL of the account that the next order will use, which is made now where there is none yet. */
  async ensure(endpoint: Endpoint, signal: AbortSignal): Promise<string> {
    return (await this.#obtain(endpoint, signal)).url
  }

  /**
   * Puts a new key in the place of the account's (RFC 8555 section 7.3.5). The new key is in the store before the CA is
   * asked, so that whatever becomes of the answer, the next use finds out which of the two it is.
   */
  async changeKey(endpoint: Endpoint, signal: AbortSignal): Promise<void> {
    const { ca, records, log } = this.#options
    const { keyChange } = endpoint.directory
    if (keyChange === undefined)
      throw failure({ code: 'CA_REJECTED', ca, doing: 'change of the account key', what: 'the CA has none' })
    await this.#locked(signal, async (held) => {
      const account = await this.#settle(endpoint, await this.#existing(endpoint), held)
      const nextKeyPem = await generateKeyPem('ecdsa-p256')
      await records.saveAccount(ca, { ...account, nextKeyPem })
      await (await wireOf(endpoint, account)).changeKey(nextKeyPem, held)
      await records.saveAccount(ca, { ...account, keyPem: nextKeyPem })
      log.info({ ca, account: account.url }, `${ca}: the account has a new key`)
    })
  }

  /** Ends the account, at the CA and then in the store (RFC 8555 section 7.3.6). The next order makes another one. */
  async deactivate(endpoint: Endpoint, signal: AbortSignal): Promise<void> {
    const { ca, records, log } = this.#options
    await this.#locked(signal, async (held) => {
      const account = await this.#settle(endpoint, await this.#existing(endpoint), held)
      try {
        await (await wireOf(endpoint, account)).deactivateAccount(held)
      } catch (error) {
        // Nothing left to end: a crash came between the CA's answer and the store, or the CA was reset.
        if (!isUnauthorized(error) && !isAccountLost(error)) throw error
      }
      await records.removeAccount(ca)
      log.info({ ca, account: account.url }, `${ca}: the account is deactivated`)
    })
  }

  async #existing(endpoint: Endpoint): Promise<Account> {
    const account = await this.#load(endpoint)
    if (account !== undefined) return account
    const what = 'there is none in the store: the first order makes one'
    throw failure({ code: 'LOCAL_FAILURE', ca: this.#options.ca, doing: 'account', what })
  }

  async #obtain(endpoint: Endpoint, signal: AbortSignal): Promise<Account> {
    return (await this.#loadSettled(endpoint, signal)) ?? this.#create(endpoint, undefined, signal)
  }

  async #loadSettled(endpoint: Endpoint, signal: AbortSignal): Promise<Account | undefined> {
    const account = await this.#load(endpoint)
    if (account?.nextKeyPem === undefined) return account
    return this.#locked(signal, async (held) => {
      const current = await this.#load(endpoint)
      return current && this.#settle(endpoint, current, held)
    })
  }

  /** Keeps the key that the CA knows, after a change whose answer nobody has heard. */
  async #settle(endpoint: Endpoint, account: Account, signal: AbortSignal): Promise<Account> {
    if (account.nextKeyPem === undefined) return account
    const { nextKeyPem, ...kept } = account
    const settled = { ...kept, keyPem: await keyInForce(endpoint, account, signal) }
    await this.#options.records.saveAccount(this.#options.ca, settled)
    return settled
  }

  /** The account with its new key, where a refusal is due to one. */
  async #changedSince(account: Account, endpoint: Endpoint, error: unknown): Promise<Account | undefined> {
    if (!(error instanceof IssueError) || error.blame !== 'account') return undefined
    const current = await this.#load(endpoint)
    const isChanged = current?.url === account.url && current.keyPem !== account.keyPem
    return isChanged ? current : undefined
  }

  async #locked<T>(signal: AbortSignal, work: (held: AbortSignal) => Promise<T>): Promise<T> {
    const { ca, records } = this.#options
    const lease = await records.lock(`account-${ca}`, signal)
    try {
      return await work(AbortSignal.any([signal, lease.lost]))
    } finally {
      await lease.release()
    }
  }

  /** An account at another directory, or bound to another external account, is not the one that is configured. */
  async #load({ directoryUrl }: Endpoint): Promise<Account | undefined> {
    const { ca, eab, records } = this.#options
    const account = await records.loadAccount(ca)
    if (account?.directory !== directoryUrl) return undefined
    return eab === undefined || account.eabKid === eab.kid ? account : undefined
  }

  /** Keeps the lost account until there is a new one: an external account binding may serve only once. */
  async #create(endpoint: Endpoint, lost: Account | undefined, signal: AbortSignal): Promise<Account> {
    const { ca, contact, eab, records, log } = this.#options
    return this.#locked(signal, async (held) => {
      const made = await this.#load(endpoint)
      if (made !== undefined && made.url !== lost?.url) return made
      const keyPem = await generateKeyPem('ecdsa-p256')
      const wire = await AcmeWire.open(endpoint, keyPem, undefined, eab)
      const url = await wire.newAccount(contact, held)
      const binding = eab === undefined ? {} : { eabKid: eab.kid }
      const account: Account = { url, keyPem, directory: endpoint.directoryUrl, ...binding }
      await records.saveAccount(ca, account)
      this.#informed = url
      log.info({ ca, account: url }, `${ca}: made an account`)
      return account
    })
  }

  /** Once a process, for the config may have changed. A contact that the CA does not take costs no certificate. */
  async #inform(wire: AcmeWire, { url }: Account, signal: AbortSignal): Promise<void> {
    if (this.#informed === url) return
    const { ca, contact, log } = this.#options
    try {
      await wire.updateContact(contact, signal)
    } catch (error) {
      const isRefused = error instanceof IssueError && error.blame === 'account'
      if (!isRefused || isAccountLost(error)) throw error
      log.warn({ ca, err: error }, `${ca} does not take the contact`)
    }
    this.#informed = url
  }
}

/** Of the two keys of an unfinished change, the one that the CA knows the account by. */
async function keyInForce(
  endpoint: Endpoint,
  { keyPem, nextKeyPem }: Account,
  signal: AbortSignal,
): Promise<string> {
  if (nextKeyPem === undefined) return keyPem
  try {
    await (await AcmeWire.open(endpoint, nextKeyPem)).existingAccount(signal)
    return nextKeyPem
  } catch (error) {
    if (!isAccountLost(error)) throw error
    return keyPem
  }
}

function wireOf(endpoint: Endpoint, { keyPem, url }: Account): Promise<AcmeWire> {
  return AcmeWire.open(endpoint, keyPem, url)
}
