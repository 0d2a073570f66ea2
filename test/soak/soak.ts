/**
 * `npm run soak`: one instance between clients that come and go and upstreams that break off and restart, for twenty
 * minutes; then, whether it still holds anything of it. Every answer names its request and is checked. Ends with exit code 1
 * when an answer was another's, an error has no cause, or something is left.
 *
 *   node test/soak/soak.ts [--minutes 20] [--clients 300] [--pause 100]
 *
 * `--pause`: milliseconds that a client waits between two requests, on average.
 */
import { setTimeout as delay } from 'node:timers/promises'
import { parseArgs } from 'node:util'
import { Random } from '../fuzz/random.ts'
import { App } from './app.ts'
import { type Client, Http1Client, Http2Client, makeQuestion, type Question } from './clients.ts'
import { Instance } from './instance.ts'

const { values } = parseArgs({
  options: {
    minutes: { type: 'string', default: '20' },
    clients: { type: 'string', default: '300' },
    pause: { type: 'string', default: '100' },
  },
})
const runMs = Number(values.minutes) * 60_000
const clientCount = Number(values.clients)
const pauseMs = Number(values.pause)

const WARM_UP_MS = 10_000
/** A restart every so often; each takes up to half a second. */
const RESTART_EVERY_MS = 7_000
const AWAY_MS = 500
/** So long after a restart its errors may still be on their way. */
const AFTERMATH_MS = 2_000
/** More than any of the proxy’s own time limits. */
const ANSWER_MS = 90_000
const LOOK_EVERY_MS = 60_000
/** What may come and go by chance. */
const HEAP_MARGIN_BYTES = 12 * 2 ** 20
const HANDLE_MARGIN = 3

const counts = { asked: 0, whole: 0, mixed: 0, spoiled: 0, restart: 0, unexplained: 0 }
const complaints: string[] = []
let stopping = false

function complain(question: Question, what: string): void {
  if (complaints.length === 20) return
  const [path = ''] = question.path.split('?')
  complaints.push([`${question.path}: ${what}`, ...instance.logged(path)].join('\n  '))
}

/** Was the upstream of the route away at any time between the two? */
function wasAway(apps: readonly App[], fromMs: number, toMs: number): boolean {
  return apps.some(({ outages }) =>
    outages.some((outage) => outage.fromMs <= toMs && fromMs <= outage.toMs + AFTERMATH_MS),
  )
}

/** A request that is never answered is an error too. */
async function inTime<T>(answer: Promise<T>): Promise<T> {
  const cancel = new AbortController()
  const late = delay(ANSWER_MS, undefined, { signal: cancel.signal }).then(() => {
    throw new Error('no answer in time')
  })
  late.catch(() => {})
  try {
    return await Promise.race([answer, late])
  } finally {
    cancel.abort()
  }
}

async function askOne(client: Client, question: Question, apps: readonly App[]): Promise<void> {
  const fromMs = performance.now()
  let failure: string | undefined
  counts.asked++
  try {
    const { status, id, body } = await inTime(client.ask(question))
    // An error page is the proxy's own and names no request of ours.
    if (status !== 200) failure = `status ${status}`
    else if (id !== question.id || !body.equals(question.expected)) {
      counts.mixed++
      complain(question, `an answer to ${id}, ${body.length} octets: ${body.toString('latin1', 0, 60)}`)
      return
    } else if (question.spoiled === 'by-upstream') failure = 'whole, though the upstream broke off'
  } catch (error) {
    failure = String(error)
  }
  if (failure === undefined) counts.whole++
  else if (question.spoiled !== undefined && !failure.startsWith('whole')) counts.spoiled++
  else if (wasAway(apps, fromMs, performance.now())) counts.restart++
  else {
    counts.unexplained++
    const how = question.body === undefined ? 'GET' : 'POST'
    complain(
      question,
      `${how} by ${client.constructor.name}, ${Math.round(performance.now() - fromMs)} ms: ${failure}`,
    )
  }
}

