/** Somebody who is told by a webhook. */
import { once } from 'node:events'
import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'
import type { Test } from 'tap'
import type { EventType } from '../../src/events.ts'
import type { Message } from '../../src/notify/message.ts'

export interface Receiver {
  readonly url: string
  /** In the order in which they came. */
  readonly messages: readonly Message[]
  /** Resolves with the first message, come before or later, of an event of this type. */
  received(type: EventType): Promise<Message>
}

/** On a free port; ends with `t`. */
export async function startReceiver(t: Test): Promise<Receiver> {
  const messages: Message[] = []
  const waiting = new Set<() => void>()
  const server = createServer(async (request, response) => {
    const body = Buffer.concat(await request.toArray()).toString()
    response.end()
    messages.push(JSON.parse(body))
    for (const look of waiting) look()
  }).listen(0, '127.0.0.1')
  await once(server, 'listening')
  t.teardown(() => {
    server.closeAllConnections()
    server.close()
  })
  return {
    url: `http://127.0.0.1:${(server.address() as AddressInfo).port}/`,
    messages,
    received: (type) =>
      new Promise((resolve) => {
        const look = (): void => {
          const message = messages.find((each) => each.type === type)
          if (message === undefined) return
          waiting.delete(look)
          resolve(message)
        }
        waiting.add(look)
        look()
      }),
  }
}
