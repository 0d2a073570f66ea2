/**
 * Which files other programs find their certificates in: the rules of a site, for each of its hosts. Receives checked
 * rules from `schema.ts`; hands `Delivery` through `server.ts` to `deliver/`.
 */
import type { SiteConfig } from './schema.ts'

export type DeliverRule = SiteConfig['deliver'][number]

/** What a file holds. PEM, but for `pkcs12`. */
export const FORMS = ['fullchain', 'certificate', 'chain', 'key', 'combined', 'pkcs12'] as const
export type Form = (typeof FORMS)[number]

/** One rule for one host. */
export interface Delivery {
  readonly host: string
  /** At least one; paths are absolute. They hold one certificate and are swapped together. */
  readonly files: readonly { readonly form: Form; readonly path: string }[]
  /** Secret. Of the PKCS#12 file. */
  readonly passphrase: string | undefined
  /** Name or number; undefined: as the process creates it. */
  readonly owner: string | number | undefined
  readonly group: string | number | undefined
  /** Permission bits; undefined: 0600 for what holds a key, else 0644. */
  readonly mode: number | undefined
  /** Program and arguments; undefined: nothing is run. */
  readonly command: readonly string[] | undefined
  readonly commandLimitMs: number
}

/** Puts the host into the rule's paths and arguments. */
export function deliveryOf(host: string, rule: DeliverRule): Delivery {
  const { passphrase, owner, group, mode, command, commandLimit } = rule
  return {
    host,
    files: pathsOf(rule).map(({ form, path }) => ({ form, path: withHost(path, host) })),
    passphrase,
    owner,
    group,
    mode,
    command: command?.map((word) => withHost(word, host)),
    commandLimitMs: commandLimit,
  }
}

/** The files that the rule names, as they are written there. */
export function pathsOf(rule: DeliverRule): { form: Form; path: string }[] {
  return FORMS.flatMap((form) => {
    const path = rule[form]
    return path === undefined ? [] : [{ form, path }]
  })
}

/** A wildcard's star is no good in a path: `*.example.com` becomes `_.example.com`. */
function withHost(text: string, host: string): string {
  return text.replaceAll('{host}', host.replace(/^\*/, '_'))
}
