/**
 * The account at one CA (RFC 8555 section 7.3): found in the store, or made once by whichever process comes first.
 * Hands out an `AcmeWire` that speaks for it.
 */
import { generateKeyPem } from '../cert/x509.ts'
import { IssueError } from '../errors.ts'
import type { Log } from '../log.ts'
import type { Account, Records } from '../store/records.ts'
import { isAccountLost } from './acme-problem.ts'
import { AcmeWire, type Endpoint, type ExternalAccountBinding } from './acme-wire.ts'

export interface AcmeAccountOptions {
  /** The CA's name in the config, and the key of the record. */
  readonly ca: string
  /** `mailto:` URLs. */
  readonly contact: readonly string[]
  readonly eab: ExternalAccountBinding | undefined
  readonly records: Pick<Records, 'loadAccount' | 'saveAccount' | 'lock'>
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
   * more as a new one.
   */
  async use<T>(endpoint: Endpoint, signal: AbortSignal, work: (wire: AcmeWire) => Promise<T>): Promise<T> {
    const account = (await this.#load(endpoint)) ?? (await this.#create(endpoint, undefined, signal))
    try {
      const wire = wireOf(endpoint, account)
      await this.#inform(wire, account, signal)
      return await work(wire)
    } catch (error) {
      if (!isAccountLost(error)) throw error
      const { ca, log } = this.#options
      log.warn({ ca }, `${ca} no longer knows our account: making a new one`)
      return work(wireOf(endpoint, await this.#create(endpoint, account, signal)))
    }
  }

  /**
   * The URL of the account that the next order will use, as the CA confirms it; undefined: that order will make one.
   * Makes and changes nothing.
   */
  async confirm(endpoint: Endpoint, signal: AbortSignal): Promise<string | undefined> {
    const account = await this.#load(endpoint)
    return account && new AcmeWire(endpoint, account.keyPem).existingAccount(signal)
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
    const lease = await records.lock(`account-${ca}`, signal)
    try {
      const made = await this.#load(endpoint)
      if (made !== undefined && made.url !== lost?.url) return made
      const held = AbortSignal.any([signal, lease.lost])
      const keyPem = await generateKeyPem('ecdsa-p256')
      const url = await new AcmeWire(endpoint, keyPem, undefined, eab).newAccount(contact, held)
      const binding = eab === undefined ? {} : { eabKid: eab.kid }
      const account: Account = { url, keyPem, directory: endpoint.directoryUrl, ...binding }
      await records.saveAccount(ca, account)
      this.#informed = url
      log.info({ ca, account: url }, `${ca}: made an account`)
      return account
    } finally {
      await lease.release()
    }
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

function wireOf(endpoint: Endpoint, { keyPem, url }: Account): AcmeWire {
  return new AcmeWire(endpoint, keyPem, url)
}
