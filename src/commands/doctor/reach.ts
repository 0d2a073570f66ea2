/**
 * Do the ports that CAs will ask lead to this instance? The host's addresses come from the DNS, as a CA would find them.
 * On 443 the instance is known by its certificate, on 80 by its answer to a challenge that it alone knows. A port that
 * does not answer here may yet answer the outside (NAT). So only another server fails.
 */

import type { Resolver } from 'node:dns/promises'
import { once } from 'node:events'
import { type IncomingMessage, request } from 'node:http'
import { isIP } from 'node:net'
import { connect } from 'node:tls'
import type { ReachProof } from '../../admin/api.ts'
import type { ChallengeType } from '../../challenge/solver.ts'
import type { Clock } from '../../time.ts'
import { bounded, type Finding, fail, ok, warn } from './finding.ts'

/** Where CAs ask: 443 and 80, except in tests. */
export interface Ports {
  readonly https: number
  readonly http: number
}

export type AddressLookup = Pick<Resolver, 'resolve4' | 'resolve6'>

export interface ReachOptions {
  readonly lookup: AddressLookup
  readonly ports: Ports
  readonly clock: Clock
  /** What the instance answers on port 80; undefined: none runs. */
  readonly proof: ReachProof | undefined
  /** SHA-256 of every certificate that this instance may show, lower-case hex; undefined: no instance runs. */
  readonly fingerprints: ReadonlySet<string> | undefined
}

export interface Reach {
  readonly findings: readonly Finding[]
  /** Those of the wanted challenges that are not known to lead elsewhere. */
  readonly challenges: readonly ChallengeType[]
}

type Answer = 'ours' | 'silent' | 'foreign'

interface Probed {
  readonly answer: Answer
  /** `192.0.2.1:443: connection refused` */
  readonly says: string
}

const PATH = '/.well-known/acme-challenge/'
const LONGEST_ANSWER = 1000

export async function checkReach(
  host: string,
  challenges: readonly ChallengeType[],
  options: ReachOptions,
): Promise<Reach> {
  const addresses = await bounded<readonly string[] | Finding>(
    options.clock,
    () => addressesOf(host, options.lookup),
    (why) => warn('address', `could not be looked up: ${why}`, 'name a resolver that works: --dns HOST:PORT'),
  )
  if (!isList(addresses)) return { findings: [addresses], challenges }
  if (addresses.length === 0) {
    const says = `${host} has no address in the DNS, so that no CA can check it`
    return { findings: [fail('address', says, `add an A or AAAA record for ${host}`)], challenges: [] }
  }
  const found = ok('address', addresses.join(', '))
  if (options.fingerprints === undefined || options.proof === undefined) {
    const skipped = warn(
      'reach',
      'not tried: no instance runs',
      'start `holdfast serve` and run doctor again',
    )
    return { findings: [found, skipped], challenges }
  }
  const ports = await Promise.all(challenges.map((type) => checkPort(host, type, addresses, options)))
  const open = challenges.filter((_, index) => ports[index]?.verdict !== 'fail')
  return { findings: [found, ...ports], challenges: open }
}

function isList(value: readonly string[] | Finding): value is readonly string[] {
  return Array.isArray(value)
}

async function addressesOf(host: string, lookup: AddressLookup): Promise<readonly string[]> {
  if (isIP(host) !== 0) return [host]
  const answers = await Promise.all([orNone(lookup.resolve4(host)), orNone(lookup.resolve6(host))])
  return answers.flat()
}

async function orNone(answer: Promise<string[]>): Promise<string[]> {
  try {
    return await answer
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException
    if (code === 'ENODATA' || code === 'ENOTFOUND') return []
    throw error
  }
}

async function checkPort(
  host: string,
  type: ChallengeType,
  addresses: readonly string[],
  { ports, clock, fingerprints, proof }: ReachOptions,
): Promise<Finding> {
  const port = type === 'http-01' ? ports.http : ports.https
  const probes = await Promise.all(
    addresses.map((address) =>
      bounded<Probed>(
        clock,
        (signal) =>
          type === 'http-01'
            ? probeHttp(address, port, host, proof, signal)
            : probeTls(address, port, host, fingerprints ?? new Set(), signal),
        (why) => ({ answer: 'silent', says: `${at(address, port)}: ${why}` }),
      ),
    ),
  )
  return judge(host, type, port, probes)
}

function judge(host: string, type: ChallengeType, port: number, probes: readonly Probed[]): Finding {
  const told = (answer: Answer): string =>
    probes
      .filter((probe) => probe.answer === answer)
      .map(({ says }) => says)
      .join('; ')
  const check = `port ${port}`
  if (probes.every(({ answer }) => answer === 'ours')) {
    const found =
      type === 'http-01'
        ? 'gives the answer that this instance alone knows'
        : 'shows a certificate of this instance'
    return ok(check, `${found}, for ${type}`)
  }
  if (probes.some(({ answer }) => answer === 'foreign')) {
    const fix = `let the DNS of ${host} name this instance only, or forward ${type} to it`
    return fail(check, `${type} leads elsewhere: ${told('foreign')}`, fix)
  }
  const fix = `open port ${port} to the outside and forward it here; behind a NAT, try it from outside`
  return warn(check, `no answer, as seen from here: ${told('silent')}`, fix)
}

/** Whose certificate is shown? Nothing is trusted on the ground of it. */
async function probeTls(
  address: string,
  port: number,
  host: string,
  fingerprints: ReadonlySet<string>,
  signal: AbortSignal,
): Promise<Probed> {
  const servername = isIP(host) === 0 ? { servername: host } : {}
  const socket = connect({ host: address, port, ...servername, rejectUnauthorized: false })
  const destroy = (): void => void socket.destroy()
  signal.addEventListener('abort', destroy, { once: true })
  try {
    await once(socket, 'secureConnect', { signal })
    const { fingerprint256 = '', subject, subjectaltname = '' } = socket.getPeerCertificate()
    const shown = fingerprint256.replaceAll(':', '').toLowerCase()
    if (fingerprints.has(shown)) return { answer: 'ours', says: at(address, port) }
    const name = subject?.CN ?? subjectaltname
    return { answer: 'foreign', says: `${at(address, port)} shows a certificate of another server (${name})` }
  } finally {
    signal.removeEventListener('abort', destroy)
    socket.destroy()
  }
}

async function probeHttp(
  address: string,
  port: number,
  host: string,
  proof: ReachProof | undefined,
  signal: AbortSignal,
): Promise<Probed> {
  const path = PATH + (proof?.token ?? '')
  const asked = request({ host: address, port, path, headers: { host }, agent: false, signal })
  asked.end()
  const [response] = (await once(asked, 'response')) as [IncomingMessage]
  const answer = await readStart(response)
  if (answer === proof?.answer) return { answer: 'ours', says: at(address, port) }
  const says = `${at(address, port)} does not know the challenge of this instance (it answers ${response.statusCode})`
  return { answer: 'foreign', says }
}

/** Longer ones are another server's: leaving the loop closes the connection. */
async function readStart(response: IncomingMessage): Promise<string> {
  let text = ''
  for await (const chunk of response.setEncoding('utf8')) {
    text += chunk
    if (text.length > LONGEST_ANSWER) break
  }
  return text
}

function at(address: string, port: number): string {
  return `${isIP(address) === 6 ? `[${address}]` : address}:${port}`
}
