import { readdir } from 'node:fs/promises'
import t from 'tap'
import { launch, makeFolder, run } from './program.ts'

async function leftIn(folder: string): Promise<string[]> {
  return (await readdir(folder)).filter((name) => name.startsWith('holdfast-practice-'))
}

for (const mode of ['503', 'refuse', 'rate-limit', 'untrusted', 'hang']) {
  t.test(`practice, ${mode}: the second CA takes over and no handshake fails`, async (t) => {
    const folder = await makeFolder(t)
    const args = ['drill', '--practice', '--mode', mode, '--json']
    const { code, out, err } = await run(folder, args, { TMPDIR: folder })
    t.strictSame([code, err], [0, ''])
    t.match(JSON.parse(out), {
      report: {
        ca: 'first',
        outage: mode,
        switched: [{ host: 'app.example.com', role: 'live', ca: 'second' }],
        failed: [],
        lost: [],
      },
      client: { failed: 0 },
      switchedAfterMs: Number,
    })
    t.strictSame(await leftIn(folder), [])
  })
}

t.test('practice: Ctrl-C ends it at once and leaves nothing behind', async (t) => {
  const folder = await makeFolder(t)
  const program = launch(folder, ['drill', '--practice', '--mode', 'hang'], { TMPDIR: folder })
  t.teardown(() => program.end('SIGKILL'))
  await program.said('Now first fails')
  t.equal((await leftIn(folder)).length, 1)
  const { code } = await program.end('SIGINT')
  t.equal(code, 130)
  t.strictSame(await leftIn(folder), [])
})

t.test('practice: a story for people', async (t) => {
  const folder = await makeFolder(t)
  const { out } = await run(folder, ['drill', '--practice'], { TMPDIR: folder })
  t.match(
    out,
    /served from first\.\n.*first is down, its breaker is open: [^\n]*503.*served from second, at its next/s,
  )
  t.match(out, /Nothing would have been lost without first\.\nThe client: \d+ handshakes, 0 failed\.\n$/)
})

t.test('what cannot be begun is one line', async (t) => {
  const folder = await makeFolder(t)
  const refusals = [
    await run(folder, ['drill']),
    await run(folder, ['drill', '--ca', 'a', '--mode', 'fire']),
    await run(folder, ['drill', '--ca', 'a', '--for', 'long']),
    await run(folder, ['drill', '--practice', '--ca', 'a']),
    await run(folder, ['drill', '--practice', '--canary', 'none']),
    await run(folder, ['drill', '--practice', '--for', '1s']),
  ]
  t.strictSame(
    refusals.map(({ code, err }) => `${code} ${err}`),
    [
      '2 holdfast: say which CA fails: --ca NAME, or --practice\n',
      '2 holdfast: --mode fire: there are 503, refuse, hang, rate-limit, untrusted\n',
      '2 holdfast: --for long: write 90s or 10m\n',
      '2 holdfast: --practice has CAs and a story of its own: leave --ca out\n',
      '2 holdfast: --practice has CAs and a story of its own: leave --canary out\n',
      '2 holdfast: --practice has CAs and a story of its own: leave --for out\n',
    ],
  )
})