/** One request after another until `endMs`, on a connection that is left now and then. */
async function useClient(
  client: Client,
  index: number,
  lines: number,
  routes: Readonly<Record<string, readonly App[]>>,
  endMs: number,
): Promise<void> {
  const random = new Random(index)
  const paths = Object.keys(routes)
  // On HTTP/2 several at a time.
  const line = async (number: number): Promise<void> => {
    for (let count = 0; performance.now() < endMs && !stopping; count++) {
      const route = random.pick(paths)
      const question = makeQuestion(random, route, `${index}-${number}-${count}`)
      await askOne(client, question, routes[route] ?? [])
      await delay(random.below(2 * pauseMs))
      // Only where nobody else asks on this connection.
      if (lines === 1 && random.below(20) === 0) client.leave()
    }
  }
  await Promise.all(Array.from({ length: lines }, (_, number) => line(number)))
  client.leave()
}

async function load(
  instance: Instance,
  routes: Readonly<Record<string, readonly App[]>>,
  ms: number,
): Promise<void> {
  const endMs = performance.now() + ms
  const clients = Array.from({ length: clientCount }, async (_, index) => {
    // Lives follow one another, so that connections come and go.
    for (let life = 0; performance.now() < endMs; life++) {
      const ClientOf = index % 2 === 0 ? Http1Client : Http2Client
      const lines = index % 2 === 0 || index % 4 === 1 ? 1 : 4
      const lifeMs = Math.min(endMs, performance.now() + 5_000 + 10_000 * Math.random())
      await useClient(new ClientOf(instance.port), index + life * clientCount, lines, routes, lifeMs)
    }
  })
  await Promise.all(clients)
}

const apps = { '/one': [await App.start('http'), await App.start('http')], '/two': [await App.start('h2c')] }
const everyApp = Object.values(apps).flat()
const routes = Object.fromEntries(
  Object.entries(apps).map(([path, list]) => [path, list.map(({ url }) => url)]),
)
const instance = await Instance.start(routes)

/** Connections that are kept to upstreams end with a restart; then nothing should be left. */
async function rest(handles: number) {
  for (const app of everyApp) await app.restart(0)
  return await instance.settled(handles)
}

function restarts(): NodeJS.Timeout {
  let turn = 0
  return setInterval(() => {
    const app = everyApp[turn++ % everyApp.length]
    void app?.restart(AWAY_MS * Math.random())
  }, RESTART_EVERY_MS)
}

const mib = (bytes: number): string => `${(bytes / 2 ** 20).toFixed(1)} MiB`
const told = (held: Awaited<ReturnType<typeof rest>>): string =>
  `heap ${mib(held.heapBytes)}, resident ${mib(held.rssBytes)}, ${held.handles} handles`

const idle = await instance.held()
await load(instance, apps, Math.min(WARM_UP_MS, runMs))
const before = await rest(idle.handles + HANDLE_MARGIN)
console.log(`before: ${told(before)}`)

const restarting = restarts()
const looking = setInterval(
  async () => console.log(`${JSON.stringify(counts)} ${told(await instance.held())}`),
  LOOK_EVERY_MS,
)
await load(instance, apps, runMs)
clearInterval(restarting)
clearInterval(looking)
await delay(2 * AWAY_MS)

const after = await rest(before.handles + HANDLE_MARGIN)
console.log(`after: ${told(after)}`)
console.log(JSON.stringify(counts))
for (const complaint of complaints) console.log(complaint)
const failures = [
  counts.mixed > 0 ? `${counts.mixed} answers were another's` : '',
  counts.unexplained > 0 ? `${counts.unexplained} errors without a cause` : '',
  counts.whole < counts.asked / 2 ? 'less than half of the answers were whole' : '',
  after.heapBytes > before.heapBytes + HEAP_MARGIN_BYTES ? 'memory is held' : '',
  after.handles > before.handles + HANDLE_MARGIN ? 'handles are held' : '',
  instance.running ? '' : 'the instance ended',
].filter((failure) => failure !== '')
console.log(
  failures.length === 0
    ? 'nothing is left, nothing was mixed, every error has its cause'
    : `FAILED: ${failures.join('; ')}`,
)
stopping = true
await instance.stop()
for (const app of everyApp) app.stop()
process.exitCode = failures.length === 0 ? 0 : 1
