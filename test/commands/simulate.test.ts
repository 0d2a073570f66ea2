/** `holdfast simulate` as it is typed: what it prints and writes, and its exit code. */
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import t, { type Test } from 'tap'
import { DAY, HOUR } from '../../src/time.ts'
import { messageOfThread } from '../support/thread.ts'
import { makeFolder, run } from './program.ts'
import type { Verdict } from './simulated-limits.ts'

const SMALL = ['simulate', '--hosts', '40', '--lifetime', '160h', '--days', '20']

interface Report {
  readonly name: string
  readonly expiredHosts: number
  readonly cas: readonly { readonly orders: number; readonly inVain: number }[]
}

async function simulate(t: Test, ...more: string[]) {
  const folder = await makeFolder(t)
  const { code, out, err } = await run(folder, [...SMALL, ...more])
  const svg = (name = 'holdfast-simulation.svg') => readFileSync(join(folder, name), 'utf8')
  return { code, out, err, svg }
}

t.test('an outage of the first CA costs no host, and a timeline is drawn', async (t) => {
  const { code, out, svg } = await simulate(t, '--outage', 'letsencrypt:72h')
  t.equal(code, 0)
  t.match(out, /^holdfast +0 +none /m)
  t.match(out, /^letsencrypt: at most 300 in 3h by account, 50 in 7d by domain/m)
  t.match(svg(), /^<svg[\s\S]*letsencrypt[\s\S]*<\/svg>\s*$/)
})

t.test('certificates of 160 hours outlast 48 hours without their first CA, however it fails', async (t) => {
  const outages = ['503', 'hang', '429'].flatMap((kind, index) => [
    '--outage',
    `letsencrypt:48h:${kind}@day${3 + index * 5}`,
  ])
  for (const standby of ['always', 'off']) {
    const { code, out } = await simulate(t, ...outages, '--standby', standby, '--json')
    const [holdfast]: Report[] = JSON.parse(out)
    t.equal(code, 0)
    t.equal(holdfast?.expiredHosts, 0, `standby ${standby}`)
  }
})

t.test(
  '10,000 hosts outlast 16 hours without their first CA, and no limit of a CA is exceeded',
  async (t) => {
    const typed = ['--hosts', '10000', '--lifetime', '45d', '--days', '90', '--seed', '1']
    const start = Date.parse('2026-06-01')
    const outage = { start: start + 45 * DAY, end: start + 45 * DAY + 16 * HOUR, kind: '503' }
    const scenario = {
      hosts: 10_000,
      lifetimeMs: 45 * DAY,
      cas: ['letsencrypt', 'zerossl'],
      outages: { letsencrypt: [outage] },
      standby: 'always',
      start,
      days: 90,
      seed: 1,
    }
    const [{ code, out }, { orders, peaks }] = await Promise.all([
      simulate(t, ...typed, '--outage', 'letsencrypt:16h', '--json'),
      messageOfThread<Verdict>(new URL('simulated-limits.ts', import.meta.url), scenario),
    ])
    const [holdfast]: Report[] = JSON.parse(out)
    t.equal(code, 0)
    t.equal(holdfast?.expiredHosts, 0)
    t.same(
      holdfast?.cas.map((ca) => ca.orders),
      Object.values(orders),
      'the same fleet was counted',
    )
    t.equal(peaks.length, 6, 'three limits of two CAs')
    for (const { of, most, limit } of peaks) t.ok(most <= limit, `${of}: at most ${most} of ${limit}`)
  },
)

t.test('beside it, the published rules of others: one with a single CA loses hosts', async (t) => {
  const { code, out } = await simulate(t, '--outage', 'letsencrypt:120h', '--compare', '--json')
  const reports: Report[] = JSON.parse(out)
  t.equal(code, 0)
  t.same(
    reports.map(({ name }) => name),
    ['holdfast', 'single-CA client', 'certmagic', 'mod_md'],
  )
  const [holdfast, single, certmagic] = reports
  t.equal(holdfast?.expiredHosts, 0)
  t.ok((single?.expiredHosts ?? 0) > 0)
  const inVain = (report?: Report) => report?.cas[0]?.inVain ?? 0
  t.ok(inVain(holdfast) < inVain(certmagic))
})

t.test('with one CA alone hosts expire, and the exit code says so', async (t) => {
  const { code, out } = await simulate(t, '--cas', 'letsencrypt', '--outage', 'letsencrypt:120h', '--json')
  t.equal(code, 1)
  const [holdfast]: Report[] = JSON.parse(out)
  t.ok((holdfast?.expiredHosts ?? 0) > 0)
})

t.test('the same seed plays the same days, another one others', async (t) => {
  const play = async (seed: string) =>
    (await simulate(t, '--outage', 'letsencrypt:48h', '--seed', seed, '--json')).out
  const [one, again, other] = [await play('1'), await play('1'), await play('2')]
  t.equal(one, again)
  t.not(one, other)
})

for (const [option, value, message] of [
  ['--hosts', 'many', /hosts/],
  ['--lifetime', '45', /lifetime/],
  ['--outage', 'letsencrypt', /outage/],
  ['--outage', 'nobody:1h', /nobody/],
  ['--standby', 'sometimes', /standby/],
] as const) {
  t.test(`${option} ${value} is refused with a word on what to write`, async (t) => {
    const { code, err } = await simulate(t, option, value)
    t.equal(code, 2)
    t.match(err, message)
  })
}
