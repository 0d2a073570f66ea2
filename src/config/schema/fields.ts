/**
 * The kinds of values that the sections of the configuration are made of: durations, hosts, addresses, files.
 * The only user of zod, which the other files here get from it as `z`.
 *
 * Messages: one that begins with `not` gets the value in front (`"x y" is not a host: …`); what may hold a secret says
 * `is not …` instead, and its value is never shown.
 */
import { z } from 'zod'
import { parseDuration } from '../../time.ts'
import {
  type Address,
  isAddressRange,
  normalizeHost,
  parseAddress,
  parseUpstream,
  type Upstream,
} from '../addresses.ts'

export { z }

/** A string that `parse` understands; its output is what `parse` gives. */
export function text<T>(parse: (text: string) => T | undefined, message: (text: string) => string) {
  return z.string().transform((input, context): T => {
    const value = parse(input)
    if (value !== undefined) return value
    context.addIssue({ code: 'custom', message: message(input), input })
    return z.NEVER
  })
}

/** "30s", "5m", "1h30m", "90d": milliseconds after parsing. */
export const duration = z
  .string({
    error: ({ input }) =>
      typeof input === 'number' ? `is a number without a unit: write "${input}s" for seconds` : undefined,
  })
  .regex(
    /^(\d+(\.\d+)?(ms|s|m|h|d|w))+$/,
    'not a duration: write a number and a unit, such as "30s", "5m", "12h" or "90d"',
  )
  .transform((input) => parseDuration(input) ?? 0)
  .refine((ms) => ms > 0, 'not a usable duration: it must be longer than nothing')
  .meta({ title: 'duration' })

const UNITS: Readonly<Record<string, number>> = { B: 1, KB: 2 ** 10, MB: 2 ** 20, GB: 2 ** 30 }

/** "512KB", "10MB": octets after parsing. */
export const size = text(
  (input) => {
    const [, number, unit = ''] = /^(\d{1,6})(B|KB|MB|GB)$/.exec(input) ?? []
    return number === undefined ? undefined : Number(number) * (UNITS[unit] ?? 1)
  },
  () => 'not a size: write a number and a unit, such as "512KB" or "10MB"',
).meta({ title: 'size' })

/** What other servers write for whatever host is asked for. */
const CATCH_ALL = /^[_*]$/

export const host = text(
  (input) => (CATCH_ALL.test(input) ? undefined : normalizeHost(input)),
  (input) => {
    if (CATCH_ALL.test(input)) return 'not a host: nothing stands for every host, so name each one'
    return /[:/]/.test(input)
      ? 'not a host: leave out scheme, port and path'
      : 'not a host: write a DNS name, "*.example.com" or an IP address'
  },
).meta({ title: 'host' })

export const address = text<Address>(
  parseAddress,
  () => 'not an address to listen on: write "IP:port", "[IPv6]:port" or ":port" for every address',
).meta({ title: 'address' })

export const upstream = text<Upstream>(parseUpstream, (input) => {
  if (/^((https?:\/\/)?unix(\+\w+)?:|[./])/.test(input))
    return 'is not an upstream: of a unix socket write "unix:/run/app.sock", an absolute path of up to 107 octets'
  return parseUpstream(`http://${input}`) === undefined
    ? 'is not an upstream: write "http://host:port" or "https://host:port", without a path'
    : 'is not an upstream: put "http://" in front, or "https://" where it speaks TLS'
}).meta({ title: 'upstream' })

export const range = z
  .string()
  .refine(isAddressRange, 'not an address range: write "10.0.0.0/8", "fd00::/8" or a single IP address')
  .meta({ title: 'address range' })

export const contact = z
  .string()
  .regex(/^(mailto:)?[^@\s:]+@[^@\s]+$/, 'not a contact: write an address such as "you@example.com"')
  .transform((input) => (input.startsWith('mailto:') ? input : `mailto:${input}`))
  .meta({ title: 'e-mail address' })

/** A PEM instead of its path is refused before it can be quoted. */
export const file = z
  .string()
  .min(1, 'is empty: write the path of a file')
  .refine((path) => !/[\r\n]/.test(path), 'is not a path: write the path of a file, on one line')
  .meta({ title: 'file' })

export const caName = z
  .string()
  .regex(/^[a-z0-9][a-z0-9-]*$/, 'not a name for a CA: use lower-case letters, digits and hyphens')
  .meta({ title: 'name' })
