/**
 * The sections that hold for the whole server: where it listens, what it logs, how long it waits, whom it tells.
 * Part of `schema.ts`.
 */
import { EVENT_TYPES } from '../../events.ts'
import { address, duration, range, z } from './fields.ts'

export const listen = z
  .strictObject({
    https: z
      .array(address)
      .prefault([':443'])
      .describe('Addresses for TLS: `IP:port`, or `:port` for every address.'),
    http: z
      .array(address)
      .prefault([':80'])
      .describe('Addresses for plain HTTP: HTTP-01, and redirects to HTTPS. `[]` for none.'),
    proxyProtocol: z
      .array(range)
      .default([])
      .describe(
        'Load balancers that put a PROXY header (version 1 or 2) in front of each connection: addresses or ranges. From these it is required, and tells the client’s address; from all others it is refused.',
      ),
    admin: z
      .union([z.literal(false), address], {
        error: 'not an address to listen on: write "IP:port", or false for no admin endpoint',
      })
      .prefault('127.0.0.1:9443')
      .describe(
        'Address of the admin endpoint. It has no authentication, so keep it on loopback. `false` for none.',
      ),
  })
  .prefault({})
  .describe('Where Holdfast listens.')

const SHARE = 'not an access log setting: write true, false, or the share of requests to log, from 0 to 1'

export const log = z
  .strictObject({
    level: z
      .enum(['trace', 'debug', 'info', 'warn', 'error', 'silent'])
      .default('info')
      .describe('The least important lines to write.'),
    access: z
      .union([z.boolean(), z.number().min(0, SHARE).max(1, SHARE)], { error: SHARE })
      .default(true)
      .describe('A line per request: all, none, or this share of them.'),
    format: z
      .enum(['auto', 'json', 'pretty'])
      .default('auto')
      .describe('`auto`: pretty on a terminal, JSON elsewhere.'),
  })
  .prefault({})
  .describe('The log, on standard output.')

export const timeouts = z
  .strictObject({
    head: duration
      .prefault('15s')
      .describe('For a client to send a request’s head, and to finish the TLS handshake.'),
    body: duration
      .prefault('60s')
      .describe(
        'Longest pause between two pieces of a request’s body, while nothing of the response is sent either: a stream in which only the server speaks may stay open.',
      ),
    connect: duration.prefault('5s').describe('To connect to an upstream.'),
    response: duration.prefault('60s').describe('Longest pause while an upstream answers.'),
    keepAlive: duration.prefault('75s').describe('How long an idle client connection is kept.'),
    upgrade: duration
      .prefault('1h')
      .describe(
        'Longest silence of a WebSocket, of another upgraded connection, or of one of a `tcp` or `passthrough` site.',
      ),
    drain: duration
      .prefault('30s')
      .describe('After SIGTERM: how long requests and WebSockets may take to finish.'),
  })
  .prefault({})
  .describe('How long to wait, as `"30s"`, `"5m"` or `"1h30m"`.')

/** Told by default: what somebody has to look at. */
const ALARMING = [
  'certificate.failed',
  'certificate.expiring',
  'certificate.switched',
  'certificate.revoked',
] as const
const EVENT_PATTERNS = ['*', 'ca.*', 'failover.*', 'certificate.*', ...EVENT_TYPES] as const

const notification = z
  .strictObject({
    url: z
      .url({ protocol: /^https?$/, error: 'is not a URL: write the https:// URL to post to' })
      .optional()
      .describe('A webhook to post to. Secret where the receiver takes its path for a password.'),
    format: z
      .enum(['json', 'slack', 'ntfy'])
      .default('json')
      .describe(
        'Shape of what is posted: `json` (docs/notifications.md), or as Slack and what is like it (Mattermost, Rocket.Chat), or as an ntfy topic want it.',
      ),
    secret: z
      .string()
      .min(16, 'is shorter than 16 characters: make one with `openssl rand -hex 32`')
      .optional()
      .describe('Signs what is posted, in `Holdfast-Signature`. Secret: take it from the environment.'),
    command: z
      .array(z.string())
      .min(1, 'names no program')
      .optional()
      .describe(
        'Instead of `url`: a program and its arguments, run without a shell. It gets the message as JSON on standard input and in `HOLDFAST_*` variables.',
      ),
    events: z
      .array(z.enum(EVENT_PATTERNS))
      .min(1, 'names no event')
      .prefault(['ca.*', 'failover.*', ...ALARMING])
      .describe('What to tell: whole names, `ca.*`, `failover.*`, `certificate.*`, or `*` for all.'),
  })
  .refine(({ url, command }) => (url === undefined) !== (command === undefined), {
    error: 'needs either a `url` or a `command`',
  })

export const notify = z
  .array(notification)
  .prefault([])
  .describe('Who is told what happens to CAs and certificates.')
