/**
 * What every wire does, whatever it is made of: one suite, run by each engine over real sockets, against real
 * upstreams. Bytes are compared where bytes matter.
 */
import type { Test } from 'tap'
import { abuse } from './contract/abuse.ts'
import { addressing } from './contract/addresses.ts'
import { balancing } from './contract/balancing.ts'
import { clientCertificates } from './contract/client-certificates.ts'
import { compression } from './contract/compression.ts'
import { draining } from './contract/draining.ts'
import { failures } from './contract/failures.ts'
import { http2 } from './contract/http2.ts'
import { refusals } from './contract/refusals.ts'
import { requests } from './contract/requests.ts'
import { responses } from './contract/responses.ts'
import { shaping } from './contract/shaping.ts'
import { streaming } from './contract/streaming.ts'
import { upgrades } from './contract/upgrades.ts'
import type { MakeWire } from './front.ts'

export function wireContract(t: Test, makeWire: MakeWire): void {
  t.setTimeout(180_000)
  t.test('requests', async (t) => requests(t, makeWire))
  t.test('responses', async (t) => responses(t, makeWire))
  t.test('failures', async (t) => failures(t, makeWire))
  t.test('addresses', async (t) => addressing(t, makeWire))
  t.test('balancing', async (t) => balancing(t, makeWire))
  t.test('refusals', async (t) => refusals(t, makeWire))
  t.test('shaping', async (t) => shaping(t, makeWire))
  t.test('client certificates', async (t) => clientCertificates(t, makeWire))
  t.test('compression', async (t) => compression(t, makeWire))
  t.test('upgrades', async (t) => upgrades(t, makeWire))
  t.test('streaming', async (t) => streaming(t, makeWire))
  t.test('HTTP/2', async (t) => http2(t, makeWire))
  t.test('HTTP/2 abuse', async (t) => abuse(t, makeWire))
  t.test('draining', async (t) => draining(t, makeWire))
}
