/**
 * From a file, or from the environment alone, to a checked `Config`; or to one `ConfigError` with every problem.
 * The story: read JSONC → put variables in → schema → contradictions → files. Hands the config to `server.ts` and
 * the files that it stands on to `watch.ts`.
 */
import { access, readFile } from 'node:fs/promises'
import { dirname, resolve } from 'node:path'
import { ConfigError, type ConfigProblem, describeProblem } from '../errors.ts'
import { findContradictions } from './consistency.ts'
import { pathsOf } from './deliver.ts'
import { type Environment, expandVariables } from './expand.ts'
import { checkFiles, makeAbsolute } from './files.ts'
import { describeIssue, problemsOf } from './issues.ts'
import { readJsonc } from './jsonc.ts'
import { type Config, configJsonSchema, configSchema, parseSections, type Sections } from './schema.ts'
import { isSidecar, readSidecar, unknownVariables } from './sidecar.ts'
import { type FileStamps, stampFiles } from './watch.ts'

export const DEFAULT_FILE = 'proxy.config.json'

export interface LoadedConfig {
  /** Its paths are absolute. */
  readonly config: Config
  /** Where relative paths of the config start. Absolute. */
  readonly baseDir: string
  /** Absolute; undefined when the config is from the environment alone. */
  readonly file: string | undefined
  /** The config file and every file that it names. Absolute. */
  readonly files: readonly string[]
  /** What the files were like before they were read, so that `watchConfig` misses no change. */
  readonly stamps: FileStamps
}

/**
 * Reads one file and looks at those that it names. Throws `ConfigError` with all problems at once.
 *
 * @param file relative to the working directory
 */
export async function loadConfig(file: string, env: Environment): Promise<LoadedConfig> {
  const path = resolve(file)
  const baseDir = dirname(path)
  const ownStamp = await stampFiles([path])
  const { value: written, problems } = readJsonc(await readConfigFile(path, file))
  if (written === undefined) throw new ConfigError(problems.map((problem) => ({ ...problem, path: file })))
  const { config, sections, problems: faults } = validate(written, env)
  const named = makeAbsolute(sections, baseDir)
  const stamps = new Map([...ownStamp, ...(await stampFiles(named))])
  const all = [...problems, ...faults, ...(await checkFiles(sections))]
  if (config === undefined || all.length > 0) throw new ConfigError(unique(all))
  return {
    config: withAbsoluteOutputs(config, baseDir),
    baseDir,
    file: path,
    files: [path, ...named],
    stamps,
  }
}

/** The config of a sidecar (`HOLDFAST_HOSTS` …). Throws `ConfigError` whose paths are names of variables. */
export function configFromEnv(env: Environment): LoadedConfig {
  const { input, blame } = readSidecar(env)
  const { config, problems: faults } = validate(input, undefined)
  const problems = [...unknownVariables(env), ...faults.map(blame)]
  if (config === undefined || problems.length > 0) throw new ConfigError(unique(problems))
  const baseDir = process.cwd()
  return {
    config: withAbsoluteOutputs(config, baseDir),
    baseDir,
    file: undefined,
    files: [],
    stamps: new Map(),
  }
}

/** What a command runs on: the named file, else `proxy.config.json` here, else the environment. As `loadConfig`. */
export async function loadChosenConfig(file: string | undefined, env: Environment): Promise<LoadedConfig> {
  if (file !== undefined) return loadConfig(file, env)
  const isThere = await access(DEFAULT_FILE).then(
    () => true,
    () => false,
  )
  if (isThere) return loadConfig(DEFAULT_FILE, env)
  if (isSidecar(env)) return configFromEnv(env)
  throw new ConfigError([
    ...unknownVariables(env),
    {
      path: '',
      message: `there is no ${DEFAULT_FILE} in ${process.cwd()}, and HOLDFAST_HOSTS is not set`,
      hint: 'name a file with --config, or set HOLDFAST_HOSTS and HOLDFAST_UPSTREAMS',
    },
  ])
}

interface Validated {
  /** undefined when the schema objects. */
  readonly config: Config | undefined
  /** Parts of `config`, or what parses of the input. */
  readonly sections: Sections
  readonly problems: readonly ConfigProblem[]
}

/** @param env undefined: take the input as it is */
function validate(written: unknown, env: Environment | undefined): Validated {
  const unset: ConfigProblem[] = []
  const input = env === undefined ? written : expandVariables(written, env, unset)
  const result = configSchema.safeParse(input, { error: describeIssue })
  const sections = result.success ? sectionsOf(result.data) : parseSections(input)
  const issues = result.success ? [] : problemsOf(result.error.issues, written, configJsonSchema())
  // A variable that is not set is no host and no address either: saying so twice would only be noise.
  const others = issues.filter(({ path }) => !unset.some((problem) => problem.path === path))
  const problems = [...unset, ...others, ...findContradictions(sections)]
  return { config: result.data, sections, problems }
}

function sectionsOf({ listen, tls, forwarder, cas, sites }: Config): Sections {
  return { listen, tls, forwarder, cas: new Map(Object.entries(cas)), sites }
}

/** One cause may show in several places, such as a top setting that fails every site. */
function unique(problems: readonly ConfigProblem[]): ConfigProblem[] {
  return [...new Map(problems.map((problem) => [describeProblem(problem), problem])).values()]
}

/** What Holdfast writes; what it reads is made absolute by `files.ts`. */
function withAbsoluteOutputs(config: Config, baseDir: string): Config {
  const store = config.store.startsWith('file:')
    ? `file:${resolve(baseDir, config.store.slice('file:'.length))}`
    : config.store
  const sites = config.sites.map((site) => ({
    ...site,
    deliver: site.deliver.map((rule) => ({
      ...rule,
      ...Object.fromEntries(pathsOf(rule).map(({ form, path }) => [form, resolve(baseDir, path)])),
    })),
  }))
  return { ...config, store, sites }
}

async function readConfigFile(path: string, shown: string): Promise<string> {
  try {
    return await readFile(path, 'utf8')
  } catch (error) {
    const code = error instanceof Error && 'code' in error ? error.code : undefined
    const why = code === 'ENOENT' ? 'does not exist' : `cannot be read: ${code}`
    throw new ConfigError([
      { path: '', message: `${shown} ${why}`, hint: 'name the config with --config FILE' },
    ])
  }
}
