/** Two sockets made into one: what either sends, the other gets. Hides half-close and silence. Serves `streams.ts`. */
import type { Socket } from 'node:net'
import { IdleTimer } from '../idle-timer.ts'
import type { Clock } from '../time.ts'

export interface TunnelOptions {
  readonly clock: Clock
  /** Both ends silent for this long, in milliseconds: both are destroyed. */
  readonly idleMs: number
}

/** What went through, in octets, seen from us: `received` from the client. */
export interface Transfer {
  readonly received: number
  readonly sent: number
}

/**
 * Takes both over; resolves once both are closed, and never rejects. The end of one side is passed on and the other
 * side goes on; a broken one breaks the other. A slow reader slows the writer down.
 */
export function tunnel(client: Socket, upstream: Socket, options: TunnelOptions): Promise<Transfer> {
  return new Promise((resolve) => {
    const octets = new Map([
      [client, 0],
      [upstream, 0],
    ])
    const destroy = (): void => {
      client.destroy()
      upstream.destroy()
    }
    const idle = new IdleTimer(options.clock, options.idleMs, destroy)
    const touch = (): void => idle.touch()
    const open = new Set([client, upstream])
    const pass = (from: Socket, to: Socket): void => {
      from.pipe(to)
      from.on('data', (chunk: Buffer) => {
        touch()
        octets.set(from, (octets.get(from) ?? 0) + chunk.length)
      })
      from.on('drain', touch).on('error', destroy)
      from.on('close', () => {
        if (!from.readableEnded || !from.writableFinished) destroy()
        open.delete(from)
        if (open.size > 0) return
        idle.stop()
        resolve({ received: octets.get(client) ?? 0, sent: octets.get(upstream) ?? 0 })
      })
    }
    pass(client, upstream)
    pass(upstream, client)
  })
}
