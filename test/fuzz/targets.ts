/** What is fuzzed, with the invariants that each input is held to. */

import { clientFramesTarget } from './client-frames.ts'
import type { Target } from './fuzzer.ts'
import { hpackTarget } from './hpack.ts'
import { messageTarget } from './messages.ts'
import { upstreamFramesTarget } from './upstream-frames.ts'

/** By name; each is made when it is run. */
export const TARGETS: Readonly<Record<string, () => Target | Promise<Target>>> = {
  requests: () => messageTarget('request'),
  responses: () => messageTarget('response'),
  hpack: hpackTarget,
  'client-frames': clientFramesTarget,
  'upstream-frames': upstreamFramesTarget,
}
