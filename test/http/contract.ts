/**
 * What every wire does, whatever it is made of: one suite, run by each engine over real sockets, against real
 * upstreams. Bytes are compared where bytes matter.
 */
import type { Test } from 'tap'
import { requests } from './contract/requests.ts'
import type { MakeWire } from './front.ts'

export function wireContract(t: Test, makeWire: MakeWire): void {
  t.test('requests', async (t) => requests(t, makeWire))
}
