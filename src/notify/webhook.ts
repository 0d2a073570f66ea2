/**
 * A webhook: the message as an HTTP POST, in the shape that the receiver understands, signed where there is a secret.
 * `docs/notifications.md` tells receivers how to verify it.
 */
import { createHmac } from 'node:crypto'
import type { Clock } from '../time.ts'
import { isAlarm, type Message } from './message.ts'
import { RefusedError } from './outbox.ts'

export interface Webhook {
  /** Secret: chat services put their token into the path. */
  readonly url: string
  readonly format: 'json' | 'slack' | 'ntfy'
  /** Key of the signature. Secret. */
  readonly secret?: string | undefined
}

interface Post {
  readonly body: string
  readonly headers: Readonly<Record<string, string>>
}

/** One attempt. Rejects unless the answer is 2xx; with a `RefusedError` where the receiver will never take it. */
export async function post(
  { url, format, secret }: Webhook,
  message: Message,
  clock: Clock,
  signal: AbortSignal,
): Promise<void> {
  const { body, headers } = SHAPES[format](message)
  const seconds = Math.floor(clock.now() / 1000)
  const response = await fetch(url, {
    method: 'POST',
    body,
    headers: {
      ...headers,
      'user-agent': 'Holdfast',
      'holdfast-event': message.type,
      ...(secret === undefined ? {} : { 'holdfast-signature': signatureOf(body, seconds, secret) }),
    },
    // Another place was not meant, and must not get what is signed.
    redirect: 'manual',
    signal,
  }).catch((cause: unknown) => {
    // What fetch says may hold the URL.
    throw new Error(`no answer (${codeOf(cause)})`)
  })
  await response.body?.cancel()
  if (response.ok) return
  const complaint = `answered ${response.status}`
  throw mayHelpLater(response.status) ? new Error(complaint) : new RefusedError(complaint)
}

/**
 * `t=1764000000,v1=6fd9…`: HMAC-SHA256, in hex, over the time, a full stop and the body. The time is in seconds since
 * the epoch; a receiver that refuses old ones cannot be made to take a message twice.
 */
export function signatureOf(body: string, seconds: number, secret: string): string {
  const digest = createHmac('sha256', secret).update(`${seconds}.${body}`).digest('hex')
  return `t=${seconds},v1=${digest}`
}

const JSON_TYPE = { 'content-type': 'application/json' }

const SHAPES: Readonly<Record<Webhook['format'], (message: Message) => Post>> = {
  json: (message) => ({ body: JSON.stringify(message), headers: JSON_TYPE }),
  slack: ({ title, text, type }) => ({
    body: JSON.stringify({
      text: escapeSlack(`${isAlarm(type) ? ':warning:' : ':white_check_mark:'} *${title}*\n${text}`),
    }),
    headers: JSON_TYPE,
  }),
  ntfy: ({ title, text, type }) => ({
    body: text === '' ? title : text,
    headers: {
      'content-type': 'text/plain; charset=utf-8',
      title,
      tags: isAlarm(type) ? 'warning' : 'white_check_mark',
      priority: isAlarm(type) ? 'high' : 'default',
    },
  }),
}

/** What a CA says must not become a link or a mention. */
function escapeSlack(text: string): string {
  return text.replaceAll('&', '&amp;').replaceAll('<', '&lt;').replaceAll('>', '&gt;')
}

/** Most 4xx mean that the address, the shape or the secret is wrong. */
function mayHelpLater(status: number): boolean {
  return status >= 500 || status === 408 || status === 425 || status === 429
}

function codeOf(error: unknown): string {
  const cause = error instanceof Error ? error.cause : undefined
  const code = cause instanceof Error && 'code' in cause ? cause.code : undefined
  return code === undefined ? 'the connection failed' : String(code)
}
