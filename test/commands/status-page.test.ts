/** The status page, as a browser shows it. */
import { chromium, type Page } from 'playwright-core'
import t, { type Test } from 'tap'
import { get, prepare, serve, startApp, writeConfig } from './program.ts'

const browser = await chromium.launch({
  executablePath: '/usr/bin/chromium',
  args: ['--no-sandbox', '--disable-gpu'],
  // Without tap's hooks.
  env: { PATH: process.env.PATH ?? '', HOME: process.env.HOME ?? '/tmp' },
})
t.teardown(() => browser.close())

async function open(
  t: Test,
  width: number,
  change: object = {},
): Promise<{ page: Page; problems: string[] }> {
  const setup = await prepare(t, await startApp(t))
  await writeConfig(setup, { ...setup.config, ...change })
  await serve(t, setup)
  await get(setup, '/')
  const page = await browser.newPage({ viewport: { width, height: 800 } })
  const problems: string[] = []
  page.on('console', (message) => void problems.push(message.text()))
  page.on('pageerror', (error) => void problems.push(error.message))
  page.on('requestfailed', (request) => void problems.push(request.url()))
  await page.goto(`http://127.0.0.1:${setup.ports.admin}/`)
  await page.locator('#summary:not(:empty)').waitFor()
  return { page, problems }
}

t.test('the status page tells what is served, by whom, and that all is well', async (t) => {
  const { page, problems } = await open(t, 1200)
  t.equal(await page.title(), 'Holdfast')
  t.equal(await page.getByRole('status').textContent(), '– all is well')
  const rowOf = (table: string) => page.getByRole('table', { name: table }).getByRole('row').nth(1)
  t.match(await rowOf('Hosts').textContent(), /localhost.*valid.*internal, ends in/)
  t.match(await rowOf('Certificate authorities').textContent(), /internal.*up.*none/)
  t.match(await rowOf('Upstreams').textContent(), /localhost.*\/.*http:\/\/127\.0\.0\.1.*up/)
  t.same(problems, [], 'the browser has nothing to complain of')
})

t.test('the status page says how many things need attention', async (t) => {
  const { page } = await open(t, 1200, {
    sites: [{ hosts: ['localhost'], upstreams: ['http://127.0.0.1:1'], tls: { cas: ['internal'] } }],
  })
  t.equal(await page.getByRole('status').textContent(), '– 1 need attention')
})

t.test('the status page fits a phone: wide tables scroll by themselves', async (t) => {
  const { page } = await open(t, 390)
  t.equal(await page.evaluate('document.documentElement.scrollWidth'), 390)
})
