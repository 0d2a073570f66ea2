/** The fast wire before an HTTP/2 upstream that sends the frames it is told to. */
import type { Test } from 'tap'
import { FastWire } from '../../../src/http/fast/wire.ts'
import type { WireOptions } from '../../../src/http/wire.ts'
import { answerOf, connectHttp2 } from '../contract/http2.ts'
import { type Fields, FrameUpstream } from '../frame-peer.ts'
import { Front, type FrontOptions, HOST } from '../front.ts'

export const OK: Fields = [[':status', '200']]
export const GET = ['GET / HTTP/1.1', `Host: ${HOST}`]

export const makeWire = (options: WireOptions): FastWire => new FastWire(options)

/** `first`: what the upstream begins with. */
export async function start(t: Test, first?: Buffer, options: FrontOptions = {}) {
  const up = await FrameUpstream.start(t, first)
  const front = await Front.start(t, makeWire, { upstreams: [up.url], ...options })
  const session = connectHttp2(t, front)
  const open = (fields: Record<string, string> = {}) =>
    session.request({ ':path': '/', ':authority': HOST, ...fields })
  const ask = (fields?: Record<string, string>) => answerOf(open(fields))
  return { up, front, open, ask }
}
