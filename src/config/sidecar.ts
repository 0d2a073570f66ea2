/**
 * A config out of environment variables alone, for a sidecar next to one app: `HOLDFAST_HOSTS`, `HOLDFAST_UPSTREAMS`,
 * `HOLDFAST_CONTACT`, `HOLDFAST_CAS`, `HOLDFAST_STORE`, and `<NAME>_KID` with `<NAME>_HMAC` for CAs that demand an
 * external account binding. Pure: `load.ts` validates what this makes as it validates a file.
 */
import type { ConfigProblem } from '../errors.ts'
import type { Environment } from './expand.ts'
import { CA_PRESETS, presetNamed } from './presets.ts'
import { didYouMean } from './problems.ts'

export interface SidecarInput {
  /** Like the content of a config file. */
  readonly input: unknown
  /** A problem of `input` as one of the variable that it comes from. */
  blame(problem: ConfigProblem): ConfigProblem
}

/** Is this process meant to run without a config file? */
export function isSidecar(env: Environment): boolean {
  return env.HOLDFAST_HOSTS !== undefined && env.HOLDFAST_HOSTS !== ''
}

export function readSidecar(env: Environment): SidecarInput {
  const contact = listOf(env.HOLDFAST_CONTACT)
  const cas = listOf(env.HOLDFAST_CAS)?.map(readCa)
  const configured = (cas ?? [{ name: 'letsencrypt' }]).filter(
    ({ name, directory }) => directory !== undefined || presetNamed(name) !== undefined,
  )
  const input = {
    ...(env.HOLDFAST_STORE ? { store: env.HOLDFAST_STORE } : {}),
    cas: Object.fromEntries(
      configured.map((ca) => [
        ca.name,
        {
          ...(ca.directory === undefined ? {} : { directory: ca.directory }),
          ...(contact === undefined ? {} : { contact }),
          ...bindingOf(ca.name, env),
        },
      ]),
    ),
    tls: cas === undefined ? {} : { cas: cas.map((ca) => ca.name) },
    sites: [{ hosts: listOf(env.HOLDFAST_HOSTS) ?? [], upstreams: listOf(env.HOLDFAST_UPSTREAMS) ?? [] }],
  }
  return { input, blame: blameVariable }
}

/** Separated by commas or spaces; undefined when unset or empty. */
function listOf(text: string | undefined): string[] | undefined {
  const items = (text ?? '').split(/[\s,]+/).filter((item) => item !== '')
  return items.length === 0 ? undefined : items
}

/** A name, or the URL of a directory, which gets its host's name: `https://ca.corp.example/acme` → `ca-corp-example`. */
function readCa(text: string): { name: string; directory?: string } {
  const preset = Object.entries(CA_PRESETS).find(([, { directory }]) => directory === text)
  if (preset !== undefined) return { name: preset[0] }
  if (!text.includes('://') || !URL.canParse(text)) return { name: text }
  return { name: new URL(text).host.replace(/[^a-z0-9]+/g, '-').replace(/^-|-$/g, ''), directory: text }
}

function bindingOf(name: string, env: Environment): { eab?: unknown } {
  const kid = env[variableOf(name, 'KID')]
  const hmacKey = env[variableOf(name, 'HMAC')]
  const wanted = presetNamed(name)?.eab === 'required' || kid !== undefined || hmacKey !== undefined
  return wanted ? { eab: { kid, hmacKey } } : {}
}

function variableOf(ca: string, suffix: 'KID' | 'HMAC'): string {
  return `${ca.toUpperCase().replaceAll('-', '_')}_${suffix}`
}

const VARIABLES = ['HOSTS', 'UPSTREAMS', 'CONTACT', 'CAS', 'STORE'].map((name) => `HOLDFAST_${name}`)

/** What Kubernetes tells every pod of a Service whose name begins with `holdfast`. */
const OF_A_SERVICE = /_SERVICE_(HOST|PORT)(_\w+)?$|_PORT(_\d+_(TCP|UDP|SCTP)(_(PROTO|PORT|ADDR))?)?$/

/** Variables that look like ours and are not: one that is mistyped would be left aside without a word. */
export function unknownVariables(env: Environment): ConfigProblem[] {
  return Object.keys(env)
    .filter((name) => name.startsWith('HOLDFAST_') && !VARIABLES.includes(name) && !OF_A_SERVICE.test(name))
    .map((name) => ({
      path: name,
      message: 'is no variable of Holdfast',
      hint: didYouMean(name, VARIABLES) ?? `there are ${VARIABLES.join(', ')}; all else takes a config file`,
    }))
}

/** Which part of the input comes from which variable. */
const SOURCES: readonly [RegExp, string | ((ca: string) => string)][] = [
  [/^sites\[0\]\.hosts/, 'HOLDFAST_HOSTS'],
  [/^sites\[0\]/, 'HOLDFAST_UPSTREAMS'],
  [/^store/, 'HOLDFAST_STORE'],
  [/^cas\.([^.]+)\.eab\.kid/, (ca) => variableOf(ca, 'KID')],
  [/^cas\.([^.]+)\.eab\.hmacKey/, (ca) => variableOf(ca, 'HMAC')],
  [/^cas\.[^.]+\.contact/, 'HOLDFAST_CONTACT'],
  [/^/, 'HOLDFAST_CAS'],
]

function blameVariable(problem: ConfigProblem): ConfigProblem {
  for (const [pattern, variable] of SOURCES) {
    const match = pattern.exec(problem.path)
    if (match === null) continue
    const path = typeof variable === 'string' ? variable : variable(match[1] ?? '')
    return /^(is missing|names no )/.test(problem.message)
      ? { path, message: 'is not set' }
      : { ...problem, path }
  }
  return problem
}
