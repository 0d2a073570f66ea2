/** `holdfast serve`: runs the proxy until a signal; reloads the config on SIGHUP and when its files change. */
import { availableParallelism } from 'node:os'
import { relative } from 'node:path'
import { type ParseArgsOptionsConfig, parseArgs } from 'node:util'
import { INTERNAL } from '../config/cas.ts'
import { type LoadedConfig, loadChosenConfig } from '../config/load.ts'
import type { Config } from '../config/schema.ts'
import { resolveCas, resolveSites } from '../config/sites.ts'
import { watchConfig } from '../config/watch.ts'
import { messageOf } from '../errors.ts'
import { createLog, type Log } from '../log.ts'
import { Server, type ServerOptions } from '../server.ts'
import { SECOND, SystemClock } from '../time.ts'
import { Workers } from '../workers.ts'
import { DEMO_PORT, startDemoApp } from './demo-app.ts'
import { type Command, count, paint, print } from './terminal.ts'

const OPTIONS = {
  config: { type: 'string', short: 'c' },
  demo: { type: 'boolean', default: false },
} satisfies ParseArgsOptionsConfig

export const command: Command = {
  usage: `Usage: holdfast [serve] [--config FILE] [--demo]

Runs the proxy until SIGTERM or SIGINT, which let what is in flight finish; a second one does not wait. Takes a changed
config over by itself, or at SIGHUP.

  -c, --config FILE  default: proxy.config.json, or the HOLDFAST_* environment
  --demo             with an app on port 3000 to stand in front of`,
  options: OPTIONS,
  run: serve,
}

/** How long the banner waits for the first certificates of the internal CA. */
const SUPPLY_LIMIT_MS = 5 * SECOND

/** Resolves once everything has stopped. @throws ConfigError, StoreError when it cannot start */
async function serve(args: string[], env: NodeJS.ProcessEnv): Promise<number> {
  const { values } = parseArgs({ args, options: OPTIONS })
  const loaded = await loadChosenConfig(values.config, env)
  const log = createLog(loaded.config.log)
  const stopDemo = values.demo ? await startDemoApp() : undefined
  const server = await Server.create(loaded, log, frontOf(loaded.config))
  try {
    await server.start()
  } catch (error) {
    await server.stop()
    await stopDemo?.()
    throw error
  }
  const stopped = runUntilSignal(server, loaded, () => loadChosenConfig(values.config, env), log)
  await Promise.race([server.whenSupplied(SUPPLY_LIMIT_MS), stopped])
  announce(loaded, log, values.demo)
  await stopped
  await stopDemo?.()
  return 0
}

/** A process a core; on a single core, and for a small sidecar, this one does everything. */
function frontOf({ workers }: Config): ServerOptions {
  const count = workers === 'auto' ? availableParallelism() : workers
  return count === 1 ? {} : { createFront: (parts) => new Workers(parts, count) }
}

/** SIGTERM and SIGINT drain; a second one does not wait. */
async function runUntilSignal(
  server: Server,
  loaded: LoadedConfig,
  load: () => Promise<LoadedConfig>,
  log: Log,
): Promise<void> {
  const reloads = new Reloads(server, loaded, load, log)
  const onHangup = (): void => reloads.request('SIGHUP')
  process.on('SIGHUP', onHangup)
  const signal = await new Promise<NodeJS.Signals>((resolve) => {
    process.once('SIGTERM', resolve)
    process.once('SIGINT', resolve)
  })
  // Before the log tells of it: whoever reads that may send the second one at once.
  for (const again of ['SIGTERM', 'SIGINT'] as const) process.once(again, () => process.exit(1))
  log.info({ signal }, 'stopping: draining what is in flight')
  process.off('SIGHUP', onHangup)
  reloads.close()
  await server.stop()
  log.info('stopped')
}

/** One reload at a time; a config that cannot be used keeps the one in use. */
class Reloads {
  readonly #server: Server
  readonly #load: () => Promise<LoadedConfig>
  readonly #log: Log
  readonly #clock = new SystemClock()
  #watch: { close(): void }
  #running: Promise<void> = Promise.resolve()

  constructor(server: Server, loaded: LoadedConfig, load: () => Promise<LoadedConfig>, log: Log) {
    this.#server = server
    this.#load = load
    this.#log = log
    this.#watch = this.#watchFiles(loaded)
  }

  request(why: string): void {
    this.#running = this.#running.then(() => this.#reload(why))
  }

  close(): void {
    this.#watch.close()
  }

  #watchFiles(loaded: LoadedConfig): { close(): void } {
    return watchConfig(loaded, this.#clock, () => this.request('a file changed'))
  }

  async #reload(why: string): Promise<void> {
    try {
      const loaded = await this.#load()
      await this.#server.reload(loaded)
      this.#watch.close()
      this.#watch = this.#watchFiles(loaded)
      this.#log.info({ why }, 'config reloaded')
    } catch (error) {
      for (const line of messageOf(error).split('\n')) {
        this.#log.error({ why }, `the new config cannot be used, the old one stays: ${line}`)
      }
    }
  }
}

/** What a person at a terminal needs to know; for a service's log it is one line. */
function announce({ config }: LoadedConfig, log: Log, demo: boolean): void {
  const sites = resolveSites(config)
  const hosts = sites.flatMap((site) => site.hosts)
  log.info({ hosts: hosts.length, sites: sites.length }, `serving ${count(hosts.length, 'host')}`)
  if (!process.stdout.isTTY && !demo) return
  const port = config.listen.https[0]?.port ?? 443
  const urls = hosts.slice(0, 3).map((host) => `https://${host}${port === 443 ? '' : `:${port}`}`)
  const { admin } = config.listen
  const usesInternal = [...resolveCas(config).values()].some(({ type }) => type === 'internal')
  const root = config.store.startsWith('file:')
    ? relative('', `${config.store.slice('file:'.length)}/authorities/${INTERNAL}/root.pem`)
    : undefined
  print(
    [
      '',
      `  ${paint('bold', 'Holdfast')} is serving ${urls.join(', ')}${hosts.length > urls.length ? ', …' : ''}`,
      ...(demo ? [`  in front of a demo app on http://127.0.0.1:${DEMO_PORT}`] : []),
      ...(admin === false ? [] : [`  Admin:  http://${admin.host ?? 'localhost'}:${admin.port}`]),
      ...(usesInternal && root !== undefined
        ? [`  Trust:  the internal CA's root is ${root}`, `          curl --cacert ${root} ${urls[0]}`]
        : []),
      '',
    ].join('\n'),
  )
}
