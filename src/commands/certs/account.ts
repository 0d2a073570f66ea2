/**
 * `certs account`: a new key for the account at a CA, or its end. Asks the running instance; where none runs, does it
 * here, under the store's lock.
 */
import { Issuers } from '../../ca/issuers.ts'
import type { LoadedConfig } from '../../config/load.ts'
import { resolveCas } from '../../config/sites.ts'
import { createLog } from '../../log.ts'
import { MINUTE, SystemClock } from '../../time.ts'
import { AdminClient } from '../admin-client.ts'
import { print, UsageError } from '../terminal.ts'
import { withRecords } from './store.ts'

const VERBS = ['rollover', 'deactivate'] as const
type Verb = (typeof VERBS)[number]

/** A CA may take as long as for an order. */
const LIMIT_MS = 2 * MINUTE

export async function changeAccount(loaded: LoadedConfig, [name, verb]: readonly string[]): Promise<number> {
  if (name === undefined || !isVerb(verb))
    throw new UsageError(`write \`certs account CA ${VERBS.join('|')}\``)
  const admin = await AdminClient.find(loaded.config)
  if (admin === undefined) await changeHere(loaded, name, verb)
  else if (!(await admin.post(`/api/cas/${encodeURIComponent(name)}/${verb}`, LIMIT_MS)))
    throw new Error(`the running instance has no CA ${name} with an account`)
  print(
    verb === 'rollover'
      ? `The account at ${name} has a new key.`
      : `The account at ${name} is deactivated. The next order there makes a new one: take ${name} out of every \`tls.cas\` first to stay without.`,
  )
  return 0
}

function isVerb(text: string | undefined): text is Verb {
  return VERBS.some((verb) => verb === text)
}

function changeHere(loaded: LoadedConfig, name: string, verb: Verb): Promise<number> {
  return withRecords(loaded, async (records) => {
    const ca = resolveCas(loaded.config).get(name)
    const log = createLog({ level: 'warn', format: 'auto' })
    const issuer = ca && new Issuers({ records, clock: new SystemClock(), log, solvers: [] }).create(ca)
    const change = verb === 'rollover' ? issuer?.changeAccountKey : issuer?.deactivateAccount
    if (change === undefined) throw new Error(`the config has no CA ${name} with an account`)
    await change.call(issuer)
    return 0
  })
}
