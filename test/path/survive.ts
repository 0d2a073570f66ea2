/** Whatever CA `a` does, the host has a certificate from `b` within 15 s at the default settings, and one line says why. */
import type { Test } from 'tap'
import type { FaultKind } from '../peers/fault-proxy.ts'
import { startRig } from './rig.ts'

const HOST = 'app.example.com'
const LIMIT_MS = 15_000

export interface FaultCase {
  readonly kind: FaultKind
  /** What the line says of it. */
  readonly why: RegExp
  /** Test CAs that no root store knows. */
  readonly trust?: 'any'
}

export async function survive(t: Test, { kind, why, trust }: FaultCase): Promise<void> {
  const rig = await startRig(t, {
    ...(trust === undefined ? {} : { trust }),
    sites: (upstream) => [{ hosts: [HOST], upstreams: [upstream] }],
  })
  await rig.faults.a.setFault({ kind })
  const startedAt = performance.now()
  await rig.server.start()
  const line = await rig.log.logged(({ msg }) => msg.startsWith(`${HOST}: certificate issued by b`))
  const tookMs = performance.now() - startedAt
  t.match(line.msg, why)
  t.ok(tookMs < LIMIT_MS, `took ${Math.round(tookMs)} ms`)
  await rig.handshake(HOST, await rig.b.root())
  const others = rig.log.lines.filter(
    ({ level, msg }) => level >= 40 && msg !== line.msg && !msg.startsWith('a is down'),
  )
  t.same(others, [], 'and nothing else complains')
}
