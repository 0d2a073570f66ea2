/** A fast wire whose clients are in memory and whose clock stands still, so that nothing but the input decides what it does. */

import type { Socket } from 'node:net'
import { type Duplex, duplexPair } from 'node:stream'
import { AccessLog } from '../../src/http/access-log.ts'
import { FastWire } from '../../src/http/fast/wire.ts'
import { Gateway } from '../../src/http/gateway.ts'
import { RequestIds } from '../../src/http/request-id.ts'
import { silentLog } from '../../src/log.ts'
import { Metrics } from '../../src/metrics.ts'
import type { Clock } from '../../src/time.ts'
import { Names } from '../../src/upstreams/names.ts'
import { makeSite, TIMEOUTS } from '../http/front.ts'

const STOPPED: Clock = { now: () => 0, monotonic: () => 0, after: () => () => {} }

/** All of one length. */
class SameIds extends RequestIds {
  override next(): string {
    return 'fuzz'
  }
}

export class MemoryWire {
  readonly #wire: FastWire

  /** For `HOST`; without upstreams, requests are redirected to TLS. */
  constructor(upstreams: readonly string[]) {
    const site = makeSite({ upstreams, redirect: upstreams.length === 0, balancing: { maxFails: 0 } })
    const policy = { sites: [site], timeouts: TIMEOUTS, trustedProxies: [], httpsPort: 443, httpPorts: [80] }
    const gateway = new Gateway(policy, {
      clock: STOPPED,
      log: silentLog(),
      names: new Names(),
      stickyKey: Buffer.alloc(32),
      challenge: () => undefined,
    })
    const accessLog = new AccessLog({
      clock: STOPPED,
      log: silentLog(),
      metrics: new Metrics(),
      access: () => false,
      random: () => 0,
    })
    this.#wire = new FastWire({ gateway, accessLog, requestIds: new SameIds(), clock: STOPPED })
  }

  /** The client's end of a new connection. */
  connect(protocol: 'h2' | 'http/1.1'): Duplex {
    const [near, far] = duplexPair()
    const socket = Object.assign(near, {
      setNoDelay: () => near,
      destroySoon: () => near.end(() => near.destroy()),
      resetAndDestroy: () => near.destroy(),
    })
    far.on('error', () => {})
    // As a reset does.
    far.on('close', () => near.destroy())
    this.#wire.accept(socket as unknown as Socket, {
      secure: false,
      serverName: undefined,
      protocol,
      clientAddress: '127.0.0.1',
      localPort: 443,
    })
    return far
  }

  /** Resolves when no connection is left. */
  stop(): Promise<void> {
    return this.#wire.drain(AbortSignal.abort())
  }
}
