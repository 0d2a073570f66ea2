/** Two connections joined after a 101: bytes pass both ways, unread, until one side ends or both are silent. */
import type { Socket } from 'node:net'
import { IdleTimer } from '../../idle-timer.ts'
import type { Clock } from '../../time.ts'

/** Takes both sockets over. `onBytes` is told how much went to the client. */
export function joinSockets(
  client: Socket,
  upstream: Socket,
  clock: Clock,
  idleLimitMs: number,
  onBytes: (count: number) => void,
): void {
  const idle = new IdleTimer(clock, idleLimitMs, () => {
    client.destroy()
    upstream.destroy()
  })
  for (const [from, to] of [
    [client, upstream],
    [upstream, client],
  ] as const) {
    from.setTimeout(0)
    from.setNoDelay(true)
    from.on('data', () => idle.touch())
    from.on('error', () => from.destroy())
    from.once('close', () => {
      idle.stop()
      to.destroySoon()
    })
    from.pipe(to)
  }
  upstream.on('data', (chunk: Buffer) => onBytes(chunk.length))
}
