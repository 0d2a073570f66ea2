import { once } from 'node:events'
import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'
import t, { type Test } from 'tap'
import { isTroubled, StatusFeeds } from '../../src/ca/status-feed.ts'
import { VirtualClock } from '../../src/commands/simulate/virtual-clock.ts'
import { HOUR, MINUTE } from '../../src/time.ts'
import { memoryLog } from '../support/log.ts'

/** Between two polls, at the luck that `follow` sets. */
const INTERVAL_MS = 5 * MINUTE
const ENDPOINT = 'acme-v02.api.example.org'

/** In the shape of https://kb.status.io/developers/public-status-api. */
function statusIo(overall: number, components: Record<string, number> = {}): object {
  const facts = { updated: '2026-11-24T00:00:00.000Z', status: 'as the code says' }
  return {
    result: {
      status_overall: { ...facts, status_code: overall },
      status: Object.entries(components).map(([name, status_code]) => ({
        id: '56a8',
        name,
        ...facts,
        status_code,
        containers: [],
      })),
      incidents: [],
      maintenance: { active: [], upcoming: [] },
    },
  }
}

/** In the shape of Statuspage's /api/v2/summary.json. */
function statuspage(indicator: string, components: Record<string, string> = {}): object {
  return {
    page: { id: 'x', name: 'A CA', url: 'https://status.example.org' },
    components: Object.entries(components).map(([name, status]) => ({ id: 'y', name, status, group: false })),
    incidents: [],
    scheduled_maintenances: [],
    status: { indicator, description: 'in words' },
  }
}

t.test('Status.io: degraded and worse is trouble, planned maintenance is none', async (t) => {
  for (const [code, troubled] of [
    [100, false],
    [200, false],
    [300, true],
    [400, true],
    [500, true],
    [600, true],
  ] as const)
    t.equal(isTroubled(statusIo(code), ENDPOINT), troubled, `${code}`)
})

t.test('Statuspage: every indicator but none and maintenance is trouble', async (t) => {
  for (const [indicator, troubled] of [
    ['none', false],
    ['maintenance', false],
    ['minor', true],
    ['major', true],
    ['critical', true],
  ] as const)
    t.equal(isTroubled(statuspage(indicator), ENDPOINT), troubled, indicator)
})

t.test('where a component bears the endpoint, the others do not count', async (t) => {
  const staging = 'acme-staging-v02.api.example.org (Staging)'
  const production = `${ENDPOINT} (Production)`
  t.equal(isTroubled(statusIo(500, { [staging]: 500, [production]: 100 }), ENDPOINT), false)
  t.equal(isTroubled(statusIo(500, { [staging]: 100, [production]: 500 }), ENDPOINT), true)
  t.equal(
    isTroubled(statuspage('major', { Website: 'major_outage', [production]: 'operational' }), ENDPOINT),
    false,
  )
  t.equal(isTroubled(statuspage('minor', { [production]: 'partial_outage' }), ENDPOINT), true)
})

t.test('what is no status document says nothing', async (t) => {
  for (const document of [
    null,
    7,
    'ok',
    [],
    {},
    { status: 'ok' },
    { result: {} },
    { status: { indicator: 7 } },
  ])
    t.equal(isTroubled(document, ENDPOINT), undefined, JSON.stringify(document))
})

t.test('trouble and its end reach health', async (t) => {
  const page = await servePage(t)
  const { clock, changes, feeds } = follow(t, page.url)
  await until(() => changes.length === 1)
  page.document = statusIo(500)
  await clock.advance(INTERVAL_MS)
  await until(() => changes.length === 2)
  page.document = statusIo(100)
  await clock.advance(INTERVAL_MS)
  await until(() => changes.length === 3)
  t.same(changes, [
    ['a', false],
    ['a', true],
    ['a', false],
  ])
  feeds.stop()
})

t.test('a feed that fails is ignored, and what it said before is forgotten after an hour', async (t) => {
  const page = await servePage(t)
  page.document = statusIo(500)
  const { clock, changes, feeds, lines } = follow(t, page.url)
  await until(() => changes.length === 1)
  page.document = 'no JSON at all'
  const failures = (): number => lines.filter(({ msg }) => /cannot be read/.test(msg)).length
  for (let polls = 1; polls <= 12; polls++) {
    await clock.advance(INTERVAL_MS)
    await until(() => failures() === polls)
  }
  t.same(changes, [['a', true]])
  await clock.advance(INTERVAL_MS)
  await until(() => changes.length === 2)
  t.same(changes.at(-1), ['a', false])
  t.same(
    lines.filter(({ level, msg }) => level >= 40 && !/reports trouble/.test(msg)),
    [],
  )
  feeds.stop()
})

t.test('an endless document is cut off', async (t) => {
  const page = await servePage(t)
  page.document = undefined
  const { lines, feeds } = follow(t, page.url)
  await until(() => lines.some(({ msg }) => /longer than a status document/.test(msg)))
  feeds.stop()
})

t.test('a feed that leaves the config troubles nobody any more', async (t) => {
  const page = await servePage(t)
  page.document = statusIo(500)
  const { clock, changes, feeds } = follow(t, page.url)
  await until(() => changes.length === 1)
  feeds.update(new Map())
  t.same(changes.at(-1), ['a', false])
  const polls = page.polls()
  await clock.advance(HOUR)
  t.equal(page.polls(), polls)
  feeds.stop()
})

function follow(t: Test, url: string) {
  const clock = new VirtualClock()
  const { log, lines } = memoryLog()
  const changes: [string, boolean][] = []
  const feeds = new StatusFeeds({
    clock,
    random: () => 0.5,
    log,
    setTroubled: (ca, troubled) => changes.push([ca, troubled]),
  })
  t.teardown(() => feeds.stop())
  feeds.update(new Map([['a', { url, endpoint: ENDPOINT }]]))
  return { clock, changes, feeds, lines }
}

/** A page whose document a test sets: an object, a text, or undefined for one that never ends. */
async function servePage(t: Test) {
  let polls = 0
  const page = {
    url: '',
    document: statusIo(100) as object | string | undefined,
    polls: () => polls,
  }
  const server = createServer((_, response) => {
    polls++
    const { document } = page
    if (document !== undefined)
      return response.end(typeof document === 'string' ? document : JSON.stringify(document))
    const more = (): void => {
      while (response.write('x'.repeat(65_536))) if (response.destroyed) return
    }
    response.on('drain', more)
    more()
  }).listen(0, '127.0.0.1')
  await once(server, 'listening')
  page.url = `http://127.0.0.1:${(server.address() as AddressInfo).port}/`
  t.teardown(() => {
    server.closeAllConnections()
    server.close()
  })
  return page
}

/** Turns the event loop until it holds. */
async function until(holds: () => boolean): Promise<void> {
  while (!holds()) await new Promise((resolve) => setImmediate(resolve))
}
