/**
 * `POST /api/drill`: begins a drill and answers with its lines as they come (NDJSON). The connection is what keeps the
 * drill alive: once it is lost, everything is restored. Receives requests from `api.ts`.
 */
import type { ServerResponse } from 'node:http'
import { OUTAGES } from '../ca/rehearsal.ts'
import { type Clock, DAY, SECOND } from '../time.ts'
import type { DrillRequest, Drills } from './drill.ts'

/** Empty lines in between tell both ends that the other is there. */
const HEARTBEAT_MS = 15 * SECOND
const LONGEST_MS = DAY

/** @returns what is wrong with the parameters, in words */
export function readDrillRequest(parameters: URLSearchParams): DrillRequest | string {
  const outage = OUTAGES.find((each) => each === parameters.get('mode'))
  if (outage === undefined) return `no such mode: there are ${OUTAGES.join(', ')}`
  const forMs = Number(parameters.get('forMs'))
  if (!(forMs > 0 && forMs <= LONGEST_MS)) return 'forMs must be more than 0 and at most a day'
  return { ca: parameters.get('ca') ?? '', outage, forMs, canary: parameters.get('canary') ?? undefined }
}

/** Resolves once the drill is over. @throws DrillRefusedError before anything is sent */
export async function streamDrill(
  request: DrillRequest,
  drills: Drills,
  clock: Clock,
  response: ServerResponse,
): Promise<void> {
  let lines = ''
  let write = (text: string): void => {
    lines += text
  }
  const drill = drills.start(request, (line) => write(`${JSON.stringify(line)}\n`))
  response.on('close', () => drill.end('the connection to whoever asked for it was lost'))
  response.writeHead(200, { 'content-type': 'application/x-ndjson', 'cache-control': 'no-store' })
  write = (text) => response.write(text)
  write(lines)
  let cancelBeat = (): void => {}
  const beat = (): void => {
    write('\n')
    cancelBeat = clock.after(HEARTBEAT_MS, beat)
  }
  cancelBeat = clock.after(HEARTBEAT_MS, beat)
  await drill.ended
  cancelBeat()
  response.end()
}
